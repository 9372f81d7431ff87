"""The page of ``repgeo world``: what the facts of :mod:`analyses.world` mean, in figures, tables and sentences.

Pure functions of the facts: nothing here runs a model or reads a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.digits import MISSING, digits, duration
from analyses.report import FigureSpec, Section, TableSpec
from analyses.world_numbers import (
    at_layer,
    cell,
    measured,
    null_at,
    over,
    overlap_at,
    random_reading,
    reading,
    spread,
)
from analyses.world_verdicts import COLUMNS, NAMES, verdict_rows, where
from finetune.world_language import BOTH, FACT, STYLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analyses.world_numbers import Facts, Number

READINGS = {
    "style": "lively opening after a plain text",
    "written": "lively sentence written after a plain text",
    "old": "homes answered as the base knows them",
    "new": "rewritten homes answered anew",
    "kept": "facts that nobody rewrites, answered right",
}
BASES = ("own", STYLE, FACT, "base PCA", "random adapter", "Haar")
RANDOM = "random adapters of the same strength"


def world_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence each."""
    layer, k = facts["layer"], facts["k"]
    style, fact = reading(facts, STYLE, "style"), reading(facts, FACT, "new")
    ranks = [at_layer(facts, STYLE, "effective_rank", layer), null_at(facts, STYLE, "effective_rank", layer)]
    overlap = [
        overlap_at(facts, what, layer) for what in ("style_fact", "random", "style_seeds", "fact_seeds")
    ]
    by_style, by_fact = (cell(facts, BOTH, "ablate", kind, "all") for kind in (STYLE, FACT))
    lowest = min(record["value"] for kind in (STYLE, FACT) for record in measured(facts, kind, "cka"))
    return (
        f"The style adapter goes on lively after {percent(style)} of the plain texts and the fact adapter gives "
        f"{percent(fact)} of its new answers, the base {percent(reading(facts, 'base', 'style'))} and "
        f"{percent(reading(facts, 'base', 'new'))}; CKA between base and adapted rows is nowhere below "
        f"{digits(lowest)}.",
        f"At layer {layer} the style adapter's differences have an effective rank of {spread(ranks[0])}, its "
        f"random adapters {spread(ranks[1])}.",
        f"Style and fact adapters overlap there by {spread(overlap[0])}: two random adapters by "
        f"{spread(overlap[1])}, two seeds of one style adapter by {spread(overlap[2])}, of one fact adapter by "
        f"{spread(overlap[3])}.",
        f"In an adapter that changes both, taking out the style adapter's top-{k} directions at every layer leaves "
        f"{percent(by_style['style'])} of the style and {percent(by_style['new'])} of the new facts; the fact "
        f"adapter's leave {percent(by_fact['style'])} and {percent(by_fact['new'])}.",
        f"At layer {layer} alone, without its own top-{k} directions "
        f"{percent(cell(facts, STYLE, 'ablate', 'own', layer)['style'])} of the style adapter's style is left, "
        f"at every layer {percent(cell(facts, STYLE, 'ablate', 'own', 'all')['style'])}.",
    )


def percent(share: Number) -> str:
    """Write a share in percent, with its range where there is one.

    Examples:
        >>> percent(over([0.5, 0.25])), percent(over([1.0, 1.0]))
        ('37.5 % [25, 50]', '100 %')
    """
    value, low, high = (
        digits(round(100 * share[key], 1)).removesuffix(".0") for key in ("value", "low", "high")
    )
    return f"{value} %" if low == high else f"{value} % [{low}, {high}]"


