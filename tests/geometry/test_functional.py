"""Functional spectra are those of the output change on the rows themselves, however few directions are kept."""

from __future__ import annotations

import numpy as np
import pytest

from geometry.alignment import phi, update_cosine
from geometry.checks import ShapeError
from geometry.functional import Inputs, reading_basis
from geometry.moments import Moments
from geometry.spectra import LowRank


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def inputs_of(x, updates):
    """Moments along the reading basis alone, taken in two parts."""
    basis = reading_basis([u.a for u in updates])
    moments = Moments(basis.shape[1])
    for part in np.array_split(x, 2):
        moments.update(part @ basis)
    stats = moments.answer()
    second = stats.cov + np.outer(stats.mean, stats.mean)
    return Inputs(len(x), basis, second, float(np.mean(np.sum(x**2, axis=1))))


def tokens(rng, n=300, d=40):
    """Inputs with a large mean and a steep spectrum, as activations have."""
    return 5 + rng.standard_normal((n, d)) @ np.diag(np.arange(1, d + 1) ** -1.5)


def update(rng, *, out=24, d=40, rank=4, scale=0.5):
    return LowRank(rng.standard_normal((out, rank)), rng.standard_normal((rank, d)), scale)


@pytest.mark.parametrize("count", [1, 3, 20], ids=["few", "several", "more than the width"])
def test_singular_values_are_those_of_the_output_change_on_the_rows(rng, count):
    x, updates = tokens(rng), [update(rng) for _ in range(count)]
    inputs = inputs_of(x, updates)
    assert inputs.basis.shape == (40, min(40, 4 * count))
    for one in updates[:3]:
        change = x @ one.dense().T / np.sqrt(len(x))
        seen = inputs.seen_by(one)
        expected = np.linalg.svd(change, compute_uv=False)[:4]
        np.testing.assert_allclose(seen.singular_values(), expected, rtol=1e-9)
        even = np.linalg.norm(one.dense()) * np.sqrt(np.mean(np.sum(x**2, axis=1)) / 40)
        assert inputs.even_norm(one) == pytest.approx(even)


def test_overlaps_and_cosines_are_those_of_the_output_changes_over_tokens(rng):
    x, one, other = tokens(rng), update(rng), update(rng, rank=3)
    inputs = inputs_of(x, [one, other])
    seen = [inputs.seen_by(u) for u in (one, other)]
    changes = [x @ u.dense().T for u in (one, other)]
    over_tokens = [np.linalg.svd(change, full_matrices=False)[0][:, : u.rank]
                   for change, u in zip(changes, (one, other), strict=True)]  # fmt: skip
    right = [s.svd()[2].T for s in seen]
    np.testing.assert_allclose(phi(*right), phi(*over_tokens), atol=1e-8)
    expected = np.sum(changes[0] * changes[1]) / np.linalg.norm(changes[0]) / np.linalg.norm(changes[1])
    assert update_cosine(*seen) == pytest.approx(expected, abs=1e-10)


def test_neither_a_gauge_nor_a_repeated_update_changes_anything(rng):
    x, one, m = tokens(rng), update(rng), rng.standard_normal((4, 4))
    turned = LowRank(one.b @ m, np.linalg.solve(m, one.a), one.scale)
    inputs = inputs_of(x, [one, turned, one])
    values = [inputs.seen_by(u).singular_values() for u in (one, turned)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-8)
    np.testing.assert_allclose(values[0], inputs_of(x, [one]).seen_by(one).singular_values(), rtol=1e-9)


def test_a_direction_that_the_data_lack_never_fires_and_one_that_they_love_gains(rng):
    x = rng.standard_normal((500, 40)) * ([10.0] + [1.0] * 38 + [0.0])
    loved, absent = (LowRank([[1.0]], np.eye(40)[[i]]) for i in (0, 39))
    inputs = inputs_of(x, [loved, absent])
    assert inputs.seen_by(absent).norm() == 0
    assert inputs.seen_by(loved).norm() > 4 * inputs.even_norm(loved)
    even = inputs_of(np.eye(40), [loved])
    assert even.seen_by(loved).norm() == pytest.approx(even.even_norm(loved))


def test_what_does_not_fit_is_refused(rng):
    one = update(rng)
    inputs = inputs_of(tokens(rng), [one])
    with pytest.raises(ShapeError, match="outside the basis"):
        inputs.seen_by(update(rng))
    with pytest.raises(ShapeError, match="expected"):
        inputs.seen_by(update(rng, d=39))
    with pytest.raises(ShapeError, match="one width"):
        reading_basis([one.a, one.a[:, 1:]])
    with pytest.raises(ShapeError, match="one or more"):
        reading_basis([])
    with pytest.raises(ShapeError, match="in a basis of"):
        Inputs(1, np.eye(2), np.eye(3), 1.0)
