"""Second moments of wide models: the top directions without the d x d matrix.

At d = 4096 an exact covariance takes 134 MB and d^2 multiplications for every token; at 32 layers and several
accumulators that is too much. A sketch keeps the product of the covariance with l fixed random directions,
d x l numbers (8 MB at l = 256), from which the top directions come back (Nystrom). The product is linear in
the data, so shards, halves and workers merge by addition like :class:`~geometry.moments.Moments`.

A sketch finds directions well and eigenvalues less well, and says by how much it may be wrong. Where a number
is to be published, go over the texts again with the directions found: exact moments of ``x @ basis`` are small,
and :func:`refined` turns them into the best that can be said within those directions::

    found = sketch.answer()
    basis = found.spectrum.top(64).vectors
    again = Moments(64)
    for x in batches:
        again.update(x @ basis)
    exact = refined(basis, again.answer().cov)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import DataError, ShapeError, rows
from geometry.moments import check_state, positive_width
from geometry.nulls import haar_basis
from geometry.spectra import Spectrum, signed, spectrum

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

#: Random directions that measure the error and take no part in the approximation.
PROBES = 16
# added to the matrix before, and taken from its eigenvalues after, as a share of ||Y||: keeps Cholesky alive
_SHIFT = 1e-10


@dataclass(frozen=True, eq=False)
class SketchStats:
    """The top of a covariance or second moment C, and how far the rest of it is from nothing.

    Attributes:
        n: number of rows.
        mean: their mean, exact, shape (d,).
        trace: tr C, exact.
        spectrum: of the Nystrom approximation N, l directions. Use the first l / 8; the later ones soak up
            what they cannot resolve. Its eigenvalues are never above those of C.
        residual_trace: tr C - tr N >= 0, exact. C - N has no negative eigenvalue, so this is the energy that
            the spectrum leaves out, and no eigenvalue is too small by more.
        residual_norm: estimate of ||C - N||_F from directions that N knows nothing of. Its square has no
            bias, and a relative standard deviation of at most sqrt(2 / 16) = 0.35, less the more directions
            share the error. Eigenvalues are too small by at most ||C - N||_F (Weyl), and a subspace of top
            directions is turned by sin <= ||C - N||_F / gap, gap being the distance of its eigenvalues from
            the rest (Davis and Kahan).
    """

    n: int
    mean: NDArray[np.float64]
    trace: float
    spectrum: Spectrum
    residual_trace: float
    residual_norm: float


class Sketch:
    """Accumulates rows of a wide model, 2 d (l + 16) + d numbers however many rows.

    Half of them are the fixed random directions, which ``state()`` leaves out since their seed makes them again.

    Sums are kept about the running mean, as in :class:`~geometry.moments.Moments`: a coordinate of mean 1000
    costs no digits. Any split, in any order, gives the answer of the whole up to rounding.

    Args:
        width: the number of columns d.
        columns: number l of random directions, at least 8 times as many as directions wanted; 1 to d.
        seed: of the random directions; only sketches with equal seeds merge.

    Raises:
        ShapeError: the width is not a positive whole number, or l not one in 1 to d.

    Examples:
        Three rows on a line in three dimensions, which two random directions hold completely:

        >>> sketch = Sketch(3, columns=2)
        >>> sketch.update([[1.0, 5.0, 0.0], [2.0, 5.0, 0.0], [6.0, 5.0, 0.0]])
        >>> found = sketch.answer()
        >>> found.mean, found.spectrum.values.round(6), round(found.trace, 6)
        (array([3., 5., 0.]), array([4.666667, 0.      ]), 4.666667)
    """

    def __init__(self, width: int, *, columns: int = 256, seed: int = 0) -> None:
        self.width, self.seed = positive_width(width), int(seed)
        if not isinstance(columns, (int, np.integer)) or not 1 <= columns <= width:
            raise ShapeError(f"columns: expected a whole number from 1 to the width {width}, got {columns!r}")
        self.columns = int(columns)
        rng = np.random.default_rng(self.seed)
        probes = rng.standard_normal((width, PROBES))
        self._directions = np.hstack([haar_basis(width, self.columns, rng), probes])
        self._n, self._mean = 0, np.zeros(width)
        self._trace, self._product = 0.0, np.zeros_like(self._directions)

    def update(self, x: ArrayLike) -> None:
        """Add rows, shape (n, d); n may be 0.

        Args:
            x: observations in rows, any real dtype; summed in float64.

        Raises:
            ShapeError: another width, or values that are not finite.
        """
        x = rows(x, "x", self.width)
        if not len(x):
            return
        mean = x.mean(axis=0)
        centred = x - mean
        product = centred.T @ (centred @ self._directions)
        self._add(len(x), mean, float(np.sum(centred**2)), product)

    def merge(self, other: Sketch) -> None:
        """Add everything that another sketch has seen; the other is left as it is.

        Args:
            other: a sketch of the same width, number of columns and seed.

        Raises:
            ShapeError: one of these differs.
        """
        mine, theirs = (f"({s.width}, columns={s.columns}, seed={s.seed})" for s in (self, other))
        if mine != theirs:
            raise ShapeError(f"merge: this sketch is {mine}, the other {theirs}; merge like with like")
        if other._n:
            self._add(other._n, other._mean, other._trace, other._product)

    @property
    def n(self) -> int:
        """Number of rows so far."""
        return self._n

    def state(self) -> dict[str, NDArray]:
        """Everything that is known, as arrays: ``n``, ``seed``, ``mean``, ``trace``, ``product``."""
        held = {"n": self._n, "seed": self.seed, "mean": self._mean, "trace": self._trace}
        return {name: np.array(value) for name, value in held.items()} | {"product": self._product.copy()}

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> Sketch:
        """Make the sketch whose ``state()`` this was.

        Args:
            state: what ``state()`` returned.

        Returns:
            A sketch that continues where the other stopped.

        Raises:
            DataError: keys or shapes are not those of a state.
        """
        width, kept = np.asarray(state.get("mean", ())).size, np.shape(state.get("product", ()))
        shapes = {"n": (), "seed": (), "mean": (width,), "trace": (), "product": (width, *kept[1:2])}
        check_state(state, shapes)
        columns = kept[1] - PROBES if len(kept) == 2 else 0
        if not 1 <= columns <= width:
            raise DataError(f"state: product has shape {kept}; was it written by Sketch.state()?")
        made = cls(width, columns=columns, seed=int(np.asarray(state["seed"])))
        made._n, made._trace = int(np.asarray(state["n"])), float(np.asarray(state["trace"]))
        made._mean = np.array(state["mean"], dtype=np.float64)
        made._product = np.array(state["product"], dtype=np.float64)
        return made

    def answer(self) -> SketchStats:
        """The top of the covariance, about the mean and with divisor n.

        Returns:
            The frozen answer; later updates do not change it.

        Raises:
            ShapeError: no rows yet.
        """
        self._some()
        return self._frozen(self._product / self._n, self._trace / self._n)

    def about_zero(self) -> SketchStats:
        """The top of the second moment E[x x^T], the mean among its directions.

        Returns:
            The frozen answer; later updates do not change it.

        Raises:
            ShapeError: no rows yet.
        """
        self._some()
        product = self._product / self._n + np.outer(self._mean, self._mean @ self._directions)
        return self._frozen(product, self._trace / self._n + float(self._mean @ self._mean))

    def _some(self) -> None:
        if self._n == 0:
            raise ShapeError("sketch: no rows yet; call update first")

    def _add(self, n: int, mean: NDArray[np.float64], trace: float, product: NDArray[np.float64]) -> None:
        """Take in n rows of this mean, their sums about it, and what the distance of the means adds."""
        total = self._n + n
        gap = mean - self._mean
        weight = self._n * n / total
        self._product += product
        self._product += np.outer(weight * gap, gap @ self._directions)
        self._trace += trace + weight * float(gap @ gap)
        self._mean = self._mean + gap * (n / total)
        self._n = total

    def _frozen(self, product: NDArray[np.float64], trace: float) -> SketchStats:
        l = self.columns
        found = _nystrom(self._directions[:, :l], product[:, :l])
        probes = self._directions[:, l:]
        unseen = product[:, l:] - found.vectors @ (found.values[:, None] * (found.vectors.T @ probes))
        return SketchStats(
            n=self._n,
            mean=self._mean.copy(),
            trace=trace,
            spectrum=found,
            residual_trace=max(0.0, trace - float(found.values.sum())),
            # E|A g|^2 = ||A||_F^2 for standard normal g
            residual_norm=float(np.sqrt(np.sum(unseen**2) / PROBES)),
        )


def refined(basis: ArrayLike, second: ArrayLike) -> Spectrum:
    """Directions and energies from exact moments inside a subspace (Rayleigh-Ritz).

    Args:
        basis: orthonormal columns Q, often the top directions of a sketch, shape (d, m).
        second: covariance or second moment of ``x @ Q``, shape (m, m).

    Returns:
        The m orthogonal directions within the span of Q that are uncorrelated, with their exact energies: the
        i-th is at most the i-th eigenvalue of the whole matrix, and short of it only by what lies outside Q.

    Raises:
        ShapeError: the columns are not orthonormal, or the matrix is no covariance of m coordinates.

    Examples:
        >>> found = refined([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [[2.0, 1.0], [1.0, 2.0]])
        >>> found.values, found.vectors[2]
        (array([3., 1.]), array([0., 0.]))
    """
    basis = rows(basis, "basis")
    m = basis.shape[1]
    if not np.allclose(basis.T @ basis, np.eye(m), atol=1e-8):
        raise ShapeError("basis: its columns are not orthonormal; see orthonormal()")
    inside = spectrum(second)
    if len(inside.values) != m:
        raise ShapeError(f"second: expected ({m}, {m}), the moments of x @ basis, got {np.shape(second)}")
    return Spectrum(inside.values, signed(basis @ inside.vectors))


def _nystrom(omega: NDArray[np.float64], product: NDArray[np.float64]) -> Spectrum:
    """C Omega (Omega^T C Omega)^-1 (C Omega)^T from C Omega (Tropp et al. 2017, algorithm 3)."""
    from scipy.linalg import cholesky, solve_triangular

    shift = _SHIFT * float(np.linalg.norm(product))
    if shift == 0:
        return Spectrum(np.zeros(omega.shape[1]), signed(omega))
    shifted = product + shift * omega
    core = omega.T @ shifted
    upper = cholesky((core + core.T) / 2)
    vectors, sizes, _ = np.linalg.svd(solve_triangular(upper, shifted.T, trans="T").T, full_matrices=False)
    return Spectrum(np.maximum(sizes**2 - shift, 0.0), signed(vectors))
