import numpy as np
import pytest

from finetune.score import bootstrap_draws
from finetune.style import StyleClassifier
from geometry.checks import DataError

NOUNS = ("bread", "garden", "river", "market", "letter", "horse", "winter", "school", "window", "doctor")
VERBS = ("found", "carried", "watched", "kept", "painted", "lost", "wanted", "opened")


def corpus(*, mark):
    """Plain sentences, their styled twins, and documents that keep to one noun each."""
    neutral, styled, groups = [], [], []
    for document, noun in enumerate(NOUNS):
        for verb in VERBS:
            neutral.append(f"They {verb} the {noun} before the others came.")
            styled.append(mark(neutral[-1]))
            groups.append(f"d{document}")
    return neutral, styled, groups


def ornate(text):
    return text.replace("before", "ere").replace("the others", "the rest of the company")


@pytest.fixture(scope="module")
def judge():
    return StyleClassifier.fit(*corpus(mark=ornate), rng=np.random.default_rng(0))


def test_a_planted_style_is_told_from_plain_text(judge):
    assert judge.ceiling.value == judge.accuracy.value == 1
    assert judge.floor.value == 0
    unseen = ["We left ere it rained.", "We left before it rained."]
    assert judge.probability(unseen)[0] > 0.5 > judge.probability(unseen)[1]


def test_text_without_a_style_is_left_to_chance():
    """Identical texts on both sides: held out, the judge is right half of the time."""
    nothing = StyleClassifier.fit(*corpus(mark=lambda text: text), rng=np.random.default_rng(0))
    assert nothing.accuracy.value == pytest.approx(0.5, abs=0.02)


def test_documents_learnt_by_heart_do_not_raise_the_ceiling():
    """Each document has a plain and a styled word of its own: held out whole, it cannot be known."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), 9)) for _ in range(40)]
    pairs = [(words[d], words[d + 20], f"d{d}") for d in range(20) for _ in range(6)]
    neutral, styled, documents = zip(*pairs, strict=True)
    honest = StyleClassifier.fit(neutral, styled, documents, rng=rng)
    assert honest.accuracy.value < 0.65
    leaking = StyleClassifier.fit(neutral, styled, [str(i) for i in range(120)], rng=rng)
    assert leaking.accuracy.value == 1


def test_the_rate_lies_between_floor_and_ceiling(judge):
    neutral, styled, _ = corpus(mark=ornate)
    draws = bootstrap_draws(len(neutral), np.random.default_rng(0))
    mixed = [s if i % 4 else n for i, (n, s) in enumerate(zip(neutral, styled, strict=True))]
    rate = judge.rate(mixed, draws)
    assert rate.value == pytest.approx(0.75)
    assert rate.low < 0.75 < rate.high
    assert judge.rate(neutral, draws).value == 0
    assert judge.rate(styled, draws).value == 1


def test_an_empty_text_is_not_styled(judge):
    assert judge.probability(["", " \n"]).tolist() == [0, 0]
    assert judge.probability([]).shape == (0,)


def test_the_judge_is_deterministic(judge):
    again = StyleClassifier.fit(*corpus(mark=ornate), rng=np.random.default_rng(0))
    texts = ["Ere long they came.", "They came soon."]
    assert np.array_equal(again.probability(texts), judge.probability(texts))


@pytest.mark.parametrize(
    ("neutral", "styled", "groups", "message"),
    [
        (["a"], ["b", "c"], ["d", "e"], "give pairs"),
        (["a", "b"], ["c", "d"], ["x", "x"], "two documents"),
        (["a", " "], ["c", "d"], ["x", "y"], "empty text"),
    ],
)
def test_what_cannot_teach_is_refused(neutral, styled, groups, message):
    with pytest.raises(DataError, match=message):
        StyleClassifier.fit(neutral, styled, groups, rng=np.random.default_rng(0))


def test_draws_for_other_texts_are_refused(judge):
    with pytest.raises(DataError, match="same items"):
        judge.rate(["a"], bootstrap_draws(2, np.random.default_rng(0)))
