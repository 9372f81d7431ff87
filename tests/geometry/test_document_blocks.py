"""Blocks of documents: any order and any split give the whole, and nothing inside the basis is lost."""

from __future__ import annotations

import numpy as np
import pytest

from geometry.checks import DataError, ShapeError
from geometry.document_blocks import BLOCKS, BlockMoments, dealt, joint_basis
from geometry.nulls import haar_basis
from geometry.spectra import spectrum
from geometry.subspaces import overlap


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def held(basis, moved, block, blocks=5, parts=1):
    made = BlockMoments(basis, blocks)
    for rows, of in zip(np.array_split(moved, parts), np.array_split(block, parts), strict=True):
        made.update(rows, of)
    return made


def test_documents_are_dealt_evenly_whatever_their_order():
    names = [f"d{i}" for i in range(300)]
    blocks = dealt(names)
    assert blocks == dealt(reversed(names + names))
    assert set(np.bincount(list(blocks.values()))) == {300 // BLOCKS, 300 // BLOCKS + 1}
    assert sorted(dealt(names[:40]).values()) == list(range(40))


def test_any_order_of_batches_and_any_split_give_the_same(rng):
    moved, block = rng.normal(size=(200, 6)), rng.integers(0, 5, 200)
    basis = haar_basis(6, 3, rng)
    whole = held(basis, moved, block).answer()
    order = rng.permutation(200)
    shuffled = held(basis, moved[order], block[order], parts=7).answer()
    one, other = held(basis, moved[:90], block[:90]), held(basis, moved[90:], block[90:])
    resumed = BlockMoments.from_state(one.state())
    resumed.merge(other)
    for again in (shuffled, resumed.answer()):
        np.testing.assert_array_equal(again.n, whole.n)
        np.testing.assert_allclose(again.second, whole.second, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(again.energy, whole.energy, rtol=1e-12)


def test_moments_inside_the_basis_are_those_of_the_rows(rng):
    moved, block = rng.normal(size=(200, 6)), rng.integers(0, 5, 200)
    basis = haar_basis(6, 3, rng)
    stats = held(basis, moved, block).answer()
    np.testing.assert_allclose(stats.moment, basis.T @ (moved.T @ moved / 200) @ basis)
    assert stats.outside == pytest.approx(1 - np.sum((moved @ basis) ** 2) / np.sum(moved**2))
    assert held(np.eye(6), moved, block).answer().outside == pytest.approx(0, abs=1e-12)


def test_nothing_that_moved_is_outside_of_a_basis_of_everything_and_all_of_another(rng):
    axes = np.eye(6)
    moved = rng.normal(size=(50, 2)) @ axes[:2]
    assert held(axes[:, 2:], moved, np.zeros(50, int)).answer().outside == 1
    assert held(axes[:, :2], moved, np.zeros(50, int)).answer().outside == 0
    assert held(axes, 0 * moved, np.zeros(50, int)).answer().outside == 0


def test_the_joint_basis_keeps_the_top_subspaces_of_both_groups(rng):
    """Where each group has rank k the union has rank 2k, and their overlap inside it is the true one."""
    u, v = haar_basis(40, 4, rng), haar_basis(40, 4, rng)
    x, y = rng.normal(size=(300, 4)) @ u.T, 0.01 * rng.normal(size=(20, 4)) @ v.T
    spectra = [spectrum(rows.T @ rows / len(rows)) for rows in (x, y)]
    basis = joint_basis(*spectra, 32)
    assert basis.shape == (40, 8)
    inside = [held(basis, rows, np.zeros(len(rows), int)).answer() for rows in (x, y)]
    assert max(stats.outside for stats in inside) < 1e-12
    tops = [spectrum(stats.moment).top(4).vectors for stats in inside]
    assert overlap(*tops) == pytest.approx(overlap(u, v))


def test_the_joint_basis_holds_the_same_share_of_two_groups_of_one_shape(rng):
    """Whatever their strengths: neither group is the one that the basis was made for."""
    axes = np.eye(30)
    strong, weak = (
        c * axes[:, order] * 0.7 ** np.arange(30) for c, order in ((9.0, range(30)), (0.1, range(29, -1, -1)))
    )
    spectra = [spectrum(s @ s.T) for s in (strong, weak)]
    basis = joint_basis(*spectra, 8)
    shares = [np.trace(basis.T @ s @ s.T @ basis) / np.trace(s @ s.T) for s in (strong, weak)]
    assert shares[0] == pytest.approx(shares[1])
    assert shares[0] > 0.9


def test_blocks_without_rows_are_left_out(rng):
    assert held(np.eye(2), rng.normal(size=(4, 2)), np.array([0, 0, 3, 3])).answer().n.tolist() == [2, 2]


def test_what_does_not_fit_is_refused(rng):
    made = BlockMoments(np.eye(3)[:, :2], 2)
    for moved, block in (([[1.0, 2.0]], [0]), ([[1.0, 2.0, 3.0]], [2]), ([[1.0, 2.0, 3.0]], [0, 1])):
        with pytest.raises(ShapeError, match="expected"):
            made.update(moved, block)
    with pytest.raises(ShapeError, match="no rows yet"):
        made.answer()
    with pytest.raises(ShapeError, match="orthonormal"):
        BlockMoments([[2.0], [0.0]], 1)
    with pytest.raises(ShapeError, match="at least 1"):
        BlockMoments(np.eye(2), 0)
    with pytest.raises(ShapeError, match="like with like"):
        made.merge(BlockMoments(np.eye(3)[:, 1:], 2))
    with pytest.raises(DataError, match="written by state"):
        BlockMoments.from_state({"n": 1})
    with pytest.raises(DataError, match="energy has shape"):
        BlockMoments.from_state(made.state() | {"energy": np.zeros(3)})
    with pytest.raises(ShapeError, match="one layer"):
        joint_basis(spectrum(np.eye(2)), spectrum(np.eye(3)), 2)
    with pytest.raises(ShapeError, match="did not move"):
        joint_basis(spectrum(np.eye(2)), spectrum(np.zeros((2, 2))), 2)
