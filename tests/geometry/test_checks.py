"""The door: legal rows come through unchanged in value, everything else is one line of advice."""

import subprocess
import sys

import numpy as np
import pytest

from geometry import checks


def test_rows_keep_their_values_in_float64():
    given = np.arange(6, dtype=np.float32).reshape(3, 2)
    taken = checks.rows(given, "x")
    assert taken.dtype == np.float64
    np.testing.assert_array_equal(taken, given)


def test_float64_rows_are_not_copied():
    given = np.ones((3, 2))
    assert checks.rows(given, "x") is given


def test_no_rows_are_legal_rows():
    assert checks.rows(np.empty((0, 5)), "x", 5).shape == (0, 5)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
def test_rows_are_two_dimensional(shape):
    with pytest.raises(checks.ShapeError, match=r"h: expected \(n, d\), got"):
        checks.rows(np.zeros(shape), "h")


def test_a_wrong_width_is_named_with_the_expected_one():
    # six rows of eight are not twelve rows of four, although the numbers would fit
    with pytest.raises(checks.ShapeError, match=r"h: expected \(n, 4\), got \(6, 8\)"):
        checks.rows(np.zeros((6, 8)), "h", 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_are_finite(bad):
    with pytest.raises(checks.ShapeError, match="h: holds NaN or infinity"):
        checks.rows([[0.0, bad]], "h")


@pytest.mark.parametrize("kind", ["ShapeError", "LayerError", "AdapterError", "ModelError", "DataError"])
def test_every_error_of_a_user_is_an_input_error_and_a_value_error(kind):
    error = getattr(checks, kind)
    assert issubclass(error, checks.InputError)
    assert issubclass(error, ValueError)


def test_the_maths_half_loads_neither_torch_nor_scipy():
    heavy = "{name.split('.')[0] for name in sys.modules} & {'torch', 'transformers', 'scipy', 'sklearn'}"
    code = f"import sys, geometry; assert geometry.principal_angles; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("bad", [[["a", "b"]], [[1.0, 2.0], [3.0]], object()])
def test_what_is_no_array_of_numbers_is_refused(bad):
    with pytest.raises(checks.ShapeError, match="expected an array of numbers"):
        checks.rows(bad, "activations")
