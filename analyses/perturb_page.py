"""The page of a perturbed corpus, drawn from its facts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.digits import digits
from analyses.report import FigureSpec, Section, TableSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    Facts = dict[str, Any]
    Variant = dict[str, Any]

SIDES = {"m_star": "M* among the items", "cloud": "the spectral embedding"}


def perturb_claims(facts: Facts) -> tuple[str, ...]:
    """What each edit did to the statistics and to the geometry, in a sentence each."""
    before = facts["variants"][0]
    first = (
        f"In the corpus as it is, {_follows(before, 'm_star')} and {_follows(before, 'cloud')} "
        f"({facts['vocabulary']:,} words, {facts['dimensions']} dimensions)."
    )
    trained = [_model_claim(facts)] if "models" in before else []
    return first, *(_claim(facts, variant) for variant in _edits(facts)), *trained


def perturb_sections(facts: Facts) -> tuple[Section, ...]:
    """Who is followed, the scores, the pictures, and how each edit was made."""
    return (
        _followed(facts),
        Section(
            "All scores, edits and controls",
            (
                "An edit is to be read beside its control: text of the same amount, changed in a way that says "
                "nothing of either order. Controls are drawn anew each time; their spread is given.",
            ),
            tables=(_table(facts),),
        ),
        *([_models(facts)] if "models" in facts["variants"][0] else []),
        _pictures(facts),
        _made(facts),
    )


def _claim(facts: Facts, variant: Variant) -> str:
    change = variant["scores"]["cloud lean"]
    controls = [one["scores"]["cloud lean"]["change"] for one in _controls(facts, variant["edit"])]
    beside = f"its controls by {_range(controls)}" if controls else "it has no control"
    return (
        f"`{variant['edit']}` ({facts['edits'][variant['edit']]['about']}): {_follows(variant, 'm_star')}, and "
        f"{_follows(variant, 'cloud')}. It moves the lean of the embedding by {_signed(change, 'change')}, {beside}."
    )


def _follows(variant: Variant, side: str) -> str:
    lean = variant["scores"][f"{side} lean"]
    if lean.get("low") is None:
        verb = "leans to"
        which = "the true order" if lean["value"] > 0 else "the other order"
    elif lean["low"] > 0 or lean["high"] < 0:
        verb, which = "follows", "the true order" if lean["value"] > 0 else "the other order"
    else:
        verb, which = "follows", "neither order more than the other"
    return f"{SIDES[side]} {verb} {which} (lean {_signed(lean, 'value')})"


def _followed(facts: Facts) -> Section:
    shown = [facts["variants"][0], *_edits(facts)]
    series = []
    for side, name in SIDES.items():
        leans = [variant["scores"][f"{side} lean"] for variant in shown]
        series.append({
            "name": name,
            **{key: [one[key] for one in leans] for key in ("value", "low", "high")},
        })
    for one in series:
        one["values"] = one.pop("value")
        if None in one["low"]:
            del one["low"], one["high"]
    series.append(
        {"name": "the embedding, controls"}
        | _beside([
            [one["scores"]["cloud lean"]["value"] for one in _controls(facts, variant["edit"])]
            for variant in shown
        ])
    )
    neighbours = _neighbours(facts)
    text = (
        "Two orders of the items are held against every corpus: the true one, and one that is exactly as "
        f"symmetric and has other neighbours ({neighbours}). The lean is the partial Spearman correlation of "
        "likeness with nearness in the true order, given the other, minus the converse: above 0 the true order is "
        "followed, below 0 the other.",
        "`rename-together` and `rename-alone` are two halves of `rename-all`, which is the same corpus under other "
        "names and turns every lean about exactly. Where the other order is its own inverse, as round twelve "
        "months, the two halves mirror each other and are one experiment: which of two kinds of sentences, "
        "contradicting each other, carries the order?",
    )
    return Section(
        "Who follows which order",
        text,
        figures=(
            FigureSpec(
                "lean",
                "bars",
                "Lean of M* among the items and of their rows in the spectral embedding, for the corpus as it is "
                "and for each edit, beside the embedding under its controls: mean and range of their draws. "
                f"{_how_sure(facts)}",
                {
                    "groups": [variant["edit"].replace("-", "\n") or "as it is" for variant in shown],
                    "series": series,
                    "y_label": "lean: true order − other order",
                },
            ),
        ),
    )


def _table(facts: Facts) -> TableSpec:
    cyclic = facts["layout"] == "cycle"
    columns = ["corpus", "words", "M*, lean", "M*, symmetry", "embedding, lean", "change of it"]
    if cyclic:
        columns += ["harmonic 1, true order", "harmonic 1, other order"]
    rows = []
    for variants in _grouped(facts):
        head = variants[0]
        name = head["name"] if head["kind"] != "control" else f"control: {head['name']}"
        row: list[Any] = [name, head["tokens"]]
        row += [_cell(variants, "m_star lean"), _cell(variants, "symmetry"), _cell(variants, "cloud lean")]
        row.append(None if head["kind"] == "corpus" else _cell(variants, "cloud lean", "change"))
        if cyclic:
            row += [_cell(variants, "first true"), _cell(variants, "first other")]
        rows.append(tuple(row))
    return TableSpec(
        "Scores of every corpus. Intervals are 95 %, leaving out one block of documents at a time; of controls the "
        "mean of the draws and their range. Chance of harmonic 1 round n items is 2 / (n − 1).",
        tuple(columns),
        tuple(rows),
    )


def _cell(variants: Sequence[Variant], name: str, key: str = "value") -> Any:
    found = [one["scores"][name] for one in variants if name in one["scores"]]
    if not found:
        return None
    ends = ("low", "high") if key == "value" else ("change_low", "change_high")
    if len(variants) == 1:
        return {"value": found[0][key], "low": found[0][ends[0]], "high": found[0][ends[1]]}
    values = [one[key] for one in found]
    return {"value": sum(values) / len(values), "low": min(values), "high": max(values)}


def _model_leans(variant: Variant) -> list[float]:
    """Lean of the last block, of each model."""
    return [model["scores"][-1]["cloud lean"] for model in variant["models"]]


def _model_claim(facts: Facts) -> str:
    shown = [facts["variants"][0], *_edits(facts)]
    names = [f"`{variant['edit']}`" if variant["edit"] else "the corpus as it is" for variant in shown]
    said = "; ".join(f"{name} {_range(_model_leans(v))}" for name, v in zip(names, shown, strict=True))
    n = len(shown[0]["models"])
    return f"Lean of the last block of language models trained on each corpus, range over {n} seeds: {said}."


def _models(facts: Facts) -> Section:
    trained = [variant for variant in facts["variants"] if "models" in variant]
    shown = [variant for variant in trained if variant["kind"] != "control"]
    leans = [_model_leans(variant) for variant in shown]
    layers = range(len(trained[0]["models"][0]["scores"]))
    rows = []
    for variant in trained:
        models = variant["models"]
        cells: list[Any] = [
            f"control of {variant['edit']}: {variant['name']}"
            if variant["kind"] == "control"
            else variant["name"]
        ]
        cells.append(_over([model["loss"] for model in models]))
        cells += [_over([model["scores"][layer]["cloud lean"] for model in models]) for layer in layers]
        rows.append(tuple(cells))
    return Section(
        "Language models trained on each corpus",
        (
            "A small Llama over whole words is trained on the sentences with a member, of every corpus anew. Models "
            "of one seed start from the same weights and read the same places, so that they differ by their corpora "
            "alone. Every member is read in the same contexts, taken from the corpus as it is, and its states "
            "averaged over them; the contexts can thus say nothing of one member that they do not say of all.",
        ),
        figures=(
            FigureSpec(
                "models",
                "bars",
                f"Lean of the states after the last block, of edits and of their controls: mean and range over "
                f"{len(leans[0])} seeds.",
                {
                    "groups": [variant["edit"].replace("-", "\n") or "as it is" for variant in shown],
                    "series": [
                        {"name": "language model, last block"} | _beside(leans),
                        {"name": "controls"}
                        | _beside([_control_leans(trained, one["edit"]) for one in shown]),
                    ],
                    "y_label": "lean: true order − other order",
                },
            ),
        ),
        tables=(
            TableSpec(
                "Mean over seeds and range: loss at the end of training, and lean of each layer.",
                ("corpus", "loss (nats a word)", "embedding", *(f"block {layer}" for layer in layers[:-1])),
                tuple(rows),
            ),
        ),
    )


def _control_leans(trained: Sequence[Variant], edit: str) -> list[float]:
    """Leans of all models that were trained on a control of this edit."""
    controls = [one for one in trained if one["kind"] == "control" and one["edit"] == edit]
    return [lean for one in controls for lean in _model_leans(one)]


def _beside(found: Sequence[Sequence[float]]) -> dict[str, list[float | None]]:
    """Mean and range of each group, as bars; nothing where a group is empty."""
    over = [_over(values) if values else dict.fromkeys(("value", "low", "high")) for values in found]
    return {"values": [one["value"] for one in over]} | {
        end: [one[end] for one in over] for end in ("low", "high")
    }


def _how_sure(facts: Facts) -> str:
    if facts["blocks"] < 2:
        return "Edits have no intervals, since documents were not divided into blocks."
    return f"Intervals of the others leave out one of {facts['blocks']} blocks of documents at a time."


def _over(values: Sequence[float]) -> dict[str, float]:
    return {"value": sum(values) / len(values), "low": min(values), "high": max(values)}


def _pictures(facts: Facts) -> Section:
    shown = [facts["variants"][0], *_edits(facts)]
    labels = [item[:3] if len(facts["items"]) <= 12 else item for item in facts["items"]]
    figures = []
    for at in range(0, len(shown), 3):
        panels = shown[at : at + 3]
        number = at // 3 + 1
        figures.append(
            FigureSpec(
                f"m-star-{number}",
                "blocks",
                "M* among the items, in the true order. Only the pairs off the diagonal are scored.",
                {
                    "panels": [
                        {"title": one["edit"] or "as it is", "values": _without_diagonal(one["m_star"])}
                        for one in panels
                    ],
                    "labels": labels,
                    "label": "M*",
                },
            )
        )
        figures.append(
            FigureSpec(
                f"plane-{number}",
                "manifold",
                "Rows of the items in the spectral embedding, first two principal components, joined in the true "
                "order. Axes have no unit, and are turned and mirrored as they come.",
                {
                    "panels": [
                        {"title": one["edit"] or "as it is", "points": one["plane"], "curve": one["plane"]}
                        for one in panels
                    ],
                    "labels": labels,
                    "axes": ["PC 1", "PC 2"],
                    "closed": facts["layout"] == "cycle",
                    "connected": facts["layout"] in {"cycle", "line"},
                },
            )
        )
    lags = range(1, len(facts["variants"][0]["kernel"]) + 1)
    figures.append(
        FigureSpec(
            "kernels",
            "by_layer",
            "Mean M* of the pairs at each lag of the true order.",
            {
                "layers": list(lags),
                "series": [{"name": one["edit"] or "as it is", "values": one["kernel"]} for one in shown],
                "x_label": "lag in the true order",
                "y_label": "mean M*",
            },
        )
    )
    return Section("Statistics and geometry, before and after", (), tuple(figures))


def _made(facts: Facts) -> Section:
    rows = []
    for name, edit in facts["edits"].items():
        left = edit.get("effective")
        rows.append((
            name,
            edit["about"],
            edit["control"],
            "–" if left is None else f"{100 * left:.0f} % of the sentences, in effect",
        ))
    text = [
        "Sentences end at full stops, question and exclamation marks before white space, and at line ends. What an "
        "edit does not name stays letter by letter. The vocabulary is that of the corpus as it is.",
        "Weights of resampled sentences depend on the lags in a sentence alone and are as near to 1 as the wanted "
        "kernel allows (least relative entropy); uneven weights leave less evidence, which is given.",
    ]
    for name, edit in facts["edits"].items():
        if "before" in edit:
            text.append(
                f"`{name}`: pairs in one sentence by lag, {_listed(edit['before'])} before, {_listed(edit['after'])} "
                "wanted and, up to rounding, reached."
            )
    return Section(
        "How the corpora were edited",
        tuple(text),
        tables=(
            TableSpec("Edits and their controls.", ("edit", "what is done", "control", "left"), tuple(rows)),
        ),
    )


def _edits(facts: Facts) -> list[Variant]:
    return [variant for variant in facts["variants"] if variant["kind"] == "edit"]


def _controls(facts: Facts, edit: str) -> list[Variant]:
    return [one for one in facts["variants"] if one["kind"] == "control" and one["edit"] == edit]


def _grouped(facts: Facts) -> list[list[Variant]]:
    """Variants in order, draws of one control together."""
    groups: dict[tuple[str, str], list[Variant]] = {}
    for variant in facts["variants"]:
        groups.setdefault((variant["edit"], variant["name"]), []).append(variant)
    return list(groups.values())


def _neighbours(facts: Facts) -> str:
    place = {order: item for item, order in zip(facts["items"], facts["order"], strict=True)}
    return ", ".join(place[at] for at in range(min(4, len(place)))) + ", …"


def _without_diagonal(matrix: Sequence[Sequence[float]]) -> list[list[float | None]]:
    return [[None if i == j else x for j, x in enumerate(row)] for i, row in enumerate(matrix)]


def _signed(number: dict[str, Any], key: str) -> str:
    low, high = ("low", "high") if key == "value" else ("change_low", "change_high")
    text = _plus(number[key])
    return text if number.get(low) is None else f"{text} [{_plus(number[low])}, {_plus(number[high])}]"


def _plus(value: float) -> str:
    return ("+" if value > 0 else "") + digits(round(value, 2), places=2)


def _range(values: Sequence[float]) -> str:
    return _plus(values[0]) if len(values) == 1 else f"{_plus(min(values))} to {_plus(max(values))}"


def _listed(values: Sequence[float]) -> str:
    return ", ".join(digits(round(value)) for value in values)
