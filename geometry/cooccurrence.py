"""Which words stand near which: exact counts of pairs, from any number of documents, in any split.

Counts are whole numbers of 64 bits and checked against overflow, so no count stalls (float32 stops at 2^24) and
the order of documents, of parts or of workers changes nothing. The matrix is symmetric; its upper half is held.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from geometry.checks import DataError, ShapeError
from geometry.weightings import Weighting
from geometry.windows import add_rows, count_rows, lay_out, sort_positions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Rows = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]

ROWS = 32
"""Words whose rows are held together: small beside the matrix, so that replacing them needs little room."""

PENDING = 1 << 25
"""Places that are collected before they are counted; two bytes each (four above 65,534 words), and four to sort."""

LARGEST = 2**63 - 1
"""What the sum of all counts must not pass."""


@dataclass(frozen=True, eq=False)
class Cooccurrence:
    """Counts of pairs of words within a window.

    C_ij is the weight of all places where j stands within the window of i, on either side; C_ij = C_ji, and two
    neighbouring i add their weight twice to C_ii.

    Attributes:
        words: the V words.
        upper: C_ij for i <= j, (V, V) int64, in units of 1 / ``weighting.unit``.
        unigrams: (V,) how often each word occurs.
        tokens: all places, those of other words included if they were kept.
        total: weight of all pairs of places within a window, in the same units as ``upper``.
        weighting: the window and its weights.
    """

    words: tuple[str, ...]
    upper: sparse.csr_array
    unigrams: NDArray[np.int64]
    tokens: int
    total: int
    weighting: Weighting

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Word -> its number."""
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def counts(self) -> sparse.csr_array:
        """The whole symmetric matrix, (V, V) int64; it takes as much memory again as twice ``upper``."""
        whole = self.upper + sparse.triu(self.upper, 1, format="csr").T.tocsr()
        whole.sort_indices()
        return whole

    def block(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Counts among some words, in their order.

        Args:
            words: words of the vocabulary.

        Returns:
            C_ij, dense, (n, n).

        Raises:
            DataError: some of them are not in the vocabulary.
        """
        chosen = self.of(words)
        part = self.upper[chosen][:, chosen].toarray()
        # the other half of a pair whose words are not in the order of the vocabulary
        part = part + part.T
        np.fill_diagonal(part, part.diagonal() // 2)
        return part

    def of(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Numbers of words.

        Raises:
            DataError: some of them are not in the vocabulary.
        """
        missing = [word for word in words if word not in self.numbers]
        if missing:
            raise DataError(f"{', '.join(missing)}: not among the words that were counted; leave them out")
        return np.array([self.numbers[word] for word in words], dtype=np.int64)


class PairCounter:
    """Counts pairs of numbered words.

    Memory is that of the counts, and up to 0.3 GB for what waits to be counted.

    Args:
        size: number of words V.
        weighting: the window and its weights.
        threads: rows are shared out among so many; the counts are the same for any number.

    Raises:
        ShapeError: fewer than one word or thread.

    Examples:
        >>> from geometry.weightings import linear
        >>> counter = PairCounter(2, linear(2))
        >>> counter.update([0, 1, 1, -1], [4])
        >>> counter.answer(["a", "b"]).counts.toarray()
        array([[0, 3],
               [3, 4]])
    """

    def __init__(self, size: int, weighting: Weighting, *, threads: int = 1) -> None:
        if size < 1 or threads < 1:
            raise ShapeError(f"counting: expected words and threads, got {size} and {threads}")
        self.size, self.weighting, self.threads = size, weighting, threads
        self.unigrams = np.zeros(size, dtype=np.int64)
        self.tokens = 0
        self.total = 0
        self._rows: list[Rows] = [_no_rows(len(block)) for block in self._blocks()]
        self._places = np.empty(0, dtype=self._dtype)
        self._filled = 0

    def update(self, ids: ArrayLike, lengths: ArrayLike) -> None:
        """Take in documents.

        Args:
            ids: (n,) words by number, documents one after the other; -1 for a word that is not counted but
                keeps its place.
            lengths: (documents,) words in each, which sum to n. Windows do not reach from one to the next.

        Raises:
            ShapeError: another shape, a number that no word has, or lengths of another sum.
            DataError: so much that the sum of all counts would pass 2^63.
        """
        ids, lengths = np.asarray(ids), np.asarray(lengths, dtype=np.int64)
        whole = ids.ndim == 1 and (not len(ids) or np.issubdtype(ids.dtype, np.integer))
        if not whole or (len(ids) and not -1 <= ids.min() <= ids.max() < self.size):
            raise ShapeError(f"ids: expected a row of whole numbers from -1 to {self.size - 1}")
        ids = ids.astype(np.int32, copy=False)
        if lengths.ndim != 1 or lengths.sum() != len(ids) or (lengths < 0).any():
            raise ShapeError(f"lengths: expected lengths of documents that sum to {len(ids)}")
        total = self.total + self.weighting.pairs(Counter(lengths.tolist()))
        self._require_room(total)
        self.total = total
        self.tokens += len(ids)
        self._collect(ids, lengths)

    def merge(self, other: PairCounter) -> None:
        """Add everything that another counter has seen.

        Raises:
            ShapeError: it has another number of words or other weights.
            DataError: the sum of all counts would pass 2^63.
        """
        if other.size != self.size or other.weighting != self.weighting:
            raise ShapeError("merge: the other has other words or another window; merge like with like")
        self._require_room(self.total + other.total)
        self._count_pending()
        other._count_pending()
        self._replace(lambda b, first: add_rows(self._rows[b], other._rows[b], first, self.size))
        self.unigrams += other.unigrams
        self.tokens += other.tokens
        self.total += other.total

    def state(self) -> dict[str, NDArray]:
        """Everything that is known, as arrays.

        Returns:
            ``indptr``, ``indices`` and ``data`` of the upper half, ``unigrams``, ``tokens``, ``total``, ``steps``
            and ``unit``.
        """
        indptr, indices, data = self._whole()
        return {
            "indptr": indptr,
            "indices": indices,
            "data": data,
            "unigrams": self.unigrams.copy(),
            "tokens": np.array([self.tokens]),
            "total": np.array([self.total]),
            "steps": np.array(self.weighting.steps),
            "unit": np.array([self.weighting.unit]),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike], name: str, *, threads: int = 1) -> PairCounter:
        """Make the counter whose :meth:`state` this was.

        Args:
            state: the arrays; large ones may be memory maps, and are read only where they are added to.
            name: of the weighting.
            threads: as for the class.

        Raises:
            DataError: keys or shapes are not those of a state.
        """
        keys = {"indptr", "indices", "data", "unigrams", "tokens", "total", "steps", "unit"}
        if set(state) != keys:
            raise DataError(f"state: found {sorted(state)}; was it written by state()?")
        indptr, indices, data = (np.asarray(state[key]) for key in ("indptr", "indices", "data"))
        unigrams = np.asarray(state["unigrams"])
        if len(indptr) != len(unigrams) + 1 or not len(indices) == len(data) == indptr[-1]:
            raise DataError("state: its arrays do not fit together; was it written by state()?")
        steps = tuple(np.asarray(state["steps"]).tolist())
        made = cls(len(unigrams), Weighting(name, steps, int(np.asarray(state["unit"])[0])), threads=threads)
        made.unigrams = unigrams.astype(np.int64)
        made.tokens, made.total = (int(np.asarray(state[key])[0]) for key in ("tokens", "total"))
        for b, block in enumerate(made._blocks()):
            ends = indptr[block.start : block.stop + 1]
            part = slice(ends[0], ends[-1])
            made._rows[b] = (ends - ends[0], indices[part], data[part])
        return made

    def answer(self, words: Sequence[str]) -> Cooccurrence:
        """Freeze the counts.

        Args:
            words: what the numbers stand for.

        Returns:
            The counts so far; a copy.

        Raises:
            ShapeError: another number of words than this counter has.
            DataError: no place was seen yet.
        """
        if len(words) != self.size:
            raise ShapeError(f"words: expected {self.size}, got {len(words)}")
        if not self.tokens:
            raise DataError("counting: no words yet; call update first")
        upper, unigrams = upper_half(*self._whole()), self.unigrams.copy()
        return Cooccurrence(tuple(words), upper, unigrams, self.tokens, self.total, self.weighting)

    def rows(self) -> list[Rows]:
        """The upper half in blocks of 32 words as ``(indptr, indices, data)``, for writing it piece by piece."""
        self._count_pending()
        return self._rows

    def _whole(self) -> Rows:
        rows = self.rows()
        sizes = np.concatenate([[0], *(np.diff(indptr) for indptr, _, _ in rows)])
        return np.cumsum(sizes), np.concatenate([r[1] for r in rows]), np.concatenate([r[2] for r in rows])

    def _blocks(self) -> list[range]:
        return [range(first, min(first + ROWS, self.size)) for first in range(0, self.size, ROWS)]

    def _require_room(self, total: int) -> None:
        if total > LARGEST:
            raise DataError("counts: their sum would pass 2^63; count in parts, or with a shorter window")

    def _collect(self, ids: NDArray, lengths: NDArray[np.int64]) -> None:
        """Lay documents out to wait, and count those that wait whenever the room is full."""
        window = self.weighting.window
        needed = len(ids) + window * len(lengths)
        if needed > PENDING and len(lengths) > 1:
            half = len(lengths) // 2
            middle = int(lengths[:half].sum())
            self._collect(ids[:middle], lengths[:half])
            self._collect(ids[middle:], lengths[half:])
            return
        if self._filled + needed > len(self._places):
            self._count_pending()
            if window + needed > len(self._places):
                self._places = np.empty(window + max(needed, PENDING), dtype=self._dtype)
            self._places[:window] = self.size
            self._filled = window
        part = self._places[self._filled : self._filled + needed]
        lay_out(ids, lengths, window, self.unigrams, part)
        self._filled += needed

    @property
    def _dtype(self) -> type:
        return np.uint16 if self.size < 1 << 16 else np.uint32

    def _count_pending(self) -> None:
        window = self.weighting.window
        if self._filled <= window:
            return
        tokens = self._places[: self._filled]
        positions = np.empty(
            len(tokens), dtype=np.uint32
        )  # in large pages, as no compiled loop could ask for
        starts = sort_positions(tokens, self.size, positions)
        weights = np.array(self.weighting.steps, dtype=np.int64)
        self._replace(
            lambda b, first: count_rows(tokens, starts, positions, weights, self._rows[b], first, self.size)
        )
        self._filled = window

    def _replace(self, made: Callable[[int, int], Rows]) -> None:
        def renew(b: int) -> None:
            self._rows[b] = made(b, b * ROWS)

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(renew, range(len(self._rows))))


def upper_half(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], data: NDArray[np.int64]
) -> sparse.csr_array:
    """Make a V x V matrix of its arrays without copying them, up to 2^31 entries.

    Args:
        indptr: (V + 1,) where rows begin.
        indices: columns.
        data: counts.
    """
    size = len(indptr) - 1
    # SciPy brings both kinds of indices to one type, the larger
    small = indptr.astype(np.int32) if len(data) < 2**31 else indptr
    return sparse.csr_array((data, indices, small), shape=(size, size))


def _no_rows(n: int) -> Rows:
    return np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.int64)
