"""Word embeddings that are written down rather than trained: eigenvectors of a co-occurrence target.

M* = Phi Lambda Phi^T gives W = Phi_d |Lambda_d|^(1/2), the d eigenvalues of largest absolute value (Karkada et al.
2026, equation 2). The matrix is a constant plus something sparse, so Lanczos needs its products with vectors only
and no V x V array is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from geometry.checks import DataError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geometry.targets import SymmetricTarget


@dataclass(frozen=True, eq=False)
class SpectralEmbedding:
    """Words as rows.

    Attributes:
        values: (d,) eigenvalues of the V x V target itself (not divided by V), by descending absolute value;
            negative ones keep their sign.
        modes: (V, d) orthonormal eigenvectors; of each the entry of largest absolute value is positive.
    """

    values: NDArray[np.float64]
    modes: NDArray[np.float64]

    @property
    def rows(self) -> NDArray[np.float64]:
        """W = modes |values|^(1/2), (V, d): W W^T is the best rank-d approximation of the matrix |target|."""
        return self.modes * np.sqrt(np.abs(self.values))


def spectral_embedding(
    target: SymmetricTarget, d: int, rng: np.random.Generator, *, tolerance: float = 1e-8
) -> SpectralEmbedding:
    """Find the eigenvalues of largest absolute value and their vectors.

    Args:
        target: V x V, see :mod:`geometry.targets`.
        d: how many, 1 to V - 1.
        rng: where Lanczos starts; it decides nothing but rounding and the basis of equal eigenvalues.
        tolerance: relative accuracy of the eigenvalues.

    Returns:
        The embedding.

    Raises:
        ShapeError: d is not between 1 and V - 1.
        DataError: Lanczos does not converge, as with a target whose spectrum is flat.

    Examples:
        >>> from scipy import sparse
        >>> from geometry.targets import SymmetricTarget
        >>> target = SymmetricTarget(sparse.csr_array(np.diag([5.0, 2.0, 0.0, 0.0])), 0.0)
        >>> spectral_embedding(target, 2, np.random.default_rng(0)).values.round(12)
        array([5., 2.])
    """
    size = target.upper.shape[0]
    if not 1 <= d < size:
        raise ShapeError(f"d: expected 1 to {size - 1} dimensions of {size} words, got {d}")
    try:
        values, modes = eigsh(
            product(target), k=d, which="LM", v0=rng.standard_normal(size), tol=tolerance, maxiter=100 * size
        )
    except ArpackNoConvergence as error:
        raise DataError(f"embedding: {d} eigenvalues do not converge; ask for fewer") from error
    order = np.argsort(-np.abs(values), kind="stable")
    values, modes = values[order], modes[:, order]
    largest = np.take_along_axis(modes, np.abs(modes).argmax(axis=0)[None], axis=0)
    return SpectralEmbedding(values, modes * np.sign(largest))


def product(target: SymmetricTarget) -> LinearOperator:
    """The target as something that multiplies vectors: sparse half, its mirror image, and constant 1 1^T."""
    upper = target.upper
    lower = upper.T  # a view, by columns
    diagonal = upper.diagonal()

    def times(x: NDArray[np.float64]) -> NDArray[np.float64]:
        x = x.ravel()
        return upper @ x + lower @ x - diagonal * x + target.constant * x.sum()

    return LinearOperator(upper.shape, matvec=times, rmatvec=times, dtype=np.float64)
