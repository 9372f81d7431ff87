"""Closed forms of what :mod:`geometry.lattice` solves numerically: checks, and limits that can be read.

All are of the exponential kernel but the last, which holds for any (Karkada et al. 2026, arXiv 2602.15029).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError
from geometry.lattice import Modes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def exponential_cycle_values(n: int, width: float) -> NDArray[np.float64]:
    """Eigenvalues of the wrapped exponential kernel round n items, exactly (Corollary 2).

    (1 - q^2) / (1 - 2 q cos(2 pi k / n) + q^2) with q = exp(-1 / width), for harmonics k = 1 to floor(n / 2).
    The limit of large n, (n / 2) 2 sigma / (1 + sigma^2 pi^2 k^2), is off by 3 % at k = 1 and by 60 % at k = 6
    for n = 12, width 4.2.

    Args:
        n: number of items.
        width: of the kernel, in steps.

    Returns:
        Shape (floor(n / 2),); each is doubly degenerate, except the last for even n.

    Examples:
        >>> exponential_cycle_values(12, 4.2).round(4)
        array([1.4795, 0.4548, 0.2337, 0.1572, 0.1269, 0.1185])
    """
    q = np.exp(-1 / width)
    angle = 2 * np.pi * np.arange(1, n // 2 + 1) / n
    return (1 - q * q) / (1 - 2 * q * np.cos(angle) + q * q)


def open_modes(n: int, width: float, count: int) -> Modes:
    """Eigenpairs of the exponential kernel along a line, in the limit of many items (Proposition 3).

    The kernel is the Green's function of (1 - sigma^2 d^2/dx^2) / (2 sigma) with Robin ends, so that centred
    eigenfunctions on [-1, 1] are sin(k x) and cos(k x) - sin(k) / k, with eigenvalue 2 sigma / (1 + sigma^2
    k^2). Items are put at the midpoints of n cells, where the first six modes are those of the matrix to a cosine
    of 0.9998 even for n = 12, width 4.2 (with items at both ends it is 0.912 by the sixth). Eigenvalues are less
    exact, so :func:`geometry.lattice.modes` is the answer and this the check.

    Args:
        n: number of items.
        width: of the kernel, in steps.
        count: number of modes, 1 to n - 1.

    Returns:
        ``count`` eigenpairs, eigenvalues scaled to the matrix of n items.

    Raises:
        ShapeError: more modes than n - 1, or none.

    Examples:
        >>> open_modes(321, 125, 3).values.round(1)
        array([67.3, 32.2, 15.7])
    """
    if not 1 <= count < n:
        raise ShapeError(f"count: expected 1 to {n - 1} modes of {n} items, got {count}")
    sigma = 2 * width / n
    k = open_wavenumbers(sigma, count)
    x = (2 * np.arange(n) + 1) / n - 1
    vectors = np.stack([np.sin(k[m] * x) if m % 2 == 0 else np.cos(k[m] * x) for m in range(count)], axis=1)
    vectors -= vectors.mean(axis=0)
    return Modes(n / 2 * 2 * sigma / (1 + (sigma * k) ** 2), vectors / np.linalg.norm(vectors, axis=0))


def open_wavenumbers(sigma: float, count: int) -> NDArray[np.float64]:
    """Wavenumbers of the exponential kernel on [-1, 1] after centring, smallest first (Proposition 3).

    Odd modes solve tan k = -sigma k, even ones tan k = k / (1 + sigma (1 + sigma) k^2), each by bisection on
    its own branch.

    Args:
        sigma: width of the kernel in units of x, 2 / n times its width in steps.
        count: how many.

    Returns:
        Shape (count,); the m-th lies between m pi / 2 and (m + 1) pi / 2.

    Examples:
        >>> (open_wavenumbers(0.7788, 4) / np.pi).round(3)
        array([0.674, 1.064, 1.581, 2.035])
    """
    from scipy.optimize import brentq

    def odd(k: float, mode: int) -> float:
        return k - (mode + 1) * np.pi / 2 + np.arctan(sigma * k)

    def even(k: float, mode: int) -> float:
        return k - mode * np.pi / 2 - np.arctan(k / (1 + sigma * (1 + sigma) * k * k))

    found = [
        brentq(odd if mode % 2 else even, mode * np.pi / 2, (mode + 1) * np.pi / 2, args=(mode,), xtol=1e-14)
        for mode in range(1, count + 1)
    ]
    return np.array(found)


def probe_error_bound(n: int, dimensions: int, ranks: Sequence[int]) -> NDArray[np.float64]:
    """Upper bound on :func:`geometry.lattice.probe_error` on a periodic lattice for any kernel (Proposition 4).

    (6 / pi^2) n^2 / (n^2 - 1) / ((r / V)^(1/D) - sqrt(D) / 2) with V the volume of the unit ball of D
    dimensions, for odd n steps an axis and eigenvalues that fall with the wavenumber. Along a line with ends the
    error falls like r^-3 instead, so that a line of slope -1 is no prediction there.

    Args:
        n: steps along each axis.
        dimensions: D, number of axes.
        ranks: number of coordinates; the bound holds at gaps between eigenvalues.

    Returns:
        Shape (len(ranks),); infinite where the rank is too small for the bound to say anything.

    Examples:
        >>> probe_error_bound(121, 1, [2, 20]).round(3)
        array([1.216, 0.064])
    """
    from scipy.special import gamma

    volume = np.pi ** (dimensions / 2) / gamma(dimensions / 2 + 1)
    radius = (np.asarray(ranks, dtype=np.float64) / volume) ** (1 / dimensions) - np.sqrt(dimensions) / 2
    bound = 6 / np.pi**2 * n**2 / (n**2 - 1) / np.where(radius > 0, radius, 1.0)
    return np.where(radius > 0, bound, np.inf)
