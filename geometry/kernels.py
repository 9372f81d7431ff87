"""Which function of distance a matrix follows, judged on pairs of items that the fit did not see.

C(d) = b + A k(d / w) with one of five shapes k. For a given width, b and A are least squares; the width is
searched on a grid of ratios and refined. Five shapes are always fitted and told apart by held-out R^2, so that a
width is never read off a shape that does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError
from geometry.layouts import pairs_of, square

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from geometry.layouts import Layout

    Shape = Callable[[NDArray[np.float64], float, float], NDArray[np.float64]]

FOLDS = 5
_WIDTHS = 60
_PLATEAUS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # as shares of the largest distance


def _exponential(d: NDArray[np.float64], width: float, _plateau: float) -> NDArray[np.float64]:
    return np.exp(-d / width)


def _gaussian(d: NDArray[np.float64], width: float, _plateau: float) -> NDArray[np.float64]:
    return np.exp(-((d / width) ** 2) / 2)


def _power(d: NDArray[np.float64], width: float, _plateau: float) -> NDArray[np.float64]:
    return 1 / (1 + d / width)


def _linear(d: NDArray[np.float64], _width: float, _plateau: float) -> NDArray[np.float64]:
    return -d


def _plateau(d: NDArray[np.float64], width: float, plateau: float) -> NDArray[np.float64]:
    return np.exp(-np.maximum(0.0, d - plateau) / width)


SHAPES: dict[str, Shape] = {
    "exponential": _exponential,
    "gaussian": _gaussian,
    "power": _power,
    "linear": _linear,
    "plateau": _plateau,
}
"""Shapes k: exp(-d/w), exp(-(d/w)^2/2), 1/(1 + d/w), -d, and exp(-max(0, d - p)/w)."""


@dataclass(frozen=True)
class KernelFit:
    """A fitted kernel C(d) = offset + amplitude k(d / width).

    Attributes:
        shape: a name in :data:`SHAPES`.
        width: in the unit of the layout's distance; 1 for ``linear``, which has none.
        plateau: distance up to which the kernel is flat; 0 for all shapes but ``plateau``.
        amplitude: A; negative where far items are more alike than near ones.
        offset: b.
        r2: on the pairs that were fitted, 0 to 1.
        held_out: R^2 over pairs that were not, about their mean: 1 (predicted) to 0 (no better than the mean)
            and below.
        period: length of the cycle whose images are summed; None along lines and on spheres.
    """

    shape: str
    width: float
    plateau: float
    amplitude: float
    offset: float
    r2: float
    held_out: float
    period: int | None

    def __call__(self, distance: ArrayLike) -> NDArray[np.float64]:
        """Fitted values at these distances, any shape."""
        d = np.asarray(distance, dtype=np.float64)
        return self.offset + self.amplitude * _values(self.shape, d, self.width, self.plateau, self.period)


def fit_kernels(matrix: ArrayLike, layout: Layout, rng: np.random.Generator) -> tuple[KernelFit, ...]:
    """Fit every shape to a matrix over items, the best first.

    Exponential, Gaussian and plateau kernels are summed over the images of a cycle, as Proposition 1 has it.

    Args:
        matrix: symmetric, items in latent order, shape (n, n); the diagonal is not used.
        layout: where the items lie.
        rng: splits the pairs into five folds. Pairs share items, so held-out R^2 speaks of the same items and
            not of new ones.

    Returns:
        One fit a shape, largest held-out R^2 first.

    Raises:
        ShapeError: another number of items than the layout, fewer than 10 pairs, or all pairs equal.

    Examples:
        >>> from geometry.layouts import line
        >>> years = line(40)
        >>> best = fit_kernels(0.3 + np.exp(-years.distance / 7), years, np.random.default_rng(0))[0]
        >>> best.shape, round(best.width, 3), round(best.amplitude, 3), round(best.offset, 3)
        ('exponential', 7.0, 1.0, 0.3)
    """
    values = pairs_of(square(matrix, "matrix", layout.n))
    d = pairs_of(layout.distance)
    if len(values) < 10:
        raise ShapeError(f"kernel: {len(values)} pairs are too few to hold some out; 5 items make 10")
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        raise ShapeError("matrix: all pairs of items are equal; there is no kernel to fit")
    period = layout.n if layout.kind == "cycle" else None
    fold = rng.permutation(len(values)) % FOLDS
    fits = [_fitted(shape, d, values, fold, period) for shape in SHAPES]
    # a simpler shape wins a tie: a plateau of length 0 is an exponential
    return tuple(sorted(fits, key=lambda fit: -round(fit.held_out, 9)))


def width_interval(
    replicates: Sequence[ArrayLike], layout: Layout, shape: str, *, level: float = 0.95
) -> tuple[float, float]:
    """Interval of a kernel's width over bootstrap replicates of a matrix.

    Replicates must resample blocks of documents: resampling counts as if they were independent understates the
    error at least threefold.

    Args:
        replicates: matrices of resampled corpora, at least 20.
        layout: where the items lie.
        shape: a name in :data:`SHAPES`.
        level: of the interval.

    Returns:
        Percentiles (low, high) of the width.

    Raises:
        ShapeError: fewer than 20 replicates, or no such shape.

    Examples:
        >>> from geometry.layouts import line
        >>> years = line(20)
        >>> low, high = width_interval([np.exp(-years.distance / 5)] * 20, years, "exponential")
        >>> round(low, 3), round(high, 3)
        (5.0, 5.0)
    """
    if len(replicates) < 20:
        raise ShapeError(f"replicates: expected at least 20, got {len(replicates)}; resample more often")
    if shape not in SHAPES:
        raise ShapeError(f"shape: expected one of {', '.join(SHAPES)}, got {shape!r}")
    d, period = pairs_of(layout.distance), layout.n if layout.kind == "cycle" else None
    widths = [
        _search(shape, d, pairs_of(square(one, "replicate", layout.n)), period)[0] for one in replicates
    ]
    low, high = np.quantile(widths, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _fitted(
    shape: str,
    d: NDArray[np.float64],
    values: NDArray[np.float64],
    fold: NDArray[np.int64],
    period: int | None,
) -> KernelFit:
    left = np.empty(len(values))
    for out in range(FOLDS):
        here = fold == out
        width, plateau, amplitude, offset = _search(shape, d[~here], values[~here], period)
        left[here] = values[here] - offset - amplitude * _values(shape, d[here], width, plateau, period)
    width, plateau, amplitude, offset = _search(shape, d, values, period)
    inside = values - offset - amplitude * _values(shape, d, width, plateau, period)
    total = np.sum((values - values.mean()) ** 2)
    r2, held_out = (float(1 - np.sum(rest**2) / total) for rest in (inside, left))
    return KernelFit(shape, width, plateau, amplitude, offset, max(0.0, r2), held_out, period)


def _search(
    shape: str, d: NDArray[np.float64], values: NDArray[np.float64], period: int | None
) -> tuple[float, float, float, float]:
    """Width, plateau, amplitude and offset of least squares: a grid, then a refinement of the width."""
    from scipy.optimize import minimize_scalar

    far = float(d.max())
    if shape == "linear":
        return 1.0, 0.0, *_least_squares(_linear(d, 1.0, 0.0), values)[:2]
    # narrower than a tenth of the nearest pair is a spike, wider than four times the farthest is a line
    widths = np.geomspace(max(float(d.min()), far * 1e-3) / 10, 4 * far, _WIDTHS)
    plateaus = [share * far for share in (_PLATEAUS if shape == "plateau" else (0.0,))]

    def loss(width: float, plateau: float) -> float:
        return _least_squares(_values(shape, d, width, plateau, period), values)[2]

    _, at, plateau = min((loss(w, p), i, p) for p in plateaus for i, w in enumerate(widths))
    bounds = np.log([widths[max(0, at - 1)], widths[min(_WIDTHS - 1, at + 1)]])
    refined = minimize_scalar(
        lambda log: loss(np.exp(log), plateau),
        bounds=tuple(bounds),
        method="bounded",
        options={"xatol": 1e-9},
    )
    width = float(np.exp(refined.x))
    return width, plateau, *_least_squares(_values(shape, d, width, plateau, period), values)[:2]


def _least_squares(k: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float, float]:
    about = k - k.mean()
    spread = about @ about
    amplitude = float(about @ values / spread) if spread > 0 else 0.0
    rest = values - values.mean() - amplitude * about
    return amplitude, float(values.mean() - amplitude * k.mean()), float(rest @ rest)


def _values(
    shape: str, d: NDArray[np.float64], width: float, plateau: float, period: int | None
) -> NDArray[np.float64]:
    kernel = SHAPES[shape]
    total = kernel(d, width, plateau)
    if period is None or shape in {"power", "linear"}:  # these cannot be summed over images
        return total
    for image in range(1, 2 + int(37 * width / period)):  # exp(-37) is the last digit
        total = (
            total + kernel(image * period + d, width, plateau) + kernel(image * period - d, width, plateau)
        )
    return total
