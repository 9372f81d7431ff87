"""The page of a weight report: what the facts of :mod:`analyses.weight_report` mean, with their floors.

Pure functions of the facts: nothing here reads a file or a model. What needs the base is in
:mod:`analyses.weight_base_page`.
"""

from __future__ import annotations

import statistics
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from analyses.digits import digits
from analyses.module_maps import LONGEST, cell, count_verdicts, layer_map, percent, place, span
from analyses.report import FigureSpec, Section, TableSpec
from analyses.weight_base_page import base_claims, base_sections
from analyses.weight_data_page import data_claims, data_sections
from analyses.weight_pair_page import pair_claim, pair_section, writers_section

if TYPE_CHECKING:
    from collections.abc import Sequence

Facts = dict[str, Any]


def weight_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence each."""
    claims = [_strength_claim(facts, adapter) for adapter in facts["adapters"]]
    claims += [pair_claim(pair) for pair in facts["pairs"]]
    return (*claims, *data_claims(facts), *base_claims(facts))


def weight_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings."""
    sections = [_read(facts)]
    for number, adapter in enumerate(facts["adapters"], 1):
        sections += [_strength(facts, adapter, number), _directions(facts, adapter, number)]
    sections += [pair_section(pair, number) for number, pair in enumerate(facts["pairs"], 1)]
    sections += [writers_section(w, number) for number, w in enumerate(facts["writers"], 1)]
    return (*sections, *data_sections(facts), *base_sections(facts))


