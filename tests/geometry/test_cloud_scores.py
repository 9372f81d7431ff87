"""One pass over a cloud gives what the single scores give, for the true order and for any other."""

import numpy as np
import pytest
from scipy import stats

from geometry.checks import ShapeError
from geometry.circles import fourier_profile, mode_isotropy
from geometry.cloud_scores import (
    ALIGNMENT,
    CURVE,
    FIRST,
    ISOTROPY,
    Expected,
    cloud_scores,
    jackknife,
    nearness,
)
from geometry.lattice import exponential, modes, wrapped
from geometry.layouts import cycle, line, sphere
from geometry.mode_match import mode_alignment, procrustes


def expected(layout, dimensions):
    kernel = exponential(layout.distance.max() / 2)
    kernel = wrapped(kernel, layout.n) if layout.kind == "cycle" else kernel
    return Expected(layout, modes(kernel(layout.distance)), dimensions)


@pytest.mark.parametrize(
    "layout", [cycle(12), line(9), sphere([[i * 7 % 80, i * 53 % 180] for i in range(14)])]
)
@pytest.mark.parametrize("width", [4, 40])
def test_scores_of_every_order_are_those_of_the_single_functions(layout, width):
    rng = np.random.default_rng(layout.n)
    points, held = rng.standard_normal((layout.n, width)), expected(layout, 3)
    orders = np.array([np.arange(layout.n), rng.permutation(layout.n), rng.permutation(layout.n)])
    found = cloud_scores(points, held, orders)
    assert set(found) == {ALIGNMENT, CURVE} | ({FIRST, ISOTROPY} if layout.kind == "cycle" else set())
    for at, order in enumerate(orders):
        assert found[ALIGNMENT][at] == pytest.approx(mode_alignment(points[order], held.modes).pairs[0])
        assert found[CURVE][at] == pytest.approx(procrustes(points[order], held.curve).r2)
        if layout.kind == "cycle":
            assert found[FIRST][at] == pytest.approx(fourier_profile(points[order]).first)
            assert found[ISOTROPY][at] == pytest.approx(mode_isotropy(points[order]), abs=1e-7)


def test_the_predicted_curve_itself_scores_one_and_so_does_any_rotation_of_it():
    rng = np.random.default_rng(0)
    held = expected(cycle(11), 2)
    turned = held.modes.coordinates @ np.linalg.qr(rng.standard_normal((10, 10)))[0] + 3.0
    found = cloud_scores(turned, held, np.arange(11)[None])
    assert found[ALIGNMENT][0] == pytest.approx(1) and found[CURVE][0] == pytest.approx(1)
    assert found[ISOTROPY][0] == pytest.approx(1)


def test_nearness_does_not_change_when_a_cloud_is_moved_or_turned():
    rng = np.random.default_rng(0)
    points, turn = rng.standard_normal((6, 4)), np.linalg.qr(rng.standard_normal((4, 4)))[0]
    slow = -((points[:, None] - points[None]) ** 2).sum(-1)
    np.testing.assert_allclose(nearness(points), slow, atol=1e-12)
    np.testing.assert_allclose(nearness(points @ turn + 1.0), slow, atol=1e-12)


def test_a_jackknife_of_means_is_the_interval_of_the_mean():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(8)
    left_out = [np.delete(values, i).mean() for i in range(8)]
    low, high = jackknife(values.mean(), left_out)
    reach = stats.t.ppf(0.975, 7) * values.std(ddof=1) / np.sqrt(8)
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach))
    with pytest.raises(ShapeError, match="at least 2"):
        jackknife(0.0, [1.0])


def test_clouds_that_cannot_be_scored_are_refused():
    held, order = expected(cycle(12), 2), np.arange(12)[None]
    with pytest.raises(ShapeError, match="expected 12 rows, one an item, got 11"):
        cloud_scores(np.ones((11, 3)), held, order)
    with pytest.raises(ShapeError, match="span 0 dimensions, the prediction 2"):
        cloud_scores(np.ones((12, 3)), held, order)
    with pytest.raises(ShapeError, match="span 1 dimensions"):
        cloud_scores(np.arange(12.0)[:, None], held, order)
