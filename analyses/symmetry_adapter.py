"""What an adapter does to a concept: every score before and after, and what became of its plane.

Base and adapted model read the same items in the same templates. Intervals resample templates, the same for both
sides; nulls are adapters with the same singular values and random directions, and, if one is given, an adapter that
was trained on something else. Whether the corpus of the fine-tuning says how the items move against each other is
asked of the change of their nearness.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.item_templates import with_context
from analyses.perturb_counts import counted_in_blocks, vocabulary_of, whole_of
from geometry.checks import DataError, ShapeError
from geometry.cloud_scores import cloud_scores, nearness
from geometry.familywise import max_over
from geometry.plane_change import plane_change
from geometry.rsa import partial_rsa, rsa
from geometry.targets import m_star, ratio
from geometry.weightings import linear
from geometry.words import cased, cut

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from analyses.symmetry_held import Held
    from geometry.live.models import Loaded

    Array = NDArray[np.float64]
    States = Mapping[str, NDArray[np.float32]]

DRAWS = 200
"""Resamplings of the templates."""

RARE = 20
"""Occurrences in the corpus of the fine-tuning below which an item is left out of what it predicts."""

PLANE = ("turn", "bend", "growth")


@dataclass(frozen=True)
class AdapterRequest:
    """Which adapter, and beside what.

    Attributes:
        adapter: PEFT folder.
        control: PEFT folder of an adapter that was trained on something else, such as neutral text.
        pairs: JSONL of the pairs that the adapter was trained on.
        n_random: adapters with the same singular values and random directions, at least 2.
    """

    adapter: Path
    control: Path | None = None
    pairs: Path | None = None
    n_random: int = 19

    def __post_init__(self) -> None:
        if self.n_random < 2:
            raise DataError(f"random adapters: expected at least 2, got {self.n_random}")


def adapter_facts(
    loaded: Loaded,
    held: Held,
    templates: Sequence[str],
    request: AdapterRequest,
    rng: np.random.Generator,
    *,
    tell: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Compare a base with its adapter on one concept.

    Args:
        loaded: the base.
        held: what its items are held against.
        templates: that they are read in.
        request: the adapter and its controls.
        rng: source of random adapters, resampling and shuffles.
        tell: is told the share that is done.

    Returns:
        JSON values: ``position``, ``layers``, ``templates`` (their number), ``n_random``, ``control`` (whether
        there is one), ``scores`` (score -> a record of columns, one entry a layer: ``base``, ``adapted``,
        ``change``, ``low``, ``high``, ``random`` (a list a layer), ``control``, ``adjusted`` (p value against the
        random adapters, corrected for all layers); of :data:`PLANE` only ``change``, ``floor`` (what resampled
        templates turn or bend the base by: mean and 97.5 %) and the nulls), ``planes`` (at the layer that turns
        most: coordinates of both sides on the base's plane) and ``link`` (of the fine-tuning corpus; None if no
        pairs were given).

    Raises:
        AdapterError: an adapter that does not fit the base.
        DataError: items that cannot be read.
    """
    from geometry.live.item_states import ITEM_END

    states = _read(loaded, held, with_context(templates), (request, ITEM_END), rng, tell)
    layers = list(range(-1, len(states["base"]) - 1))
    draws = _resampled_templates(states["base"].shape[1], rng)
    sides = {name: rows.mean(axis=1, dtype=np.float64) for name, rows in states.items()}
    randoms = [name for name in sides if name.startswith("random")]
    scored = {name: [_scores(cloud, held) for cloud in clouds] for name, clouds in sides.items()}
    drawn = [_drawn(states["base"][at], states["adapter"][at], draws, held) for at in range(len(layers))]
    k = held.expected.dimensions
    moved = {
        name: [_moved(b, a, k) for b, a in zip(sides["base"], clouds, strict=True)]
        for name, clouds in sides.items()
        if name != "base"
    }
    floors = [_plane_floor(states["base"][at], draws, k) for at in range(len(layers))]
    scores = {score: _series(score, scored, drawn, randoms) for score in scored["base"][-1]}
    scores |= {part: _plane_series(part, moved, floors, randoms) for part in PLANE}
    turns = [0.0 if value is None else value for value in scores["turn"]["change"]]
    return {
        "position": ITEM_END,
        "layers": layers,
        "templates": states["base"].shape[1],
        "n_random": request.n_random,
        "control": request.control is not None,
        "scores": scores,
        "planes": _planes(sides, int(np.argmax(turns)), k),
        "link": None if request.pairs is None else corpus_link(sides, held, request.pairs),
    }


