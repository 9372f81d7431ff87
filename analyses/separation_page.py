"""Do two groups of texts move apart, with documents as the unit of chance: claims and sections of a diff's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.digits import digits
from analyses.report import FigureSpec, Section, TableSpec
from geometry.nulls import null_of

if TYPE_CHECKING:
    from collections.abc import Sequence

Facts = dict[str, Any]

OUTSIDE = 0.1
"""Share of E|d|^2 outside of the joint basis from which a reader is warned."""


LEVEL = 0.05
"""Chance of calling any layer different where none is."""


def separation_claims(facts: Facts) -> list[str]:
    """One sentence for each pair of groups: what of a possible overlap is there, against which floor."""
    return [_claim(records) for records in _by_pair(facts) if "left_out" not in records[0]]


def separation_sections(facts: Facts) -> list[Section]:
    """One section for each pair of groups."""
    return [_left_out(r[0]) if "left_out" in r[0] else _section(r) for r in _by_pair(facts)]


def _by_pair(facts: Facts) -> list[list[dict[str, Any]]]:
    records = facts.get("separation", [])
    return [[r for r in records if r["pair"] == pair] for pair in dict.fromkeys(r["pair"] for r in records)]


def _named(record: dict[str, Any]) -> str:
    return " and ".join(record["groups"])


def _claim(records: Sequence[dict[str, Any]]) -> str:
    tests = [r["permutation"] for r in records]
    below = sum(t["null"]["verdict"] == "below" and t["p_over_layers"] <= LEVEL for t in tests)
    told = (
        f"With whole documents as the unit of chance, the top-{records[0]['k']} difference subspaces of "
        f"{_named(records[0])} texts overlap less than random splits of their union in {below} of "
        f"{len(records)} layers (corrected for looking at all of them)"
    )
    scaled = [r for r in records if r["disattenuated"]]
    if not scaled:
        return f"{told}."
    values = [r["disattenuated"] for r in scaled]
    lowest, highest = (pick(values, key=lambda found: found["value"]) for pick in (min, max))
    apart = sum(found["high"] < 0 for found in values)
    return (
        f"{told}; on the scale from {scaled[0]['chance']['of']} (0) to two halves of one group (1) they reach "
        f"{_measured(lowest)} to {_measured(highest)}, with the whole interval below 0 in {apart} of {len(values)}."
    )


def _measured(found: dict[str, float]) -> str:
    return f"{digits(found['value'], 2)} [{digits(found['low'], 2)}, {digits(found['high'], 2)}]"


def _left_out(record: dict[str, Any]) -> Section:
    documents = " and ".join(str(n) for n in record["documents"])
    return Section(
        f"Is the overlap of {_named(record)} texts more than sampling?",
        (f"Not asked: {record['left_out']} ({documents}). Give documents a `doc_id`.",),
    )


def _section(records: list[dict[str, Any]]) -> Section:
    name, first, second = _named(records[0]), *records[0]["groups"]
    k = records[0]["k"]
    blocks = " and ".join(str(n) for n in records[0]["blocks"])
    text = [
        f"Tokens of one document are alike, so chance is asked of whole documents, dealt to {blocks} blocks. "
        f"Blocks of both groups are shuffled and split anew {records[0]['permutation']['null']['n']} times into "
        "parts of the groups' numbers of tokens. An overlap below those of the splits says that the two groups "
        "of texts are moved in different directions. It does not say why: texts that differ are moved "
        "differently by almost any change, so read it beside the random adapters.",
        f"The last figure puts the overlap on a scale of its own: 0 is what {records[0]['chance']['of']} give, "
        "1 what two halves of one group reach. Halves are compared with halves on both ends, so that sampling "
        "noise cancels. The interval is that of the documents; how far random adapters scatter is the grey band.",
    ]
    worst = max(max(r["outside"]) for r in records)
    if worst > OUTSIDE:
        text.append(
            f"Up to {digits(100 * worst, 2)} % of E|d|² lies outside of the {records[0]['dimensions']} "
            "dimensions in which blocks are kept; what is said here is about the part inside."
        )
    return Section(
        f"Is the overlap of {name} texts more than sampling?",
        tuple(text),
        figures=(_overlap(records, name, k), _scaled(records, name)),
        tables=(_numbers(records, first, second), _ends(records, first, second)),
    )


def _overlap(records: list[dict[str, Any]], name: str, k: int) -> FigureSpec:
    nulls = [r["permutation"]["null"] for r in records]
    return FigureSpec(
        f"blocks-{records[0]['pair'].lower()}",
        "by_layer",
        f"Overlap of the top-{k} difference subspaces with its bootstrap interval, over the 95 % band of random "
        "splits of the union of documents. The dashed line is what halves of one group reach.",
        {
            "layers": [r["layer"] for r in records],
            "y_label": "overlap (0 to 1)",
            "y_limits": [0, 1],
            "series": [
                {"name": name}
                | {
                    ends: [r["overlap"][end] for r in records]
                    for ends, end in (("values", "value"), ("low", "low"), ("high", "high"))
                }
            ],
            "null": {"name": "random splits of the documents"}
            | {key: [n[key] for n in nulls] for key in ("mean", "low", "high")},
            "ceiling": {"name": "ceiling (mean of random halves)", "values": [r["ceiling"] for r in records]},
        },
    )


def _scaled(records: list[dict[str, Any]], name: str) -> FigureSpec:
    found = [r["disattenuated"] or dict.fromkeys(("value", "low", "high")) for r in records]
    ends = (("values", "value"), ("low", "low"), ("high", "high"))
    series = {"name": name} | {many: [f[one] for f in found] for many, one in ends}
    bands = [_scatter(r) for r in records]
    if all(bands):
        series["null"] = {"name": "random adapters"} | {key: [b[key] for b in bands] for key in bands[0]}
    return FigureSpec(
        f"disattenuated-{records[0]['pair'].lower()}",
        "by_layer",
        f"The same on a scale from {records[0]['chance']['of']} (0) to one and the same subspace (1), with its "
        "bootstrap interval. No bar where the ceiling is not above chance: there nothing can be told.",
        {
            "layers": [r["layer"] for r in records],
            "y_label": "disattenuated overlap",
            "series": [series],
            "ceiling": {"name": "one subspace", "values": 1.0},
        },
    )


def _scatter(record: dict[str, Any]) -> dict[str, float] | None:
    """The band of random adapters on the scale of which their mean is 0."""
    chance = record["chance"]
    room = record["ceiling"] - chance["value"]
    if room <= 0 or len(chance["samples"]) < 2:
        return None
    low, high = null_of(chance["value"], chance["samples"]).band
    return {"low": (low - chance["value"]) / room, "mean": 0.0, "high": (high - chance["value"]) / room}


def _numbers(records: list[dict[str, Any]], first: str, second: str) -> TableSpec:
    rows = []
    for r in records:
        null = r["permutation"]["null"]
        tested = {
            "value": r["permutation"]["value"],
            "null": {"low": null["low"], "high": null["high"]},
            "p": null["p"],
            "verdict": null["verdict"],
        }
        captured = [r[key] for key in ("capture_first", "capture_second", "matrix_cosine")]
        rows.append((r["layer"], tested, *captured))
    return TableSpec(
        "Overlap beside random splits, with the one-sided p of an overlap as small; and two measures that need "
        "no k to be well separated, with 95 % intervals. Captured is the energy of one group's differences in "
        "the other's subspace, over the most that k directions hold.",
        (
            "layer",
            "overlap",
            f"{first} captured by {second}",
            f"{second} captured by {first}",
            "matrix cosine",
        ),
        tuple(rows),
    )


def _ends(records: list[dict[str, Any]], first: str, second: str) -> TableSpec:
    columns = (f"halves, {first}", f"halves, {second}", "halves, across", "chance", "disattenuated")
    rows = []
    for r in records:
        halves = (r["halves"][key] for key in ("first", "second", "across"))
        rows.append((r["layer"], *halves, r["chance"]["value"], r["disattenuated"], max(r["outside"])))
    return TableSpec(
        f"Where the scale ends: mean overlaps between random halves of the documents, within a group, across both, "
        f"and across under {records[0]['chance']['of']}. Last, the share of E|d|² that the joint basis leaves out, "
        "of the group where it is larger.",
        ("layer", *columns, "outside"),
        tuple(rows),
    )
