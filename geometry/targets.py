"""From counts to what word embeddings are made of: co-occurrence relative to chance.

With P_ij the share of pairs, P_i that of words and rho_ij = P_ij / (P_i P_j):

    M*_ij = (P_ij - P_i P_j) / ((P_ij + P_i P_j) / 2) = 2 (rho - 1) / (rho + 1) = 2 tanh(PMI / 2)    in [-2, 2]
    PMI = log rho,    PPMI = max(0, PMI)

(Karkada et al. 2026, equation 2; Levy and Goldberg 2014). P_i comes from the words, not from the sums of the pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from geometry.checks import DataError, ShapeError
from geometry.symmetry import SATURATED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from geometry.cooccurrence import Cooccurrence


@dataclass(frozen=True)
class TargetReport:
    """How far the pairs of some words are from the ends of the scale.

    Attributes:
        pairs: number of unordered pairs of different words.
        zero: share of them that never meet, where M* = -2 and PMI is minus infinity.
        saturated: share of them with M* above 1.9.
        median: median M* over them.
        rarest: how often the rarest of the words occurs.
    """

    pairs: int
    zero: float
    saturated: float
    median: float
    rarest: int


@dataclass(frozen=True, eq=False)
class SymmetricTarget:
    """A symmetric V x V matrix that is a constant plus something sparse.

    Attributes:
        upper: the sparse part for i <= j, float64.
        constant: what is added to every entry.
    """

    upper: sparse.csr_array
    constant: float

    def dense(self) -> NDArray[np.float64]:
        """All entries, (V, V)."""
        half = self.upper.toarray()
        return half + half.T - np.diag(half.diagonal()) + self.constant


def ratio(stats: Cooccurrence, words: Sequence[str]) -> NDArray[np.float64]:
    """How many times as often as by chance words meet: rho, exact counts divided once.

    Args:
        stats: counts.
        words: words of its vocabulary.

    Returns:
        rho, (n, n), symmetric; 0 where two never meet.

    Raises:
        DataError: a word is not in the vocabulary, or does not occur.

    Examples:
        Two words that alternate: each meets the other at distance 1, itself at distance 2.

        >>> from geometry.cooccurrence import PairCounter
        >>> from geometry.weightings import flat
        >>> counter = PairCounter(2, flat(2))
        >>> counter.update([0, 1] * 50, [100])
        >>> ratio(counter.answer(["a", "b"]), ["a", "b"]).round(3)
        array([[0.995, 1.005],
               [1.005, 0.995]])
    """
    of = stats.of(words)
    seen = stats.unigrams[of]
    absent = [word for word, n in zip(words, seen, strict=True) if not n]
    if absent:
        raise DataError(f"{', '.join(absent)}: never seen in the corpus; leave them out")
    share = seen / stats.tokens
    return stats.block(words) / stats.total / np.outer(share, share)


def m_star(ratios: ArrayLike) -> NDArray[np.float64]:
    """M* = 2 (rho - 1) / (rho + 1).

    Args:
        ratios: rho, of any shape, not negative.

    Returns:
        Values in [-2, 2]; -2 where rho = 0.

    Raises:
        ShapeError: a negative or infinite rho, or NaN.

    Examples:
        >>> m_star([0, 1, 5, 20, 100, 1500]).round(3)
        array([-2.   ,  0.   ,  1.333,  1.81 ,  1.96 ,  1.997])
    """
    rho = _checked(ratios)
    return 2 * (rho - 1) / (rho + 1)


def pmi(ratios: ArrayLike) -> NDArray[np.float64]:
    """Pointwise mutual information, log rho in nats.

    Args:
        ratios: rho, of any shape, not negative.

    Returns:
        Values; minus infinity where rho = 0.

    Raises:
        ShapeError: a negative or infinite rho, or NaN.

    Examples:
        >>> (2 * np.tanh(pmi([5.0]) / 2)).round(12) == m_star([5.0]).round(12)
        array([ True])
    """
    with np.errstate(divide="ignore"):
        return np.log(_checked(ratios))


def ppmi(ratios: ArrayLike) -> NDArray[np.float64]:
    """Positive pointwise mutual information, max(0, log rho) in nats.

    Args:
        ratios: rho, of any shape, not negative.

    Returns:
        Values of at least 0; 0 where rho = 0.

    Raises:
        ShapeError: a negative or infinite rho, or NaN.

    Examples:
        >>> ppmi([0.0, 0.5, 1.0, np.e])
        array([0., 0., 0., 1.])
    """
    return np.maximum(0.0, pmi(ratios))


def describe(stats: Cooccurrence, words: Sequence[str]) -> TargetReport:
    """Say how sparse and how saturated the pairs of some words are.

    Args:
        stats: counts.
        words: at least two words of its vocabulary.

    Returns:
        Shares over unordered pairs of different words.

    Raises:
        DataError: fewer than two words, or see :func:`ratio`.
    """
    if len(words) < 2:
        raise DataError("pairs: name at least two words")
    pairs = ratio(stats, words)[np.triu_indices(len(words), 1)]
    targets = m_star(pairs)
    return TargetReport(
        pairs=len(pairs),
        zero=float(np.mean(pairs == 0)),
        saturated=float(np.mean(targets > SATURATED)),
        median=float(np.median(targets)),
        rarest=int(stats.unigrams[stats.of(words)].min()),
    )


def describe_all(stats: Cooccurrence) -> TargetReport:
    """The same over the whole vocabulary, from its sparse half alone.

    Raises:
        DataError: the vocabulary has fewer than two words, or one that does not occur.
    """
    size = len(stats.words)
    if size < 2:
        raise DataError("pairs: the vocabulary has fewer than two words")
    upper = sparse_ratio(stats)
    met = sparse.triu(upper, 1, format="csr").data
    pairs = size * (size - 1) // 2
    targets = m_star(met)
    # pairs that never meet are the lowest; the median is among them if they are more than half
    middle = (pairs - 1) / 2 - (pairs - len(met))
    ends = [int(np.floor(middle)), int(np.ceil(middle))]
    if ends[0] >= 0:
        found = np.partition(targets, ends)[ends]
    else:
        found = np.array([-2.0, -2.0 if ends[1] < 0 else targets.min()])
    return TargetReport(
        pairs=pairs,
        zero=1 - len(met) / pairs,
        saturated=float(np.sum(targets > SATURATED) / pairs),
        median=float(found.mean()),
        rarest=int(stats.unigrams.min()),
    )


def sparse_ratio(stats: Cooccurrence) -> sparse.csr_array:
    """Rho of all pairs that meet, i <= j; its indices are those of ``stats.upper``, not a copy.

    Raises:
        DataError: a word of the vocabulary does not occur.
    """
    if not stats.unigrams.all():
        raise DataError("ratio: some words of the vocabulary never occur; count with a smaller vocabulary")
    scale = stats.tokens / stats.unigrams
    upper = stats.upper
    data = upper.data / stats.total
    data *= np.repeat(scale, np.diff(upper.indptr))
    data *= scale[upper.indices]
    return sparse.csr_array((data, upper.indices, upper.indptr), shape=upper.shape)


def m_star_target(stats: Cooccurrence) -> SymmetricTarget:
    """M* of the whole vocabulary: -2 everywhere, plus 4 rho / (rho + 1) where two words meet.

    Raises:
        DataError: a word of the vocabulary does not occur.
    """
    rho = sparse_ratio(stats)
    rho.data = 4 * rho.data / (rho.data + 1)
    return SymmetricTarget(rho, -2.0)


def ppmi_target(stats: Cooccurrence) -> SymmetricTarget:
    """PPMI of the whole vocabulary; where two words never meet, or less than by chance, it is 0.

    Raises:
        DataError: a word of the vocabulary does not occur.
    """
    rho = sparse_ratio(stats)
    rho.data = ppmi(rho.data)
    return SymmetricTarget(rho, 0.0)


def _checked(ratios: ArrayLike) -> NDArray[np.float64]:
    rho = np.asarray(ratios, dtype=np.float64)
    if not np.isfinite(rho).all() or (rho < 0).any():
        raise ShapeError("ratios: expected finite numbers of at least 0")
    return rho