def corpus_link(sides: Mapping[str, Array], held: Held, pairs: Path) -> dict[str, Any]:
    """Does M* of the fine-tuning corpus say which items move together?

    Args:
        sides: ``base`` and ``adapter`` -> clouds by layer.
        held: the items; shuffles of their labels.
        pairs: JSONL of pairs; the styled side is counted.

    Returns:
        JSON values: ``items`` (that are frequent enough), ``left_out`` (item -> occurrences) and, unless fewer
        than five are left, columns of one entry a layer: ``value`` (Spearman correlation of the change of nearness
        with M* of that corpus, what the base's nearness explains taken out), ``plain`` (without taking it out),
        ``p`` (shuffled labels) and ``adjusted`` (for all layers).

    Raises:
        DataError: the pairs cannot be read.
    """
    from finetune.pairs import read_pairs

    texts = [pair.target for pair in read_pairs(pairs).pairs]
    names = [" ".join(item.split()) for item in held.concept.items]
    found = cut(texts, cased, [name for name in names if " " in name])
    counts = dict(zip(found.names, found.frequencies().tolist(), strict=True))
    keep = [at for at, name in enumerate(names) if counts.get(name, 0) >= RARE]
    record: dict[str, Any] = {
        "items": [held.concept.items[at] for at in keep],
        "left_out": {
            item: counts.get(name, 0)
            for at, (item, name) in enumerate(zip(held.concept.items, names, strict=True))
            if at not in keep
        },
    }
    if len(keep) < 5:
        return record
    kept = [names[at] for at in keep]
    words = vocabulary_of(texts, 5000, kept, cased)
    counted = whole_of(counted_in_blocks(texts, words, (cased, linear(16)), members=kept))
    return record | _predicted(sides, keep, m_star(ratio(counted, kept)), np.random.default_rng(0))


def _predicted(
    sides: Mapping[str, Array], keep: Sequence[int], m: Array, rng: np.random.Generator
) -> dict[str, list[float | None]]:
    orders = np.array([np.arange(len(keep)), *(rng.permutation(len(keep)) for _ in range(499))])
    columns: dict[str, list[float | None]] = {"value": [], "plain": [], "p": []}
    samples = []
    for before, after in zip(sides["base"], sides["adapter"], strict=True):
        old = nearness(before[list(keep)])
        change = nearness(after[list(keep)]) - old
        try:
            shuffled = [partial_rsa(change, m[np.ix_(order, order)], [old]) for order in orders]
            plain = rsa(change, m)
        except ShapeError:  # nothing moves here, as before the first block
            for column in columns.values():
                column.append(None)
            continue
        samples.append(shuffled)
        columns["value"].append(shuffled[0])
        columns["plain"].append(plain)
        columns["p"].append(float(np.mean(np.abs(shuffled) >= abs(shuffled[0]) - 1e-9)))
    adjusted: list[float | None] = [None] * len(columns["value"])
    if samples:
        table = np.array(samples).T
        found = iter(max_over(table[0], table[1:]).adjusted)
        adjusted = [None if value is None else next(found) for value in columns["value"]]
    return {**columns, "adjusted": adjusted}


def _read(
    loaded: Loaded,
    held: Held,
    contexts: Sequence[str],
    what: tuple[AdapterRequest, str],
    rng: np.random.Generator,
    tell: Callable[[float], None],
) -> dict[str, NDArray[np.float32]]:
    """Side -> states (layers, templates, items, d): base, adapter, random ones, and a control if there is one."""
    from finetune.adapter import ADAPTER, BASE, attach, random_adapters
    from finetune.sided_items import sided_item_states

    request, position = what
    with attach(loaded, request.adapter) as attached:
        randoms = random_adapters(attached, request.n_random, rng)
        found = sided_item_states(
            attached, contexts, held.concept.items, [BASE, ADAPTER, *randoms], position,
            tell=lambda share: tell(0.8 * share),
        )  # fmt: skip
    states = {"base": found[BASE], "adapter": found[ADAPTER], **{name: found[name] for name in randoms}}
    if request.control is not None:
        with attach(loaded, request.control) as attached:
            other = sided_item_states(attached, contexts, held.concept.items, [ADAPTER], position)
        states["control"] = other[ADAPTER]
    tell(0.9)
    return states


