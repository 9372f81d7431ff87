"""Whether two lists of numbers say the same: in order, and on average."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float | None:
    """Spearman's rank correlation, ties sharing their mean rank.

    Args:
        x: numbers, shape (n,), n >= 2.
        y: as many.

    Returns:
        -1 to 1; None where one of the two is constant, so that it has no order.

    Raises:
        ShapeError: not two vectors of one length of at least 2, or values that are not finite.

    Examples:
        >>> round(rank_correlation([1.0, 2.0, 3.0], [10.0, 100.0, 1000.0]), 12)
        1.0
    """
    from scipy.stats import rankdata

    return correlation(*(rankdata(v) for v in _two(x, y)))


def correlation(x: ArrayLike, y: ArrayLike) -> float | None:
    """Pearson's correlation.

    Args:
        x: numbers, shape (n,), n >= 2.
        y: as many.

    Returns:
        -1 to 1; None where one of the two is constant.

    Raises:
        ShapeError: not two vectors of one length of at least 2, or values that are not finite.

    Examples:
        >>> round(correlation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]), 12)
        -1.0
    """
    x, y = (v - v.mean() for v in _two(x, y))
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.clip(x @ y / lengths, -1.0, 1.0)) if lengths > 0 else None


def _two(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = (np.asarray(v, dtype=np.float64) for v in (x, y))
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ShapeError(f"correlation: expected two vectors (n,), n >= 2, got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ShapeError("correlation: values that are not finite; find where they were measured")
    return x, y
