"""The part of a weight page that needs texts: which ranks fire on them, and what adapters respond to."""

from __future__ import annotations

import statistics
from typing import Any

from analyses.digits import digits
from analyses.module_maps import LONGEST, by_projection, cell, count_verdicts, layer_map, percent, place
from analyses.report import FigureSpec, Section, TableSpec
from analyses.run_names import in_words

Facts = dict[str, Any]

MATCHED = "matched random updates"


def data_claims(facts: Facts) -> list[str]:
    """Findings on each group of texts, a sentence each; none without texts."""
    claims = []
    for data in facts["on_data"]:
        claims.append(_firing_claim(data))
        claims += [_agreement_claim(data, pair) for pair in data["pairs"] if pair["modules"]]
    return claims


def data_sections(facts: Facts) -> list[Section]:
    """Gains and silent ranks of every adapter on every group, then what pairs of adapters respond to."""
    sections = []
    for number, data in enumerate(facts["on_data"], 1):
        own = enumerate(_by_adapter(data), 1)
        sections += [_firing(data, modules, f"{number}-{i}", facts["dead"]) for i, modules in own]
        pairs = enumerate((p for p in data["pairs"] if p["modules"]), 1)
        sections += [_agreement(data, pair, f"{number}-{i}") for i, pair in pairs]
    return sections


def _by_adapter(data: dict[str, Any]) -> list[list[dict[str, Any]]]:
    names = dict.fromkeys(m["adapter"] for m in data["modules"])
    return [[m for m in data["modules"] if m["adapter"] == name] for name in names]


def _firing_claim(data: dict[str, Any]) -> str:
    silent, gains = [], []
    for modules in _by_adapter(data):
        none, some = (sum(m[key] for m in modules) for key in ("silent", "live"))
        silent.append(f"{none} of {none + some} in `{modules[0]['adapter']}`")
        verdicts = [m["gain"]["null"]["verdict"] for m in modules]
        median = digits(statistics.median(m["gain"]["value"] for m in modules), 2)
        gains.append(f"{median} (above {MATCHED} in {verdicts.count('above')} of {len(verdicts)} modules)")
    return (
        f"On the texts `{data['group']}`, ranks that are not dead in the weights never fire: {in_words(silent)}. "
        f"These texts excite the median update more than even inputs would by a factor of {in_words(gains)}."
    )


def _firing(data: dict[str, Any], modules: list[dict[str, Any]], number: str, dead: float) -> Section:
    name, group = modules[0]["adapter"], data["group"]
    rows = [
        (place(m), m["norm"], cell(m["gain"]), cell(m["effective_rank"]), m["silent"])
        for m in sorted(modules, key=lambda m: -m["norm"])[:LONGEST]
    ]
    return Section(
        f"{name}, on {group}: what fires",
        (
            f"The base read {data['texts']} texts, {max(m['tokens'] for m in modules):,} tokens without attention "
            "sinks, prompts and answers alike. Singular values of an update on data are those of the change of its "
            "module's output over these tokens: exact, from the moments of the inputs along what the updates read.",
            "The gain is the size of that change over its size if inputs of the same length came evenly from all "
            "directions. Activations are far from even, so that random updates have a gain of about 1 on average "
            "and a wide band; above it, an update reads where these texts are strong. A rank is silent if it is not "
            f"dead in the weights, but on these texts below {percent(dead)} of the strongest. What is silent here "
            "may fire on other texts, and what fires need not matter further up.",
        ),
        figures=(
            FigureSpec(
                f"gain-{number}",
                "heat",
                "Gain of the texts on each update; 1 is what evenly spread inputs of the same size give.",
                {**layer_map(modules, [m["gain"]["value"] for m in modules]), "label": "gain", "low": 0},
            ),
            FigureSpec(
                f"functional-rank-{number}",
                "heat",
                "Effective rank of the change of each module's output on these texts.",
                {
                    **layer_map(modules, [m["effective_rank"]["value"] for m in modules]),
                    "label": "effective rank on data",
                    "low": 1,
                },
            ),
        ),
        tables=(
            TableSpec(
                f"The {len(rows)} of {len(modules)} updates that change their output most. The null are updates with "
                "the same singular values and random directions, reading the same texts. The size of a change has no "
                "null of its own: it is the norm of the update, which random updates share, times the gain.",
                ("module", "change, root mean square", "gain", "effective rank on data", "silent ranks"),
                tuple(rows),
            ),
        ),
    )


def _agreement_claim(data: dict[str, Any], pair: dict[str, Any]) -> str:
    overlaps, cosines = ([m[key] for m in pair["modules"]] for key in ("overlap", "cosine"))
    return (
        f"On the texts `{data['group']}`, the overlap of what `{pair['one']}` and `{pair['other']}` respond to is "
        f"{count_verdicts(overlaps, MATCHED)}; the median cosine of what they add to the outputs is "
        f"{digits(statistics.median(c['value'] for c in cosines), 2)} ({count_verdicts(cosines, MATCHED)})."
    )


def _agreement(data: dict[str, Any], pair: dict[str, Any], number: str) -> Section:
    modules, group = pair["modules"], data["group"]
    most = sorted(modules, key=lambda m: -abs(m["cosine"]["value"]))[:LONGEST]
    return Section(
        f"{pair['one']} and {pair['other']}, on {group}: do they respond alike",
        (
            "The overlap is φ of the A sides as these texts see them: the mean squared canonical correlation, over "
            "tokens, of what the two updates add to the output of their module. It is 1 if both respond to the same "
            "tokens in the same proportions, whatever they write. The cosine also asks whether they write the same.",
            "Activations have few strong directions, and two random updates that read the same texts respond to "
            "them both: overlaps by chance are far above max(i, j) / d. So the band is that of pairs of matched "
            "random updates on the same texts.",
        ),
        figures=(
            by_projection(
                modules, "overlap", f"responses-{number}", "overlap of responses",
                says=("1 is the same response to every token.", MATCHED),
            ),
            by_projection(
                modules, "cosine", f"outputs-{number}", "cosine of the output changes",
                says=("0 is no agreement, −1 the opposite change.", MATCHED),
            ),
        ),
        tables=(
            TableSpec(
                f"The {len(most)} of {len(modules)} modules with the largest |cosine|.",
                ("module", "overlap of responses", "cosine of the output changes"),
                tuple((place(m), cell(m["overlap"]), cell(m["cosine"])) for m in most),
            ),
        ),
    )  # fmt: skip
