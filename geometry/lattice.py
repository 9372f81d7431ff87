"""What a symmetric corpus predicts: eigenvectors, curves, and how well a linear probe can do.

If how often two items co-occur depends only on how far apart they lie, M* restricted to the items is a kernel
of their distance, and the principal coordinates of spectral embeddings are its eigenvectors (Karkada et al.
2026, arXiv 2602.15029): Fourier modes round a cycle, sinusoids with fitted wavelengths along a line. Any kernel
on any layout is solved by :func:`modes`; the closed forms of the exponential kernel are beside it, and check
it.

Widths are in steps of the layout. On the paper's interval [-1, 1] with n items a width of w steps is
sigma = 2 w / n.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows
from geometry.layouts import square

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    Kernel = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_SAME = 1e-8
"""Eigenvalues this close, as a share of the largest, are one eigenvalue."""


@dataclass(frozen=True)
class Modes:
    """Eigenpairs of a centred matrix over items, without the constant direction.

    Attributes:
        values: eigenvalues, largest absolute value first, shape (k,).
        vectors: unit eigenvectors in columns, each of mean zero, shape (n, k). Their signs, and the basis
            inside a group of equal eigenvalues, are arbitrary.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]

    @property
    def coordinates(self) -> NDArray[np.float64]:
        """Principal coordinates sqrt(|value|) x vector, shape (n, k): the predicted curve or sheet."""
        return self.vectors * np.sqrt(np.abs(self.values))

    def groups(self) -> tuple[slice, ...]:
        """Runs of equal eigenvalues; inside one of them single vectors mean nothing.

        Returns:
            Slices of columns, in order, that cover all with a value above 1e-8 of the largest.

        Examples:
            >>> Modes(np.array([2.0, 2.0, 1.0]), np.eye(3)).groups()
            (slice(0, 2, None), slice(2, 3, None))
        """
        live = self.values[np.abs(self.values) > _SAME * np.abs(self.values).max(initial=0.0)]
        breaks = np.flatnonzero(np.abs(np.diff(live)) > _SAME * np.abs(live).max(initial=0.0)) + 1
        return tuple(slice(a, b) for a, b in pairwise(sorted({0, *map(int, breaks), len(live)})))


def exponential(width: float) -> Kernel:
    """The kernel exp(-distance / width).

    Examples:
        >>> exponential(2.0)(np.array([0.0, 2.0]))
        array([1.        , 0.36787944])
    """
    return lambda distance: np.exp(-distance / width)


def gaussian(width: float) -> Kernel:
    """The kernel exp(-(distance / width)^2 / 2).

    Examples:
        >>> gaussian(1.0)(np.array([0.0, 1.0]))
        array([1.        , 0.60653066])
    """
    return lambda distance: np.exp(-((distance / width) ** 2) / 2)


def wrapped(kernel: Kernel, n: int) -> Kernel:
    """A kernel round a cycle of n steps: the sum over all images, sum_m k(|distance + m n|).

    Args:
        kernel: a kernel that falls off fast enough to be summed.
        n: length of the cycle in steps.

    Returns:
        The periodic kernel, for distances 0 to n / 2; images are added until one adds less than 1e-16.

    Raises:
        ShapeError: 10,000 images do not suffice (raised by the returned kernel).

    Examples:
        The geometric series: (q^d + q^(n - d)) / (1 - q^n) with q = exp(-1 / width).

        >>> wrapped(exponential(1.0), 2)(np.array([0.0])) * (1 - np.exp(-2)) / (1 + np.exp(-2))
        array([1.])
    """

    def periodic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
        total = kernel(np.abs(distance))
        for image in range(1, 10_000):
            added = kernel(image * n + distance) + kernel(image * n - distance)
            total = total + added
            if np.abs(added).max(initial=0.0) <= 1e-16 * np.abs(total).max(initial=0.0):
                return total
        raise ShapeError("kernel: falls off too slowly to be summed round a cycle; give it unwrapped")

    return periodic


def modes(matrix: ArrayLike) -> Modes:
    """Eigenpairs of C M C with C = 1 - 11^T / n, by dense diagonalisation.

    Exact for any kernel and layout, and the same map for a Gram matrix of hidden states: their principal
    components are its modes.

    Args:
        matrix: symmetric, over items, shape (n, n), n >= 2.

    Returns:
        n - 1 eigenpairs, largest absolute value first.

    Raises:
        ShapeError: not a symmetric matrix of finite numbers.

    Examples:
        >>> from geometry.layouts import cycle
        >>> modes(wrapped(exponential(4.2), 12)(cycle(12).distance)).values[:4].round(4)
        array([1.4795, 1.4795, 0.4548, 0.4548])
    """
    matrix = square(matrix, "matrix")
    # an orthonormal basis of what sums to zero: the constant direction is gone, not merely small
    basis = _contrasts(len(matrix))
    values, inside = np.linalg.eigh(basis.T @ ((matrix + matrix.T) / 2) @ basis)
    # ties in size between signs are broken by sign, so that groups stay together
    order = np.lexsort((-np.sign(values), -np.abs(values)))
    return Modes(values[order], (basis @ inside)[:, order])


