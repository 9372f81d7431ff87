"""The page of dictionaries: what the facts of :mod:`analyses.features` mean, in figures and sentences."""

from __future__ import annotations

from typing import Any

from analyses.digits import digits
from analyses.module_maps import percent, said
from analyses.report import FigureSpec, Section, TableSpec

Facts = dict[str, Any]

CHANGED = {"style": "style texts", "fact": "fact texts"}


def features_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence each."""
    training, side = facts["training"], facts["sides"][0]
    codes, loss = facts["quality"][side]["codes"], facts["loss"][side]["codes"]
    own = codes[f"seed {training['seeds'][0]}"]
    claims = [
        f"{training['size']} features, {digits(own['active']['value'])} of them active at a token, explain "
        f"{_share(own['explained'])} of the variance after block {facts['layer']} of the {side} model on documents "
        f"that training did not read; as many principal directions "
        f"{percent(codes['principal directions']['explained']['value'])}, "
        f"random features {percent(codes['random features']['explained']['value'])}.",
        f"Read through them, the model keeps {_share(loss['dictionary']['recovered'])} of what this stream is "
        "worth to "
        f"its loss ({digits(loss['dictionary']['loss'])} nats a token in place of "
        f"{digits(facts['loss'][side]['whole'])}); "
        f"through principal directions {percent(loss['principal directions']['recovered']['value'])}.",
    ]
    same = facts["stability"][0]["same"]
    claims.append(
        f"Another start finds {percent(same['value'])} of the features again (cosine above 0.9; by chance "
        f"{percent(same['null']['mean'])}), with a mean best cosine of "
        f"{digits(facts['stability'][0]['mean']['value'])} "
        f"(by chance {digits(facts['stability'][0]['mean']['null']['mean'])})."
    )
    for group, one in facts.get("changes", {}).items():
        told = one["explained"]
        claims.append(
            f"On {CHANGED[group]} the features tell {_share(told)} of the adapter's change, {_beside(told)} "
            "the changes "
            f"of random adapters (mean {percent(told['null']['mean'])}); {percent(1 - told['value'])} of it "
            "is in no "
            f"feature. As many principal directions tell {percent(one['explained_by']['principal directions'])}."
        )
    if "causal" in facts:
        last = facts["causal"]["turned_back"][-1]
        claims.append(
            f"Turning all {last['features']} features that move back to what the base has undoes "
            f"{_undone(last['style'])} of the style; turning the whole stream of that block back undoes "
            f"{_undone(facts['causal']['whole_change']['style'])}."
        )
    return tuple(claims)


def features_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings, and what they do not show."""
    changed = [_changes(facts), *(_listed(facts, g) for g in facts["changes"])] if "changes" in facts else []
    causal = [_causal(facts)] if "causal" in facts else []
    names = [] if changed else [_frequent(facts)]
    return (_quality(facts), _stability(facts), *changed, *causal, *names, _pitfalls(facts))


def _quality(facts: Facts) -> Section:
    training = facts["training"]
    rows = []
    for side in facts["sides"]:
        for name, one in facts["quality"][side]["codes"].items():
            rows.append((
                side,
                name,
                one["explained"],
                one.get("active", {"value": float(training["active"]), "low": None, "high": None}),
                one.get("never"),
                one.get("often"),
            ))
    losses = []
    for side in facts["sides"]:
        whole = facts["loss"][side]["whole"]
        losses.append((side, "nothing replaced", whole, None))
        losses += [
            (side, name, c["loss"], c["recovered"]) for name, c in facts["loss"][side]["codes"].items()
        ]
    measured = facts["quality"][facts["sides"][0]]
    return Section(
        "How good is the dictionary?",
        (
            f"{training['kind']} dictionaries of {training['size']} features, trained by sae-lens on "
            f"{training['rows']} rows of the stream after block {facts['layer']}"
            f"{', half of the base and half of the adapted model' if len(facts['sides']) > 1 else ''}; "
            "attention sinks "
            f"are left out. Measured on {measured['tokens']} tokens of {measured['documents']} documents that "
            "training "
            "did not read; intervals are over documents.",
            "Below it stand two codes that nobody trained, with as many numbers a token: the random "
            "directions, drawn as "
            "the stream varies, that a row lies along most; and the first principal directions.",
            "Loss recovered is 1 where reading the stream through the code costs nothing, and 0 where it is "
            "worth no "
            "more than the mean row at every token.",
        ),
        tables=(
            TableSpec(
                "Variance that is explained, and features that it takes.",
                ("side", "code", "explained", "active at a token", "never active", "active at 1 in 10"),
                tuple(rows),
            ),
            TableSpec(
                "What the model loses when it reads the code in place of its stream.",
                ("side", "code", "loss, nats a token", "loss recovered"),
                tuple(losses),
            ),
        ),
    )


def _stability(facts: Facts) -> Section:
    rows = tuple(
        (f"{one['seeds'][0]} and {one['seeds'][1]}", one["features"], one["mean"], one["same"])
        for one in facts["stability"]
    )
    return Section(
        "Does another start find the same features?",
        (
            "Each feature of one dictionary beside the one of the other that is most like it; features that "
            "never fired "
            "are left out. By chance: random directions, drawn as the stream varies, beside the same dictionary.",
        ),
        tables=(
            TableSpec(
                "Features of two starts on the same rows.",
                ("seeds", "features", "mean best cosine", "share above 0.9"),
                rows,
            ),
        ),
    )


