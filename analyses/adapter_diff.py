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

from analyses.diff_measures import Side, Sides, Tally, between, measures, spectrum_record
from analyses.displaced import displaced_tokens
from finetune.adapter import ADAPTER, BASE, attach, random_adapters
from finetune.paired import paired_batches
from finetune.pairs import read_texts
from geometry.checks import DataError, LayerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from finetune.adapter import Attached
    from finetune.paired import PairedBatch
    from finetune.pairs import Text
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
    n_random: int = 3
    seed: int = 0


def diff(
    base: Loaded, adapter: str | Path, request: DiffRequest, *, progress: Callable[[str, float], None]
) -> dict[str, Any]:
    """Compare a base with its adapter on groups of texts.

    Args:
        base: the base model; borrowed and given back as it was.
        adapter: PEFT adapter folder.
        request: texts, layers and nulls.
        progress: is called with what is being done and the share that is done.

    Returns:
        Facts, JSON-able: ``preflight``; ``layers``; ``groups`` with their sizes; ``measures``, one record
        for each number with its layer, group, null and ceiling; ``spectra``; ``tokens``. For an inactive
        adapter every difference is exactly 0.

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
        tallies: dict[str, dict[int, Tally]] = {}
        for number, (group, read) in enumerate(groups.items()):
            tallies[group] = {layer: Tally(base.width, request.n_random) for layer in layers}
            batches = paired_batches(attached, read.texts, layers, names=names)
            done = 0
            for batch in batches:
                _tally(batch, tallies[group], read.texts)
                done += len(batch.text_index)
                progress(f"reading {group}", (number + done / len(read.texts)) / (len(groups) + 1))
            facts["groups"][group] = {
                "texts": len(read.texts),
                "documents": len({t.doc_id for t in read.texts}),
                "refused": [{"line": r.line, "reason": r.reason} for r in read.refused],
                "sha256": read.digest,
                "tokens": tallies[group][layers[0]].whole().n,
            }
        for layer in layers:
            frozen = {g: Sides.of(by_layer[layer], request.k, g) for g, by_layer in tallies.items()}
            for group, sides in frozen.items():
                facts["measures"] += measures(sides, tallies[group][layer], group=group, layer=layer)
                facts["spectra"].append(spectrum_record(sides, group=group, layer=layer))
            for one, other in itertools.combinations(frozen, 2):
                facts["measures"] += between(frozen[one], frozen[other], f"{one}-{other}", layer)
        if attached.preflight.active:
            for group, read in groups.items():
                facts["tokens"] += _displaced(attached, group, read.texts, tallies[group], rng)
        progress("reading displaced tokens", 1.0)
    return facts


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


def _tally(batch: PairedBatch, tallies: dict[int, Tally], texts: Sequence[Text]) -> None:
    half = np.array([half_of(texts[i].doc_id) for i in batch.text_index.tolist()])
    chosen = batch.chosen
    halves = np.broadcast_to(half[:, None], chosen.shape)[chosen.numpy()]
    for layer, tally in tallies.items():
        rows = batch.stream[layer][:, chosen].float().numpy()
        tally.update(rows, halves, batch.sinks(layer)[chosen].numpy())


def _displaced(
    attached: Attached, group: str, texts: Sequence[Text], tallies: dict[int, Tally], rng: np.random.Generator
) -> list[dict[str, Any]]:
    directions = {layer: Side(tally.whole(), 2).subspace for layer, tally in tallies.items()}
    scales = {
        layer: np.sqrt(np.diag(directions[layer].T @ tally.whole().cov_base @ directions[layer]))
        for layer, tally in tallies.items()
    }
    return [{"group": group, **r} for r in displaced_tokens(attached, texts, directions, scales, rng)]
