"""Numbers as facts, each with the floor that stands under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geometry.nulls import null_of, p_two_sided

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


def with_null(value: float, samples: Sequence[float]) -> dict[str, Any]:
    """Write down a number beside null samples of it.

    Args:
        value: the number.
        samples: the same measurement where there is nothing to see, at least 2.

    Returns:
        ``value``, and ``null`` with mean, sd, low and high of its 95 % prediction band, n, two-sided p and
        verdict. Without ``null`` where a number is not finite.

    Examples:
        >>> with_null(9.0, [1.0, 1.2, 0.8])["null"]["verdict"]
        'above'
        >>> with_null(np.inf, [1.0, 2.0])
        {'value': inf}
    """
    if not np.isfinite([value, *samples]).all():
        return {"value": float(value)}
    null = null_of(value, samples)
    low, high = null.band
    floor = {"mean": null.mean, "sd": null.sd, "low": low, "high": high, "n": null.n}
    return {
        "value": float(value),
        "null": floor | {"p": p_two_sided(value, samples), "verdict": null.verdict()},
    }


def against_rest(values: Sequence[float | None]) -> dict[str, Any]:
    """Write down the first of some numbers beside the others as its null samples.

    Args:
        values: the number, then its null samples; None where a number could not be had.

    Returns:
        As :func:`with_null`; without ``null`` where a number is missing or there are fewer than 2 samples.

    Examples:
        >>> against_rest([9.0, 1.0, 1.2])["null"]["verdict"], against_rest([9.0, None, 1.2])
        ('above', {'value': 9.0})
    """
    value, *samples = values
    if value is None or len(samples) < 2 or None in samples:
        return {"value": value}
    return with_null(value, samples)


def with_haar(value: float, mean: float, sd: float) -> dict[str, Any]:
    """Write down a number beside the closed-form moments of its null, mean -+ 1.96 sd, none negative.

    Examples:
        >>> with_haar(0.5, 0.1, 0.02)["null"]["verdict"]
        'above'
    """
    low, high = max(0.0, mean - 1.96 * sd), mean + 1.96 * sd
    verdict = "above" if value > high else "below" if value < low else "not distinguishable"
    return {
        "value": float(value),
        "null": {"mean": mean, "sd": sd, "low": low, "high": high, "verdict": verdict},
    }


def pooled(values: ArrayLike, samples: ArrayLike) -> list[Any]:
    """Sum numbers over their first axis, and draw by draw their nulls; see :func:`with_null`.

    Args:
        values: one array a module, shape (modules, ...).
        samples: the same for each random draw, shape (modules, n, ...).

    Returns:
        Nested lists of the shape of one module's numbers, each entry a number with its null.

    Examples:
        >>> pooled([[1.0], [2.0]], [[[0.0], [1.0]], [[0.0], [1.0]]])[0]["value"]
        3.0
    """
    totals, draws = np.asarray(values, np.float64).sum(0), np.asarray(samples, np.float64).sum(0)

    def entry(total: np.ndarray, draw: np.ndarray) -> Any:
        if total.ndim == 0:
            return with_null(float(total), draw.tolist())
        return [entry(total[i], draw[:, i]) for i in range(len(total))]

    return entry(totals, draws)
