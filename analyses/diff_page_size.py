"""Sections of a diff's page: whether the comparison is sound, how much moves, and where in a text."""

from __future__ import annotations

from analyses.diff_buckets import NAMES
from analyses.diff_figures import RANDOM, Facts, Record, band, by_layer_table, cell, layered, most_moved, pick
from analyses.diff_wide import EXACT_WIDTH
from analyses.report import FigureSpec, Section, TableSpec


def preflight(facts: Facts) -> Section:
    """What was checked before anything was measured, and what was read."""
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
            _null(facts),
            *_sketched(facts),
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


def _null(facts: Facts) -> str:
    n = facts["n_random"]
    if n < 2:
        return "No number here has a null: that takes two random adapters or more."
    return (
        f"The null of every number comes from {n} random adapters: each keeps the singular values of every update "
        "and draws its singular vectors anew. A grey band is where one more of them falls in 95 of 100 cases if they "
        f"are normal; a two-sided p from {n} of them is never below {2 / (1 + n):.2g}."
    )


def _sketched(facts: Facts) -> tuple[str, ...]:
    if facts["exact"]:
        return ()
    worst = max((r["unseen"] for r in facts["measures"] if r["measure"] == "split_half"), default=0.0)
    return (
        f"The model is {facts['width']} wide, more than moments were to be kept exactly for (`--exact-width`, "
        f"{EXACT_WIDTH} by default): directions and ranks come from sketches, which leave out at most "
        f"{100 * worst:.2g} % of E|d|² at any layer, so that ranks are a little too small. Measures that "
        "need exact matrices (relative and whitened size, centred ranks, turns of the activations, likeness) are "
        "left out.",
    )


def size(facts: Facts) -> Section:
    """How far tokens move at each layer, over random adapters and over the numerical floor."""
    return Section(
        "How much moves, and where",
        (
            "Size alone is weak evidence: random adapters of the same strength often move tokens as far. What "
            "it shows is where to look. Norms grow with depth and sinks are huge, hence medians without sinks.",
            "The placebo is the base against itself, with other batching and in another number format: a difference "
            "below it is rounding.",
        ),
        figures=(
            layered(
                facts,
                "size",
                name="size",
                label="median |d| / |h|",
                caption="Median size of the difference relative to the base activation at each layer, over the "
                "95 % band of random adapters with the same singular values. It does not say what the change does.",
            ),
        ),
        tables=(
            _sizes(facts),
            by_layer_table(
                facts,
                "What E|d|² consists of: one constant vector (share of the mean, tokens or texts being what is "
                "sampled, both without bias), and of the rest the share that goes with the text and not the token. A "
                "large constant share is a shift, not a response to what is read.",
                {
                    "mean_share": "share of the mean (tokens)",
                    "constant_share": "share of the mean (texts)",
                    "between_share": "between texts, of the variance",
                },
            ),
        ),
    )


def _sizes(facts: Facts) -> TableSpec:
    kinds = list(dict.fromkeys(r["kind"] for r in facts["placebo"]))
    floor = {(r["group"], r["layer"], r["kind"]): r["value"] for r in facts["placebo"]}
    extra = (
        {"relative_energy": "E|d|² / tr Cov(h)", "whitened_size": "whitened size"} if facts["exact"] else {}
    )
    rows = []
    for group in facts["groups"]:
        others = [{r["layer"]: r for r in pick(facts, m, group)} for m in extra]
        for one in pick(facts, "size", group):
            layer = one["layer"]
            rows.append((
                group, layer, cell(one), *(cell(other[layer]) for other in others), one["sink_median"], one["sinks"],
                *(floor.get((group, layer, kind)) for kind in kinds),
            ))  # fmt: skip
    return TableSpec(
        "Sizes by layer. The energy relative to the base's variance takes means, so a few tokens can own it; the "
        "whitened size weighs every direction by the base's own spread (covariance shrunk after Ledoit and Wolf), so "
        "rare directions count most.",
        (
            "group", "layer", "median |d| / |h|", *extra.values(), "median at sinks", "sinks",
            *(f"placebo: {kind}" for kind in kinds),
        ),
        tuple(rows),
    )  # fmt: skip


def position(facts: Facts) -> Section:
    """The same numbers by position in the text, at the layer where each group moves most."""
    rows, series = [], []
    for group in facts["groups"]:
        layer = most_moved(facts, group)
        found = {
            (r["measure"], r["bucket"]): r
            for r in facts["buckets"]
            if (r["group"], r["layer"]) == (group, layer)
        }
        taken = [name for name in NAMES if ("size", name) in found]
        for name in taken:
            numbers = [found[measure, name] for measure in ("size", "mean_share", "effective_rank")]
            rows.append((group, layer, name, numbers[0]["n"], *(cell(one) for one in numbers)))
        series.append(_positions(f"{group}, layer {layer}", [found.get(("size", name)) for name in NAMES]))
    figure = FigureSpec(
        "positions",
        "by_layer",
        "Median size by position of the token, at the layer where the group moves most. The first token is an "
        "attention sink of most models. A gap: fewer than 8 tokens were measured there, as where only answers are.",
        {
            "layers": list(NAMES),
            "x_label": "position in the text",
            "y_label": "median |d| / |h|",
            "series": series,
        },
    )
    return Section(
        "Where in a text does it move?",
        (
            "Early tokens have little context and are often displaced in their own way; a mean over all positions "
            "may be theirs alone. Effective ranks of few tokens are too small: compare with the null of the same "
            "row.",
        ),
        figures=(figure,),
        tables=(
            TableSpec(
                "By position, at the layer where the group moves most; the other layers are in `report.json`.",
                (
                    "group",
                    "layer",
                    "position",
                    "tokens",
                    "median |d| / |h|",
                    "share of the mean",
                    "effective rank",
                ),
                tuple(rows),
            ),
        ),
    )


def _positions(name: str, records: list[Record | None]) -> dict:
    floors = [None if r is None or "null" not in r else r for r in records]
    made = {"name": name, "values": [r and r["value"] for r in records]}
    if any(floors):
        ends = [None if r is None else band([r]) for r in floors]
        null = {key: [end and end[key][0] for end in ends] for key in ("mean", "low", "high")}
        made["null"] = {"name": RANDOM, **null}
    return made
