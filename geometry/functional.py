"""What an update does on data: the spectrum of the change of a module's output, and its directions.

A weight update D can have directions that no text ever excites. With S = E[x x^T] of the inputs x that a module
reads, the change D x of its output has the singular values of D S^(1/2): those, in units of output per token, and not
those of D, are what the rest of the model sees. S itself is never needed: the moments of x along the few
directions that the updates read are enough, so the memory grows neither with the tokens nor with the square of
the width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows
from geometry.spectra import LowRank, spectrum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def reading_basis(readers: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """An orthonormal basis in which everything that some updates read can be written.

    Args:
        readers: the A factors of all updates that will be asked about, each (r, d).

    Returns:
        Orthonormal columns whose span holds every row of every A, shape (d, min(d, sum of r)).

    Raises:
        ShapeError: no reader, or readers of different widths.

    Examples:
        >>> abs(reading_basis([[[3.0, 0.0, 4.0]]])).round(1)
        array([[0.6],
               [0. ],
               [0.8]])
    """
    checked = [rows(a, "a") for a in readers]
    if len({a.shape[1] for a in checked}) != 1:
        raise ShapeError("readers: expected one or more, all of one width; compare updates of one module")
    stacked = np.vstack(checked)
    if len(stacked) >= stacked.shape[1]:
        return np.eye(stacked.shape[1])
    # A^T = Q R holds whatever the rank of A, so dependent rows need no care
    return np.linalg.qr(stacked.T)[0]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a module reads on some texts, as far as some of its updates can tell.

    Attributes:
        n: number of tokens, at least 1.
        basis: orthonormal directions, see :func:`reading_basis`, shape (d, m).
        second: E[z z^T] of z = basis^T x, about zero, shape (m, m).
        mean_square: E|x|^2 of the whole inputs.

    Raises:
        ShapeError: shapes do not fit together.
    """

    n: int
    basis: NDArray[np.float64]
    second: NDArray[np.float64]
    mean_square: float

    def __post_init__(self) -> None:
        m = self.basis.shape[1]
        if self.second.shape != (m, m):
            raise ShapeError(f"second: expected ({m}, {m}) in a basis of {m}, got {self.second.shape}")

    @cached_property
    def _root(self) -> NDArray[np.float64]:
        """Some R (m, m) with R R^T = second."""
        found = spectrum(self.second)
        return found.vectors * np.sqrt(found.values)

    def seen_by(self, update: LowRank) -> LowRank:
        """The update as the data see it: D S^(1/2), up to a rotation of its right side.

        Singular values of the result are root mean squares over tokens: the change of the output along its
        left singular vectors. The rotation is the same for every update of these inputs, so right singular
        vectors and Frobenius inner products of two results can be compared: the overlap of two right
        singular subspaces is the mean squared canonical correlation (about zero) of the two output changes,
        and the cosine of two results is the cosine of the output changes themselves.

        Args:
            update: of this module, shape (out, d); what it reads lies in the basis.

        Returns:
            Factors (out, r) and (r, m).

        Raises:
            ShapeError: another width, or an update that reads outside the basis.

        Examples:
            The second direction that is read never occurs in the data, so that only one is left:

            >>> inputs = Inputs(9, np.eye(2), np.array([[4.0, 0.0], [0.0, 0.0]]), 4.0)
            >>> inputs.seen_by(LowRank(np.eye(2), [[1.0, 0.0], [0.0, 5.0]])).singular_values()
            array([2., 0.])
        """
        a = rows(update.a, "update.a", len(self.basis))
        read = a @ self.basis
        if np.linalg.norm(a - read @ self.basis.T) > 1e-8 * np.linalg.norm(a):
            raise ShapeError("update: reads outside the basis; make the basis of all updates asked about")
        return LowRank(update.b, read @ self._root, update.scale)

    def even_norm(self, update: LowRank) -> float:
        """What the output change of an update would be if inputs of this size came evenly from everywhere.

        The norm of :meth:`seen_by` over this is the gain of the data: 0 where nothing of the update fires, up to
        sqrt(d) where it reads exactly what all inputs have in common.

        Args:
            update: of this module.

        Returns:
            ||D||_F sqrt(E|x|^2 / d), a root mean square over tokens.

        Examples:
            >>> inputs = Inputs(9, np.eye(2), np.array([[4.0, 0.0], [0.0, 0.0]]), 4.0)
            >>> update = LowRank([[1.0]], [[1.0, 0.0]])
            >>> float(inputs.seen_by(update).norm() / inputs.even_norm(update))
            1.414...
        """
        return update.norm() * float(np.sqrt(self.mean_square / len(self.basis)))