def modules_of(facts: Facts, adapter: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of the updates of one adapter."""
    return [m for m in facts["modules"] if m["adapter"] == adapter["name"]]


def _strength_claim(facts: Facts, adapter: dict[str, Any]) -> str:
    name = adapter["name"]
    modules = [m for m in modules_of(facts, adapter) if m["live"]]
    if not adapter["whole"]:
        return (
            f"`{name}` is DoRA, and without the base its updates cannot be told: `s B A` of its "
            f"{adapter['updates']} modules is described below, which is not what it adds to the weights."
        )
    most = max(modules, key=lambda m: m["norm"])
    ranks = [m["effective_rank"] for m in modules]
    dead, rank = sum(m["dead"] for m in modules), sum(m["rank"] for m in modules)
    return (
        f"`{name}` makes {adapter['updates']} updates of norm {digits(adapter['norm'])} together; the strongest, "
        f"{place(most)}, holds {percent(most['norm'] ** 2 / adapter['norm'] ** 2)} of the squared norm. The "
        f"median effective rank is {digits(statistics.median(r['value'] for r in ranks))} "
        f"({count_verdicts(ranks, 'Gaussian factors of the same shapes')}), and {dead} of {rank} ranks are dead."
    )


def _read(facts: Facts) -> Section:
    rows = []
    for a in facts["adapters"]:
        modules = modules_of(facts, a)
        numbers = " / ".join(span({m[key] for m in modules}) for key in ("rank", "alpha", "scale"))
        base = a["base"] and PurePath(a["base"]).name  # a path of another machine says no more than its end
        rows.append((a["name"], a["variant"], base, a["updates"], numbers, a["norm"]))
    notes = [f"{a['name']}: {note}" for a in facts["adapters"] for note in a["notes"]]
    return Section(
        "What was read",
        (
            "Updates are read from the adapters' files; a model runs only where texts are given, the base once. The "
            "factors B and A mean nothing one by one, since any invertible r × r matrix can move between them: only "
            "singular values and singular vectors of the product `s B A` are used, exactly, from QR of the factors "
            "and an r × r core.",
            *notes,
        ),
        tables=(
            TableSpec(
                "The scale is what peft applies: alpha / r, or alpha / √r for rsLoRA. The norm is Frobenius, over "
                "all updates together. A norm has no null: any random update can be given it.",
                ("adapter", "variant", "base it names", "updates", "rank / alpha / scale", "norm"),
                tuple(rows),
            ),
        ),
    )


def _strength(facts: Facts, adapter: dict[str, Any], number: int) -> Section:
    modules = modules_of(facts, adapter)
    strongest = sorted(modules, key=lambda m: -m["norm"])[:LONGEST]
    rows = [
        (
            place(m), m["norm"], m["norm"] ** 2 / adapter["norm"] ** 2, cell(m.get("effective_rank")),
            m["dead"], _stream(m),
        )
        for m in strongest
    ]  # fmt: skip
    return Section(
        f"{adapter['name']}: how strong is each update",
        (
            f"Frobenius norm of {_what(adapter)} in each layer and projection. A large norm shows where training "
            "pushed, not what it did: wider weights take more of it, and learning rate and scale move all of it. "
            "It has no null, and should be read relative to the base weight where a base is given.",
        ),
        figures=(
            FigureSpec(
                f"norm-{number}",
                "heat",
                f"Frobenius norm of {_what(adapter)}. Empty cells are weights that the adapter leaves alone.",
                {**layer_map(modules, [m["norm"] for m in modules]), "label": "norm", "low": 0},
            ),
        ),
        tables=(
            TableSpec(
                f"The {len(rows)} strongest of {len(modules)} updates. Dead are singular values below "
                f"{percent(facts['dead'])} of the largest. The null of the effective rank is that of Gaussian "
                "factors. The last column tells, by its name, whether a module reads the residual stream or "
                "writes to it; a dash where the name does not tell.",
                ("module", "norm", "share of the squared norm", "effective rank", "dead ranks", "stream"),
                tuple(rows),
            ),
        ),
    )  # fmt: skip


def _directions(facts: Facts, adapter: dict[str, Any], number: int) -> Section:
    modules = [m for m in modules_of(facts, adapter) if m["live"]]
    ranks = [m["effective_rank"] for m in modules]
    shape = layer_map(modules, [r["value"] for r in ranks])
    return Section(
        f"{adapter['name']}: how many directions",
        (
            "Effective rank is the exponential of the entropy of the squared singular values. Factors of "
            "independent Gaussian numbers come close to the nominal rank, so nearly every trained update is below "
            "that null: the verdict says that training chose, not that what it chose matters. Effective rank does "
            "not predict behaviour either (Shuttleworth et al. 2024).",
            f"It is {count_verdicts(ranks, 'Gaussian factors of the same shapes')}.",
        ),
        figures=(
            FigureSpec(
                f"effective-rank-{number}",
                "heat",
                f"Effective rank of {_what(adapter)}; Gaussian factors of these shapes give "
                f"{span({r['null']['mean'] for r in ranks})}.",
                {**shape, "label": "effective rank", "low": 1},
            ),
            FigureSpec(
                f"spectra-{number}",
                "spectra",
                "Singular values, shares of the largest, of the first, middle and last layer. The band is the range "
                "of Gaussian factors. It compares shapes alone: strength is divided out.",
                {"panels": [_panel(m) for m in _spread(modules)]},
            ),
        ),
    )


def _stream(module: dict[str, Any]) -> str | None:
    """Say what a module does to the residual stream, where its name tells."""
    said = [word for word in ("reads", "writes") if module[word]]
    return " and ".join(said) or None


def _panel(module: dict[str, Any]) -> dict[str, Any]:
    values = module["values"]
    null = {"name": "Gaussian factors (range)", **module["values_by_chance"]}
    shares = [v / values[0] for v in values[: len(null["mean"])]]
    return {"title": place(module), "series": [{"name": "adapter", "values": shares}], "null": null}


def _spread(modules: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Up to three projections of the most norm, in their first, middle and last layer."""
    norms: dict[str, float] = {}
    for m in modules:
        norms[m["projection"]] = norms.get(m["projection"], 0.0) + m["norm"] ** 2
    chosen = sorted(norms, key=lambda name: -norms[name])[:3]
    picked = []
    for projection in chosen:
        own = [m for m in modules if m["projection"] == projection]
        picked += [own[i] for i in sorted({0, len(own) // 2, len(own) - 1})]
    return picked


def _what(adapter: dict[str, Any]) -> str:
    return "each update" if adapter["whole"] else "`s B A`, which is not DoRA's update,"
