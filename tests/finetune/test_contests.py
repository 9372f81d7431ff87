import numpy as np
import pytest

from finetune.contests import contests, exchange_test, holm
from finetune.score import bleu, bootstrap_draws, document_draws, mean_score
from geometry.checks import DataError

DOCUMENTS = [f"d{i // 5}" for i in range(60)]


def noisy(rng, effect=0.0, shared=0.7):
    """Item scores with noise that a document's items share."""
    of_documents = np.repeat(rng.standard_normal(12), 5)
    return effect + shared * of_documents + rng.standard_normal(60)


def pair_of_scores(rng, effect=0.0):
    draws = bootstrap_draws(60, rng, times=2)
    return mean_score("x", noisy(rng, effect), draws), mean_score("x", noisy(rng), draws)


def test_the_test_keeps_its_level_with_sentences_that_depend_on_each_other():
    """400 times two systems that are equally good: p below 0.05 in about 5 %, and p is flat."""
    rng = np.random.default_rng(0)
    p = np.array([exchange_test(*pair_of_scores(rng), DOCUMENTS, rng, times=199) for _ in range(400)])
    assert 0.025 < np.mean(p <= 0.05) < 0.08
    assert abs(np.mean(p) - 0.5) < 0.05


def test_exchanging_single_sentences_would_not_keep_it():
    """The reason for whole documents: with sentences exchanged one by one the level is missed."""
    rng = np.random.default_rng(0)
    alone = [str(i) for i in range(60)]
    p = np.array([exchange_test(*pair_of_scores(rng), alone, rng, times=199) for _ in range(200)])
    assert np.mean(p <= 0.05) > 0.12


def test_a_real_difference_is_found():
    rng = np.random.default_rng(0)
    assert exchange_test(*pair_of_scores(rng, effect=2.0), DOCUMENTS, rng) < 0.01


def test_with_few_documents_all_exchanges_are_the_exact_test():
    rng = np.random.default_rng(0)
    draws = bootstrap_draws(3, rng, times=2)
    new, old = (mean_score("x", np.array(v), draws) for v in ([3.0, 2.0, 4.0], [0.0, 0.0, 0.0]))
    p = exchange_test(new, old, ["a", "b", "c"], rng, times=20_000)
    assert p == pytest.approx(2 / 8, abs=0.02)  # only no exchange and all three are as large


def test_corpus_scores_are_recomputed_under_each_exchange():
    rng = np.random.default_rng(0)
    references = [f"the {i} old men sat by the sea and sang" for i in range(60)]
    draws = document_draws(DOCUMENTS, rng, times=50)
    good = bleu(references, references, draws)
    bad = bleu(["men sat by a lake"] * 60, references, draws)
    assert exchange_test(good, bad, DOCUMENTS, rng, times=300) == pytest.approx(1 / 301)


def test_all_systems_are_compared_and_corrected():
    rng = np.random.default_rng(1)
    draws = document_draws(DOCUMENTS, rng)
    scores = {name: mean_score("x", noisy(rng, e), draws) for name, e in (("a", 3.0), ("b", 0.0), ("c", 0.0))}
    found = contests(scores, DOCUMENTS, rng)
    assert [(c.first, c.second) for c in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [c.sure for c in found] == [True, True, False]
    assert all(c.p_corrected >= c.p and c.low <= c.difference <= c.high for c in found)
    assert found[0].difference == pytest.approx(scores["a"].value - scores["b"].value)


def test_a_score_that_is_not_defined_is_not_tested():
    rng = np.random.default_rng(0)
    draws = bootstrap_draws(3, rng, times=2)
    nothing = mean_score("x", np.full(3, np.nan), draws)
    assert exchange_test(nothing, nothing, ["a", "b", "c"], rng, times=9) == 1.0


def test_holm_never_says_more_than_bonferroni_allows_less_than_alone():
    p = np.random.default_rng(0).uniform(size=20) ** 3
    corrected = np.array(holm(p))
    assert np.all(p <= corrected) and np.all(corrected <= np.minimum(1, 20 * p) + 1e-12)
    assert np.array_equal(np.argsort(corrected, kind="stable")[:1], np.argsort(p, kind="stable")[:1])
    assert holm([]) == []


def test_documents_must_be_named_for_each_item():
    rng = np.random.default_rng(0)
    one, other = pair_of_scores(rng)
    with pytest.raises(DataError, match="documents for"):
        exchange_test(one, other, DOCUMENTS[1:], rng)


def test_draws_of_documents_hold_whole_documents_but_for_the_last():
    sizes = (1, 4, 2, 7)
    documents = [f"d{d}" for d, size in enumerate(sizes) for _ in range(size)]
    draws = document_draws(documents, np.random.default_rng(0), times=200)
    assert draws.shape == (200, 14)
    first, last = np.cumsum((0, *sizes[:-1])), np.cumsum(sizes) - 1
    for draw in draws:
        jumps = np.flatnonzero(np.diff(draw) != 1)  # where one document ends and another begins
        assert draw[0] in first and set(draw[jumps + 1]) <= set(first) and set(draw[jumps]) <= set(last)
    share = np.mean(np.array(documents)[draws] == "d3")
    assert share == pytest.approx(0.5, abs=0.08)


def test_intervals_over_documents_are_wider_where_documents_differ():
    rng = np.random.default_rng(0)
    items = np.repeat(rng.standard_normal(12), 5)
    by_document = mean_score("x", items, document_draws(DOCUMENTS, rng))
    by_item = mean_score("x", items, bootstrap_draws(60, rng))
    assert by_document.high - by_document.low > 1.6 * (by_item.high - by_item.low)


def test_draws_of_nothing_and_items_of_other_draws_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="nothing to score"):
        document_draws([], rng)
    with pytest.raises(DataError, match="same items"):
        mean_score("x", np.ones(2), bootstrap_draws(3, rng))
