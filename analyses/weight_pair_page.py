"""The part of a weight page that compares: adapters with each other, and modules that write to one stream."""

from __future__ import annotations

from typing import Any

from analyses.digits import digits
from analyses.module_maps import LONGEST, by_projection, cell, count_verdicts, place, said
from analyses.report import FigureSpec, Section, TableSpec

_SAME = ("1 is the same subspace, and training alone can lift it.", "random subspaces (Haar)")


def pair_claim(pair: dict[str, Any]) -> str:
    """What two adapters have in common, in a sentence."""
    names = f"`{pair['one']}` and `{pair['other']}`"
    if "cosine" not in pair:
        return f"{names} change no weight in common: there is nothing to compare."
    null = pair["cosine"]["null"]
    return (
        f"On the {len(pair['modules'])} weights that {names} both change, the cosine of their updates is "
        f"{digits(pair['cosine']['value'])}, {said(null['verdict'])} the null of matched random updates "
        f"[{digits(null['low'], 2)}, {digits(null['high'], 2)}]; the overlap of the directions that they read is "
        f"{count_verdicts((m['reads'] for m in pair['modules']), 'the Haar level')}, of those that they write "
        f"{count_verdicts((m['writes'] for m in pair['modules']), 'the Haar level')}."
    )


def pair_section(pair: dict[str, Any], number: int) -> Section:
    """Cosines and overlaps of two adapters, module by module."""
    names, modules = f"{pair['one']} and {pair['other']}", pair["modules"]
    text = [
        "Only updates of the same module and shape are compared, since only they live in the same two spaces. "
        "The cosine compares whole updates; its null are updates with the same singular values and random "
        "directions on both sides. φ(i, j) is the mean squared cosine between the first i directions of the one "
        "and the first j of the other: the A side is what is read, the B side what is written.",
        "Two pitfalls. Adapters that were started from the same seed share the random A that they started with, "
        "so φ on the A side can be high without anything learnt in common. And the Haar level max(i, j) / d knows "
        "no favourite directions: outlier dimensions of the base draw every adapter to them, so a number above it "
        "does not yet show a common task.",
        f"{pair['only_one']} modules are changed by {pair['one']} alone, {pair['only_other']} by {pair['other']} "
        "alone.",
        *(f"Not compared: {reason}." for reason in pair["refused"]),
    ]
    if not pair["same_base"]:
        text.append(
            "They name different bases; directions of different bases have nothing in common but chance."
        )
    if not modules:
        return Section(f"{names}: do they agree", tuple(text))
    return Section(
        f"{names}: do they agree",
        tuple(text),
        figures=(
            by_projection(
                modules,
                "cosine",
                f"cosine-{number}",
                "cosine of the updates",
                says=("0 is no agreement, −1 the opposite change.", "matched random updates"),
            ),
            by_projection(modules, "reads", f"phi-a-{number}", "φ on the A side (reads)", says=_SAME),
            by_projection(modules, "writes", f"phi-b-{number}", "φ on the B side (writes)", says=_SAME),
            *(
                _grid(pair, side, f"grid-{letter}-{number}")
                for side, letter in (("reads", "a"), ("writes", "b"))
            ),
        ),
        tables=(
            TableSpec(
                f"The {min(LONGEST, len(modules))} of {len(modules)} modules with the largest |cosine|, over all "
                "directions that are not dead. Cosines have the band of matched random updates, overlaps the "
                "closed-form band of random subspaces.",
                ("module", "cosine", "φ, reads (A)", "φ, writes (B)"),
                tuple(
                    (place(m), cell(m["cosine"]), cell(m["reads"]), cell(m["writes"]))
                    for m in sorted(modules, key=lambda m: -abs(m["cosine"]["value"]))[:LONGEST]
                ),
            ),
        ),
    )


def _grid(pair: dict[str, Any], side: str, name: str) -> FigureSpec:
    """Phi over chance of the module that agrees most there: averages would hide one that does."""
    most = max(pair["modules"], key=lambda m: m[side]["value"] / m[side]["null"]["mean"])
    grid = most[side]["grid"]
    letter = "A" if side == "reads" else "B"
    chance = most[side]["grid_by_chance"]
    return FigureSpec(
        name,
        "heat",
        f"φ(i, j) on the {letter} side of {place(most)}, the module that is highest over chance there (being the "
        f"highest of {len(pair['modules'])}, it flatters). Chance is max(i, j) / d, here "
        f"{digits(chance[0][0], 2)} to {digits(chance[-1][-1], 2)}.",
        {
            "values": grid, "rows": list(range(1, len(grid) + 1)), "columns": list(range(1, len(grid[0]) + 1)),
            "label": "φ(i, j)", "low": 0, "high": 1,
            "y_label": f"i, {pair['one']}", "x_label": f"j, {pair['other']}",
        },
    )  # fmt: skip


def writers_section(found: dict[str, Any], number: int) -> Section:
    """What the modules of one adapter write to the residual stream, two by two."""
    labels = [name.split(".") for name in found["modules"]]
    short = [".".join([next((p for p in parts if p.isdigit()), ""), *parts[-2:]]) for parts in labels]
    chance = [x for row in found["chance"] for x in row]
    # the diagonal is 1 by definition, and would set the scale of the colours
    between = [[None if i == j else x for j, x in enumerate(row)] for i, row in enumerate(found["overlap"])]
    return Section(
        f"{found['adapter']}: what is written to the residual stream",
        (
            "Only what a module writes to the residual stream can be compared between modules: output projections "
            "of attention and MLP share that space. Queries, keys, values and hidden units live in spaces of their "
            "own, and an angle between two of them is refused, even where their widths agree.",
            "Writers of neighbouring layers may use the same directions because one task needs them, or because "
            "outlier dimensions draw all of them: chance is that of random subspaces, which have no favourites.",
        ),
        figures=(
            FigureSpec(
                f"writers-{number}",
                "heat",
                "Overlap of the subspaces that two modules write; with itself each would be 1. Random subspaces have "
                f"{digits(min(chance), 2)} to {digits(max(chance), 2)}.",
                {
                    "values": between,
                    "rows": short, "columns": short, "label": "overlap", "low": 0,
                },
            ),
        ),
    )  # fmt: skip
