"""Do two groups of texts move in different directions? A second pass that keeps documents apart.

The first pass gives each layer's second moments; from those of two groups comes a small joint basis, and in it
every block of documents keeps its own second moment. What sampling does to an overlap is then read off blocks.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.paired import paired_batches
from geometry.block_resampling import LEAST, halved_overlaps, intervals, permuted_overlap
from geometry.document_blocks import BlockMoments, dealt, joint_basis
from geometry.familywise import max_over
from geometry.nulls import haar_overlap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from finetune.adapter import Attached
    from finetune.pairs import Text
    from geometry.block_resampling import Permuted
    from geometry.document_blocks import BlockStats
    from geometry.spectra import Spectrum

    Pair = tuple[str, str]
    Bases = tuple[NDArray[np.float64], ...]
    Place = tuple[Pair, int, int]

REDUCED = 8
"""Dimensions of the joint basis for each dimension of the subspaces that are compared."""

BATCH_ROWS = 8192
"""Most tokens of a batch, all sides counted."""

PERMUTATIONS, DRAWS, HALVINGS = 499, 199, 50
"""Random splits of the union; draws of the bootstrap; halvings of the documents, and draws of those."""


def joint_bases(one: Sequence[Spectrum], other: Sequence[Spectrum], k: int) -> Bases:
    """The basis of each side, adapter first, in which two groups are compared at one layer.

    Args:
        one: spectra of E[d d^T] of the one group, the adapter's and then those of the random adapters.
        other: those of the other group.
        k: dimension of the subspaces that will be compared.

    Returns:
        Orthonormal columns for each side, see :func:`geometry.document_blocks.joint_basis`.
    """
    return tuple(joint_basis(x, y, REDUCED * k) for x, y in zip(one, other, strict=True))


def separation(
    attached: Attached,
    groups: Mapping[str, Sequence[Text]],
    bases: Mapping[Pair, Mapping[int, Bases]],
    names: Sequence[str],
    k: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Compare the difference subspaces of pairs of groups, with documents as the unit of chance.

    Args:
        attached: the attached adapter.
        groups: name -> its texts.
        bases: pair of groups -> layer -> its bases, see :func:`joint_bases`.
        names: the base, the adapter and the random adapters, one after the base for each basis.
        k: dimension of the subspaces.
        rng: source of chance of permutations, halvings and draws.

    Returns:
        A record for each pair and layer, JSON-able: ``documents``, ``tokens``, ``blocks`` and ``outside`` (share
        of E|d|^2 outside of the joint basis) of both groups; ``overlap``, ``capture_first``, ``capture_second``
        and ``matrix_cosine``, each with its interval; ``permutation``, with ``p_over_layers`` corrected for all
        layers; ``halves``; ``ceiling``; ``chance``, the same overlap between halves under random adapters (of
        uniform subspaces where there are fewer than two); and ``disattenuated``. A pair with too few documents has
        one record, whose ``left_out`` says so.

    Raises:
        DataError: a text that is empty, or longer than the model's context.
        LayerError: a layer that the model does not have.
    """
    enough = {}
    records: list[dict[str, Any]] = []
    for pair, layers in bases.items():
        documents = [len({text.doc_id for text in groups[group]}) for group in pair]
        about = {"pair": "-".join(pair), "groups": list(pair), "documents": documents, "k": k}
        if min(documents) < LEAST:
            records.append(about | {"left_out": f"a group has fewer than {LEAST} documents to resample"})
        else:
            enough[pair] = (about, layers)
    read = {group: _read(attached, texts, group, enough, names) for group, texts in groups.items()}
    for pair, (about, layers) in enough.items():
        # the same splits at every layer, so that layers can be looked at together
        seed = int(rng.integers(2**63))
        made, splits = [], []
        for layer, sides in layers.items():
            both = [[read[group][pair, layer, side] for side in range(len(sides))] for group in pair]
            chance = _chance(*both, k, len(sides[0]), np.random.default_rng(seed))
            one, other = (side[0] for side in both)
            splits.append(permuted_overlap(one, other, k, PERMUTATIONS, np.random.default_rng(seed)))
            made.append(
                about | {"layer": layer} | _record(one, other, k, chance, np.random.default_rng(seed))
            )
        records += [m | {"permutation": p} for m, p in zip(made, _permutations(splits), strict=True)]
    return records


