"""Linear probes for places on a layout, with nothing of the test items in the fit.

Ridge regression with nested cross-validation: centring, principal components and penalty are all chosen on
training folds. Folds are given by the caller, so that neighbours can be kept together (:func:`blocked_folds`,
or one fold a region): with random folds, the probe of a smooth curve only has to interpolate. That a probe works
is no evidence of more than co-occurrence: word embeddings reach R^2 of .7 for cities (Barenholtz 2026).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows
from geometry.layouts import great_circle
from geometry.mode_match import principal_coordinates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

PENALTIES = tuple(10.0**power for power in range(-8, 3))
"""Ridge penalties tried, in units of the mean squared singular value of the training rows."""


@dataclass(frozen=True)
class Probe:
    """What a probe read off items that it was not fitted on.

    Attributes:
        predicted: targets as predicted, each by a probe that did not see the item, shape (n, t).
        errors: epsilon^2, squared error over variance about the training mean, for each target and over all,
            shape (t + 1,): 0 is perfect, 1 is no better than the mean.
    """

    predicted: NDArray[np.float64]
    errors: NDArray[np.float64]

    @property
    def r2(self) -> NDArray[np.float64]:
        """1 - epsilon^2, for each target and over all, shape (t + 1,); may be below 0."""
        return 1 - self.errors


def random_folds(n: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Put items into folds of nearly equal size at random.

    Args:
        n: number of items.
        count: number of folds, 3 to n: one is tested, one chooses the penalty, one is fitted.
        rng: source of chance.

    Returns:
        Fold of each item, 0 to count - 1, shape (n,).

    Raises:
        ShapeError: fewer than 3 folds, or more than items.

    Examples:
        >>> sorted(random_folds(6, 3, np.random.default_rng(0)).tolist())
        [0, 0, 1, 1, 2, 2]
    """
    _three_to(count, n)
    return rng.permutation(n) % count


def blocked_folds(n: int, count: int) -> NDArray[np.int64]:
    """Put neighbours in latent order into one fold: the test items are a stretch nobody has seen.

    Args:
        n: number of items.
        count: number of folds, 3 to n.

    Returns:
        Fold of each item, rising, shape (n,).

    Raises:
        ShapeError: fewer than 3 folds, or more than items.

    Examples:
        >>> blocked_folds(7, 3)
        array([0, 0, 0, 1, 1, 2, 2])
    """
    _three_to(count, n)
    return np.arange(n) * count // n


def labelled_folds(labels: Sequence[str]) -> NDArray[np.int64]:
    """One fold for each label, such as a continent: leave one region out.

    Args:
        labels: of the items, at least 3 different ones.

    Returns:
        Fold of each item, in alphabetical order of labels, shape (n,).

    Raises:
        ShapeError: fewer than 3 labels.

    Examples:
        >>> labelled_folds(["asia", "africa", "europe", "asia"])
        array([1, 0, 2, 1])
    """
    found, folds = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    _three_to(len(found), len(folds))
    return folds


def ridge_probe(points: ArrayLike, targets: ArrayLike, folds: ArrayLike) -> Probe:
    """Read targets off points by ridge regression, nested in folds.

    For each fold, the penalty that does best when each of the other folds is left out in turn is fitted on all
    of them.

    Args:
        points: one row an item, shape (n, d).
        targets: such as :attr:`geometry.layouts.Layout.targets`, shape (n, t).
        folds: fold of each item, integers, at least 3 different ones, shape (n,).

    Returns:
        Predictions and their errors. By chance epsilon^2 is 1 or slightly above; measure it by shuffling the
        targets.

    Raises:
        ShapeError: lengths differ, fewer than 3 folds, or targets that do not vary.

    Examples:
        >>> x = np.linspace(-1, 1, 30)[:, None]
        >>> bool(ridge_probe(np.hstack([x, x**2]), x, blocked_folds(30, 5)).errors[-1] < 1e-10)
        True
    """
    points, targets, folds = _checked(points, targets, folds)
    means = np.empty_like(targets)
    predicted = np.empty_like(targets)
    for out in np.unique(folds):
        test = folds == out
        inner = folds[~test]
        losses = np.zeros(len(PENALTIES))
        for held in np.unique(inner):
            x, y = points[~test], targets[~test]
            guesses = _ridge(x[inner != held], y[inner != held], x[inner == held])
            losses += np.sum((guesses - y[inner == held]) ** 2, axis=(1, 2))
        # the larger penalty wins a tie
        best = len(PENALTIES) - 1 - int(np.argmin(losses[::-1]))
        predicted[test] = _ridge(points[~test], targets[~test], points[test])[best]
        means[test] = targets[~test].mean(axis=0)
    return Probe(predicted, _errors(predicted, targets, means))


