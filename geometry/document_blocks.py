"""Second moments of differences, kept apart for blocks of documents: what resampling needs, at fixed memory.

Tokens of one document resemble each other, so whatever is resampled must be whole documents. They are dealt to at
most :data:`BLOCKS` blocks, and each block keeps the second moment of its rows in a small basis Q that is shared by
all that will be compared. A permutation, a bootstrap draw or a half of the documents is then a sum over some of the
blocks: no model runs again (:mod:`geometry.block_resampling`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import DataError, ShapeError, rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from geometry.spectra import Spectrum

BLOCKS = 64
"""Most blocks that the documents of one group are dealt to."""


def dealt(documents: Iterable[str], blocks: int = BLOCKS) -> dict[str, int]:
    """Deal documents to blocks of equally many, by a hash of their names.

    Args:
        documents: names, in any order and as often as they like.
        blocks: most blocks, at least 1.

    Returns:
        Document -> block, 0, 1, ...; with no more documents than blocks each has a block of its own, otherwise
        the numbers of documents in two blocks differ by at most 1. The order of the names does not matter.

    Examples:
        >>> sorted(dealt(["a", "b", "c", "a"], 2).values())
        [0, 0, 1]
    """
    order = sorted(set(documents), key=lambda name: hashlib.sha256(name.encode()).digest())
    return {name: i % blocks for i, name in enumerate(order)}


def joint_basis(one: Spectrum, other: Spectrum, size: int) -> NDArray[np.float64]:
    """Directions that hold most of two groups' rows, each group counting the same.

    The top eigenvectors of C1 / tr C1 + C2 / tr C2. A basis that kept the top directions of each group for sure,
    their union, would serve the two groups better than any random split of them: in simulation a permutation test
    at level 0.05 then rejects three times as often as it may.

    Args:
        one: eigenvalues and eigenvectors of E[d d^T] of the one group; truncated ones will do.
        other: the same for the other group.
        size: columns wanted; fewer come back where the two have fewer in all.

    Returns:
        Orthonormal columns, shape (d, m), m <= size.

    Raises:
        ShapeError: the two live in different dimensions, or one is zero.

    Examples:
        >>> from geometry.spectra import spectrum
        >>> x, y = spectrum([[3.0, 0], [0, 1]]), spectrum([[1.0, 0], [0, 4]])
        >>> abs(joint_basis(x, y, 1)).round(6).T
        array([[0., 1.]])
    """
    if len(one.vectors) != len(other.vectors):
        raise ShapeError(
            f"joint basis: widths {len(one.vectors)} and {len(other.vectors)}; compare groups at one layer"
        )
    if min(one.values.max(initial=0.0), other.values.max(initial=0.0)) <= 0:
        raise ShapeError("joint basis: a group did not move at all, so there is nothing to compare")
    weighted = np.hstack([
        s.vectors * np.sqrt(np.maximum(s.values, 0.0) / s.values.sum()) for s in (one, other)
    ])
    values, vectors = np.linalg.eigh(weighted @ weighted.T)
    there = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors[:, there][:, ::-1][:, :size].copy()


@dataclass(frozen=True, eq=False)
class BlockStats:
    """Rows of one group in a small basis, block by block.

    Attributes:
        n: (B,) rows of each block.
        second: (B, m, m) sums of Q^T d d^T Q over the rows of each block.
        energy: (B,) sums of |d|^2, what lies outside of Q included.
    """

    n: NDArray[np.int64]
    second: NDArray[np.float64]
    energy: NDArray[np.float64]

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.n)

    @property
    def moment(self) -> NDArray[np.float64]:
        """E[d d^T] inside Q over all rows, (m, m)."""
        return self.second.sum(axis=0) / self.n.sum()

    @property
    def outside(self) -> float:
        """Share of E|d|^2 that lies outside of Q, 0 to 1; 0 where nothing moved."""
        energy = float(self.energy.sum())
        inside = float(np.trace(self.second, axis1=1, axis2=2).sum())
        return max(0.0, 1 - inside / energy) if energy > 0 else 0.0


class BlockMoments:
    """Accumulates rows in a small basis for each block of documents: B (m^2 + 2) numbers, however many rows.

    Args:
        basis: orthonormal columns Q, shape (d, m).
        blocks: number of blocks B.

    Raises:
        ShapeError: the columns are not orthonormal, or there is no block.

    Examples:
        >>> held = BlockMoments([[1.0], [0.0]], 2)
        >>> held.update([[2.0, 0.0], [0.0, 2.0], [3.0, 0.0]], [0, 0, 1])
        >>> held.answer().second.ravel(), held.answer().energy
        (array([4., 9.]), array([8., 9.]))
    """

    def __init__(self, basis: ArrayLike, blocks: int) -> None:
        self.basis = rows(basis, "basis")
        m = self.basis.shape[1]
        if not np.allclose(self.basis.T @ self.basis, np.eye(m), atol=1e-8):
            raise ShapeError("basis: its columns are not orthonormal; see orthonormal()")
        if blocks < 1:
            raise ShapeError(f"blocks: expected at least 1, got {blocks}")
        self._n = np.zeros(blocks, dtype=np.int64)
        self._second = np.zeros((blocks, m, m))
        self._energy = np.zeros(blocks)

    def update(self, moved: ArrayLike, block: ArrayLike) -> None:
        """Take in rows.

        Args:
            moved: differences d, shape (n, d).
            block: (n,) the block of each row's document.

        Raises:
            ShapeError: another width than the basis, not finite, or a block that there is not.
        """
        moved, block = rows(moved, "differences", len(self.basis)), np.asarray(block)
        if block.shape != (len(moved),) or (
            block.size and not 0 <= block.min() <= block.max() < len(self._n)
        ):
            raise ShapeError(f"block: expected {len(moved)} numbers from 0 to {len(self._n) - 1}")
        inside = moved @ self.basis
        for b in np.unique(block):
            of = block == b
            self._n[b] += of.sum()
            self._second[b] += inside[of].T @ inside[of]
            self._energy[b] += np.sum(moved[of] ** 2)

    def merge(self, other: BlockMoments) -> None:
        """Add everything that another accumulator with the same basis and blocks has seen.

        Raises:
            ShapeError: the bases or the numbers of blocks differ.
        """
        if self._second.shape != other._second.shape or not np.array_equal(self.basis, other.basis):
            raise ShapeError("merge: the other has another basis or other blocks; merge like with like")
        self._n += other._n
        self._second += other._second
        self._energy += other._energy

    def state(self) -> dict[str, NDArray]:
        """Everything that is known, as arrays: ``basis``, ``n``, ``second``, ``energy``."""
        held = {"basis": self.basis, "n": self._n, "second": self._second, "energy": self._energy}
        return {name: array.copy() for name, array in held.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> BlockMoments:
        """Make the accumulator whose ``state()`` this was.

        Raises:
            DataError: keys or shapes are not those of a state.
        """
        if set(state) != {"basis", "n", "second", "energy"}:
            raise DataError(f"state: found {sorted(state)}; was it written by state()?")
        made = cls(state["basis"], np.size(state["n"]))
        for name in ("n", "second", "energy"):
            held = getattr(made, f"_{name}")
            if np.shape(state[name]) != held.shape:
                raise DataError(f"state: {name} has shape {np.shape(state[name])}, expected {held.shape}")
            held[...] = state[name]
        return made

    def answer(self) -> BlockStats:
        """What each block holds so far; blocks without rows are left out.

        Raises:
            ShapeError: no rows yet.
        """
        there = self._n > 0
        if not there.any():
            raise ShapeError("blocks: no rows yet; call update first")
        return BlockStats(self._n[there].copy(), self._second[there].copy(), self._energy[there].copy())
