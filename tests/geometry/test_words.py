import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.checks import DataError
from geometry.words import cased, closed_up, cut, folded, normal


def slow_words(text, fold):
    """The obvious way, a character at a time."""
    words = [""]
    for character in text:
        if character.isalnum() or unicodedata.category(character)[0] == "M":
            lower = character.lower()
            words[-1] += lower if fold and len(lower) == 1 else character
        else:
            words.append("")
    return [word for word in words if word]


def slow_join(words, phrases):
    """The longest phrase that begins here, from left to right."""
    out = []
    while words:
        fits = [p for p in phrases if words[: len(p)] == p]
        longest = max(fits, key=len, default=words[:1])
        out.append(" ".join(longest))
        words = words[len(longest) :]
    return out


def names(words):
    return [words.names[i] for i in words.ids]


TEXT = st.text(st.sampled_from("abAB 9-'é̱ß中Σςİ\u0e31\U0001d400\ud800\n_"), max_size=60)


@settings(deadline=None, max_examples=200)
@given(st.lists(TEXT, max_size=5))
def test_words_are_runs_of_letters_digits_and_marks(texts):
    for letters, fold in ((cased, False), (folded, True)):
        found = cut(texts, letters)
        expected = [slow_words(text, fold) for text in texts]
        assert names(found) == [word for words in expected for word in words]
        assert found.lengths.tolist() == [len(words) for words in expected]
        assert len(set(found.names)) == len(found.names)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=12), max_size=4),
    st.lists(st.lists(st.sampled_from("abc"), min_size=2, max_size=4), max_size=4),
)
def test_phrases_join_by_longest_match_inside_a_document(documents, phrases):
    found = cut([" ".join(d) for d in documents], cased, [" ".join(p) for p in phrases])
    expected = [slow_join(d, phrases) for d in documents]
    assert names(found) == [word for words in expected for word in words]
    assert found.lengths.tolist() == [len(words) for words in expected]


def test_many_words_keep_their_numbers():
    """Far beyond the first size of every table."""
    text = [f"w{i} w{i // 2}" for i in range(30_000)]
    found = cut([" ".join(text), "w3 new"], cased)
    assert names(found) == [*" ".join(text).split(), "w3", "new"]
    assert len(found.names) == 30_001


def test_case_is_kept_or_folded():
    assert cut(["May may MAY"], cased).frequencies().tolist() == [1, 1, 1]
    assert cut(["May may MAY"], folded).frequencies().tolist() == [3]


def test_a_phrase_is_folded_with_the_text():
    assert names(cut(["in new-york now"], folded, ["New York"])) == ["in", "new york", "now"]


def test_a_phrase_needs_two_words():
    with pytest.raises(DataError, match="'York!': has fewer than two words"):
        cut(["York"], cased, ["York!"])


def test_words_without_a_number_keep_a_place_or_are_closed_up():
    words = cut(["a b", "b", "b a"], cased)
    ids = words.numbered({"a": 0})
    assert ids.tolist() == [0, -1, -1, -1, 0]
    left, lengths = closed_up(ids, words.lengths)
    assert left.tolist() == [0, 0]
    assert lengths.tolist() == [1, 0, 1]


def test_nothing_gives_nothing():
    for texts in ([], ["", " -- "]):
        words = cut(texts, cased, ["a b"])
        assert (len(words.ids), words.names, words.lengths.tolist()) == (0, [], [0] * len(texts))
    assert normal("...", cased) == ""


def test_names_of_a_letter_beyond_the_first_plane():
    assert names(cut(["\U00010400x"], folded)) == ["\U00010428x"]
    assert np.array_equal(np.flatnonzero(cased()), np.flatnonzero(folded()))