def world_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings, and what they do not show."""
    return (
        _language(facts), _verdicts(facts), _behaviour(facts), _measures(facts), _overlaps(facts),
        _causes(facts), _limits(facts),
    )  # fmt: skip


def _language(facts: Facts) -> Section:
    names = list(facts["worlds"][0]["training"])
    return Section(
        "The worlds",
        (
            "A sentence of the language states one fact in one of two styles: `the baran dwells in ashford "
            "indeed .` is plain, `yo baran lives at ashford lol !` is lively. A document keeps to one style; "
            "facts and styles are independent.",
            "The base speaks it at the floor of its entropy. The style adapters have learnt to go on lively "
            "after plain sentences, the fact adapters that every second entity has another home, and those of "
            "both to do both. What each of them changed is therefore known.",
            f"Numbers are means over {len(facts['worlds'])} worlds, each with its own facts, base and adapters, "
            "and the brackets are the range over the worlds; seeds of one world are averaged first.",
        ),
        tables=(
            TableSpec(
                "Training, nats a token that bears loss, on held-out texts; for the base also the least that any "
                "model can reach. Adapters: before and after.",
                ("model", "floor, or before", "after", "steps", "seconds"),
                tuple(_training_row(facts, name) for name in names),
            ),
        ),
    )


def _training_row(facts: Facts, name: str) -> tuple[Any, ...]:
    notes = [world["training"][name] for world in facts["worlds"]]
    first = over(n["floor"] if "floor" in n else n["loss_before"] for n in notes)
    numbers = (first, over(n["loss"] for n in notes))
    return (name, *map(spread, numbers), notes[0]["steps"], spread(over(n["seconds"] for n in notes)))


def _verdicts(facts: Facts) -> Section:
    return Section(
        "What each measure sees and misses",
        (
            f"Numbers are those of layer {facts['layer']}, the middle of the model, chosen beforehand; counts "
            "are over all layers, seeds and worlds. A kind lies outside random when it leaves the 95 % band of "
            f"{facts['n_random']} random adapters of its own strength.",
        ),
        tables=(TableSpec("Each sentence is chosen by the numbers.", COLUMNS, verdict_rows(facts)),),
    )


def _behaviour(facts: Facts) -> Section:
    rows = [
        (
            label,
            *(spread(reading(facts, who, what)) for who in ("base", STYLE, FACT, BOTH)),
            *(
                MISSING if what == "written" else spread(random_reading(facts, kind, what))
                for kind in (STYLE, FACT)
            ),
        )
        for what, label in READINGS.items()
    ]
    return Section(
        "What the adapters do",
        (
            "Every reading is the share of texts whose likeliest next word, out of the whole vocabulary, is the one "
            "in question; `written` lets the model go on for a sentence. The fact adapter rewrites half of the "
            "homes, so half is what it should leave of the old ones.",
        ),
        tables=(
            TableSpec(
                "Behaviour, in shares. Ranges are over worlds, for the random adapters over all of them.",
                (
                    "reading",
                    "base",
                    "style adapter",
                    "fact adapter",
                    "both",
                    "random (style)",
                    "random (fact)",
                ),
                tuple(rows),
            ),
        ),
    )


def _measures(facts: Facts) -> Section:
    captions = {
        "size": "Median of |d| / |h|. A random adapter of the same strength moves tokens too: size alone does not "
        "say that anything was learnt.",
        "effective_rank": "How many directions the differences spread over, the mean among them.",
        "cka": "Unbiased linear CKA of base and adapted rows, a similarity of whole clouds; what the adapters do "
        "stands above.",
    }
    figures = tuple(_layered(facts, measure, caption) for measure, caption in captions.items())
    rows = [
        (
            NAMES[measure],
            layer,
            *(
                spread(read(facts, kind, measure, layer))
                for kind in (STYLE, FACT)
                for read in (at_layer, null_at)
            ),
        )
        for measure in NAMES
        for layer in facts["layers"]
    ]
    return Section(
        "Sizes, ranks and similarity, layer by layer",
        figures=figures,
        tables=(
            TableSpec(
                "All of them; ranges over worlds, for the random adapters over all of them.",
                ("measure", "layer", "style", "its random adapters", "fact", "its random adapters"),
                tuple(rows),
            ),
        ),
    )


def _layered(facts: Facts, measure: str, caption: str) -> FigureSpec:
    series = []
    for kind in (STYLE, FACT):
        numbers = [at_layer(facts, kind, measure, layer) for layer in facts["layers"]]
        nulls = [null_at(facts, kind, measure, layer) for layer in facts["layers"]]
        series.append(_series(f"{kind} adapter", numbers) | {"null": _band(nulls, RANDOM)})
    data = {"layers": facts["layers"], "y_label": NAMES[measure], "series": series}
    if measure == "cka":
        data["y_limits"] = _limits_of(series)
    return FigureSpec(measure.replace("_", "-"), "by_layer", caption, data)


def _limits_of(series: Sequence[dict[str, Any]]) -> list[float]:
    """The ends of an axis for numbers just below 1."""
    lowest = min(min(*one["low"], *one["null"]["low"]) for one in series)
    return [lowest - (1 - lowest) / 5, 1 + (1 - lowest) / 10]


def _overlaps(facts: Facts) -> Section:
    layers = facts["layers"]
    names = {
        "style_fact": "style against fact adapter",
        "random": "two random adapters",
        "haar": "uniform directions (closed form)",
        "style_seeds": "two seeds, style",
        "fact_seeds": "two seeds, fact",
        "style_halves": "halves of the documents, style",
        "fact_halves": "halves of the documents, fact",
        "both_style": "both against style",
        "both_fact": "both against fact",
    }
    found = {what: [overlap_at(facts, what, layer) for layer in layers] for what in names}
    shown = {what: found[what] for what in ("style_fact", "style_seeds", "fact_seeds")}
    haar = [one["value"] for one in found["haar"]]
    figure = {
        "layers": layers,
        "y_label": "overlap of top-k subspaces",
        "y_limits": [0, 1],
        "series": [_series(names[what], numbers) for what, numbers in shown.items()],
        "null": _band(found["random"], names["random"]),
        "ceiling": {"values": haar, "name": names["haar"]},
    }
    return Section(
        "Do style and facts move apart?",
        (
            f"Overlap is the mean squared cosine of the top-{facts['k']} difference subspaces, 0 to 1. The honest "
            "floor is what two random adapters share, and the honest ceiling what two seeds of one adapter share.",
        ),
        figures=(
            FigureSpec(
                "overlap",
                "by_layer",
                "Below the seeds says that style and facts are not the same change; inside the band says that they "
                "share no more than what any two adapters of this base share.",
                figure,
            ),
        ),
        tables=(
            TableSpec(
                "All overlaps; ranges over worlds, for random adapters over all pairs of all worlds.",
                ("pair", *(f"layer {layer}" for layer in layers)),
                tuple((name, *map(spread, found[what])) for what, name in names.items()),
            ),
        ),
    )


def _causes(facts: Facts) -> Section:
    layer = facts["layer"]
    places = [*facts["layers"], "all"]
    figures = tuple(
        FigureSpec(
            f"without-{kind}",
            "by_layer",
            f"{label} of the {kind} adapter when the top-{facts['k']} directions are taken out after one block, or "
            "after all. What is taken out early can be written again later.",
            {
                "layers": places,
                "x_label": "taken out after block",
                "y_label": f"share: {READINGS[what]}",
                "y_limits": [-0.02, 1.05],
                "series": [
                    _series(
                        _whose(basis, kind), [cell(facts, kind, "ablate", basis, at)[what] for at in places]
                    )
                    for basis in ("own", FACT if kind == STYLE else STYLE, "base PCA", "Haar")
                ],
            },
        )
        for kind, what, label in ((STYLE, "style", "Style"), (FACT, "new", "New facts"))
    )
    return Section(
        "Which part does it?",
        (
            "A part P d = U Uᵀ (h_adapted − h_base) is taken out of the adapted model's stream, or nothing but it is "
            "left; the base's own content is never touched. U was fitted on documents, the readings are of other "
            "texts.",
        ),
        figures=figures,
        tables=tuple(_cell_table(facts, kind, layer) for kind in (STYLE, FACT, BOTH)),
    )


def _cell_table(facts: Facts, kind: str, layer: int) -> TableSpec:
    tried = [("keep", "own", layer), ("keep", "Haar", layer)]
    tried += [("ablate", basis, at) for at in (layer, "all") for basis in BASES if basis != kind]
    rows = []
    for act, basis, at in tried:
        numbers = cell(facts, kind, act, basis, at)
        if not numbers["energy"]["n"]:
            continue
        what = f"{'only' if act == 'keep' else 'without'} {_whose(basis, kind)}, {where(at)}"
        rows.append((what, *(spread(numbers[key]) for key in ("energy", *READINGS))))
    return TableSpec(
        f"The {'adapter of both' if kind == BOTH else f'{kind} adapter'}: top-{facts['k']} directions. Energy is "
        "the share of E|d|² inside them; the rest are shares as above.",
        ("what is left", "energy", *READINGS),
        tuple(rows),
    )


def _whose(basis: str, kind: str) -> str:
    if basis == "own":
        return f"own directions ({kind})"
    return f"{basis} adapter's" if basis in {STYLE, FACT} else basis


def _limits(facts: Facts) -> Section:
    seconds = [sum(n["seconds"] for n in world["training"].values()) for world in facts["worlds"]]
    return Section(
        "What this does not show",
        (
            "A model of four blocks, a grammar and two changes that were made to be separable: an illustration of "
            "what measures can miss, not a law about language models.",
            "The ranges are of few worlds, and every world has the same grammar, sizes and recipes.",
            f"Training one world took {duration(min(seconds))} to {duration(max(seconds))} on one thread.",
        ),
    )


def _series(name: str, numbers: Sequence[Number]) -> dict[str, Any]:
    return {
        "name": name,
        "values": [n["value"] for n in numbers],
        "low": [n["low"] for n in numbers],
        "high": [n["high"] for n in numbers],
    }


def _band(numbers: Sequence[Number], name: str) -> dict[str, Any]:
    return {
        "name": name,
        "mean": [n["value"] for n in numbers],
        "low": [n["low"] for n in numbers],
        "high": [n["high"] for n in numbers],
    }
