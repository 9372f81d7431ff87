"""Words are compared by spelling, frequency and tokens as by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.checks import DataError
from geometry.nuisances import NAMES, edit_distance, nuisance_matrices, shared_end, shared_start

words = st.text("abc", max_size=6)


@given(a=words, b=words, c=words)
def test_edit_distance_is_a_metric(a, b, c):
    assert (edit_distance(a, b) == 0) is (a == b)
    assert edit_distance(a, b) == edit_distance(b, a) <= max(len(a), len(b))
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


def test_edit_distance_of_the_textbook():
    assert edit_distance("kitten", "sitting") == 3 and edit_distance("", "abc") == 3


def test_starts_and_ends():
    assert shared_start("Tuesday", "Thursday") == 1 and shared_end("Tuesday", "Thursday") == 4
    assert shared_start("may", "maybe") == 3 and shared_start("", "a") == 0


def test_every_nuisance_by_hand():
    found = nuisance_matrices(["May", "june", "Junes"], counts=[1, 10, 100], tokens=[[1], [2], [2, 3]])
    pairs = {name: matrix[np.triu_indices(3, 1)].tolist() for name, matrix in found.matrices.items()}
    assert set(pairs) | set(found.left_out) == set(NAMES)
    assert pairs["length"] == [1, 2, 1] and pairs["capitals"] == [1, 0, 1]
    assert pairs["alphabet"] == [1, 1, 2]
    np.testing.assert_allclose(pairs["frequency"], np.log([10, 100, 10]))
    np.testing.assert_allclose(pairs["frequency sum"], np.log([10, 100, 1000]))
    assert pairs["token count"] == [0, 1, 1] and pairs["tokens"] == [0, 0, 0.5]
    assert found.left_out == ("start", "end")


def test_matrices_are_symmetric_and_what_does_not_apply_is_gone():
    found = nuisance_matrices(["a", "bb", "ccc"], without=["alphabet", "length"]).matrices
    assert "alphabet" not in found and "length" not in found
    for matrix in found.values():
        np.testing.assert_array_equal(matrix, matrix.T)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"words": ["a", "b"]}, "at least 3"),
        ({"words": ["a", "b", "a"]}, "all different"),
        ({"words": ["a", "b", "c"], "counts": [1, 2]}, "counts: expected one for each"),
        ({"words": ["a", "b", "c"], "tokens": [[1]]}, "tokens: expected one for each"),
        ({"words": ["a", "b", "c"], "counts": [1, 0, 2]}, "'b' does not occur"),
        ({"words": ["a", "b", "c"], "without": ["colour"]}, "unknown nuisance 'colour'"),
    ],
)
def test_words_that_cannot_be_compared_are_refused(given, match):
    with pytest.raises(DataError, match=match):
        nuisance_matrices(**given)
