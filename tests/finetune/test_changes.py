import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.changes import KINDS, changes_by_kind, kind, marked, pieces
from geometry.checks import DataError


@given(st.text(), st.text())
def test_nothing_is_lost_in_pieces_or_stretches(text, other):
    assert "".join(pieces(text)) == text
    assert "".join(part for part, _ in marked(text, other)) == text


@given(st.text())
def test_a_text_has_nothing_new_against_itself(text):
    assert not any(new and part.strip() for part, new in marked(text, text))
    same = changes_by_kind([text], [text], [text])
    assert all(one["gone"] == one["new"] == 0 for one in same.values())


def test_what_is_new_is_marked_where_it_stands():
    assert marked("Thou art old.", "You are old.") == [("Thou art", True), (" old.", False)]
    assert marked("old old", "old") == [("old ", False), ("old", True)]
    assert marked("", "x") == []


def test_counts_by_kind_are_those_of_a_hand():
    found = changes_by_kind(
        ["Thou didst see 5 considerable ships, Peter!"],
        ["You saw 4 big ships, Anna."],
        ["Thou sawest 5 ships, Anna."],
    )
    assert found["pronouns"] == {"source": 1, "gone": 1, "new": 1, "as_reference": 1}
    assert found["numbers"] == {"source": 1, "gone": 1, "new": 1, "as_reference": 1}
    assert found["names"] == {"source": 1, "gone": 1, "new": 1, "as_reference": 0}
    assert found["long content words"] == {"source": 0, "gone": 0, "new": 1, "as_reference": 0}
    assert found["punctuation"] == {"source": 2, "gone": 1, "new": 1, "as_reference": 0}
    assert found["short content words"] == {"source": 3, "gone": 2, "new": 2, "as_reference": 0}
    assert set(found) == set(KINDS)


def test_a_new_word_agrees_only_as_often_as_the_reference_has_it():
    found = changes_by_kind(["thou thou thou"], ["you"], ["thou thou"])
    assert found["pronouns"] == {"source": 1, "gone": 1, "new": 3, "as_reference": 2}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("UNTO", "prepositions"),
        ("doth", "auxiliaries"),
        ("3rd", "numbers"),
        ("—", "punctuation"),
        ("not", "negation"),
    ],
)
def test_kinds(word, expected):
    assert kind(word) == expected
    assert kind("Anna", name=True) == "names"


def test_texts_must_be_aligned():
    with pytest.raises(DataError, match="align them"):
        changes_by_kind(["a"], ["a", "b"], ["a"])
