"""A corpus whose answer is known: words that follow a hidden season.

Every document has a time t on a circle; a word with its own time t_i is used with probability
P(i) (1 + g(t - t_i)), independently of the others given t. Then co-occurrence is P_i P_j (1 + K(t_i - t_j)) with
K the autocorrelation of g: the statistics are exactly symmetric, and every eigenvalue is known (Karkada et al.
2026, section 4.1). Since all n words share the season, its eigenvalues grow with n, and the block of any twelve
of them can be deleted without losing their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class SeasonalCorpus:
    """Words at equal steps round a circle of time, and how sharply each is tied to its season.

    Attributes:
        n: number of seasonal words, all equally frequent.
        amplitudes: a_k of g(t) = sum_k a_k cos(k t), k from 1; their absolute values sum to at most 1, so that
            no probability is negative, and fewer than n of them.

    Raises:
        ShapeError: amplitudes that would make a probability negative, none, or n words too few for them.

    Examples:
        >>> SeasonalCorpus(300, (0.6,)).eigenvalues().round(12)
        array([27., 27.])
    """

    n: int
    amplitudes: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = np.abs(self.amplitudes)
        if not len(sizes) or sizes.sum() > 1:
            raise ShapeError("amplitudes: expected at least one, with absolute values that sum to at most 1")
        if self.n <= 2 * len(sizes):
            raise ShapeError(f"n: {len(sizes)} harmonics need more than {2 * len(sizes)} words, got {self.n}")

    def ratio(self) -> NDArray[np.float64]:
        """Exact P_ij / (P_i P_j) = 1 + sum_k a_k^2 / 2 cos(k (t_i - t_j)), shape (n, n)."""
        angle = 2 * np.pi * np.subtract.outer(np.arange(self.n), np.arange(self.n)) / self.n
        terms = (a * a / 2 * np.cos(k * angle) for k, a in enumerate(self.amplitudes, 1))
        return 1 + np.sum(list(terms), axis=0)

    def eigenvalues(self) -> NDArray[np.float64]:
        """Eigenvalues n a_k^2 / 4 of ratio - 1, each twice, in the order of k; shape (2 len(amplitudes),).

        M* = 2 (ratio - 1) / (ratio + 1) has the same up to terms of fourth order in a.
        """
        return np.repeat(self.n * np.square(self.amplitudes) / 4, 2)

    def probabilities(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(word | t) for documents at these times in radians, shape (len(times), n); rows sum to 1."""
        angle = np.asarray(times)[:, None] - 2 * np.pi * np.arange(self.n) / self.n
        season = np.sum([a * np.cos(k * angle) for k, a in enumerate(self.amplitudes, 1)], axis=0)
        # rounding may leave -1e-17 where the season is exactly off
        return np.maximum(0.0, 1 + season) / self.n

    def documents(self, count: int, length: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw documents of seasonal words, each at a uniform time.

        Args:
            count: number of documents.
            length: words in each.
            rng: source of chance.

        Returns:
            Ids of words, 0 to n - 1, shape (count, length).

        Examples:
            >>> SeasonalCorpus(12, (0.9,)).documents(2, 5, np.random.default_rng(0)).shape
            (2, 5)
        """
        upto = np.cumsum(self.probabilities(rng.uniform(0, 2 * np.pi, count)), axis=1)
        drawn = rng.random((count, length))
        found = [np.searchsorted(row, draw) for row, draw in zip(upto, drawn, strict=True)]
        return np.minimum(np.array(found, dtype=np.int64).reshape(count, length), self.n - 1)


def reordered(documents: NDArray[np.int64], order: Sequence[int]) -> NDArray[np.int64]:
    """The same documents with words renamed: word i becomes order[i].

    A corpus with the same counts and another calendar: what depends on the words' names and not on the counts
    stays, and what comes from co-occurrence follows.

    Examples:
        >>> reordered(np.array([[0, 2]]), [2, 1, 0])
        array([[2, 0]])
    """
    return np.asarray(order)[documents]
