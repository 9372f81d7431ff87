"""The page of a needle run: pure functions of the facts of :mod:`analyses.needle_run`."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from analyses.digits import digits
from analyses.module_maps import percent
from analyses.report import FigureSpec, Section, TableSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

Facts = dict[str, Any]


def needle_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence each."""
    claims = [claim for name in facts["sides"] for claim in _side_claims(facts, name)]
    if facts["change"]:
        claims.append(_change_claim(facts))
    return tuple(claims)


def needle_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings."""
    sections = [_answers(facts), _depths(facts)]
    if facts["write"]:
        sections.append(_written(facts))
    sections += [_heads(facts), _slopes(facts)]
    if facts["change"]:
        sections.append(_change(facts))
    return tuple(sections)


def filler_said(facts: Facts) -> str:
    """Say how many pieces the contexts hold; where they are few, depths cannot be told apart."""
    counts = [statistics.fmean(row) for row in facts["pieces"]]
    said = ", ".join(
        f"{_length(facts, n)}: {digits(c)}" for n, c in zip(facts["lengths"], counts, strict=True)
    )
    few = (
        " Where there are fewer pieces than depths, neighbouring depths are the same text."
        if min(counts) < len(facts["depths"])
        else ""
    )
    return f"Mean number of pieces (sentences, records or documents, needles among them) of a context, {said}.{few}"


def _side_claims(facts: Facts, name: str) -> list[str]:
    side, last = facts["sides"][name], facts["lengths"][-1]
    accuracy = [value for row in side["accuracy"]["value"] for value in row]
    blind = statistics.fmean(side["blind"]["value"])
    gain = side["gain"]
    sure = sum(low is not None and low > 0 for low in gain["low"])
    claims = [
        f"`{name}` picks the right one of {facts['options']} options in {percent(statistics.fmean(accuracy))} of the "
        f"questions; over the same contexts without the needle in {percent(blind)}, by chance in "
        f"{percent(1 / facts['options'])}. The needle helps at {sure} of {len(facts['lengths'])} lengths beyond its "
        f"interval over {facts['prompts']} prompts; at {_length(facts, last)} by "
        f"{_interval(gain, -1, share=True)} of the questions."
    ]
    if side["odds_slope"]:
        slopes, where = side["odds_slope"], "over all depths"
        if slopes["fixed"]:
            slopes, where = slopes["fixed"], "with the needle at a fixed distance, right before the question,"
        claims.append(
            f"In `{name}`, {where} the log-odds of the needle's weight change by {_interval(slopes['mean'])} nats "
            f"a unit of log n, averaged over {len(facts['layers']) * facts['heads']} heads; scores that do not "
            f"depend on length give −1. {slopes['slower']} heads fall more slowly than that beyond their interval, "
            f"{slopes['faster']} faster."
        )
    return claims


def _change_claim(facts: Facts) -> str:
    change = facts["change"]
    accuracy, mass = change["accuracy"], change["mass"]
    return (
        f"The adapter changes the accuracy by {_interval(accuracy, share=True)} (paired, p = "
        f"{digits(accuracy['p'], 2)}); {mass['gaining']} heads give the needle more weight and {mass['losing']} "
        f"less, of {len(facts['layers']) * facts['heads']}, with at most one false in twenty among them."
    )


def _answers(facts: Facts) -> Section:
    figures = tuple(
        FigureSpec(
            f"accuracy-{number}",
            "heat",
            f"{name}: share of {facts['prompts']} prompts in which the right answer is the likeliest of "
            f"{facts['options']} options. By chance {percent(1 / facts['options'])}; the table has the intervals, "
            f"and what is right without the needle.{_beyond(facts)}",
            {
                "values": side["accuracy"]["value"],
                "rows": [_length(facts, length) for length in facts["lengths"]],
                "columns": [percent(depth) for depth in facts["depths"]],
                "label": "share of prompts",
                "low": 0,
                "high": 1,
                "x_label": "filler before the needle",
                "y_label": "length",
            },
        )
        for number, (name, side) in enumerate(facts["sides"].items(), 1)
    )
    rows = [
        (
            name, _length(facts, length), {"value": statistics.fmean(side["accuracy"]["value"][i])},
            _cell(side["blind"], i), _cell(side["gain"], i), {"value": statistics.fmean(side["margin"]["value"][i])},
        )
        for name, side in facts["sides"].items()
        for i, length in enumerate(facts["lengths"])
    ]  # fmt: skip
    return Section(
        "What the model answers",
        (
            "Each option is scored by the log-likelihood of its tokens after the prompt, so an answer cannot be "
            "wrong for its form. The same prompts stand in every cell: a longer context is the shorter one with more "
            "filler, another depth is the same text with the needle moved. Intervals are over prompts.",
            filler_said(facts),
        ),
        figures=figures,
        tables=(
            TableSpec(
                "Mean over depths. Without needle: the same question over the same filler. Gain: the difference, "
                "paired. Margin: log-likelihood of the answer less that of the best foil.",
                ("side", "length", "right", "right without needle", "gain", "margin (nats)"),
                tuple(rows),
            ),
        ),
    )


def _depths(facts: Facts) -> Section:
    panels = []
    for name, side in facts["sides"].items():
        blind = side["blind"]
        floor = {
            "x": facts["depths"], "low": min(blind["low"]), "high": max(blind["high"]), "name": "without the needle",
        }  # fmt: skip
        panels.append({
            "title": name,
            "series": _by_depth(facts, side["accuracy"]),
            "y_label": "share of prompts right",
            "y_limits": [0, 1],
            "floor": floor,
        })
        even = {"name": "even attention", "x": facts["depths"], "values": [1.0] * len(facts["depths"])}
        panels.append({
            "title": name,
            "series": _by_depth(facts, side["lift"]),
            "y_label": "lift of the needle",
            "lines": [even],
        })
    tables = ()
    if len(facts["depths"]) > 2:
        rows = [
            (name, _length(facts, length), *(
                _cell(side["ends"][what][end], i) for what in ("accuracy", "lift") for end in ("primacy", "recency")))
            for name, side in facts["sides"].items()
            for i, length in enumerate(facts["lengths"])
        ]  # fmt: skip
        tables = (
            TableSpec(
                "Primacy and recency: the value at the first and at the last depth less the mean of those between; "
                "both are above 0 on a U-curve, and without any effect of depth their intervals hold 0.",
                ("side", "length", "primacy", "recency", "primacy of lift", "recency of lift"),
                tuple(rows),
            ),
        )
    return Section(
        "Lost in the middle?",
        (
            "Left what is answered, right what is attended to from the prompt's last token, over the same depths: "
            "lift is the needle's weight over what even attention would give it, averaged over layers and heads. "
            "Weight is not influence; the two curves need not agree.",
        ),
        figures=(
            FigureSpec(
                "depths",
                "curves",
                "Accuracy and attention by depth, with 95 % intervals over prompts; grey is what the model gets "
                "right without the needle.",
                {"x_label": "filler before the needle", "panels": panels},
            ),
        ),
        tables=tables,
    )


def _written(facts: Facts) -> Section:
    rows = [
        (name, _length(facts, length), *(
            {"value": statistics.fmean(side[key]["value"][i])} for key in ("accuracy", "written", "invalid")))
        for name, side in facts["sides"].items()
        for i, length in enumerate(facts["lengths"])
    ]  # fmt: skip
    return Section(
        "What the model writes",
        (
            f"The same contexts, continued by the likeliest tokens, at most {facts['write']} or to the end of the "
            "line. An answer in which none of the options stands is invalid: it says nothing of what was found.",
        ),
        tables=(
            TableSpec(
                "Shares of prompts, mean over depths. Right by likelihood is repeated for comparison.",
                ("side", "length", "right by likelihood", "right as written", "invalid"),
                tuple(rows),
            ),
        ),
    )


def _heads(facts: Facts) -> Section:
    figures = tuple(
        _head_map(facts, f"lift-{number}", f"{name}: lift of the needle, mean over prompts, lengths and depths; 1 is "
                  "even attention.", side["head_lift"]["value"], "lift", centre=None)
        for number, (name, side) in enumerate(facts["sides"].items(), 1)
    )  # fmt: skip
    rows = []
    for name, side in facts["sides"].items():
        best, where = max(
            (value, (layer, head))
            for layer, row in zip(facts["layers"], side["head_lift"]["value"], strict=True)
            for head, value in enumerate(row)
        )
        copied = side["retrieved"]
        most = None if copied is None else max(max(row) for row in copied["value"])
        margin = side["rival_margin"]
        rows.append(
            (
                name, best, f"layer {where[0]}, head {where[1]}", most,
                None if margin is None else max(max(row) for row in margin["value"]),
                _cell(side["sink_share"], None),
            )
        )  # fmt: skip
    lengths = [
        (name, _length(facts, length), *(_cell(side["by_length"][key], i) for key in
                                         ("mass", "lift", "value_mass", "signal")))
        for name, side in facts["sides"].items()
        for i, length in enumerate(facts["lengths"])
    ]  # fmt: skip
    return Section(
        "Which heads look at the needle",
        (
            "Attention of the prompt's last token, from which the answer's first token is predicted. The retrieval "
            "score is the share of the answer's tokens before which a head looks most at that very token of the "
            "needle; chance is one over the keys in sight. The margin over rivals is the log-mean-exp of the "
            "needle's scores less that of all rivals', in nats. The sink is the first four tokens.",
            "Weight is not yet effect. The share of values is the needle's in the sum of weights times value norms. "
            "The signal ratio is the length of what the needle's values add to a head's output over the length of "
            "the whole output; it counts directions too, and may pass 1 where the rest points the other way.",
        ),
        figures=figures,
        tables=(
            TableSpec(
                "Heads that do the most; the largest of many is partly chance. Sink heads: share with over .3 of "
                "their weight on the sink.",
                (
                    "side",
                    "largest lift",
                    "head",
                    "retrieval score",
                    "margin over rivals (nats)",
                    "sink heads",
                ),
                tuple(rows),
            ),
            TableSpec(
                f"The needle by length, mean over {len(facts['layers']) * facts['heads']} heads and all depths, with "
                "intervals over prompts. Even attention has lift 1.",
                ("side", "length", "weight", "lift", "share of values", "signal ratio"),
                tuple(lengths),
            ),
        ),
    )


def _slopes(facts: Facts) -> Section:
    text = (
        "If a head's scores do not depend on length, the log-odds of the needle's weight fall along log n with slope "
        "−1 (theorem 6.1 of arXiv 2602.15028, at finite n); 0 would be a weight that does not dilute. The needle is "
        "the same at every length, so the slope is paired. The theory knows no places: at most depths the needle "
        "also moves away from the question as the context grows, and a head that prefers what is near falls faster "
        "than −1 for that reason alone. Behind all of the filler the needle stands right before the question at "
        "every length; there its distance is fixed, and the slope is the theory's own.",
    )
    known = {name: side for name, side in facts["sides"].items() if side["odds_slope"]}
    if not known:
        return Section(
            "Does the needle dilute?",
            (*text, "There is no slope: it takes two lengths, and layers that see the whole context."),
        )
    figures, rows, by_depth = [], [], []
    for number, (name, side) in enumerate(known.items(), 1):
        over = {"all depths": side["odds_slope"], "fixed distance": side["odds_slope"]["fixed"]}
        kept = {where: slopes for where, slopes in over.items() if slopes}
        where, slopes = list(kept.items())[-1]
        figures.append(
            _head_map(facts, f"slope-{number}", f"{name}, {where}: slope of the needle's log-odds along log n, mean "
                      "over prompts; white is −1, dilution.", slopes["value"], "nats per unit of log n", centre=-1)
        )  # fmt: skip
        rows += [
            (name, where, slopes["mean"], slopes["slower"], slopes["faster"])
            for where, slopes in kept.items()
        ]
        means = side["odds_slope"]["by_depth"]
        by_depth += [(name, percent(depth), _cell(means, i)) for i, depth in enumerate(facts["depths"])]
    return Section(
        "Does the needle dilute?",
        text,
        figures=tuple(figures),
        tables=(
            TableSpec(
                "Mean slope over heads, and heads whose own 95 % interval lies above or below −1; of "
                f"{len(facts['layers']) * facts['heads']} heads some 5 % would by chance.",
                ("side", "needle", "mean slope", "heads that dilute more slowly", "heads that dilute faster"),
                tuple(rows),
            ),
            TableSpec(
                "Mean slope over heads by depth.",
                ("side", "filler before the needle", "mean slope"),
                tuple(by_depth),
            ),
        ),
    )


def _change(facts: Facts) -> Section:
    change = facts["change"]
    rows = [
        (what, {**{key: change[key_of][key] for key in ("value", "low", "high")}, "p": change[key_of]["p"]})
        for what, key_of in (("accuracy", "accuracy"), ("margin (nats)", "margin"))
    ]
    heads = [
        (what, change[key]["gaining"], change[key]["losing"], change[key]["least_p"])
        for what, key in (("needle", "mass"), ("sink", "sink"))
    ]
    figures = tuple(
        _head_map(facts, f"change-{key}", f"Adapted minus base: weight on the {what}, mean over prompts, lengths and "
                  "depths.", change[key]["value"], "change of weight", centre=0)
        for what, key in (("needle", "mass"), ("sink", "sink"))
    )  # fmt: skip
    return Section(
        "What the adapter changes",
        (
            "Both sides read the same prompts. A prompt's differences change their sign together under the null; "
            "heads are picked with a false-discovery rate of 5 % over all layers and heads.",
        ),
        figures=figures,
        tables=(
            TableSpec("Adapted minus base, mean over lengths and depths.", ("what", "change"), tuple(rows)),
            TableSpec(
                "Heads whose weight changes. With few prompts p cannot be smaller than the last column, so that no "
                "head may be picked however large its change.",
                ("weight on", "heads that gain", "heads that lose", "least p possible"),
                tuple(heads),
            ),
        ),
    )


def _head_map(
    facts: Facts,
    name: str,
    caption: str,
    values: Sequence[Sequence[float]],
    label: str,
    *,
    centre: float | None,
) -> FigureSpec:
    data: dict[str, Any] = {
        "values": values,
        "rows": facts["layers"],
        "columns": list(range(facts["heads"])),
        "label": label,
        "x_label": "head",
        "y_label": "layer",
    }
    return FigureSpec(name, "heat", caption, data | ({"low": 0} if centre is None else {"centre": centre}))


def _by_depth(facts: Facts, record: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": _length(facts, length),
            "x": facts["depths"],
            "values": record["value"][i],
            "low": record["low"][i],
            "high": record["high"][i],
        }
        for i, length in enumerate(facts["lengths"])
    ]


def _cell(record: dict[str, Any], at: int | None) -> dict[str, Any]:
    return {key: record[key] if at is None else record[key][at] for key in ("value", "low", "high")}


def _interval(record: dict[str, Any], at: int | None = None, *, share: bool = False) -> str:
    value, low, high = (record[key] if at is None else record[key][at] for key in ("value", "low", "high"))
    say = percent if share else digits
    return f"{say(value)} [{say(low)}, {say(high)}]" if low is not None else say(value)


def _length(facts: Facts, length: int) -> str:
    return f"{digits(length)} {facts['unit']}"


def _beyond(facts: Facts) -> str:
    if facts["unit"] != "tokens" or facts["lengths"][-1] <= facts["trained_length"]:
        return ""
    return f" Lengths above {digits(facts['trained_length'])} tokens are beyond those that the model states."