def _scores(cloud: Array, held: Held) -> dict[str, float | None]:
    """Scores of the true order; all None where the items are equal."""
    try:
        found = cloud_scores(cloud, held.expected, np.arange(held.layout.n)[None])
        near = nearness(cloud)
        return {name: float(values[0]) for name, values in found.items()} | {
            "nearness": rsa(near, -held.layout.distance),
            "corpus": rsa(near, held.block),
        }
    except ShapeError:
        names = ("first", "isotropy") if held.layout.kind == "cycle" else ()
        return dict.fromkeys([*names, "alignment", "curve", "nearness", "corpus"])


def _moved(before: Array, after: Array, k: int) -> dict[str, float | None]:
    try:
        return asdict(plane_change(before, after, k))
    except ShapeError:
        return dict.fromkeys(PLANE)


def _resampled_templates(n: int, rng: np.random.Generator) -> Array:
    """Weights of templates drawn with replacement, (DRAWS, n), each row with sum 1."""
    return rng.multinomial(n, np.full(n, 1 / n), DRAWS) / n


def _drawn(base: NDArray, adapted: NDArray, draws: Array, held: Held) -> list[dict[str, float | None]]:
    """Changes of scores at one layer, for each resampling of the templates, the same on both sides."""
    found = []
    for weights in draws:
        one, other = (_scores(np.tensordot(weights, side, 1), held) for side in (base, adapted))
        found.append({name: _less(other[name], one[name]) for name in one})
    return found


def _plane_floor(base: NDArray, draws: Array, k: int) -> dict[str, dict[str, float] | None]:
    """How far the plane of the base itself moves when templates are resampled: mean and 97.5 %."""
    whole = base.mean(axis=0, dtype=np.float64)
    moved = [_moved(whole, np.tensordot(weights, base, 1), k) for weights in draws]
    floors: dict[str, dict[str, float] | None] = {}
    for part in PLANE:
        values = [abs(one[part]) for one in moved if one[part] is not None]
        floors[part] = (
            {"mean": float(np.mean(values)), "high": float(np.quantile(values, 0.975))} if values else None
        )
    return floors


def _series(
    score: str,
    scored: Mapping[str, Sequence[Mapping[str, float | None]]],
    drawn: Sequence[Sequence[Mapping[str, float | None]]],
    randoms: Sequence[str],
) -> dict[str, Any]:
    base = [one[score] for one in scored["base"]]
    change = [_less(one[score], old) for one, old in zip(scored["adapter"], base, strict=True)]
    ends = [_ends([one[score] for one in layer]) for layer in drawn]
    random = [[_less(scored[name][at][score], base[at]) for name in randoms] for at in range(len(base))]
    record = {
        "base": base,
        "adapted": [one[score] for one in scored["adapter"]],
        "change": change,
        "low": [low for low, _ in ends],
        "high": [high for _, high in ends],
        "random": random,
        "adjusted": _adjusted(change, random),
    }
    if "control" in scored:
        record["control"] = [_less(one[score], old) for one, old in zip(scored["control"], base, strict=True)]
    return record


def _plane_series(
    part: str,
    moved: Mapping[str, Sequence[Mapping[str, float | None]]],
    floors: Sequence[Mapping[str, Any]],
    randoms: Sequence[str],
) -> dict[str, Any]:
    change = [one[part] for one in moved["adapter"]]
    random = [[moved[name][at][part] for name in randoms] for at in range(len(change))]
    record = {
        "change": change,
        "floor": [floor[part] for floor in floors],
        "random": random,
        "adjusted": _adjusted(change, random),
    }
    if "control" in moved:
        record["control"] = [one[part] for one in moved["control"]]
    return record


def _adjusted(change: Sequence[float | None], random: Sequence[Sequence[float | None]]) -> list[float | None]:
    """P values against random adapters, corrected for all layers at which anything moves."""
    usable = [
        at
        for at, (value, others) in enumerate(zip(change, random, strict=True))
        if value is not None and None not in others and np.ptp([value, *others]) > 0
    ]
    found: list[float | None] = [None] * len(change)
    if usable:
        samples = np.array([random[at] for at in usable]).T
        for at, p in zip(usable, max_over([change[at] for at in usable], samples).adjusted, strict=True):
            found[at] = p
    return found


def _planes(sides: Mapping[str, Array], at: int, k: int) -> dict[str, Any] | None:
    """Both clouds on the base's leading components, at one layer, each about its own mean."""
    from geometry.plane_change import plane_of

    try:
        plane = plane_of(sides["base"][at], k)
    except ShapeError:
        return None
    about = {name: sides[name][at] - sides[name][at].mean(axis=0) for name in ("base", "adapter")}
    return {"layer": at - 1} | {name: (cloud @ plane).tolist() for name, cloud in about.items()}


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _ends(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None, None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
