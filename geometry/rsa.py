"""Representational similarity: do two matrices over the same items rank their pairs alike?

Only ranks are compared (Kriegeskorte et al. 2008), so that a Gram matrix of hidden states may be held against
M*, whose scale means nothing. What both might owe to spelling or frequency is taken out of both
(:func:`partial_rsa`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError
from geometry.layouts import pairs_of, square

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

UNEXPLAINED = 1e-3
"""Share of a variance that must be left after the nuisances, or else there is nothing to correlate."""


@dataclass(frozen=True)
class CorpusLink:
    """Does a corpus say more about a model than the mere shape of its concept does?

    Attributes:
        corpus: RSA of the model with the corpus.
        generic: RSA of the model with a kernel of distance that knows nothing of the corpus.
        gain: ``corpus`` - ``generic``.
        low: lower end of a 95 % interval of the gain, from leaving out one item at a time (jackknife).
        high: upper end.
        given_generic: partial RSA of model and corpus given the generic kernel; None where the corpus is a
            function of the kernel.
    """

    corpus: float
    generic: float
    gain: float
    low: float
    high: float
    given_generic: float | None


def rsa(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman correlation of two matrices over pairs of items.

    Args:
        one: symmetric, shape (n, n), n >= 3; the diagonal is not used.
        other: symmetric, over the same items.

    Returns:
        -1 to 1, 0 by chance; with n items its standard deviation under shuffled labels is about that of
        n (n - 1) / 2 independent pairs or more, so take it from :mod:`geometry.label_nulls`.

    Raises:
        ShapeError: shapes differ, fewer than 3 items, or a matrix in which all pairs are equal.

    Examples:
        >>> round(rsa([[0, 1, 2], [1, 0, 3], [2, 3, 0]], [[0, 1, 4], [1, 0, 9], [4, 9, 0]]), 12)
        1.0
    """
    return partial_rsa(one, other, [])


def partial_rsa(one: ArrayLike, other: ArrayLike, nuisances: Sequence[ArrayLike]) -> float:
    """Spearman correlation of two matrices over pairs, with nuisance matrices taken out of both.

    Pearson correlation of the residuals of ranks after least squares on the ranks of all nuisances.

    Args:
        one: symmetric, shape (n, n).
        other: symmetric, over the same items.
        nuisances: symmetric matrices over the same items, such as differences in frequency.

    Returns:
        -1 to 1, 0 by chance.

    Raises:
        ShapeError: shapes differ, fewer than 3 items, or less than 0.1 % of a side's variance is left after
            the nuisances.

    Examples:
        >>> spelling = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
        >>> near = [[0, 3, 2, 1], [3, 0, 3, 2], [2, 3, 0, 3], [1, 2, 3, 0]]
        >>> round(partial_rsa(near, near, [spelling]), 12)
        1.0
    """
    sides = [square(one, "one"), square(other, "other", len(np.asarray(one)))]
    if len(sides[0]) < 3:
        raise ShapeError(f"rsa: expected at least 3 items, got {len(sides[0])}")
    first, second = (ranks(pairs_of(side)) for side in sides)
    return partial_correlation(first, second, nuisance_ranks(nuisances, len(sides[0])))


