"""What an adapter does to the residual stream, layer by layer, with the floor under every number.

One pass over the texts fills accumulators of fixed size: base, adapter and random adapters read the same
tokens in the same forward. A second pass finds the tokens that the top directions displace most.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.diff_kept import Kept, subspace_arrays
from analyses.diff_measures import Sides, Tally, between, measures, spectrum_record, tally
from analyses.displaced import Top, displaced_tokens
from finetune.adapter import ADAPTER, BASE, attach, random_adapters
from finetune.paired import paired_batches
from finetune.pairs import read_texts
from geometry.checks import DataError, LayerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from analyses.diff_measures import Side
    from finetune.adapter import Attached
    from finetune.pairs import Text, Texts
    from geometry.live.models import Loaded


@dataclass(frozen=True)
class DiffRequest:
    """What is asked of a diff.

    Attributes:
        texts: name of a group -> JSONL file of its texts; every two groups are compared.
        layers: block numbers; None for all.
        k: dimension of the subspaces that are compared.
        n_random: random adapters of the null.
        seed: of the random adapters and of the control tokens.
    """

    texts: dict[str, Path]
    layers: tuple[int, ...] | None = None
    k: int = 8
    n_random: int = 8
    seed: int = 0


@dataclass(frozen=True, eq=False)
class DiffResult:
    """What a diff found.

    Attributes:
        facts: JSON-able: ``preflight``; ``layers``; ``groups`` with their sizes; ``measures``, one record for
            each number with its layer, group, null and ceiling; ``spectra``; ``tokens``.
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
    layers = _layers(request.layers, base.n_layers)
    if not 1 <= request.k <= base.width // 2:
        raise DataError(f"k = {request.k}: choose 1 to {base.width // 2}, half the width of the model")
    groups = {name: read_texts(path) for name, path in request.texts.items()}
    rng = np.random.default_rng(request.seed)
    with attach(base, adapter) as attached:
        names = (BASE, ADAPTER, *random_adapters(attached, request.n_random, rng))
        facts: dict[str, Any] = {
            "layers": list(layers),
            "k": request.k,
            "width": base.width,
            "preflight": asdict(attached.preflight) | {"active": attached.preflight.active},
            "groups": {},
            "measures": [],
            "spectra": [],
            "tokens": [],
        }
        kept: dict[str, dict[int, Kept]] = {}
        tops: dict[str, dict[int, Top]] = {}
        for number, (group, read) in enumerate(groups.items()):
            show = _portion(progress, f"reading {group}", number, len(groups) + 1)
            # one group at a time: the moments of all would outgrow a laptop
            tallies = _read(attached, read.texts, layers, names, show)
            facts["groups"][group] = _described(read, tallies[layers[0]])
            kept[group], tops[group] = {}, {}
            for layer in layers:
                one = tallies.pop(layer)
                sides = Sides.of(one, request.k, group)
                facts["measures"] += measures(sides, one, group=group, layer=layer)
                facts["spectra"].append(spectrum_record(sides, group=group, layer=layer))
                kept[group][layer] = Kept.of(sides)
                tops[group][layer] = _top(sides.whole)
        for one, other in itertools.combinations(groups, 2):
            for layer in layers:
                facts["measures"] += between(kept[one][layer], kept[other][layer], f"{one}-{other}", layer)
        if attached.preflight.active:
            for group, read in groups.items():
                records = displaced_tokens(attached, read.texts, tops[group], rng)
                facts["tokens"] += [{"group": group, **record} for record in records]
        progress("reading displaced tokens", 1.0)
    return DiffResult(facts, subspace_arrays(kept))


def _layers(asked: tuple[int, ...] | None, count: int) -> tuple[int, ...]:
    if asked is None:
        return tuple(range(count))
    for layer in asked:
        if not 0 <= layer < count:
            raise LayerError(f"no layer {layer}: this model has 0 to {count - 1}")
    return tuple(sorted(set(asked)))


def half_of(doc_id: str) -> int:
    """Deal documents to two halves by a hash of their name, whatever their order."""
    return hashlib.sha256(doc_id.encode()).digest()[0] & 1


def _read(
    attached: Attached,
    texts: Sequence[Text],
    layers: Sequence[int],
    names: Sequence[str],
    progress: Callable[[float], None],
) -> dict[int, Tally]:
    """Run one group of texts through every side and accumulate it, layer by layer."""
    tallies = {layer: Tally(attached.loaded.width, len(names) - 2) for layer in layers}
    done = 0
    for batch in paired_batches(attached, texts, layers, names=names):
        half = np.array([half_of(texts[i].doc_id) for i in batch.text_index.tolist()])
        tally(batch, tallies, half)
        done += len(half)
        progress(done / len(texts))
    return tallies


def _described(read: Texts, tallied: Tally) -> dict[str, Any]:
    return {
        "texts": len(read.texts),
        "documents": len({t.doc_id for t in read.texts}),
        "refused": [{"line": r.line, "reason": r.reason} for r in read.refused],
        "sha256": read.digest,
        "tokens": sum(half.n for half in tallied.halves),
    }


def _top(side: Side) -> Top:
    """The first two directions of what moved, and the spread of the base along each."""
    directions = side.moved.top(2).vectors
    return Top(directions, np.sqrt(np.diag(directions.T @ side.stats.cov_base @ directions)))


def _portion(
    progress: Callable[[str, float], None], what: str, part: int, parts: int
) -> Callable[[float], None]:
    """Turn the share of one part that is done into the share of all."""
    return lambda share: progress(what, (part + share) / parts)
