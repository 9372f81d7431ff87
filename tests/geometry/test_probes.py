"""Probes find planted places on folds that they did not see, and nothing in noise."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from geometry.checks import ShapeError
from geometry.lattice import exponential, modes, probe_error
from geometry.layouts import EARTH_KM, cycle, line, sphere
from geometry.probes import (
    PENALTIES,
    angle_error,
    blocked_folds,
    errors_by_rank,
    haversine_error,
    labelled_folds,
    proximity_error,
    random_folds,
    ridge_probe,
)


def embedded(coordinates, d, rng, noise=0.0):
    basis = np.linalg.qr(rng.standard_normal((d, coordinates.shape[1])))[0]
    return coordinates @ basis.T + 5 + noise * rng.standard_normal((len(coordinates), d))


def nested_ridge(points, targets, folds):
    """Slow obvious reference with scikit-learn."""
    predicted = np.empty_like(targets)

    def fitted(rows, penalty):
        x = points[rows]
        scale = np.sum((x - x.mean(axis=0)) ** 2) / np.linalg.matrix_rank(x - x.mean(axis=0))
        return Ridge(alpha=penalty * scale, solver="svd").fit(x, targets[rows])

    def loss(penalty, train):
        total = 0.0
        for held in np.unique(folds[train]):
            probe = fitted(train & (folds != held), penalty)
            guess = probe.predict(points[folds == held]).reshape(-1, targets.shape[1])
            total += np.sum((guess - targets[folds == held]) ** 2)
        return total

    for out in np.unique(folds):
        train, test = folds != out, folds == out
        best = min(reversed(PENALTIES), key=lambda penalty, train=train: loss(penalty, train))
        predicted[test] = fitted(train, best).predict(points[test]).reshape(-1, targets.shape[1])
    return predicted


def test_the_probe_is_nested_ridge_regression():
    rng = np.random.default_rng(0)
    targets = cycle(24).targets
    points = embedded(targets, 15, rng, noise=0.4)
    folds = random_folds(24, 4, rng)
    np.testing.assert_allclose(
        ridge_probe(points, targets, folds).predicted, nested_ridge(points, targets, folds), atol=1e-6
    )


def test_planted_places_are_read_and_noise_is_not():
    rng = np.random.default_rng(1)
    globe = sphere(np.column_stack([rng.uniform(-60, 60, 80), rng.uniform(-180, 180, 80)]))
    folds = random_folds(80, 8, rng)
    good = ridge_probe(embedded(globe.targets, 200, rng, noise=0.02), globe.targets, folds)
    assert np.all(good.r2 > 0.9) and good.errors.shape == (4,)
    assert haversine_error(good.predicted, globe.targets).mean() < 1000
    assert proximity_error(good.predicted, globe.targets).mean() < 0.02
    bad = ridge_probe(rng.standard_normal((80, 200)), globe.targets, folds)
    assert bad.errors[-1] > 0.85
    assert proximity_error(bad.predicted, globe.targets).mean() > 0.3


def test_test_items_do_not_reach_the_fit():
    """Whatever happens to the points of one fold, the predictions of that fold alone change."""
    rng = np.random.default_rng(2)
    points, targets, folds = rng.standard_normal((30, 6)), line(30).targets, blocked_folds(30, 5)
    moved = np.where(folds[:, None] == 2, points + 100, points)
    targets_moved = np.where(folds[:, None] == 2, 9.0, targets)
    before = ridge_probe(points, targets, folds).predicted[folds == 2]
    np.testing.assert_allclose(ridge_probe(points, targets_moved, folds).predicted[folds == 2], before)
    after = ridge_probe(moved, targets, folds).predicted[folds == 2]
    assert np.ptp(after - before) < 1e-6 < np.abs(after - before).min()  # one linear probe for all of them


def test_blocks_are_harder_than_random_folds():
    rng = np.random.default_rng(3)
    layout = line(60)
    points = embedded(modes(exponential(6)(layout.distance)).coordinates, 100, rng, noise=0.05)
    easy = ridge_probe(points, layout.targets, random_folds(60, 6, rng)).errors[-1]
    hard = ridge_probe(points, layout.targets, blocked_folds(60, 6)).errors[-1]
    assert hard > 1.5 * easy


def test_error_by_rank_follows_the_prediction_of_the_kernel():
    layout = line(321)
    predicted = modes(exponential(0.4 * 321)(layout.distance))
    points = embedded(predicted.coordinates, 321, np.random.default_rng(4))
    found = errors_by_rank(
        points, layout.targets, random_folds(321, 10, np.random.default_rng(5)), [0, 1, 3, 5]
    )
    np.testing.assert_allclose(found, probe_error(predicted, layout.targets, [0, 1, 3, 5]), rtol=0.15)


def test_error_by_rank_is_least_squares_on_training_components():
    rng = np.random.default_rng(6)
    points, targets, folds = rng.standard_normal((20, 8)), line(20).targets, random_folds(20, 4, rng)
    wrong = spread = 0.0
    for out in range(4):
        train, test = folds != out, folds == out
        mean, known = points[train].mean(axis=0), targets[train].mean(axis=0)
        axes = np.linalg.svd(points[train] - mean)[2][:3].T
        beta = np.linalg.lstsq((points[train] - mean) @ axes, targets[train] - known)[0]
        wrong += np.sum((targets[test] - known - (points[test] - mean) @ axes @ beta) ** 2)
        spread += np.sum((targets[test] - known) ** 2)
    assert errors_by_rank(points, targets, folds, [3])[0] == pytest.approx(wrong / spread)


def test_noise_has_a_double_descent_peak_at_the_number_of_training_rows():
    rng = np.random.default_rng(7)
    layout = line(60)
    points = embedded(layout.targets, 40, rng, noise=0.3)
    found = errors_by_rank(points, layout.targets, random_folds(60, 3, rng), [2, 10, 39])
    assert found[2] > 2 > found[1]


def test_errors_of_angles_and_places():
    half = angle_error([[1.0, 0.0], [-1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(half, [0, 0.5])
    rng = np.random.default_rng(8)
    directions = rng.standard_normal((4000, 3))
    places = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    chance = haversine_error(rng.standard_normal((4000, 3)), places).mean()
    assert chance == pytest.approx(EARTH_KM * np.pi / 2, rel=0.02)
    assert proximity_error(rng.standard_normal((300, 3)), places[:300]).mean() == pytest.approx(0.5, abs=0.05)


def test_folds_hold_every_item_once():
    rng = np.random.default_rng(9)
    assert np.bincount(random_folds(10, 4, rng)).tolist() == [3, 3, 2, 2]
    assert np.all(np.diff(blocked_folds(10, 4)) >= 0) and np.bincount(blocked_folds(10, 4)).min() >= 2
    assert labelled_folds(["b", "a", "c", "a"]).tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: random_folds(10, 2, np.random.default_rng(0)),
        lambda: blocked_folds(4, 5),
        lambda: labelled_folds(["a", "b"]),
        lambda: ridge_probe(np.eye(4), np.arange(4.0)[:, None], [0, 0, 1, 1]),
    ],
)
def test_too_few_folds_are_refused(make):
    with pytest.raises(ShapeError, match="expected 3 to"):
        make()


def test_probes_that_cannot_be_are_refused():
    folds = blocked_folds(6, 3)
    with pytest.raises(ShapeError, match="one row an item"):
        ridge_probe(np.eye(5), np.eye(6), folds)
    with pytest.raises(ShapeError, match="the same for all items"):
        ridge_probe(np.eye(6), np.ones((6, 1)), folds)
    with pytest.raises(ShapeError, match="0 or more"):
        errors_by_rank(np.eye(6), np.eye(6), folds, [-1])
    with pytest.raises(ShapeError, match="no direction"):
        haversine_error([[0.0, 0, 0]], [[1.0, 0, 0]])
    with pytest.raises(ShapeError, match="at least 2 items"):
        proximity_error([[1.0]], [[1.0]])
