import numpy as np
import pytest

from finetune.filters import REASONS, Limits, faults, untranslated
from finetune.round_trips import Trip

SAID = "Anna gave him 3 letters in London before the summer came to an end."


@pytest.mark.parametrize(
    ("trip", "fault"),
    [
        (Trip("", ""), "empty"),
        (Trip("...", "..."), "empty"),
        (Trip("x", SAID), "copy"),
        (Trip("x", SAID.replace("end.", "end")), "copy"),
        (Trip("x", "Anna gave 3."), "length"),
        (Trip("x", f"In London {SAID} And then {SAID} And so on it went for a long time."), "length"),
        (Trip("x", "Anna handed to him 4 notes, in London, before it was autumn again."), "numbers changed"),
        (Trip("x", "Anna handed to him 3 notes, in Paris, before it was autumn again."), "names changed"),
        (
            Trip("cartas notas", "Anna handed to him 3 notas, in London, before it was autumn."),
            "untranslated",
        ),
        (Trip("cartas", "Anna handed to him 3 notes, in London, before it was autumn."), None),
    ],
)
def test_each_fault_is_called_by_its_name(trip, fault):
    assert faults([SAID], [trip], Limits()) == [fault]


def test_the_first_reason_counts():
    assert faults([SAID], [Trip("notas", "Peter: 4 notas")], Limits()) == ["length"]
    assert faults([SAID], [Trip("notas", "Peter: 4 notas")], Limits(shortest=0)) == ["numbers changed"]


def test_drift_is_asked_of_what_is_left_and_nan_is_drift():
    texts, trips = [SAID] * 4, [Trip("x", "Anna handed him 3 notes in London before it was autumn.")] * 4
    near = np.array([0.9, 0.8, 0.1, np.nan])
    assert faults(texts, trips, Limits(similarity=0.8), similarities=near) == [None, None, "drift", "drift"]
    assert faults(texts, trips, Limits()) == [None] * 4


def test_some_names_may_be_lost_where_it_is_allowed():
    trip = [Trip("x", "Anna handed him 3 notes before it was autumn in the town.")]
    said = ["So Peter gave him 3 letters with Anna, before the summer came to an end in Rome."]
    assert faults(said, trip, Limits()) == ["names changed"]
    assert faults(said, trip, Limits(names_lost=0.7)) == [None]


def test_words_spelt_alike_in_both_languages_are_english_if_the_corpus_knows_them():
    trip = Trip("el animal duerme", "the animal sleeps, no?")
    assert untranslated("The creature sleeps.", trip, {"animal"}) == set()
    assert untranslated("The creature sleeps.", trip, set()) == {"animal"}


def test_every_reason_can_be_given():
    assert set(REASONS) == {
        "empty", "copy", "length", "numbers changed", "names changed", "untranslated", "drift",
    }  # fmt: skip