def _read(
    attached: Attached,
    texts: Sequence[Text],
    group: str,
    pairs: Mapping[Pair, tuple[dict[str, Any], Mapping[int, Bases]]],
    names: Sequence[str],
) -> dict[Place, BlockStats]:
    """Read one group of texts; keep every block's moments in every basis of the pairs that it is in."""
    deal = dealt(text.doc_id for text in texts)
    of_text = np.array([deal[text.doc_id] for text in texts])
    held: dict[Place, BlockMoments] = {}
    for pair, (_, layers) in pairs.items():
        for layer, sides in layers.items() if group in pair else ():
            for side, basis in enumerate(sides):
                held[pair, layer, side] = BlockMoments(basis, max(deal.values()) + 1)
    wanted = sorted({layer for _, layer, _ in held})
    if not wanted:
        return {}
    room = max(256, BATCH_ROWS // len(names))
    for batch in paired_batches(attached, texts, wanted, names=names, batch_tokens=room):
        block = np.broadcast_to(of_text[batch.text_index.numpy()][:, None], batch.chosen.shape)
        for layer in wanted:
            kept = batch.chosen & ~batch.sinks(layer)
            base, *others = (side[kept].double().numpy() for side in batch.stream[layer])
            for place, moments in held.items():
                if place[1] == layer:
                    moments.update(others[place[2]] - base, block[kept.numpy()])
    return {place: moments.answer() for place, moments in held.items()}


def _chance(
    one: Sequence[BlockStats], other: Sequence[BlockStats], k: int, width: int, rng: np.random.Generator
) -> dict[str, Any]:
    """The overlap across halves where there is nothing to see: of random adapters, or of uniform subspaces."""
    pairs = list(zip(one[1:], other[1:], strict=True))
    if len(pairs) < 2:
        return {"of": "uniform subspaces", "value": haar_overlap(width, k, k)[0], "samples": []}
    samples = [halved_overlaps(x, y, k, HALVINGS // 2, rng).across for x, y in pairs]
    return {"of": "random adapters", "value": float(np.mean(samples)), "samples": samples}


def _record(
    one: BlockStats, other: BlockStats, k: int, chance: dict[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
    halved = halved_overlaps(one, other, k, HALVINGS, rng)
    scaled = halved.disattenuated(chance["value"])
    return {
        "tokens": [int(s.n.sum()) for s in (one, other)],
        "blocks": [one.blocks, other.blocks],
        "dimensions": len(one.moment),
        "outside": [one.outside, other.outside],
        **{name: asdict(found) for name, found in intervals(one, other, k, DRAWS, rng).items()},
        "halves": {"first": halved.first, "second": halved.second, "across": halved.across},
        "ceiling": halved.ceiling,
        "chance": chance,
        "disattenuated": asdict(scaled) if scaled else None,
    }


def _permutations(splits: Sequence[Permuted]) -> list[dict[str, Any]]:
    """Overlaps beside random splits, layer by layer and corrected for having looked at all layers."""
    observed = [split.observed for split in splits]
    over_layers = max_over(observed, np.stack([split.samples for split in splits], axis=1)).adjusted
    return [_permutation(split) | {"p_over_layers": p} for split, p in zip(splits, over_layers, strict=True)]


def _permutation(permuted: Permuted) -> dict[str, Any]:
    """The overlap beside random splits; the band is theirs, since overlaps pile up below 1."""
    low, high = np.quantile(permuted.samples, [0.025, 0.975])
    beyond = [permuted.observed < low, permuted.observed > high]
    null = {
        "mean": float(permuted.samples.mean()),
        "low": float(low),
        "high": float(high),
        "n": len(permuted.samples),
        "p": permuted.p,
        "verdict": "below" if beyond[0] else "above" if beyond[1] else "not distinguishable",
    }
    return {"value": permuted.observed, "null": null}
