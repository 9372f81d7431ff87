"""Rows in random order, from a stream too long to hold: a buffer of constant size, filled and half emptied in turns.

What comes next depends on the seed and the stream alone, so that a killed run can go on: :meth:`ShuffledRows.state`
is small, and a buffer that is put back gives the very batches that were to come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    Opened = Callable[[int], Iterator[Tensor]]


class ShuffledRows:
    """Batches of rows from a stream of chunks, begun again whenever it ends.

    Each round fills the buffer, shuffles it and gives out half of it; what is left mixes with what comes. Memory is
    a few times the buffer, however long the stream is.

    Args:
        opened: number n -> the chunks (rows, d) of the stream from its n-th on; the same ones at every call.
        room: rows of the buffer.
        batch: rows of a batch; at most half of the room.
        seed: of the order.

    Raises:
        DataError: a batch that is not positive or is larger than half of the room.

    Examples:
        >>> chunks = torch.arange(12.0).reshape(4, 3, 1)
        >>> rows = ShuffledRows(lambda first: iter(chunks[first:]), room=12, batch=6, seed=0)
        >>> sorted(torch.cat([next(rows), next(rows)]).flatten().tolist())[0]
        0.0
    """

    def __init__(self, opened: Opened, *, room: int, batch: int, seed: int) -> None:
        if not 0 < batch <= room // 2:
            raise DataError(
                f"batches of {batch} rows from a buffer of {room}: give a buffer of at least two batches"
            )
        self._opened, self._room, self._batch = opened, room, batch
        self._generator = torch.Generator().manual_seed(seed)
        self._held: Tensor | None = None
        self._read = self._given = self.passes = 0
        self._read_before = self._passes_before = 0
        self._chunks: Iterator[Tensor] | None = None
        self._round: Tensor | None = None
        self._order = self._generator.get_state()

    def __iter__(self) -> Iterator[Tensor]:
        """Itself."""
        return self

    def __next__(self) -> Tensor:
        """The next batch, (batch, d); there always is one.

        Raises:
            DataError: the stream holds no row.
        """
        if self._round is None or self._given == len(self._round) // 2 // self._batch:
            self._keep_rest()
            self._fill()
        assert self._round is not None
        first = self._given * self._batch
        self._given += 1
        return self._round[first : first + self._batch]

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs: rows held when this round began, where it began, and how far it is."""
        counts = torch.tensor([self._read_before, self._passes_before, self._given])
        held = self._held if self._held is not None else torch.zeros(0, 0)
        return {"held": held.contiguous(), "order": self._order, "counts": counts}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on where a state was taken; half a buffer is read again."""
        self._read, self.passes, given = (int(n) for n in state["counts"])
        self._held = state["held"] if state["held"].numel() else None
        self._generator.set_state(state["order"])
        self._chunks = None
        self._fill()
        self._given = given

    def _keep_rest(self) -> None:
        if self._round is not None:
            self._held = self._round[self._given * self._batch :].clone()
            self._round = None

    def _fill(self) -> None:
        """Begin a round: read until the buffer is full, and shuffle it."""
        self._order = self._generator.get_state()
        self._read_before, self._passes_before, self._given = self._read, self.passes, 0
        parts = [] if self._held is None else [self._held]
        count = sum(map(len, parts))
        while count < self._room:
            parts.append(self._next_chunk())
            count += len(parts[-1])
        rows = torch.cat(parts)
        self._round = rows[torch.randperm(len(rows), generator=self._generator)]

    def _next_chunk(self) -> Tensor:
        if self._chunks is None:
            self._chunks = self._opened(self._read)
        chunk = next(self._chunks, None)
        if chunk is None:
            if not self._read:
                raise DataError("the texts give no row; give longer or other texts")
            self.passes, self._read = self.passes + 1, 0
            self._chunks = self._opened(0)
            return self._next_chunk()
        self._read += 1
        return chunk
