"""Is a cloud of items a circle? Harmonics, roundness, order and closure.

Points are rows in latent order, one an item: hidden states, word embeddings, or principal coordinates; nothing
here changes when they are rotated or shifted. A large first harmonic alone is no circle: a block of five of
twelve items puts 79.6 % of its energy there. :func:`mode_isotropy` tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class FourierProfile:
    """How the energy of a cloud is shared among the harmonics of its order.

    Attributes:
        powers: energy of harmonics 1 to floor(n / 2), both signs together, shape (floor(n / 2),); they sum to
            the squared distances from the mean.
    """

    powers: NDArray[np.float64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Powers over their sum."""
        return self.powers / self.powers.sum()

    @property
    def first(self) -> float:
        """Share of harmonic 1, for n = 12: noise 2/11, exponential kernel .59, block of five .80."""
        return float(self.shares[0])

    @property
    def entropy(self) -> float:
        """Of the shares, as a part of the most that they could have: 0 (one harmonic) to 1 (all alike)."""
        shares = self.shares[self.shares > 0]
        return max(0.0, float(-np.sum(shares * np.log(shares)) / np.log(len(self.powers))))


@dataclass(frozen=True)
class CircleFit:
    """The first two principal components, seen as a circle.

    Attributes:
        r2: 1 - variance of the radius about its mean / mean squared radius, centre fitted by least squares:
            1 for points on a circle, pi / 4 = .785 for a normal cloud in the plane. An arc fits as well.
        in_order: whether the angles run through the items in latent order, forwards or backwards.
        order_error: mean distance of the angles from equal steps, after the best turn and reflection, in units
            of a quarter turn: 0 (a clock); .71 for twelve items without order, towards 1 for many.
        closure: distance from last to first item over the mean distance of neighbours: about 1 for a cycle, far
            more for a line.
    """

    r2: float
    in_order: bool
    order_error: float
    closure: float


def fourier_profile(points: ArrayLike) -> FourierProfile:
    """Energy of each harmonic of the latent order, summed over dimensions.

    ||(1 / sqrt(n)) sum_x h_x exp(-2 pi i k x / n)||^2, for +k and -k together. No principal components are
    chosen, so nothing is selected.

    Args:
        points: rows in latent order, shape (n, d), n >= 4.

    Returns:
        The profile. By chance, harmonics below n / 2 have a share of 2 / (n - 1) each; for n = 12, 95 % of
        noise clouds have a first share below .19 in 2,304 dimensions and below .32 in 5.

    Raises:
        ShapeError: fewer than 4 rows, or all are equal.

    Examples:
        >>> angle = 2 * np.pi * np.arange(12) / 12
        >>> fourier_profile(np.column_stack([np.cos(angle), np.sin(angle)])).first
        1.0
    """
    points = _points(points)
    spectrum = np.fft.rfft(points - points.mean(axis=0), axis=0, norm="ortho")[1:]
    powers = 2 * np.sum(np.abs(spectrum) ** 2, axis=1)
    if len(points) % 2 == 0:  # the alternating mode is its own mirror image
        powers[-1] /= 2
    return FourierProfile(powers)


def mode_isotropy(points: ArrayLike, harmonic: int = 1) -> float:
    """Roundness of one harmonic: ratio of the two axes of its ellipse.

    The singular values s2 / s1 of [Re h_k; Im h_k]. Cosine and sine of a circle point in orthogonal directions
    and are equally long; a block of items needs one direction only.

    Args:
        points: rows in latent order, shape (n, d).
        harmonic: k, 1 to below n / 2.

    Returns:
        1 (circle) to 0 (a wave in one direction); a block of five of twelve items gives .06 to .2
            and, drowned in noise, .4 to .6.

    Raises:
        ShapeError: fewer than 4 rows, all equal, no such harmonic, or nothing in it.

    Examples:
        >>> angle = 2 * np.pi * np.arange(12) / 12
        >>> round(mode_isotropy(np.column_stack([np.cos(angle), 0.5 * np.sin(angle)])), 12)
        0.5
    """
    points = _points(points)
    if not 1 <= harmonic < len(points) / 2:
        raise ShapeError(f"harmonic: expected 1 to below {len(points)} / 2, got {harmonic}")
    wave = np.exp(-2j * np.pi * harmonic * np.arange(len(points)) / len(points)) @ (
        points - points.mean(axis=0)
    )
    long, *short = np.linalg.svd(np.stack([wave.real, wave.imag]), compute_uv=False)
    if long <= 1e-12 * np.abs(points).max():
        raise ShapeError(f"harmonic: the cloud has no energy in harmonic {harmonic}")
    return float(short[0] / long) if short else 0.0


def circle_fit(points: ArrayLike) -> CircleFit:
    """Look at the first two principal components as a circle.

    Args:
        points: rows in latent order, shape (n, d), n >= 4, d >= 2.

    Returns:
        Roundness, order and closure. That the items of a random cloud are in order has chance 2 / (n - 1)!.

    Raises:
        ShapeError: fewer than 4 rows, or they do not span a plane.

    Examples:
        >>> angle = 2 * np.pi * np.arange(12) / 12
        >>> clock = circle_fit(np.column_stack([np.cos(angle), np.sin(angle)]))
        >>> round(clock.r2, 9), clock.in_order, round(clock.order_error, 9), round(clock.closure, 9)
        (1.0, True, 0.0, 1.0)
    """
    points = _points(points)
    u, s, _ = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    if len(s) < 2 or s[1] <= 1e-9 * s[0]:
        raise ShapeError("points: lie on one line; a circle needs two dimensions")
    plane = u[:, :2] * s[:2]
    centre = np.linalg.lstsq(np.column_stack([2 * plane, np.ones(len(plane))]), np.sum(plane**2, axis=1))[0][
        :2
    ]
    offset = plane - centre
    radius = np.linalg.norm(offset, axis=1)
    # where the circle is so flat that its centre is far away, it is a line: judge about the mean
    if np.linalg.norm(centre) > np.sqrt(np.mean(np.sum(plane**2, axis=1))):
        radius = np.linalg.norm(plane, axis=1)
    r2 = float(1 - radius.var() / np.mean(radius**2))
    neighbours = np.linalg.norm(np.diff(plane, axis=0), axis=1).mean()
    closure = float(np.linalg.norm(plane[-1] - plane[0]) / neighbours)
    angle = np.arctan2(plane[:, 1], plane[:, 0])
    return CircleFit(r2, _in_order(angle), _order_error(angle), closure)


def _in_order(angle: NDArray[np.float64]) -> bool:
    place = np.argsort(np.argsort(angle))
    steps = np.mod(np.diff(place, append=place[0]), len(angle))
    return bool(np.all(steps == 1) or np.all(steps == len(angle) - 1))


def _order_error(angle: NDArray[np.float64]) -> float:
    """Mean |angle - equal steps| over the better of both directions, each turned to its circular mean."""
    clock = 2 * np.pi * np.arange(len(angle)) / len(angle)
    errors = []
    for direction in (1, -1):
        off = np.exp(1j * (direction * angle - clock))
        errors.append(np.abs(np.angle(off * np.exp(-1j * np.angle(off.sum())))).mean())
    return float(min(errors) / (np.pi / 2))


def _points(points: ArrayLike) -> NDArray[np.float64]:
    points = rows(points, "points")
    if len(points) < 4:
        raise ShapeError(f"points: expected at least 4 items, got {len(points)}")
    if not np.ptp(points, axis=0).max(initial=0.0) > 1e-12 * np.abs(points).max(initial=0.0):
        raise ShapeError("points: all items are equal; is the prompt the same for each?")
    return points
