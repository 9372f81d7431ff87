"""What an adapter does to the residual stream, layer by layer, with the floor under every number.

One pass over the texts fills accumulators of fixed size: base, adapter and random adapters read the same
tokens in the same forward. Further passes, which know the top directions by then, keep documents apart, read
lenses and gradients, and find the tokens that are displaced most.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.diff_buckets import bucket_records
from analyses.diff_directions import direction_records
from analyses.diff_kept import Kept, subspace_arrays
from analyses.diff_measures import Sides
from analyses.diff_parts import part_records, written_records
from analyses.diff_reading import Cast, half_of, read_group
from analyses.diff_records import between, measures, over_layers, spectrum_record, told_apart
from analyses.diff_similarity import layer_map, similarity_records
from analyses.diff_variants import flip_records, variant_records
from analyses.diff_wide import EXACT_WIDTH, sketch_columns
from analyses.displaced import Top, displaced_tokens, without_context
from analyses.second_passes import Lead, second_passes
from finetune.adapter import ADAPTER, attach
from finetune.pairs import read_texts
from finetune.placebo import placebo_sizes
from finetune.written import written_spaces
from geometry.checks import DataError, LayerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from analyses.diff_measures import Side
    from analyses.diff_reading import Reading
    from finetune.adapter import Attached
    from finetune.pairs import Texts
    from geometry.live.models import Loaded

__all__ = ["DiffRequest", "DiffResult", "compare", "diff", "half_of"]

PLACEBO_TEXTS = 32
"""Texts of each group on which the base is compared with itself."""

SUMMARY = ("size", "mean_share", "effective_rank", "overlap")
"""The measures that decide, taken together over layers and groups, whether an adapter is told from random ones."""


@dataclass(frozen=True)
class DiffRequest:
    """What is asked of a diff.

    Attributes:
        texts: name of a group -> JSONL file of its texts; every two groups are compared.
        layers: block numbers; None for all.
        k: dimension of the subspaces that are compared.
        n_random: random adapters of the null.
        seed: of the random adapters and of the control tokens.
        exact_width: widest model whose moments are kept exactly; wider ones are sketched.
        quotable: whether the words before a displaced token may be kept; the licence of the texts may forbid it.
    """

    texts: dict[str, Path]
    layers: tuple[int, ...] | None = None
    k: int = 8
    n_random: int = 8
    seed: int = 0
    exact_width: int = EXACT_WIDTH
    quotable: bool = True


@dataclass(frozen=True, eq=False)
class DiffResult:
    """What a diff found.

    Attributes:
        facts: JSON-able. ``preflight``; ``layers``, ``k``, ``width``, ``n_random``; ``exact``, whether moments are
            exact; ``groups`` with their sizes; ``placebo``, the base against itself; ``measures``, one record for
            each number with its layer, group, null and ceiling; ``over_layers``, the same corrected for having
            looked at all layers, and ``told_apart`` for all together; ``buckets`` by position; ``spectra``;
            ``directions``; ``variants`` and ``flips``; ``layer_maps``; ``tokens``; and what
            :func:`analyses.second_passes.second_passes` adds.
        arrays: top directions of every side, see :func:`analyses.diff_kept.subspace_arrays`.
    """

    facts: dict[str, Any]
    arrays: dict[str, NDArray[np.float32]]


def diff(
    base: Loaded, adapter: str | Path, request: DiffRequest, *, progress: Callable[[str, float], None]
) -> DiffResult:
    """Compare a base with its adapter on groups of texts.

    Args:
        base: the base model; borrowed and given back as it was.
        adapter: PEFT adapter folder.
        request: texts, layers and nulls.
        progress: is called with what is being done and the share that is done.

    Returns:
        Facts and arrays. For an inactive adapter every difference is exactly 0, and there are no arrays.

    Raises:
        AdapterError: see :func:`finetune.adapter.attach`.
        LayerError: a layer that the model does not have.
        DataError: texts that cannot be read, or too few tokens for the subspaces asked for.
    """
    _layers(request.layers, base.n_layers)
    with attach(base, adapter) as attached:
        return compare(attached, request, progress=progress)


def compare(
    attached: Attached, request: DiffRequest, *, progress: Callable[[str, float], None]
) -> DiffResult:
    """Compare a base with the adapter that is on it; see :func:`diff`.

    Args:
        attached: the attached adapter.
        request: texts, layers and nulls.
        progress: is called with what is being done and the share that is done.

    Returns:
        Facts and arrays.

    Raises:
        LayerError: a layer that the model does not have.
        DataError: texts that cannot be read, or too few tokens for the subspaces asked for.
    """
    layers = _layers(request.layers, attached.loaded.n_layers)
    _require_room(request, attached.loaded.width)
    groups = {name: read_texts(path) for name, path in request.texts.items()}
    rng = np.random.default_rng(request.seed)
    facts = _opening(attached, request, layers)
    for group, read in groups.items():
        facts["placebo"] += _placebo(attached, group, read, layers)
    cast = Cast.on(attached, request.n_random, rng)
    held = _first_pass(attached, groups, request, facts, cast, progress)
    for one, other in itertools.combinations(groups, 2):
        for layer in layers:
            places = held.kept[one][layer], held.kept[other][layer]
            facts["measures"] += between(*places, f"{one}-{other}", layer, rng=rng)
    if attached.preflight.active:
        for group, read in groups.items():
            facts["layer_maps"][group] = layer_map(attached, read.texts, layers, rng)
            records = displaced_tokens(attached, read.texts, held.tops[group], rng)
            if not request.quotable:
                records = [without_context(record) for record in records]
            facts["tokens"] += [{"group": group, **record} for record in records]
        texts = {group: read.texts for group, read in groups.items()}
        facts |= second_passes(
            attached, texts, request.texts, held.leads, request.k, randoms=cast.randoms, rng=rng,
            progress=lambda what, share: progress(what, (len(groups) + share) / (len(groups) + 1)),
        )  # fmt: skip
    facts["over_layers"] = over_layers(facts["measures"])
    facts["told_apart"] = told_apart(facts["measures"], SUMMARY)
    progress("writing", 1.0)
    return DiffResult(facts, subspace_arrays(held.kept))


@dataclass(frozen=True, eq=False)
class Held:
    """What later passes need of the first one, group by group and layer by layer.

    Attributes:
        kept: top directions of every side.
        tops: directions along which displaced tokens are looked for.
        leads: directions for the second passes.
    """

    kept: dict[str, dict[int, Kept]]
    tops: dict[str, dict[int, Top]]
    leads: dict[str, dict[int, Lead]]


def _first_pass(
    attached: Attached,
    groups: dict[str, Texts],
    request: DiffRequest,
    facts: dict[str, Any],
    cast: Cast,
    progress: Callable[[str, float], None],
) -> Held:
    """Run every group through the whole cast, add what it says to the facts, and keep its directions."""
    layers = facts["layers"]
    written = [written_spaces(attached, name, layers) for name in (ADAPTER, *cast.randoms)]
    held = Held(*({group: {} for group in groups} for _ in range(3)))
    for number, (group, read) in enumerate(groups.items()):
        show = _portion(progress, f"reading {group}", number, len(groups) + 1)
        wide = request.exact_width
        for layer, one in read_group(attached, read.texts, layers, cast, exact_width=wide, progress=show):
            # frozen layer by layer: the moments of all layers and groups would outgrow a laptop
            sides = Sides.of(one.tally, request.k, group)
            _add(facts, _read_off(one, sides, _at(written, layer), Place(group, layer)))
            held.kept[group][layer] = Kept.of(sides)
            held.tops[group][layer] = _top(sides.whole)
            held.leads[group][layer] = Lead.of(sides)
            facts["groups"].setdefault(group, _described(read, one))
    return held


@dataclass(frozen=True)
class Place:
    """Where a number belongs."""

    group: str
    layer: int


def _read_off(
    one: Reading, sides: Sides, written: list[NDArray[np.float64]] | None, place: Place
) -> dict[str, list[dict[str, Any]]]:
    """Everything that one layer and group says, by the list of facts that it belongs to."""
    at = asdict(place)
    found = measures(sides, one.tally, **at) + part_records(one.parts, **at)
    found += written_records(sides, written, **at)
    if sides.whole.exact:
        found += similarity_records(sides, **at)
    return {
        "measures": found,
        "buckets": bucket_records(one.buckets, **at),
        "spectra": [spectrum_record(sides, **at)],
        "directions": direction_records(sides, one.sinks, **at),
        "variants": variant_records(one.variants, sides, **at),
        "flips": flip_records(one.flip, **at),
    }


def _add(facts: dict[str, Any], found: dict[str, list[dict[str, Any]]]) -> None:
    for name, records in found.items():
        facts[name] += records


def _opening(attached: Attached, request: DiffRequest, layers: Sequence[int]) -> dict[str, Any]:
    lists = ("placebo", "measures", "buckets", "spectra", "directions", "variants", "flips", "tokens")
    return {
        "layers": list(layers),
        "k": request.k,
        "width": attached.loaded.width,
        "n_random": request.n_random,
        "exact": attached.loaded.width <= request.exact_width,
        "preflight": asdict(attached.preflight) | {"active": attached.preflight.active},
        "groups": {},
        "layer_maps": {},
        **{name: [] for name in lists},
    }


def _layers(asked: tuple[int, ...] | None, count: int) -> tuple[int, ...]:
    if asked is None:
        return tuple(range(count))
    for layer in asked:
        if not 0 <= layer < count:
            raise LayerError(f"no layer {layer}: this model has 0 to {count - 1}")
    return tuple(sorted(set(asked)))


def _require_room(request: DiffRequest, width: int) -> None:
    """Refuse subspaces that the width, or the sketch of a wide model, cannot hold."""
    exact = width <= request.exact_width
    most = width // 2 if exact else max(1, sketch_columns(width) // 8)
    if not 1 <= request.k <= most:
        limit = "half the width of the model" if exact else "an eighth of the sketch of a model this wide"
        raise DataError(f"k = {request.k}: choose 1 to {most}, {limit}")


def _placebo(attached: Attached, group: str, read: Texts, layers: Sequence[int]) -> list[dict[str, Any]]:
    """The base against itself on the first few texts of a group, one record a layer and kind."""
    texts = [text.text for text in read.texts[:PLACEBO_TEXTS]]
    return [
        {"group": group, "kind": kind, "layer": layer, "value": size, "texts": len(texts)}
        for kind, sizes in placebo_sizes(attached, texts, layers).items()
        for layer, size in sizes.items()
    ]


def _at(
    written: Sequence[dict[int, NDArray[np.float64]] | None], layer: int
) -> list[NDArray[np.float64]] | None:
    """What each adapter can write up to one layer; None where it cannot be told."""
    return None if written[0] is None else [spaces[layer] for spaces in written]


def _described(read: Texts, one: Reading) -> dict[str, Any]:
    return {
        "texts": len(read.texts),
        "documents": len({t.doc_id for t in read.texts}),
        "refused": [{"line": r.line, "reason": r.reason} for r in read.refused],
        "sha256": read.digest,
        "tokens": sum(half.n for half in one.tally.halves),
    }


def _top(side: Side) -> Top:
    """The first two directions of what moved, and the spread of the base along each."""
    directions = side.moved.vectors[:, :2]
    along = (side.principal.vectors.T @ directions) ** 2
    return Top(directions, np.sqrt(side.principal.values @ along))


def _portion(
    progress: Callable[[str, float], None], what: str, part: int, parts: int
) -> Callable[[float], None]:
    """Turn the share of one part that is done into the share of all."""
    return lambda share: progress(what, (part + share) / parts)
