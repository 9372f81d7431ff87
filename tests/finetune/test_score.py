import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.score import bleu, bootstrap_draws, chrf, gain, numbers_kept, score_of_sums
from geometry.checks import DataError

REFERENCES = [
    "The aged gentleman made his way to the dwelling.",
    "Are you persuaded that showers shall fall?",
    "Copper is employed in wires, inasmuch as it carries electricity.",
    "She rose ere the orb of day and lit the vast black stove.",
]
COPIES = [
    "The old man walked to the house.",
    "Do you think it will rain?",
    "Copper is used in wires because it carries electricity.",
    "She got up before the sun and lit the big black stove.",
]
METRICS = (bleu, chrf)


@pytest.fixture
def draws():
    return bootstrap_draws(len(REFERENCES), np.random.default_rng(0), times=200)


@pytest.mark.parametrize("metric", METRICS)
def test_perfect_is_a_hundred_without_doubt(metric, draws):
    score = metric(REFERENCES, REFERENCES, draws)
    assert score.value == score.low == score.high == pytest.approx(100)
    assert score.items == pytest.approx([100] * 4)
    assert "version" in score.signature


@pytest.mark.parametrize("metric", METRICS)
def test_empty_outputs_are_nothing(metric, draws):
    score = metric([""] * 4, REFERENCES, draws)
    assert (score.value, score.low, score.high) == (0, 0, 0)
    one_lost = metric(["", *REFERENCES[1:]], REFERENCES, draws)
    assert one_lost.items[0] == 0
    assert 0 < one_lost.value < 100


@pytest.mark.parametrize("metric", METRICS)
def test_a_copy_scores_between_shuffled_and_perfect(metric, draws):
    copied = metric(COPIES, REFERENCES, draws)
    shuffled = metric(COPIES[1:] + COPIES[:1], REFERENCES, draws)
    assert shuffled.value < copied.value < 100
    assert copied.low <= copied.value <= copied.high


@pytest.mark.parametrize("metric", METRICS)
def test_word_order_counts(metric, draws):
    backwards = [" ".join(reversed(text.split())) for text in REFERENCES]
    assert metric(backwards, REFERENCES, draws).value < 90


def test_the_numbers_are_those_of_sacrebleu(draws):
    ours, theirs = bleu(COPIES, REFERENCES, draws), sacrebleu.corpus_bleu(COPIES, [REFERENCES])
    assert ours.value == pytest.approx(theirs.score, rel=1e-12)
    assert chrf(COPIES, REFERENCES, draws).value == sacrebleu.corpus_chrf(COPIES, [REFERENCES]).score
    sentence = sacrebleu.sentence_bleu(COPIES[2], [REFERENCES[2]], use_effective_order=True)
    assert ours.items[2] == pytest.approx(sentence.score)


def test_a_short_perfect_sentence_is_perfect():
    assert bleu(["So be it"], ["So be it"], np.zeros((1, 1), int)).items == pytest.approx([100])


@pytest.mark.parametrize("metric", METRICS)
def test_resampling_scores_the_resampled_texts(metric, draws):
    score = metric(COPIES, REFERENCES, draws)
    for draw, value in list(zip(draws, score.resampled, strict=True))[:5]:
        again = metric([COPIES[i] for i in draw], [REFERENCES[i] for i in draw], draws)
        assert again.value == pytest.approx(value, rel=1e-12)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Coin tosses of probability 0.4: about 95 % of the intervals hold 0.4."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        tosses = np.stack([(rng.random(60) < 0.4).astype(float), np.ones(60)], axis=1)
        score = score_of_sums("heads", tosses, lambda s: s[0] / s[1], bootstrap_draws(60, rng, times=200))
        held.append(score.low <= 0.4 <= score.high)
    assert 0.90 < np.mean(held) < 0.99


def test_a_paired_gain_is_surer_than_two_intervals(draws):
    copied, perfect = chrf(COPIES, REFERENCES, draws), chrf(REFERENCES, REFERENCES, draws)
    difference = gain(perfect, copied)
    assert difference.value == pytest.approx(perfect.value - copied.value)
    assert difference.sure
    assert not gain(copied, copied).sure
    assert (gain(copied, copied).low, gain(copied, copied).high) == (0, 0)
    assert gain(copied, perfect).high < 0


def test_scores_that_do_not_belong_together_are_refused(draws):
    other = bootstrap_draws(4, np.random.default_rng(1), times=200)
    with pytest.raises(DataError, match="same draws"):
        gain(chrf(COPIES, REFERENCES, draws), chrf(COPIES, REFERENCES, other))
    with pytest.raises(DataError, match="cannot be compared"):
        gain(chrf(COPIES, REFERENCES, draws), bleu(COPIES, REFERENCES, draws))


@pytest.mark.parametrize("metric", [bleu, chrf, numbers_kept])
def test_items_that_do_not_match_are_refused(metric, draws):
    with pytest.raises(DataError, match="same items"):
        metric(COPIES[:3], REFERENCES, draws)
    with pytest.raises(DataError, match="same items"):
        metric(COPIES[:3], REFERENCES[:3], draws)


def test_nothing_to_score_is_refused():
    with pytest.raises(DataError, match="at least one"):
        bootstrap_draws(0, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("source", "output", "kept"),
    [
        ("It cost 1,250.50 in 1945.", "In 1945 it cost 1250.50.", 1.0),
        ("3 and 3", "3", 0.5),
        ("At 5:30, 12 came.", "At 5:31, 12 came.", 0.5),
        ("12", "120 and 112", 0.0),
        ("1, 2, 3", "1 2 3", 1.0),
        ("7", "", 0.0),
    ],
)
def test_numbers_are_kept_or_lost(source, output, kept):
    assert numbers_kept([output], [source], np.zeros((1, 1), int)).value == kept


def test_texts_without_numbers_do_not_count():
    draws = bootstrap_draws(2, np.random.default_rng(0))
    score = numbers_kept(["none", "4"], ["none", "4"], draws)
    assert score.value == score.low == 1
    assert np.isnan(score.items[0])
    assert np.isnan(numbers_kept(["a", "b"], ["a", "b"], draws).value)
    assert np.isnan(numbers_kept(["a", "b"], ["a", "b"], draws).high)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), st.text(min_size=1, max_size=20)), min_size=1, max_size=6))
def test_any_text_can_be_scored(pairs):
    outputs, references = zip(*pairs, strict=True)
    draws = bootstrap_draws(len(pairs), np.random.default_rng(0), times=10)
    for metric in METRICS:
        score = metric(outputs, references, draws)
        assert 0 <= score.low <= score.high <= 100.0001