def errors_by_rank(
    points: ArrayLike, targets: ArrayLike, folds: ArrayLike, ranks: Sequence[int]
) -> NDArray[np.float64]:
    """Held-out error of least squares on the top r principal components, for each r.

    Components are those of the training rows. Where r comes near their number the error of noisy points peaks
    (double descent); :func:`geometry.lattice.probe_error` is the same curve as a kernel predicts it.

    Args:
        points: one row an item, shape (n, d).
        targets: shape (n, t).
        folds: fold of each item, at least 3 different ones, shape (n,).
        ranks: numbers of components, each 0 or more; more than the training rows have mean all of them.

    Returns:
        epsilon^2 over all targets for each rank, shape (len(ranks),); 1 at rank 0.

    Raises:
        ShapeError: lengths differ, fewer than 3 folds, targets that do not vary, or a rank below 0.

    Examples:
        >>> x = np.linspace(-1, 1, 30)[:, None]
        >>> errors_by_rank(x, x, blocked_folds(30, 5), [0, 1]).round(9)
        array([1., 0.])
    """
    points, targets, folds = _checked(points, targets, folds)
    if min(ranks, default=0) < 0:
        raise ShapeError(f"ranks: expected 0 or more, got {min(ranks)}")
    predicted = np.empty((len(ranks), *targets.shape))
    means = np.empty_like(targets)
    for out in np.unique(folds):
        test = folds == out
        x, y = points[~test], targets[~test]
        means[test] = y.mean(axis=0)
        u, s, vt = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
        live = int(np.sum(s > 1e-10 * s[0]))
        parts = ((points[test] - x.mean(axis=0)) @ vt[:live].T / s[:live])[:, :, None] * (u.T[:live] @ y)
        sums = np.concatenate([np.zeros((int(test.sum()), 1, y.shape[1])), np.cumsum(parts, axis=1)], axis=1)
        predicted[:, test] = means[test] + sums[:, np.minimum(ranks, live)].transpose(1, 0, 2)
    return np.array([_errors(one, targets, means)[-1] for one in predicted])


def angle_error(predicted: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """Angles between predicted and true (cos, sin), in turns.

    Args:
        predicted: of a probe, shape (n, 2).
        targets: on the unit circle, shape (n, 2).

    Returns:
        0 to 1/2 for each item; mean 1/4 by chance. Times n it is in steps.

    Examples:
        >>> angle_error([[0.0, 2.0]], [[1.0, 0.0]])
        array([0.25])
    """
    one, other = (rows(side, "angles", 2) @ np.array([1, 1j]) for side in (predicted, targets))
    return np.abs(np.angle(one * np.conj(other))) / (2 * np.pi)


def haversine_error(predicted: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """Great-circle distance in km from the predicted to the true place.

    Args:
        predicted: of a probe, shape (n, 3); only its direction counts.
        targets: on the unit sphere, shape (n, 3).

    Returns:
        0 to 20,015 km for each item; mean 10,008 km for directions without relation.

    Raises:
        ShapeError: not (n, 3), or a predicted point at the origin, which has no direction.

    Examples:
        >>> from geometry.layouts import EARTH_KM
        >>> (haversine_error([[0.0, 0, 3]], [[1.0, 0, 0]]) / EARTH_KM).round(6)
        array([1.570796])
    """
    predicted, targets = rows(predicted, "predicted", 3), rows(targets, "targets", 3)
    length = np.linalg.norm(predicted, axis=1, keepdims=True)
    if not length.all():
        raise ShapeError(
            "predicted: a point at the centre of the globe has no direction; the probe said nothing"
        )
    return great_circle(predicted / length, targets)


def proximity_error(predicted: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """Share of the other items whose predictions lie nearer to an item than its own prediction does.

    Depends on ranks only, so that places in dense regions count like others (Gurnee and Tegmark 2024, arXiv
    2310.02207).

    Args:
        predicted: of a probe, shape (n, t), n >= 2.
        targets: true places, shape (n, t).

    Returns:
        0 (its own prediction is the nearest) to 1 for each item; mean 1/2 by chance.

    Raises:
        ShapeError: shapes differ, or fewer than 2 items.

    Examples:
        >>> proximity_error([[0.0], [3.0], [2.0]], [[0.0], [1.5], [3.0]])
        array([0. , 0.5, 0.5])
    """
    targets = rows(targets, "targets")
    predicted = rows(predicted, "predicted", targets.shape[1])
    if len(predicted) != len(targets) or len(targets) < 2:
        raise ShapeError(f"predicted: expected {targets.shape}, at least 2 items, got {predicted.shape}")
    apart = np.sum((targets[:, None] - predicted) ** 2, axis=2)
    return np.sum(apart < np.diag(apart)[:, None], axis=1) / (len(targets) - 1)


def _ridge(x: NDArray[np.float64], y: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    """Predictions for new rows at every penalty, shape (penalties, new, t); fitted on x, y and their means."""
    mean, known = x.mean(axis=0), y.mean(axis=0)
    u, s, vt = np.linalg.svd(x - mean, full_matrices=False)
    live = s > 1e-12 * s[0] if len(s) else s > 0
    u, s, vt = u[:, live], s[live], vt[live]
    penalties = np.array(PENALTIES) * (np.mean(s**2) if len(s) else 1.0)
    shrunk = s / (s**2 + penalties[:, None])
    return known + ((new - mean) @ vt.T * shrunk[:, None, :]) @ (u.T @ y)


def _errors(
    predicted: NDArray[np.float64], targets: NDArray[np.float64], means: NDArray[np.float64]
) -> NDArray[np.float64]:
    wrong, spread = (np.sum((side - targets) ** 2, axis=0) for side in (predicted, means))
    return np.append(wrong / spread, wrong.sum() / spread.sum())


def _checked(
    points: ArrayLike, targets: ArrayLike, folds: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    points, targets, folds = rows(points, "points"), rows(targets, "targets"), np.asarray(folds)
    if not len(points) == len(targets) == len(folds):
        raise ShapeError(
            f"probe: expected one row an item, got {len(points)} points, {len(targets)} targets, {len(folds)} folds"
        )
    _three_to(len(np.unique(folds)), len(folds))
    if np.any(np.ptp(targets, axis=0) == 0):
        raise ShapeError("targets: one of them is the same for all items; there is nothing to read out")
    # ridge and components do not change when rows are rotated, and n - 1 dimensions hold all of them
    return principal_coordinates(points), targets, folds


def _three_to(count: int, n: int) -> None:
    if not 3 <= count <= n:
        raise ShapeError(f"folds: expected 3 to {n} folds (test, choose, fit), got {count}")
