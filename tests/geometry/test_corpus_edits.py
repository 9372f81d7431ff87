"""Edits change the sentences that they name and no letter of any other."""

import numpy as np
import pytest

from geometry.checks import DataError, ShapeError
from geometry.corpus_edits import (
    Members,
    alone,
    anywhere,
    at_random,
    renamed,
    repeated,
    rewritten,
    rewritten_members,
    sentences,
    together,
    without,
)

MONTHS = Members(("May", "June", "July", "New Year"))
TEXTS = [
    "In May it rained.  In June\tand July, not! \n\nMaybe «June_3» or 5July?  Nothing here.",
    "No member. At all.\n",
    "",
    "May, May. New   Year and June!",
    "Ends without a stop, in July",
]


def test_sentences_put_together_are_the_text_letter_by_letter():
    rng = np.random.default_rng(0)
    noise = ["".join(rng.choice(list('aB .!?\n"”)’\t'), 200)) for _ in range(50)]
    for text in [*TEXTS, *noise]:
        assert "".join(sentences(text)) == text
        assert all(sentences(text))


def test_members_are_whole_words_and_the_longer_of_two_wins():
    found = Members(("May", "May Day", "day")).found("May  Day, Mayday May_x xMay day.")
    assert found == (1, 0, 2)  # an underscore separates, as in geometry.words


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda sentence, found: sentence,
        without(lambda found: False),
        renamed(MONTHS, [0, 1, 2, 3], together),
        repeated(lambda found: 1.0, np.random.default_rng(0)),
        at_random(without(anywhere), 0.0, np.random.default_rng(0)),
    ],
)
@pytest.mark.parametrize("engine", [rewritten, rewritten_members])
def test_an_edit_that_changes_nothing_changes_nothing_bit_for_bit(engine, rewrite):
    texts = [text.replace("New   Year", "New Year") for text in TEXTS]
    assert list(engine(texts, MONTHS, rewrite)) == texts


def test_both_engines_agree_where_sentences_without_members_stay():
    for rewrite in (without(together), without(alone), renamed(MONTHS, [1, 2, 3, 0], anywhere)):
        assert list(rewritten(TEXTS, MONTHS, rewrite)) == list(rewritten_members(TEXTS, MONTHS, rewrite))


def test_deleting_takes_the_named_sentences_and_their_white_space():
    found = list(rewritten_members(TEXTS, MONTHS, without(together)))
    assert found[0] == "In May it rained.  Maybe «June_3» or 5July?  Nothing here."
    assert found[1:3] == TEXTS[1:3]
    assert found[3] == "May, May. "


def test_renaming_there_and_back_is_the_text_and_touches_only_what_it_names():
    order = [2, 0, 1, 3]
    back = np.argsort(order).tolist()
    once = list(rewritten_members(TEXTS, MONTHS, renamed(MONTHS, order, anywhere)))
    assert once != TEXTS
    twice = list(rewritten_members(once, MONTHS, renamed(MONTHS, back, anywhere)))
    assert twice == [text.replace("New   Year", "New Year") for text in TEXTS]
    company = list(rewritten_members(TEXTS, MONTHS, renamed(MONTHS, order, together)))
    assert company[0].startswith("In May it rained.  In May\tand June, not!")


def test_together_alone_and_neither_part_all_sentences():
    for found in [(), (1,), (1, 1), (1, 2), (0, 1, 2)]:
        assert together(found) + alone(found) + (not anywhere(found)) == 1


def test_repeating_meets_its_mean_and_separates_copies():
    rng = np.random.default_rng(0)
    rewrite = repeated(lambda found: 2.3 if found else 1.0, rng)
    copies = [rewrite("May. ", (0,)).count("May") for _ in range(4000)]
    assert set(copies) == {2, 3}
    assert abs(np.mean(copies) - 2.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)
    assert repeated(lambda found: 2.0, rng)("In July", (2,)) == "In July In July"
    assert repeated(lambda found: 0.0, rng)("In July", (2,)) == ""


def test_a_share_is_met():
    rng = np.random.default_rng(1)
    rewrite = at_random(without(anywhere), 0.25, rng)
    gone = np.mean([rewrite("May. ", (0,)) == "" for _ in range(4000)])
    assert abs(gone - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)


def test_what_cannot_be_done_is_refused():
    with pytest.raises(DataError, match="distinct"):
        Members(("May", "May"))
    with pytest.raises(DataError, match="no letter"):
        Members(("May", "--"))
    with pytest.raises(ShapeError, match="each of 0 to 3 once"):
        renamed(MONTHS, [0, 0, 1, 2], anywhere)
    with pytest.raises(ShapeError, match="probability"):
        at_random(without(anywhere), 1.5, np.random.default_rng(0))
