"""A planted turn, bend and growth of a concept's plane are found, each by its own number and no other."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from geometry.checks import ShapeError
from geometry.layouts import cycle
from geometry.plane_change import plane_change, plane_of

CLOCK = cycle(12).targets


def cloud(rng, d=40):
    """A circle in d dimensions, a little noise, and far from the origin."""
    plane = np.linalg.qr(rng.standard_normal((d, 2)))[0]
    return CLOCK @ plane.T + 0.01 * rng.standard_normal((12, d)) + 5.0, plane


def test_equal_clouds_have_not_changed_at_all():
    points, _ = cloud(np.random.default_rng(0))
    found = plane_change(points, points, 2)
    assert found.turn == pytest.approx(0, abs=1e-6)
    assert found.bend == pytest.approx(0, abs=1e-12)
    assert found.growth == 0


@pytest.mark.parametrize("degrees", [1, 20, 75])
def test_a_planted_turn_is_found_with_its_angle_and_bends_nothing(degrees):
    rng = np.random.default_rng(1)
    points, plane = cloud(rng)
    out = rng.standard_normal(40)
    out -= plane @ (plane.T @ out)
    out /= np.linalg.norm(out)
    angle, into = np.deg2rad(degrees), plane[:, 0]
    turned = points @ (
        np.eye(40)
        + (np.cos(angle) - 1) * (np.outer(into, into) + np.outer(out, out))
        + np.sin(angle) * (np.outer(into, out) - np.outer(out, into))
    )
    found = plane_change(points, turned, 2)
    assert found.turn == pytest.approx(degrees, abs=1.0)  # the noise tilts the plane that turns
    assert found.bend == pytest.approx(0, abs=1e-9) and found.growth == pytest.approx(0, abs=1e-9)
    oracle = subspace_angles(plane_of(points, 2), plane_of(turned, 2))[0]
    assert found.turn == pytest.approx(np.rad2deg(oracle), abs=1e-4)


def test_growth_and_a_shift_turn_and_bend_nothing():
    points, _ = cloud(np.random.default_rng(2))
    found = plane_change(points, 3 * points - 7, 2)
    assert found.growth == pytest.approx(np.log2(3))
    assert found.turn == pytest.approx(0, abs=1e-5) and found.bend == pytest.approx(0, abs=1e-9)


def test_a_calendar_pressed_flat_is_bent_and_not_turned():
    points, plane = cloud(np.random.default_rng(3))
    about = points - points.mean(axis=0)
    flat = points - 0.5 * np.outer(about @ plane[:, 0], plane[:, 0])
    found = plane_change(points, flat, 2)
    # a circle and an ellipse of axes 1 and 1/2: R^2 = (1 + 1/2)^2 / (2 (1 + 1/4)) = .9
    assert found.bend == pytest.approx(0.1, abs=0.01) and found.turn < 2


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ShapeError, match="like before"):
        plane_change(CLOCK, CLOCK[:6], 2)
    with pytest.raises(ShapeError, match="fewer than 2 dimensions"):
        plane_of(np.outer(np.arange(5.0), [1.0, 2.0]), 2)
