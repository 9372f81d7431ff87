"""Rows to train dictionaries on, and to measure them by: corpora read in windows, by a base, its adapter or both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import torch

from finetune.causal import padding_id, right_padded
from finetune.sided_items import side_on
from geometry.checks import DataError
from geometry.corpora import documents
from geometry.live.capture import Batch, block_outputs, model_inputs, sink_mask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from finetune.adapter import Attached
    from geometry.live.models import Loaded

HELD_OUT = 20
"""One document in as many is kept for measuring."""

MEASURED = 4
"""Windows of a held-out document that are read: intervals need many documents, and a novel is a hundred windows."""

SHORTEST = 8
"""Tokens of the shortest window that is read."""

Read = Callable[[Batch], "Tensor"]
"""A batch -> the residual stream after one block on every side, (V, B, T, d)."""


@dataclass(frozen=True, eq=False)
class Windows:
    """A batch of windows of documents, and what the sides make of it.

    Attributes:
        ids: (B, T) token ids.
        stream: (V, B, T, d).
        kept: (B, T), True at tokens that are no padding and no attention sink of the first side.
        document: (B,) number of the document that each is of.
        batch: what the model reads.
    """

    ids: Tensor
    stream: Tensor
    kept: Tensor
    document: Tensor
    batch: Batch


def base_stream(loaded: Loaded, layer: int) -> Read:
    """Read the residual stream of a model after one block, as the only side."""

    def read(batch: Batch) -> Tensor:
        return _after(loaded.model, batch, layer)[None]

    return read


def sided_stream(attached: Attached, layer: int, names: Sequence[str]) -> Read:
    """Read the residual stream of several sides of an adapter after one block, the base first."""

    def read(batch: Batch) -> Tensor:
        sides = []
        for name in names:
            with side_on(attached, name):
                sides.append(_after(attached.model, batch, layer))
        return torch.stack(sides)

    return read


def windows(
    loaded: Loaded,
    corpora: Sequence[str | Path],
    read: Read,
    *,
    length: int,
    held_out: bool = False,
    batch_tokens: int = 4096,
    skip: int = 0,
) -> Iterator[Windows]:
    """Read corpora in windows, their documents taken in turn.

    Every window begins with the special tokens that begin a text, so that the sink is where the model has it.

    Args:
        loaded: the model.
        corpora: files or folders, see :func:`geometry.corpora.documents`.
        read: :func:`base_stream` or :func:`sided_stream`.
        length: most tokens of a window.
        held_out: the documents that are kept for measuring, one in :data:`HELD_OUT`; else all others.
        batch_tokens: most tokens of a forward pass.
        skip: batches at the beginning that are passed over without running the model.

    Yields:
        The batches, in a fixed order.

    Raises:
        DataError: a corpus that cannot be read, or a length that leaves no window or is more than the model reads.
    """
    opening = _opening(loaded)
    if not len(opening) + SHORTEST <= length <= loaded.max_length:
        raise DataError(
            f"windows of {length} tokens: give {len(opening) + SHORTEST} to {loaded.max_length} for this model"
        )
    pad, held, number = padding_id(loaded.tokenizer), [], 0
    for place, ids in _windows(loaded, corpora, opening, length, held_out=held_out):
        held.append((place, ids))
        if len(held) * length >= batch_tokens:
            number += 1
            if number > skip:
                yield _read(held, read, pad)
            held = []
    if held and number >= skip:
        yield _read(held, read, pad)


def training_rows(found: Iterator[Windows]) -> Iterator[Tensor]:
    """Rows (n, d) of all sides of each batch, sinks left out: their norm would drown all else."""
    for batch in found:
        yield batch.stream[:, batch.kept].flatten(0, 1).float()


def _windows(
    loaded: Loaded, corpora: Sequence[str | Path], opening: list[int], length: int, *, held_out: bool
) -> Iterator[tuple[int, list[int]]]:
    room = length - len(opening)
    texts = chain.from_iterable(zip_longest(*(documents(corpus) for corpus in corpora)))
    for number, text in enumerate(text for text in texts if text is not None):
        if (number % HELD_OUT == HELD_OUT - 1) != held_out:
            continue
        # verbose: longer than the model reads is what windows are for
        ids = loaded.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        starts = range(0, len(ids), room)
        for start in starts[:MEASURED] if held_out else starts:
            if len(ids) - start >= SHORTEST:
                yield number, opening + ids[start : start + room]


def _read(held: Sequence[tuple[int, list[int]]], read: Read, pad: int) -> Windows:
    filled = right_padded([(ids, ids) for _, ids in held], pad)
    ids, mask = filled["input_ids"], filled["attention_mask"]
    positions = torch.arange(ids.shape[1]).expand(len(ids), -1).contiguous()
    document = torch.tensor([number for number, _ in held])
    batch = Batch(ids, mask, positions, document)
    stream = read(batch)
    kept = mask.bool() & ~sink_mask(stream[0].float().norm(dim=-1), mask)
    return Windows(ids, stream, kept, document, batch)


def _after(model: nn.Module, batch: Batch, layer: int) -> Tensor:
    with torch.inference_mode(), block_outputs(model, [layer]) as kept:
        model(**model_inputs(model, batch), use_cache=False, logits_to_keep=1)
        return kept[layer].cpu()


def _opening(loaded: Loaded) -> list[int]:
    """The special tokens that begin a text."""
    whole = loaded.tokenizer("a")["input_ids"]
    bare = loaded.tokenizer("a", add_special_tokens=False)["input_ids"]
    return whole[: whole.index(bare[0])]
