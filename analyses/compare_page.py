"""The page of a comparison of runs: overlaps between their floor and their ceilings, and what all share.

Pure functions of the facts of :mod:`analyses.compare_runs`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from analyses.compare_shared_page import RANDOM, shared_section, side_by_side
from analyses.digits import digits
from analyses.module_maps import cell
from analyses.report import FigureSpec, Section, TableSpec
from analyses.run_names import in_words

Facts = dict[str, Any]

HALVES = "halves of the documents"
SEEDS = "seeds of one recipe"
_SEEDS_OF = "seeds of "
_MOST = 3
"""More kinds of pairs than this open the page together, in one sentence."""


def compare_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence each."""
    claims = []
    for group in facts["groups"]:
        kinds = _kinds(facts, group)
        across = [kind for kind in kinds if not kind.startswith(_SEEDS_OF)]
        if len(across) > _MOST:
            kinds[f"{len(across)} pairs of recipes"] = [pair for kind in across for pair in kinds.pop(kind)]
        claims += [_claim(facts, group, kind, pairs) for kind, pairs in kinds.items()]
        claims += _common_claim(facts, group)
    return tuple(claims)


def compare_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings."""
    sections = [_read(facts)]
    for number, group in enumerate(facts["groups"], 1):
        sections += [_overlaps(facts, group, number), shared_section(facts, group, number)]
    sections.append(side_by_side(facts))
    return tuple(sections)


def _kinds(facts: Facts, group: str) -> dict[str, list[Facts]]:
    """Pairs of one group by what they are: seeds of one recipe, or two recipes."""
    family = {run["name"]: run["name"] for run in facts["runs"]}
    family |= {name: label for label, names in facts["families"].items() for name in names}
    kinds: dict[str, list[Facts]] = {}
    for pair in facts["pairs"]:
        if pair["group"] == group:
            one, other = family[pair["one"]], family[pair["other"]]
            label = f"{_SEEDS_OF}{one}" if one == other else f"{one} and {other}"
            kinds.setdefault(label, []).append(pair)
    return kinds


def _claim(facts: Facts, group: str, kind: str, pairs: Sequence[Facts]) -> str:
    records = [pair["over_layers"]["overlap"] for pair in pairs]
    what = (
        f"`{kind}`"
        if len(pairs) == 1 or not kind.startswith("seeds of")
        else f"`{kind}`, {len(pairs)} pairs,"
    )
    said = [
        f"On `{group}`, the {facts['k']} directions in which {what} move the stream most overlap by "
        f"{_range(r['value'] for r in records)} over layers"
    ]
    nulls = [r["null"] for r in records if "null" in r]
    if nulls:
        said.append(
            f"{_verdicts(n['verdict'] for n in nulls)} the random-adapter null "
            f"({digits(statistics.mean(n['mean'] for n in nulls), 2)})"
        )
    seeds = [r["seeds"] for r in records if r.get("seeds")]
    if seeds:
        said.append(
            f"{_verdicts(_beside(r) for r in records if r.get('seeds'))} what {SEEDS} reach "
            f"({_range(end for s in seeds for end in (s['low'], s['high']))})"
        )
    said.append(f"halves of the documents allow {_range(r['ceiling'] for r in records)}")
    return "; ".join(said) + "."


def _beside(record: Facts) -> str:
    """Say where a number lies beside the range of the seed pairs."""
    low, high = record["seeds"]["low"], record["seeds"]["high"]
    return "below" if record["value"] < low else "above" if record["value"] > high else "not distinguishable"


def _verdicts(words: Iterable[str]) -> str:
    """Join verdicts on one kind of pairs, the common one first."""
    found = list(words)
    counts = sorted(set(found), key=lambda word: -found.count(word))
    spelled = {"above": "above", "below": "below", "not distinguishable": "not distinguishable from"}
    if len(counts) == 1:
        return spelled[counts[0]]
    return in_words([f"{spelled[word]} (in {found.count(word)} of {len(found)})" for word in counts])


def _range(values: Iterable[float]) -> str:
    low, high = min(found := list(values)), max(found)
    return digits(low, 2) if digits(low, 2) == digits(high, 2) else f"{digits(low, 2)} to {digits(high, 2)}"


def _common_claim(facts: Facts, group: str) -> list[str]:
    places = [c for c in facts["common"] if c["group"] == group and "dimensions" in c]
    if not places:
        return []
    shares = [share for c in places for share in c["inside"].values()]
    dims = sorted({c["dimensions"] for c in places})
    span = f"{dims[0]}" if len(dims) == 1 else f"{dims[0]} to {dims[-1]}"
    return [
        f"On `{group}`, {span} of {facts['k']} directions are common to all {len(facts['runs'])} runs, depending on "
        f"the layer; they hold {_percents(shares)} of what each run moves."
    ]


def _percents(shares: Sequence[float]) -> str:
    return f"{round(100 * min(shares))} to {round(100 * max(shares))} %"


def _read(facts: Facts) -> Section:
    rows = []
    for run in facts["runs"]:
        family = next((label for label, names in facts["families"].items() if run["name"] in names), None)
        rows.append((run["name"], run["adapter"], family, run["seed"], run["random_adapters"], run["k"]))
    text = [
        f"All runs are about one base, `{facts['base']}`, by the fingerprint of its weights, and only their folders "
        "were read. Adapters that our training made from the same base, data and recipe, and that differ in nothing "
        "but its seed, are taken for seeds of one recipe, and so are those of `--seeds`: their agreement is the "
        "ceiling for everything else.",
    ]
    if not facts["families"]:
        text.append(
            "No two of these adapters are known to be seeds of one recipe, so that there is no seed-to-seed ceiling: "
            "an overlap below 1 may be nothing but the seed. Train one recipe again with another seed, or name "
            "seeds by `--seeds`."
        )
    for run in facts["runs"]:
        if run["other_texts"]:
            text.append(
                f"`{run['name']}` read other texts for {in_words(run['other_texts'])} than "
                f"`{facts['runs'][0]['name']}`: what differs there may come from the texts."
            )
    for seed in sorted({run["seed"] for run in facts["runs"]} - {None}):
        alike = [run["name"] for run in facts["runs"] if run["seed"] == seed]
        if len(alike) > 1:
            text.append(
                f"The trainings of {in_words(alike)} had the same seed, and where shapes and order of their modules "
                "agree they began from the same random A: some of their overlap may be that of their start."
            )
    if len({run["k"] for run in facts["runs"]}) > 1:
        text.append(
            f"The runs kept subspaces of different dimensions; the first {facts['k']} of each are compared."
        )
    return Section(
        "What was compared",
        tuple(text),
        tables=(
            TableSpec(
                "The runs. Random adapters are those of each run; pairs of the same number are left out, since equal "
                "seeds draw them alike.",
                ("run", "adapter", "seeds of", "seed", "random adapters", "k"),
                tuple(rows),
            ),
        ),
    )


def _overlaps(facts: Facts, group: str, number: int) -> Section:
    pairs, shown = [p for p in facts["pairs"] if p["group"] == group], _spread(facts["layers"], 6)
    figures = [
        _by_layer(facts, group, number, "overlap", f"overlap of the first {facts['k']} directions"),
        _by_layer(facts, group, number, "energy_cosine", "cosine of moments"),
    ]
    if len(facts["runs"]) > 2:
        figures += [_matrix(facts, group, layer, number) for layer in _spread(facts["layers"])]
    return Section(
        f"On {group}: do the runs move the same directions",
        (
            f"The overlap is the mean squared cosine between the first {facts['k']} directions of two runs' changes, "
            "the mean shift among them. It jumps where two energies are nearly equal. The cosine of the second "
            "moments weighs every kept direction by its energy and needs no number of them, but one strong direction "
            "decides it.",
            "The floor are random adapters with the singular values of the one run, against those of the other; the "
            "band is as wide as that many adapters allow, not that many pairs. Ceilings are halves of the documents "
            "of each run, a little low since they have half of the tokens; and, between recipes, what seeds of one "
            "recipe reach. A small overlap between two recipes means little if seeds of one do no better.",
            "Overlap is not function: two adapters may share most of their energy and do different things, or share "
            "little and do the same. What a direction does, `repgeo cause` tells.",
        ),
        figures=tuple(figures),
        tables=(
            TableSpec(
                "Means over layers, for which no layer was picked. The scale goes from the mean of the null (0) to "
                "the ceiling of halves (1).",
                ("runs", "overlap", "on the scale", "ceiling: halves", "ceiling: seed pairs"),
                tuple(_overlap_row(pair) for pair in pairs),
            ),
            TableSpec(
                "Without a number of directions, means over layers. Cosines of mean shifts have the band of random "
                "directions at one layer.",
                ("runs", "cosine of second moments", "ceiling: halves", "cosine of mean shifts"),
                tuple(
                    (_pair_name(p), cell(o["energy_cosine"]), o["energy_cosine"]["ceiling"], cell(o["mean_cosine"]))
                    for p in pairs
                    for o in (p["over_layers"],)
                ),
            ),
            TableSpec(
                "Size of the change, root mean square, of the first run over the second. A ratio of sizes has no "
                "null: strength can be given to any direction.",
                ("runs", *(f"layer {layer}" for layer in shown)),
                tuple((_pair_name(p), *(r["size_ratio"] for r in p["layers"] if r["layer"] in shown)) for p in pairs),
            ),
        ),
    )  # fmt: skip


def _overlap_row(pair: Facts) -> tuple[Any, ...]:
    found = pair["over_layers"]["overlap"]
    seeds = found.get("seeds")
    if pair["family"] is not None:
        ceiling = "is one"
    else:
        ceiling = "none" if seeds is None else f"{digits(seeds['low'], 2)} to {digits(seeds['high'], 2)}"
    return _pair_name(pair), cell(found), found.get("between"), found["ceiling"], ceiling


def _pair_name(pair: Facts) -> str:
    return f"{pair['one']} · {pair['other']}"


def _spread(layers: Sequence[int], most: int = 3) -> list[int]:
    """At most so many layers, evenly spaced, the first and the last among them."""
    if len(layers) <= most:
        return list(layers)
    return [layers[round(i * (len(layers) - 1) / (most - 1))] for i in range(most)]


def _by_layer(facts: Facts, group: str, number: int, measure: str, label: str) -> FigureSpec:
    series = [_series(kind, pairs, measure) for kind, pairs in _kinds(facts, group).items()]
    return FigureSpec(
        f"{measure.replace('_', '-')}-{number}",
        "by_layer",
        f"By layer, {label}: mean over the pairs of a kind, with a bar from the least to the most. Grey is what "
        f"{RANDOM} reach, dashed the ceiling: {HALVES} among seeds and where none are known, {SEEDS} elsewhere.",
        {"layers": facts["layers"], "y_label": label, "series": series, "y_limits": [0, 1]},
    )


def _series(kind: str, pairs: Sequence[Facts], measure: str) -> Facts:
    records = [[layer[measure] for layer in pair["layers"]] for pair in pairs]

    def over_pairs(pick: Callable[[Facts], float], fold: Callable[[Sequence[float]], float]) -> list[float]:
        return [fold([pick(record) for record in column]) for column in zip(*records, strict=True)]

    mean = statistics.mean
    one = {"name": kind, "values": over_pairs(lambda r: r["value"], mean)}
    if len(pairs) > 1:
        one |= {"low": over_pairs(lambda r: r["value"], min), "high": over_pairs(lambda r: r["value"], max)}
    flat = [record for column in records for record in column]
    if all("null" in record for record in flat):
        one["null"] = {
            end: over_pairs(lambda r, end=end: r["null"][end], mean) for end in ("mean", "low", "high")
        }
        one["null"]["name"] = RANDOM
    if all(record.get("seeds") for record in flat):
        one["ceiling"] = {"values": over_pairs(lambda r: r["seeds"]["value"], mean), "name": SEEDS}
    else:
        one["ceiling"] = {"values": over_pairs(lambda r: r["ceiling"], mean), "name": HALVES}
    return one


def _matrix(facts: Facts, group: str, layer: int, number: int) -> FigureSpec:
    names = [run["name"] for run in facts["runs"]]
    found: dict[tuple[str, str], float] = {}
    for pair in facts["pairs"]:
        if pair["group"] == group:
            value = next(r["overlap"]["value"] for r in pair["layers"] if r["layer"] == layer)
            found[pair["one"], pair["other"]] = found[pair["other"], pair["one"]] = value
    return FigureSpec(
        f"matrix-{number}-layer-{layer}",
        "heat",
        f"Overlap of every two runs on {group} after block {layer}; with itself each would be 1.",
        {
            "values": [[found.get((a, b)) for b in names] for a in names],
            "rows": names, "columns": names, "label": "overlap", "low": 0, "high": 1,
        },
    )  # fmt: skip