def corpus_link(model: ArrayLike, corpus: ArrayLike, generic: ArrayLike) -> CorpusLink:
    """RSA of a model with a corpus, against its RSA with the generic kernel of the concept.

    Args:
        model: Gram matrix of hidden states over the items, shape (n, n), n >= 5.
        corpus: M* or PMI over the same items.
        generic: what the corpus must beat: minus the distance of the layout, a kernel of it, or M* of another
            corpus that the model was not trained on.

    Returns:
        Both, their difference, and its jackknife interval: gain -+ t_{n-1} sqrt((n - 1) / n sum (g_i - mean)^2)
        over the n gains with one item left out.

    Raises:
        ShapeError: shapes differ, fewer than 5 items, or a matrix in which all pairs are equal.

    Examples:
        >>> from geometry.layouts import line
        >>> near = -line(6).distance
        >>> corpus_link(near, near, near).gain
        0.0
    """
    from scipy.special import stdtrit

    model = square(model, "model")
    n = len(model)
    corpus, generic = square(corpus, "corpus", n), square(generic, "generic", n)
    if n < 5:
        raise ShapeError(f"corpus link: expected at least 5 items, got {n}")

    def gain(keep: NDArray[np.int64]) -> tuple[float, float]:
        here = np.ix_(keep, keep)
        return rsa(model[here], corpus[here]), rsa(model[here], generic[here])

    with_corpus, with_generic = gain(np.arange(n))
    left_out = np.array([np.subtract(*gain(np.delete(np.arange(n), item))) for item in range(n)])
    error = np.sqrt((n - 1) / n * np.sum((left_out - left_out.mean()) ** 2))
    half = float(stdtrit(n - 1, 0.975)) * float(error)
    difference = with_corpus - with_generic
    try:
        given = partial_rsa(model, corpus, [generic])
    except ShapeError:
        given = None
    return CorpusLink(with_corpus, with_generic, difference, difference - half, difference + half, given)


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks from 1, ties at their mean; what differs by rounding only, 1e-12 of the largest, is a tie.

    Examples:
        >>> ranks([3.0, 1.0, 3.0])
        array([2.5, 1. , 2.5])
    """
    from scipy.stats import rankdata

    values = np.asarray(values, dtype=np.float64)
    return rankdata(np.round(values / max(np.abs(values).max(initial=0.0), 1e-300), 12))


def nuisance_ranks(nuisances: Sequence[ArrayLike], n: int) -> NDArray[np.float64]:
    """Ranks of nuisance matrices over pairs, in columns, shape (pairs, number of nuisances).

    Raises:
        ShapeError: a nuisance is not a symmetric matrix over n items.

    Examples:
        >>> nuisance_ranks([[[0, 1, 2], [1, 0, 3], [2, 3, 0]]], 3).T
        array([[1., 2., 3.]])
    """
    columns = [ranks(pairs_of(square(matrix, "nuisance", n))) for matrix in nuisances]
    return np.column_stack(columns) if columns else np.empty((n * (n - 1) // 2, 0))


def partial_correlation(
    one: NDArray[np.float64], other: NDArray[np.float64], given: NDArray[np.float64]
) -> float:
    """Pearson correlation of what least squares on the given columns and a constant leaves of two vectors.

    Args:
        one: shape (m,).
        other: shape (m,).
        given: shape (m, k), k may be 0.

    Returns:
        -1 to 1.

    Raises:
        ShapeError: less than 0.1 % of a vector's variance is left.

    Examples:
        >>> x = np.array([1.0, 2.0, 3.0])
        >>> round(partial_correlation(x, -x, np.empty((3, 0))), 12)
        -1.0
    """
    left = [unexplained(side, given) for side in (one, other)]
    return float(np.clip(left[0] @ left[1] / np.prod([np.linalg.norm(side) for side in left]), -1.0, 1.0))


def unexplained(vector: NDArray[np.float64], given: NDArray[np.float64]) -> NDArray[np.float64]:
    """What least squares on the given columns and a constant leaves of a vector.

    Raises:
        ShapeError: less than 0.1 % of its variance is left, or it does not vary.

    Examples:
        >>> unexplained(np.array([1.0, 2.0, 6.0]), np.empty((3, 0)))
        array([-2., -1.,  3.])
    """
    about = vector - vector.mean()
    columns = given - given.mean(axis=0)
    columns = columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
    # a constant nuisance, or two that say the same, take out nothing more
    u, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    basis = u[:, sizes > 1e-9]
    left = about - basis @ (basis.T @ about)
    if left @ left <= UNEXPLAINED * (about @ about) or not (about @ about):
        raise ShapeError(
            "correlation: nothing is left to correlate; all pairs equal, or the nuisances say it all"
        )
    return left
