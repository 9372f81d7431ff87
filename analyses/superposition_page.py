"""The page of superposition: what the facts of :mod:`analyses.superposition` mean, in figures and sentences."""

from __future__ import annotations

from collections import Counter
from typing import Any

from analyses.digits import digits
from analyses.module_maps import percent
from analyses.report import FigureSpec, Section, TableSpec

Facts = dict[str, Any]


def superposition_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence each."""
    phase, sweep = facts["phase"], facts["sweep"]
    claims = [
        f"Whether a second feature is left out, shares a dimension or gets its own is as the closed form says in "
        f"{percent(phase['agreement'])} of the cells ({percent(phase['agreement_by_chance'])} by chance)."
    ]
    for shape in facts["shapes"]:
        size = f"{shape['features']} features in {_dimensions(shape['dimensions'])}"
        if shape["whole_at"]:
            low, high = min(shape["whole_at"]), max(shape["whole_at"])
            where = f"at density {low:g}" if low == high else f"at densities from {low:.2g} to {high:.2g}"
            claims.append(
                f"{size} form a {shape['shape']} {where}, in "
                f"{len(shape['whole_at'])} of {len(shape['at'])} models."
            )
        else:
            claims.append(f"{size} form a {shape['shape']} at none of the {len(shape['at'])} densities.")
    at, name, share = _most_sticky(facts)
    chance = sweep["shares_by_chance"][name][at]
    claims.append(
        f"Of {sweep['features']} features in {_dimensions(sweep['dimensions'])}, {percent(share)} lie at {name} when "
        f"the density is {digits(sweep['densities'][at])}; of random directions of the same lengths "
        f"{percent(chance)} do."
    )
    return tuple(claims)


def superposition_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings, and what they do not show."""
    return (_model(), _phase(facts), _shapes(facts), _many(facts), _pitfalls(facts))


def _model() -> Section:
    return Section(
        "The model",
        (
            "n features go through m < n dimensions and come back: x' = ReLU(WᵀW x + b), with the loss Σ Iᵢ "
            "(xᵢ − xᵢ')². "
            "A feature is 0 except with probability p, its density (1 − p is its sparsity), and else uniform "
            "on 0 to 1. "
            "All of this is from Elhage et al. 2022, Toy Models of Superposition.",
            "The dimensionality of a feature is |wᵢ|² / Σⱼ (ŵᵢ · wⱼ)²: 1 when it has a dimension for itself, "
            "1/2 when "
            "two share one as opposites.",
        ),
    )


def _phase(facts: Facts) -> Section:
    phase = facts["phase"]
    shared = {
        "rows": [digits(p, 2) for p in phase["densities"]],
        "columns": [digits(r, 2) for r in phase["importances"]],
        "x_label": "importance of the second feature, relative to the first",
        "y_label": "density",
        "label": "dimension of the second feature",
        "low": 0.0,
        "high": 1.0,
    }
    trained = [[round(value, 2) for value in row] for row in phase["trained"]]
    return Section(
        "When does a second feature share a dimension?",
        (
            "Two features, one dimension. The prediction compares three solutions by their exact losses: the second "
            "feature left out, the first left out, or both as opposites. At equal importance it says that "
            "sharing wins "
            "below a density of 4/7. Models may also mix these solutions, which the prediction does not know.",
        ),
        figures=(
            FigureSpec(
                "phase-trained", "heat", "Trained, the model of least loss.", shared | {"values": trained}
            ),
            FigureSpec(
                "phase-predicted",
                "heat",
                "Predicted in closed form.",
                shared | {"values": phase["predicted"]},
            ),
        ),
    )


def _shapes(facts: Facts) -> Section:
    tables = tuple(
        TableSpec(
            f"{shape['features']} features of equal importance in {_dimensions(shape['dimensions'])}, the model of "
            "least loss at each density.",
            ("density", "groups", "dimensionalities", "loss"),
            tuple(
                (
                    one["density"],
                    _listed(one["groups"]) or "nothing",
                    " ".join(digits(value, 2) for value in one["dimensionality"]),
                    one["loss"],
                )
                for one in shape["at"]
            ),
        )
        for shape in facts["shapes"]
    )
    return Section(
        "Which shapes do a few features form?",
        (
            "A group is of features whose directions are not orthogonal; it has a name when it is regular, "
            "its members "
            "sharing its dimensions evenly around the origin. A few features in a few dimensions need not take the "
            "whole polytope: where two opposites and one alone cost less than a triangle, they do that.",
        ),
        tables=tables,
    )


def _many(facts: Facts) -> Section:
    sweep = facts["sweep"]
    densities = [digits(p, 2) for p in sweep["densities"]]
    lines = [
        {"name": name, "values": values, "null": _chance(sweep, name)}
        for name, values in sweep["shares"].items()
    ]
    rows = tuple(
        (p, per, kept, _listed(groups, 4))
        for p, per, kept, groups in zip(
            sweep["densities"], sweep["per_feature"], sweep["represented"], sweep["groups"], strict=True
        )
    )
    data = {
        "layers": densities,
        "x_label": "density",
        "y_label": "dimensions per feature, m / |W|²",
        "series": [{"name": "trained", "values": sweep["per_feature"]}],
        "ceiling": {"name": "digons", "values": 0.5},
    }
    return Section(
        "How do many features divide a space?",
        (
            f"{sweep['features']} features of equal importance in {_dimensions(sweep['dimensions'])}. As "
            "features get "
            "rarer more of them are kept, and each gets a smaller share of a dimension; at certain shares it rests.",
        ),
        figures=(
            FigureSpec(
                "per-feature", "by_layer", "Dimensions for each feature that is kept, over density.", data
            ),
            FigureSpec(
                "sticky",
                "by_layer",
                "Share of the represented features whose dimensionality lies at that of a regular polytope. "
                "The band is "
                "that of one set of random directions with the same lengths.",
                {
                    "layers": densities,
                    "x_label": "density",
                    "y_label": "share of features",
                    "series": lines,
                    "y_limits": [0.0, 1.0],
                },
            ),
        ),
        tables=(
            TableSpec(
                "The trained models. Groups that are not regular are written as features in dimensions.",
                ("density", "dimensions per feature", "features kept", "groups"),
                rows,
            ),
        ),
    )


def _pitfalls(facts: Facts) -> Section:
    return Section(
        "What this does not show",
        (
            "These features are independent and their number is known. A language model's are neither, and its "
            "directions need not be features.",
            "Training finds one of many optima that are nearly as good; with more seeds the borders grow sharper. "
            "Large models here are one run a density.",
            "The published figures have 400 features in 30 dimensions; sizes here are chosen for a laptop, "
            "and shares "
            "at which features rest are compared, not densities at which they do.",
        ),
    )


def _chance(sweep: Facts, name: str) -> dict[str, Any]:
    values = sweep["shares_by_chance"][name]
    return {"low": [0.0] * len(values), "high": values, "name": "random directions"}


def _most_sticky(facts: Facts) -> tuple[int, str, float]:
    """Where the largest share of features lies at one fraction: the density's number, the name, the share."""
    return max(
        (
            (i, name, share)
            for name, shares in facts["sweep"]["shares"].items()
            for i, share in enumerate(shares)
        ),
        key=lambda one: one[2],
    )


def _listed(groups: list[str], most: int = 9) -> str:
    counted = Counter(groups).most_common()
    shown = [name if count == 1 else f"{count} × {name}" for name, count in counted[:most]]
    return ", ".join(shown) + (f", {len(counted) - most} more" if len(counted) > most else "")


def _dimensions(m: int) -> str:
    return "1 dimension" if m == 1 else f"{m} dimensions"