def cycle_modes(row: ArrayLike) -> Modes:
    """Eigenpairs of a circulant matrix in closed form: its Fourier modes (Proposition 1).

    Args:
        row: first row of the matrix, M[0, j] = C(j), even round the cycle, shape (n,), n >= 3.

    Returns:
        n - 1 eigenpairs; pairs cos, sin of one harmonic have one eigenvalue, the Fourier coefficient
        sum_j C(j) cos(2 pi k j / n).

    Raises:
        ShapeError: not a row of finite numbers, or C(j) is not C(n - j).

    Examples:
        >>> cycle_modes([2.0, 1.0, 0.0, 1.0]).values
        array([2., 2., 0.])
    """
    row = rows(np.atleast_2d(row), "row")[0]
    n = len(row)
    if n < 3 or not np.allclose(row[1:], row[:0:-1]):
        raise ShapeError(
            "row: expected at least 3 values with C(j) = C(n - j), the row of a circulant matrix"
        )
    coefficients = np.fft.rfft(row).real[1:]
    harmonics = np.repeat(np.arange(1, n // 2 + 1), 2)[: n - 1]
    values = coefficients[harmonics - 1]
    order = np.argsort(-np.abs(values), kind="stable")
    return Modes(values[order], fourier_basis(n)[:, order])


def fourier_basis(n: int) -> NDArray[np.float64]:
    """Orthonormal Fourier modes over n items: cos and sin of harmonic 1, of harmonic 2, and so on.

    Args:
        n: number of items, at least 3.

    Returns:
        Columns without the constant one, shape (n, n - 1); for even n the last is the alternating one.

    Examples:
        >>> fourier_basis(4)[:, 2]
        array([ 0.5, -0.5,  0.5, -0.5])
    """
    angle = 2 * np.pi * np.outer(np.arange(n), np.arange(1, n // 2 + 1)) / n
    columns = np.stack([np.cos(angle), np.sin(angle)], axis=-1).reshape(n, -1)[:, : n - 1]
    return columns / np.linalg.norm(columns, axis=0)


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
    exact, so :func:`modes` is the answer and this the check.

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


def probe_error(prediction: Modes, targets: ArrayLike, ranks: Sequence[int]) -> NDArray[np.float64]:
    """Error of the best linear probe from the top principal coordinates, by what the kernel predicts.

    1 - sum over the first r modes of (u . x)^2 / |x|^2 with x centred: what is left of the target after the
    best linear readout, with no noise and no held-out items.

    Args:
        prediction: modes of the kernel.
        targets: what is read out, shape (n,) or (n, t).
        ranks: how many coordinates the probe sees, each 0 or more.

    Returns:
        epsilon^2 for each rank, 1 (nothing) to 0 (all), shape (len(ranks),).

    Raises:
        ShapeError: targets of another length than the modes, or that do not vary.

    Examples:
        >>> from geometry.layouts import cycle
        >>> probe_error(cycle_modes([2.0, 1.0, 0.0, 1.0]), cycle(4).targets, [0, 1, 2]).round(12)
        array([1. , 0.5, 0. ])
    """
    x = np.asarray(targets, dtype=np.float64)
    x = rows(x[:, None] if x.ndim == 1 else x, "targets")
    if len(x) != len(prediction.vectors):
        raise ShapeError(f"targets: expected {len(prediction.vectors)} rows, one an item, got {len(x)}")
    x = x - x.mean(axis=0)
    total = np.sum(x**2)
    if total == 0:
        raise ShapeError("targets: do not vary; there is nothing to read out")
    read = np.concatenate([[0.0], np.cumsum(np.sum((prediction.vectors.T @ x) ** 2, axis=1)) / total])
    return np.maximum(0.0, 1 - read[np.minimum(ranks, len(read) - 1)])


def probe_error_bound(n: int, dimensions: int, ranks: Sequence[int]) -> NDArray[np.float64]:
    """Upper bound on :func:`probe_error` on a periodic lattice for any kernel (Proposition 4).

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


def _contrasts(n: int) -> NDArray[np.float64]:
    """Helmert's contrasts: orthonormal columns that sum to zero, shape (n, n - 1)."""
    columns = np.triu(np.ones((n, n - 1)))
    columns[np.arange(1, n), np.arange(n - 1)] = -np.arange(1, n)
    return columns / np.linalg.norm(columns, axis=0)
