"""What several subspaces have in common, and how alike the few directions are in which two things move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError
from geometry.subspaces import orthonormal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from geometry.spectra import Spectrum


@dataclass(frozen=True, eq=False)
class Common:
    """Directions of the joint span of R subspaces, the ones that most of them share first.

    Attributes:
        values: eigenvalues of the mean projector (1/R) sum U_i U_i^T, largest first, shape (m,): the mean over
            subspaces of the squared length of the direction inside each. 1 is common to all; what a single
            subspace has alone is 1/R.
        vectors: the directions, in columns, shape (d, m).
        shares: squared length of each direction inside each subspace, shape (m, R); rows have the mean
            ``values``.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]
    shares: NDArray[np.float64]

    def shared_by_all(self, least: float = 0.5) -> int:
        """How many leading directions lie in every subspace by at least some squared length.

        Examples:
            >>> common_directions([[[1, 0], [0, 1], [0, 0]], [[1, 0], [0, 0], [0, 1]]]).shared_by_all()
            1
        """
        inside = self.shares.min(axis=1) >= least
        return len(inside) if inside.all() else int(np.argmin(inside))


def common_directions(bases: Sequence[ArrayLike]) -> Common:
    """Find what subspaces share, from the eigenvectors of their mean projector.

    For two subspaces the eigenvalues are (1 +- cos theta) / 2 of their principal angles.

    Args:
        bases: independent vectors in columns, each (d, k_i); at least one.

    Returns:
        min(d, sum of k_i) directions.

    Raises:
        ShapeError: no subspace, different dimensions, or columns that are no basis.

    Examples:
        Two planes that meet in the first axis:

        >>> common_directions([[[1, 0], [0, 1], [0, 0]], [[1, 0], [0, 0], [0, 1]]]).values
        array([1. , 0.5, 0.5])
    """
    checked = [orthonormal(basis, f"bases[{i}]") for i, basis in enumerate(bases)]
    if len({len(basis) for basis in checked}) != 1:
        raise ShapeError("bases: expected one or more, all in one dimension; compare one layer's")
    stacked = np.hstack(checked) / np.sqrt(len(checked))
    vectors, roots, _ = np.linalg.svd(stacked, full_matrices=False)
    shares = np.stack([np.sum((basis.T @ vectors) ** 2, axis=0) for basis in checked], axis=1)
    return Common(np.minimum(roots**2, 1.0), vectors, np.minimum(shares, 1.0))


def spectrum_cosine(one: Spectrum, other: Spectrum) -> float:
    """Cosine of two covariances as matrices, from their leading directions alone.

    <C1, C2>_F / (||C1||_F ||C2||_F) of what the spectra hold. No dimension has to be chosen, and two
    eigenvalues that trade places change nothing; a steep spectrum makes it the squared cosine of the first
    directions.

    Args:
        one: directions and energies, shape (d, m1) and (m1,).
        other: of the same d.

    Returns:
        0 (orthogonal) to 1 (proportional).

    Raises:
        ShapeError: different dimensions, or a spectrum without energy.

    Examples:
        >>> from geometry.spectra import spectrum
        >>> spectrum_cosine(spectrum([[1.0, 0.0], [0.0, 1.0]]), spectrum([[2.0, 0.0], [0.0, 0.0]]))
        0.707...
    """
    if len(one.vectors) != len(other.vectors):
        raise ShapeError(
            f"spectra lie in {len(one.vectors)} and {len(other.vectors)} dimensions; compare one layer's"
        )
    norms = float(np.linalg.norm(one.values)) * float(np.linalg.norm(other.values))
    if norms == 0:
        raise ShapeError("spectrum cosine: a spectrum is zero; nothing moved, so it has no direction")
    inner = one.values @ (one.vectors.T @ other.vectors) ** 2 @ other.values
    return float(np.clip(inner / norms, 0.0, 1.0))
