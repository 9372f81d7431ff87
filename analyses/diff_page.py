"""The page of a diff: what the facts of :mod:`analyses.adapter_diff` mean, in figures, tables and sentences.

Pure functions of the facts: nothing here runs a model or reads a file.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.digits import digits
from analyses.report import FigureSpec, Section, TableSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

Facts = dict[str, Any]

RANDOM = "random adapters of the same strength"


def diff_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence each."""
    if not facts["preflight"]["active"]:
        return ("The adapter is inactive: every difference from the base is exactly 0.",)
    claims = [_strongest(facts, group) for group in facts["groups"]]
    claims += [_concentration(facts, group) for group in list(facts["groups"])[:1]]
    claims += [_separation(facts, pair) for pair in _pairs(facts)]
    return tuple(claims)


def diff_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings, from preflight to the displaced tokens."""
    sections = [_preflight(facts)]
    if facts["preflight"]["active"]:
        sections += [_size(facts), _shape(facts), _turn(facts)]
        sections += [_separate(facts, pair) for pair in _pairs(facts)]
        sections += [_tokens(facts)]
    return tuple(sections)


def pick(facts: Facts, measure: str, group: str) -> list[dict[str, Any]]:
    """The records of one measure and group, one a layer, in the order of the layers."""
    found = {r["layer"]: r for r in facts["measures"] if r["measure"] == measure and r["group"] == group}
    return [found[layer] for layer in facts["layers"] if layer in found]


def _pairs(facts: Facts) -> list[str]:
    return list(dict.fromkeys(r["group"] for r in facts["measures"] if r["measure"] == "overlap"))


def _null(records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    if any("null" not in r for r in records):
        return None
    # none of these measures can be negative, so neither can a band that reads as "what chance gives"
    band = {key: [max(0.0, r["null"][key]) for r in records] for key in ("mean", "low", "high")}
    return {"name": RANDOM, **band}


def _layered(facts: Facts, measure: str, *, name: str, label: str, caption: str, **axis: Any) -> FigureSpec:
    """One number by layer, a panel a group, over the band of the random adapters."""
    series = []
    for group in facts["groups"]:
        records = pick(facts, measure, group)
        series.append({"name": group, "values": [r["value"] for r in records], "null": _null(records)})
    data = {"layers": facts["layers"], "y_label": label, "series": series, **axis}
    return FigureSpec(name, "by_layer", caption, data)


def _verdicts(records: Sequence[dict[str, Any]]) -> str:
    """Count the verdicts of a measure over layers, in the only words that are allowed."""
    words = [r["null"]["verdict"] for r in records if "null" in r]
    if not words:
        return "there is no null to compare with"
    said = [(w, words.count(w)) for w in ("above", "not distinguishable", "below") if w in words]
    parts = [
        f"{w}{' the' if w != 'not distinguishable' else ' from the'} random-adapter null" for w, _ in said
    ]
    counts = [f"{part} in {n} of {len(words)} layers" for part, (_, n) in zip(parts, said, strict=True)]
    return ", ".join(counts)


def _strongest(facts: Facts, group: str) -> str:
    records = pick(facts, "size", group)
    most = max(records, key=lambda r: r["value"])
    return (
        f"On {group} texts the adapter moves the median token by {digits(100 * most['value'], 2)} % of its "
        f"norm at layer {most['layer']}, where it moves most; the size is {_verdicts(records)}."
    )


def _concentration(facts: Facts, group: str) -> str:
    records = pick(facts, "effective_rank", group)
    values = [r["value"] for r in records]
    nulls = [r["null"]["mean"] for r in records if "null" in r]
    against = f" against {digits(min(nulls), 2)} to {digits(max(nulls), 2)} for {RANDOM}" if nulls else ""
    return (
        f"Its differences on {group} texts spread over an effective rank of {digits(min(values), 2)} to "
        f"{digits(max(values), 2)}{against}: {_verdicts(records)}."
    )


def _separation(facts: Facts, pair: str) -> str:
    records = pick(facts, "overlap", pair)
    values = [r["value"] for r in records]
    ceilings = [r["ceiling"] for r in records]
    return (
        f"The top-{facts['k']} difference subspaces of {pair.replace('-', ' and ')} texts overlap by "
        f"{digits(min(values), 2)} to {digits(max(values), 2)} (chance {digits(records[0]['chance'], 2)}, "
        f"ceiling from split halves {digits(min(ceilings), 2)} to {digits(max(ceilings), 2)}): "
        f"{_verdicts(records)}."
    )


def _preflight(facts: Facts) -> Section:
    p = facts["preflight"]
    rows = [
        ("variant, rank, adapted modules", f"{p['variant']}, {p['rank']}, {p['modules']}"),
        ("active", p["active"]),
        ("norm of the update (Frobenius, all modules)", p["norm"]),
        ("largest logit difference, adapter off against base", p["base_gap"]),
        ("largest logit difference, adapter on against base", p["shift"]),
    ]
    groups = [
        (name, g["texts"], g["documents"], g["tokens"], len(g["refused"]))
        for name, g in facts["groups"].items()
    ]
    refused = tuple(
        f"{name}, line {r['line']}: {r['reason']}."
        for name, g in facts["groups"].items()
        for r in g["refused"]
    )
    return Section(
        "Is the comparison sound?",
        (
            "Base and adapter read the same tokens in one forward pass. Attention sinks (the first token, and "
            "tokens of more than ten times the median norm) are tallied apart. Where a text has a prompt and "
            "an answer, only the positions that predict the answer are measured.",
            *p["notes"],
            *refused[:20],
        ),
        tables=(
            TableSpec("Checked before anything was measured.", ("check", "found"), tuple(rows)),
            TableSpec(
                "What was read; documents are dealt to two halves for the ceilings.",
                ("group", "texts", "documents", "tokens measured", "lines set aside"),
                tuple(groups),
            ),
        ),
    )


def _size(facts: Facts) -> Section:
    rows = []
    for group in facts["groups"]:
        for size, share in zip(pick(facts, "size", group), pick(facts, "mean_share", group), strict=True):
            rows.append((group, size["layer"], _cell(size), _cell(share), size["sink_median"], size["sinks"]))
    return Section(
        "How much moves, and where",
        (
            "Size alone is weak evidence: random adapters of the same strength often move tokens as far. What "
            "it shows is where to look.",
        ),
        figures=(
            _layered(
                facts,
                "size",
                name="size",
                label="median |d| / |h|",
                caption="Median size of the difference relative to the base activation at each layer, over the "
                "95 % band of random adapters with the same singular values. It does not say what the change does.",
            ),
        ),
        tables=(
            TableSpec(
                "Sizes by layer. The share of the mean is the part of E|d|² that is one constant vector, "
                "estimated without bias.",
                ("group", "layer", "median |d| / |h|", "share of the mean", "median at sinks", "sinks"),
                tuple(rows),
            ),
        ),
    )


def _shape(facts: Facts) -> Section:
    shown = _spread_layers(facts["layers"])
    panels = []
    for record in facts["spectra"]:
        if record["layer"] in shown:
            null = np.array(record["null"]) if record["null"] else None
            panel = {
                "title": f"{record['group']}, layer {record['layer']}",
                "series": [{"name": "adapter", "values": record["values"]}],
            }
            if null is not None:
                panel["null"] = {
                    "name": f"{RANDOM} (range)",
                    "mean": null.mean(0).tolist(),
                    "low": null.min(0).tolist(),
                    "high": null.max(0).tolist(),
                }
            panels.append(panel)
    panels.sort(key=lambda p: list(facts["groups"]).index(p["title"].split(", layer")[0]))
    return Section(
        "How many directions",
        (
            "A change that means something tends to use few directions; a random update of the same strength "
            "spreads. Effective rank is the exponential of the entropy of the energies; uncentred, so that a "
            "constant shift counts as one direction.",
        ),
        figures=(
            _layered(
                facts,
                "effective_rank",
                name="effective-rank",
                label="effective rank",
                caption="Effective rank of the differences (uncentred) at each layer. Below the band: more "
                "concentrated than chance. It is bounded by propagation, not by the adapter's rank.",
            ),
            FigureSpec(
                "spectra",
                "spectra",
                "Share of E|d|² along each direction, largest first. A steep start means that few directions "
                "carry the change; it does not say that they matter for behaviour.",
                {"panels": panels, "y_label": "share of E|d|²"},
            ),
        ),
        tables=(_rank_table(facts),),
    )


def _rank_table(facts: Facts) -> TableSpec:
    rows = []
    for group in facts["groups"]:
        columns = [pick(facts, m, group) for m in ("effective_rank", "effective_rank_centred", "k90")]
        halves = {r["layer"]: r["value"] for r in pick(facts, "split_half", group)}
        rows += [
            (group, r[0]["layer"], *(_cell(x) for x in r), halves.get(r[0]["layer"]))
            for r in zip(*columns, strict=True)
        ]
    return TableSpec(
        f"Ranks of the differences. k90 directions hold 90 % of E|d|². The last column is the overlap of the "
        f"top-{facts['k']} subspaces of two halves of the documents: 1 is perfectly repeatable.",
        ("group", "layer", "effective rank", "the same, centred", "k90", "split-half overlap"),
        tuple(rows),
    )


def _turn(facts: Facts) -> Section:
    rows = [
        (group, r["layer"], _cell(r), r["sampling"])
        for group in facts["groups"]
        for r in pick(facts, "turn", group)
    ]
    return Section(
        "Do the principal directions of the activations turn?",
        (
            f"Mean principal angle between the top-{facts['k']} principal subspaces of base and adapted "
            "activations on the same tokens. Sampling error between two halves of the documents is listed "
            "beside it; being paired, base and adapted share their sample, so a smaller turn can still be real.",
        ),
        figures=(
            _layered(
                facts,
                "turn",
                name="turn",
                label="mean principal angle (degrees)",
                caption="How far the adapter turns the principal subspace of the activations, over the band of "
                "random adapters. Directions of a few outlier coordinates hardly turn, whatever is learnt.",
            ),
        ),
        tables=(
            TableSpec(
                "Angles in degrees.",
                ("group", "layer", "base to adapted", "half to half of the base"),
                tuple(rows),
            ),
        ),
    )


def _separate(facts: Facts, pair: str) -> Section:
    records = pick(facts, "overlap", pair)
    words = pair.replace("-", " and ")
    series = [{"name": words, "values": [r["value"] for r in records], "null": _null(records)}]
    data = {
        "layers": [r["layer"] for r in records],
        "y_label": "overlap (0 to 1)",
        "y_limits": [0, 1],
        "series": series,
        "ceiling": {"name": "ceiling (split halves)", "values": [r["ceiling"] for r in records]},
    }
    rows = [
        (r["layer"], _cell(r), r["ceiling"], r["chance"], min(r["angles"]), max(r["angles"])) for r in records
    ]
    return Section(
        f"Do {words} texts move apart?",
        (
            f"Overlap of the top-{facts['k']} difference subspaces, ||UᵀV||² / k. Chance for random subspaces "
            "is far below what random adapters give, since any change travels along the directions that the "
            "model already uses; only a number below the grey band says that the two are kept apart.",
        ),
        figures=(
            FigureSpec(
                f"overlap-{pair.lower()}",
                "by_layer",
                f"Overlap of the subspaces in which {words} texts are moved: 1 is the same, the dashed line is "
                "what two samples of one subspace would reach. A low overlap alone does not show separate "
                "mechanisms.",
                data,
            ),
        ),
        tables=(
            TableSpec(
                "Overlaps and principal angles between the two subspaces.",
                ("layer", "overlap", "ceiling", "chance (Haar)", "smallest angle (°)", "largest angle (°)"),
                tuple(rows),
            ),
        ),
    )


def _tokens(facts: Facts) -> Section:
    tables = []
    for group in facts["groups"]:
        layer = max(pick(facts, "size", group), key=lambda r: r["value"])["layer"]
        for record in facts["tokens"]:
            if record["group"] == group and record["layer"] == layer and record["direction"] == 1:
                sides = [[_in_context(t) for t in record[side]] for side in ("up", "down", "control")]
                rows = itertools.zip_longest(*sides, fillvalue="")
                caption = (
                    f"{group}, layer {layer}, first direction: the most displaced tokens at either end, at most "
                    "one a document, and tokens drawn at random. In brackets the displacement in standard "
                    "deviations of the base along the direction."
                )
                columns = ("one end", "other end", "random tokens")
                tables.append(TableSpec(caption, columns, tuple(rows)))
    return Section(
        "Which tokens are displaced most",
        (
            "A story told from extreme tokens is easily a story about nothing: read them against the random "
            "column. The other layers and directions are in `report.json`.",
        ),
        tables=tuple(tables),
    )


def _in_context(token: dict[str, Any]) -> str:
    before = " ".join(token["before"].split())[-48:]
    return f"{before} ⟦{token['token'].strip()}⟧ ({digits(token['z'], 2)})"


def _cell(record: dict[str, Any]) -> dict[str, Any]:
    cell = {"value": record["value"]}
    if "null" in record:
        null = record["null"]
        cell |= {
            "p": null["p"],
            "null": {"low": null["low"], "high": null["high"]},
            "verdict": null["verdict"],
        }
    return cell


def _spread_layers(layers: Sequence[int]) -> set[int]:
    """First, middle and last: enough to see how the shape changes with depth."""
    return {layers[0], layers[len(layers) // 2], layers[-1]}
