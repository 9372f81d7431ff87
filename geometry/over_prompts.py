"""What may be said of numbers that were measured on each of several prompts: intervals, and paired tests.

Prompts are what a long-context number is a sample of. Heads, layers and rows of one prompt are not independent, so
nothing here pools over them: the first axis is prompts, and every other axis is looked at by itself.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

EXACT = 12
"""Most prompts of which all sign flips are tried, 4096 of them."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Numbers with their 95 % intervals over prompts; all three have one shape.

    Attributes:
        value: the estimates.
        low: lower ends; NaN where there is a single prompt.
        high: upper ends.
        n: number of prompts.
    """

    value: Array
    low: Array
    high: Array
    n: int

    def record(self) -> dict[str, object]:
        """As lists for JSON: ``value``, ``low``, ``high``, ``n``."""
        return {
            "value": self.value.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "n": self.n,
        }


def mean_over_prompts(values: ArrayLike) -> Estimate:
    """Average over prompts, with Student's interval.

    Args:
        values: (P, ...), one number a prompt.

    Returns:
        The means, shape (...), and mean -+ t(.975, P - 1) sd / sqrt(P): exact for normal numbers, close for others
        once there are ten prompts or so.

    Raises:
        ShapeError: no prompt, or values that are not finite.

    Examples:
        >>> found = mean_over_prompts([1.0, 2.0, 3.0])
        >>> float(found.value), round(float(found.high), 2)
        (2.0, 4.48)
    """
    from scipy.special import stdtrit

    x = _prompts(values)
    mean = x.mean(axis=0)
    if len(x) == 1:
        nothing = np.full_like(mean, np.nan)
        return Estimate(mean, nothing, nothing, 1)
    half = stdtrit(len(x) - 1, 0.975) * x.std(axis=0, ddof=1) / np.sqrt(len(x))
    return Estimate(mean, mean - half, mean + half, len(x))


def share_of_prompts(hits: ArrayLike) -> Estimate:
    """Share of prompts with a property, with Wilson's interval (Wilson 1927), which stays wide at 0 and 1.

    Args:
        hits: (P, ...), truth values or 0 and 1.

    Returns:
        The shares, shape (...).

    Raises:
        ShapeError: no prompt, or values other than 0 and 1.

    Examples:
        >>> found = share_of_prompts([True] * 10)
        >>> float(found.value), round(float(found.low), 3), float(found.high)
        (1.0, 0.722, 1.0)
    """
    x = _prompts(hits)
    if not np.isin(x, (0.0, 1.0)).all():
        raise ShapeError("hits: expected 0 and 1 alone; take mean_over_prompts for other numbers")
    n, z = len(x), 1.959963984540054
    share = x.mean(axis=0)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Estimate(share, np.minimum(centre - half, share), np.maximum(centre + half, share), n)


def flipped_signs(differences: ArrayLike, n: int, rng: np.random.Generator) -> Array:
    """Test whether paired differences have mean 0: under the null each prompt's sign is a coin (Fisher 1935).

    A prompt's signs are flipped everywhere at once. With few prompts all 2^P flips are tried.

    Args:
        differences: (P, ...), such as adapter minus base for each prompt and head.
        n: number of random flips where P is above :data:`EXACT`.
        rng: source of chance.

    Returns:
        Two-sided p of each number, shape (...): share of flips, the observed one among them, whose mean is as far
        from 0. It is never below 2 / 2^P.

    Raises:
        ShapeError: no prompt, values that are not finite, or n below 1.

    Examples:
        >>> flipped_signs([1.0, 2.0, 1.5], 100, np.random.default_rng(0)).item()
        0.25
    """
    x = _prompts(differences)
    if n < 1:
        raise ShapeError(f"n: expected at least one flip, got {n}")
    if len(x) <= EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(x))))
    else:
        drawn = rng.choice((1.0, -1.0), size=(n, len(x)))
        signs = np.concatenate([np.ones((1, len(x))), drawn])
    sums = np.abs(np.tensordot(signs, x, axes=1))
    # the observed sum must count as equal to itself, whatever order the sums were taken in
    return (sums >= sums[:1] * (1 - 1e-9)).mean(axis=0)


def discoveries(p: ArrayLike, rate: float = 0.05) -> NDArray[np.bool_]:
    """Pick p values so that at most a share of those picked is picked by chance (Benjamini and Hochberg 1995).

    Args:
        p: p values, any shape; independent or positively dependent.
        rate: expected share of false ones among those picked.

    Returns:
        Which are picked, the same shape.

    Raises:
        ShapeError: a value outside of 0 to 1.

    Examples:
        >>> discoveries([0.01, 0.04, 0.3, 0.9]).tolist()
        [True, False, False, False]
    """
    values = np.asarray(p, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ShapeError("p: expected values from 0 to 1")
    flat = np.sort(values, axis=None)
    passed = np.flatnonzero(flat <= rate * np.arange(1, flat.size + 1) / max(1, flat.size))
    return values <= (flat[passed[-1]] if len(passed) else -1.0)


def _prompts(values: ArrayLike) -> Array:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim < 1 or not len(x):
        raise ShapeError(f"prompts: expected (P, ...) with a prompt or more, got {x.shape}")
    if not np.isfinite(x).all():
        raise ShapeError("prompts: hold NaN or infinity; find the prompt that makes it first")
    return x
