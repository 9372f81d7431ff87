"""The part of a weight page that needs the base: where updates lie in the weights that they change."""

from __future__ import annotations

from typing import Any

from analyses.digits import digits
from analyses.module_maps import LONGEST, cell, layer_map, said
from analyses.report import FigureSpec, Section, TableSpec
from analyses.run_names import in_words
from analyses.weight_base import BANDS, KS, THRESHOLDS

Facts = dict[str, Any]

SIDE = {"left": "left (what is written)", "right": "right (what is read)"}
# the defaults of the paper's code and of peft, for the one sentence that opens the page
_K, _THRESHOLD = KS.index(10), THRESHOLDS.index(0.5)


def base_claims(facts: Facts) -> list[str]:
    """Findings that need the base, a sentence each; none without it."""
    left = [found for found in facts["placement"] if found["side"] == "left"]
    return [_intruder_claim(left)] if left else []


def base_sections(facts: Facts) -> list[Section]:
    """Strength relative to the weight, bands and intruders, adapter by adapter."""
    sections = []
    for number, name in enumerate(dict.fromkeys(p["adapter"] for p in facts["placement"]), 1):
        records = [r for r in facts["against_base"] if r["adapter"] == name]
        sides = [p for p in facts["placement"] if p["adapter"] == name]
        sections += [
            _relative(name, records, number),
            _bands(name, sides, number),
            _intruders(name, sides, facts),
        ]
    return sections


def _intruder_claim(left: list[dict[str, Any]]) -> str:
    counts = []
    for found in left:
        record = found["intruders"][_K][_THRESHOLD]
        null = record["null"]
        counts.append(
            f"{digits(int(record['value']))} in `{found['adapter']}` ({said(null['verdict'])} the "
            f"{digits(null['mean'], 2)} of matched random updates)"
        )
    return (
        f"Intruder dimensions among the top 10 left directions of each weight (|cos| below 0.5): {in_words(counts)}; "
        "other choices of 10 and 0.5 give other counts, listed below."
    )


def _relative(name: str, records: list[dict[str, Any]], number: int) -> Section:
    rows = [
        (r["module"], r["relative_norm"], r["sigma_ratio"], r["amplification"], cell(r["base_along"]))
        for r in sorted(records, key=lambda r: -r["relative_norm"])[:LONGEST]
    ]
    return Section(
        f"{name}: how strong beside the base",
        (
            "Amplification is the norm of the update over what the base weight does along the update's own "
            "directions, ||D|| / ||UᵀWV||: a factor of 20 says that directions which the base hardly used became "
            "strong. Random directions are amplified too, usually more, since a weight does little along most of "
            "them; so the null stands under the reciprocal ||UᵀWV|| / ||D||. Above it, the update follows what the "
            "base did already; not distinguishable, it might as well have picked its directions by chance.",
        ),
        figures=(
            FigureSpec(
                f"relative-norm-{number}",
                "heat",
                "Norm of the update over the norm of the base weight. A small ratio can still decide behaviour.",
                {
                    **layer_map(records, [r["relative_norm"] for r in records]),
                    "label": "||D|| / ||W||",
                    "low": 0,
                },
            ),
        ),
        tables=(
            TableSpec(
                f"The {len(rows)} updates that are strongest beside their weight. Norms and singular values have no "
                "null: random updates are matched to them.",
                (
                    "module",
                    "||D|| / ||W||",
                    "largest singular value, D over W",
                    "amplification",
                    "||UᵀWV|| / ||D||",
                ),
                tuple(rows),
            ),
        ),
    )


def _bands(name: str, sides: list[dict[str, Any]], number: int) -> Section:
    found = [side for side in sides if side["bands"]]
    panels = [
        {
            "title": SIDE[side["side"]],
            "series": [{"name": "adapter", "values": [b["value"] for b in side["bands"][:BANDS]]}],
            "null": {
                "name": "matched random updates",
                **{end: [b["null"][end] for b in side["bands"][:BANDS]] for end in ("mean", "low", "high")},
            },
        }
        for side in found
    ]
    figure = FigureSpec(
        f"bands-{number}",
        "spectra",
        "Share of the update's energy in each tenth of the base weight's singular vectors, strongest first, averaged "
        "over modules. The band is that of matched random updates. Where a share goes, not what it does there.",
        {
            "panels": panels,
            "x_label": "tenth of the base's singular vectors",
            "y_label": "share of ||D||²",
        },
    )
    columns = ("side", "first tenth", "last tenth", "outside")
    rows = [(SIDE[s["side"]], *(cell(s["bands"][i]) for i in (0, BANDS - 1, BANDS))) for s in found]
    caption = (
        "The ends of the figure, and what falls outside all singular vectors of a weight that is not square."
    )
    return Section(
        f"{name}: which part of the base it touches",
        (
            "A random update puts a tenth of its energy (less what falls outside) in every tenth of the base's "
            "singular vectors. More in the first tenths means that it strengthens or weakens what the base does "
            "most. Averages hide single modules, which are in `report.json`; modules with fewer than "
            f"{BANDS} singular values are left out.",
        ),
        figures=(figure,) if panels else (),
        tables=(TableSpec(caption, columns, tuple(rows)),),
    )


def _intruders(name: str, sides: list[dict[str, Any]], facts: Facts) -> Section:
    tables = []
    for found in sides:
        rows = [
            (f"top {k}", *(_counted(cell(record)) for record in counts))
            for k, counts in zip(KS, found["intruders"], strict=True)
        ]
        tables.append(
            TableSpec(
                f"Intruders on the {SIDE[found['side']]} side, over {found['modules']} modules.",
                ("directions looked at", *(f"|cos| < {eps}" for eps in THRESHOLDS)),
                tuple(rows),
            )
        )
    return Section(
        f"{name}: intruder dimensions",
        (
            "A singular direction among the top k of W0 + D is an intruder if its |cos| with every singular "
            "direction of W0 is below a threshold (Shuttleworth et al. 2024, who count the left side). k and the "
            "threshold are free, and published counts differ in both, so all are listed, on both sides, summed over "
            "modules. The null are updates of the same singular values and random directions.",
            f"Counts are small whole numbers, and {facts['random']} draws allow no two-sided p below "
            f"{digits(2 / (1 + facts['random']), 2)}. Nearly equal singular values of W0 mix freely: their vectors "
            "turn under any update, and pass for intruders at thresholds near 1.",
        ),
        tables=tuple(tables),
    )


def _counted(shown: dict[str, Any]) -> dict[str, Any]:
    """Counts are whole and not negative, and so is their null."""
    null = shown["null"]
    return shown | {
        "value": int(shown["value"]),
        "null": {"low": max(0.0, null["low"]), "high": null["high"]},
    }
