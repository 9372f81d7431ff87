"""What a symmetric corpus predicts: eigenvectors, curves, and how well a linear probe can do.

If how often two items co-occur depends only on how far apart they lie, M* restricted to the items is a kernel
of their distance, and the principal coordinates of spectral embeddings are its eigenvectors (Karkada et al.
2026, arXiv 2602.15029): Fourier modes round a cycle, sinusoids with fitted wavelengths along a line. Any kernel
on any layout is solved by :func:`modes`; the closed forms in :mod:`geometry.closed_forms` check it.

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


def _contrasts(n: int) -> NDArray[np.float64]:
    """Helmert's contrasts: orthonormal columns that sum to zero, shape (n, n - 1)."""
    columns = np.triu(np.ones((n, n - 1)))
    columns[np.arange(1, n), np.arange(n - 1)] = -np.arange(1, n)
    return columns / np.linalg.norm(columns, axis=0)