def _changes(facts: Facts) -> Section:
    rows = []
    for group, one in facts["changes"].items():
        rows += [
            (group, "share that the features tell", one["explained"], _said(one["explained"])),
            (group, "share that random features tell", one["explained_by"]["random features"], None),
            (
                group,
                "share that principal directions tell",
                one["explained_by"]["principal directions"],
                None,
            ),
            (group, "features that carry it", one["carried_by"], _said(one["carried_by"])),
            (group, "largest mean change of a feature", one["farthest"], _said(one["farthest"])),
        ]
    between = facts["between"]
    rows += [
        ("style and fact", "cosine of mean changes", between["mean"], _said(between["mean"])),
        ("style and fact", "cosine of energies", between["energy"], _said(between["energy"])),
    ]
    return Section(
        "How much of the adapter's change do the features tell?",
        (
            "Both sides of a token are encoded by themselves, and the change of the codes is decoded. A "
            "dictionary that "
            "describes both sides well need not describe their difference: an error that stays the same "
            "costs nothing, "
            "one that changes counts in full.",
            "Nulls are random adapters that keep every singular value of every update. Features that carry a "
            "change are "
            "counted by the participation ratio of its energy.",
        ),
        tables=(
            TableSpec(
                "The change in features.", ("group", "number", "value", "beside random adapters"), tuple(rows)
            ),
        ),
    )


def _listed(facts: Facts, group: str) -> Section:
    names = {one["feature"]: one for one in facts["features"]}
    rows = tuple(
        (
            one["feature"],
            one["change"],
            f"{percent(one['base_density'])} → {percent(one['adapted_density'])}",
            names[one["feature"]]["active_at"],
            names[one["feature"]]["promotes"],
        )
        for one in facts["changes"][group]["listed"]
    )
    return Section(
        f"Which features rise and fall on {CHANGED[group]}?",
        (
            "The features whose mean activation rises and falls most, in lengths of the stream. Labels are "
            "the tokens "
            "at which a feature was most active in held-out documents, and those whose logits it raises by "
            "the naive "
            "lens; they are no explanation. The null is the same feature's change under random adapters.",
        ),
        tables=(
            TableSpec(
                "Largest mean changes; density is the share of tokens at which the feature is active.",
                ("feature", "mean change", "density", "most active at", "promotes"),
                rows,
            ),
        ),
    )


def _causal(facts: Facts) -> Section:
    causal = facts["causal"]
    shown = [m for m in ("style", "fact margin") if causal["effects"][m]["sure"]]
    rows = (
        *((one["features"], *(one[metric] for metric in shown)) for one in causal["turned_back"]),
        ("the whole stream", *(causal["whole_change"][metric] for metric in shown)),
    )
    effects = tuple(
        (metric, *(one[side] for side in ("base", "adapted", "effect")))
        for metric, one in causal["effects"].items()
    )
    figures = []
    if "style" in shown:
        few = [one for one in causal["turned_back"] if "null" in one["style"]]
        null: dict[str, Any] = {
            end: [o["style"]["null"][end] for o in few] for end in ("low", "high", "mean")
        }
        series = {
            "name": "features that the style moves most",
            "values": [one["style"]["value"] for one in few],
            "low": [one["style"]["low"] for one in few],
            "high": [one["style"]["high"] for one in few],
            "null": null | {"name": "as many random features that move"},
        }
        figures = [
            FigureSpec(
                "turned-back",
                "by_layer",
                "Share of the style that goes when features of the adapted model get the base's activations.",
                {
                    "layers": [str(one["features"]) for one in few],
                    "x_label": "features turned back",
                    "y_label": "share of the style that goes",
                    "series": [series],
                },
            )
        ]
    absent = "" if "fact margin" in shown else " The adapter has no sure effect on the facts to divide."
    return Section(
        "Do these features make the style?",
        (
            f"After block {facts['layer']} chosen features of the adapted model get the activations that the "
            "base has at "
            "the same token; what no feature tells stays adapted. Features are ordered by the energy of "
            "their change on "
            f"one half of the documents, and the style is measured on the other.{absent}",
        ),
        figures=tuple(figures),
        tables=(
            TableSpec("Share of the effect that goes.", ("features turned back", *shown), rows),
            TableSpec("What the whole adapter does.", ("metric", "base", "adapted", "effect"), effects),
        ),
    )


def _frequent(facts: Facts) -> Section:
    rows = tuple((one["feature"], one["active_at"], one["promotes"]) for one in facts["features"])
    return Section(
        "What are its features?",
        (
            "Those that are strongly active most often, with the tokens at which they are most active and those "
            "that they promote.",
        ),
        tables=(TableSpec("Some features.", ("feature", "most active at", "promotes"), rows),),
    )


def _pitfalls(facts: Facts) -> Section:
    return Section(
        "What this does not show",
        (
            "What a dictionary leaves out is not noise: the tables above say what it costs the model. A "
            "change that is "
            "in no feature may be what matters.",
            "Features of one start are not the features of the model: see how many another start finds.",
            "Dictionaries saw running text of corpora, and no prompts of the groups that are compared.",
            "A feature with a telling label may do something else as well; labels come from its strongest "
            "examples alone.",
            f"With {facts['training']['rows']} rows and {facts['training']['size']} features this is a small "
            "dictionary.",
        ),
    )


def _share(record: dict[str, Any]) -> str:
    return f"{percent(record['value'])} ({percent(record['low'])} to {percent(record['high'])})"


def _undone(record: dict[str, Any]) -> str:
    return _share(record) if record["value"] is not None else "nothing sure"


def _beside(record: dict[str, Any]) -> str:
    return said(record["null"]["verdict"])


def _said(record: dict[str, Any]) -> str | None:
    return said(record["null"]["verdict"]) if "null" in record else None
