"""The scores of a cloud of items beside what shuffled labels give, in one go.

One decomposition of the cloud serves all orders of its items: for the true order the numbers are those of
:mod:`geometry.circles` and :mod:`geometry.mode_match`, for others they are its null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from geometry.checks import ShapeError, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from geometry.lattice import Modes
    from geometry.layouts import Layout

FIRST = "first"
"""Share of the first harmonic, of cycles: :func:`geometry.circles.fourier_profile`."""

ISOTROPY = "isotropy"
"""Roundness of the first harmonic, of cycles: :func:`geometry.circles.mode_isotropy`."""

ALIGNMENT = "alignment"
"""Of the first principal components with the first predicted modes: :func:`geometry.mode_match.mode_alignment`."""

CURVE = "curve"
"""R^2 of the cloud laid over the predicted curve: :func:`geometry.mode_match.procrustes`."""


@dataclass(frozen=True)
class Expected:
    """What a cloud is held against.

    Attributes:
        layout: where its items lie.
        modes: that a kernel predicts over them.
        dimensions: columns of the predicted curve.
    """

    layout: Layout
    modes: Modes
    dimensions: int

    @property
    def curve(self) -> NDArray[np.float64]:
        """Predicted coordinates, (n, dimensions)."""
        return self.modes.coordinates[:, : self.dimensions]


def cloud_scores(
    points: ArrayLike, expected: Expected, orders: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Score a cloud for each order of its items.

    Args:
        points: rows in latent order, shape (n, d).
        expected: what they are held against.
        orders: shape (m, n), such as the true order alone, ``np.arange(n)[None]``.

    Returns:
        Score -> values, shape (m,): :data:`ALIGNMENT` and :data:`CURVE`, and round a cycle :data:`FIRST` and
        :data:`ISOTROPY`.

    Raises:
        ShapeError: another number of items than the layout, all are equal, or they span fewer dimensions than
            the predicted curve.

    Examples:
        >>> from geometry.lattice import modes
        >>> from geometry.layouts import cycle
        >>> year = Expected(cycle(12), modes(-cycle(12).distance), 2)
        >>> found = cloud_scores(cycle(12).targets, year, np.arange(12)[None])
        >>> {name: round(float(value[0]), 9) for name, value in found.items()}
        {'first': 1.0, 'isotropy': 1.0, 'alignment': 1.0, 'curve': 1.0}
    """
    u, s = _decomposed(points, expected)
    found = _circle(u * s, orders) if expected.layout.kind == "cycle" else {}
    group = expected.modes.groups()[0]
    first = np.einsum("mnk,nl->mkl", u[orders][:, :, group], expected.modes.vectors[:, group])
    found[ALIGNMENT] = np.sum(first**2, axis=(1, 2)) / first.shape[2]
    found[CURVE] = _laid((u * s)[:, : expected.dimensions], expected.curve, orders)
    return found


def nearness(points: ArrayLike) -> NDArray[np.float64]:
    """Minus squared distances between rows, shape (n, n).

    Not inner products: an axis of frequency makes differences in frequency, which can be taken out.

    Examples:
        >>> nearness([[0.0, 0.0], [3.0, 4.0]]) + 0.0
        array([[  0., -25.],
               [-25.,   0.]])
    """
    about = rows(points, "points")
    about = about - about.mean(axis=0)
    squares = np.sum(about**2, axis=1)
    return 2 * about @ about.T - squares[:, None] - squares


def jackknife(value: float, left_out: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a number from what it is with one observation left out at a time.

    value -+ t_{n-1} sqrt((n - 1) / n sum (v_i - mean)^2) (Tukey 1958); for a mean it is the usual interval.

    Args:
        value: with all observations.
        left_out: without each of them, n of at least 2.

    Returns:
        Lower and upper end.

    Raises:
        ShapeError: fewer than 2 observations.

    Examples:
        >>> [round(end, 3) for end in jackknife(2.0, [2.5, 2.0, 1.5])]
        [-0.484, 4.484]
    """
    without = np.asarray(left_out, dtype=np.float64)
    n = len(without)
    if n < 2:
        raise ShapeError(f"jackknife: expected at least 2 observations, got {n}")
    spread = np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))
    reach = float(stats.t.ppf(0.975, n - 1) * spread)
    return value - reach, value + reach


def _decomposed(points: ArrayLike, expected: Expected) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cloud, n = rows(points, "points"), expected.layout.n
    if len(cloud) != n:
        raise ShapeError(f"points: expected {n} rows, one an item, got {len(cloud)}")
    u, s, _ = np.linalg.svd(cloud - cloud.mean(axis=0), full_matrices=False)
    needed = max(expected.dimensions, expected.modes.groups()[0].stop)
    rank = int(np.sum(s > 1e-10 * np.abs(cloud).max()))
    if rank < needed:
        raise ShapeError(f"points: span {rank} dimensions, the prediction {needed}; are the items all equal?")
    return u[:, :rank], s[:rank]


def _circle(cloud: NDArray[np.float64], orders: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    n = len(cloud)
    wave = np.exp(-2j * np.pi * np.arange(n) / n)
    weights = np.empty(orders.shape, dtype=complex)
    np.put_along_axis(weights, orders, np.broadcast_to(wave, orders.shape), axis=1)
    harmonic = weights @ cloud
    power = np.sum(np.abs(harmonic) ** 2, axis=1)
    # the ellipse of the two real vectors: its axes are the eigenvalues of their 2 x 2 products
    spread = np.abs(np.sum(harmonic**2, axis=1))
    squares = np.clip((power - spread) / (power + spread), 0.0, 1.0)
    return {FIRST: 2 * power / n / np.sum(cloud**2), ISOTROPY: np.sqrt(squares)}


def _laid(
    cloud: NDArray[np.float64], curve: NDArray[np.float64], orders: NDArray[np.int64]
) -> NDArray[np.float64]:
    products = np.einsum("mnk,nl->mkl", cloud[orders], curve)
    met = np.linalg.svd(products, compute_uv=False).sum(axis=1)
    return np.minimum(1.0, met**2 / (np.sum(cloud**2) * np.sum(curve**2)))
