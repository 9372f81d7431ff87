import numpy as np
import pytest

from geometry.checks import DataError, ShapeError
from geometry.cooccurrence import PairCounter
from geometry.latent import SeasonalCorpus
from geometry.targets import (
    describe,
    describe_all,
    m_star,
    m_star_target,
    pmi,
    ppmi,
    ppmi_target,
    ratio,
    sparse_ratio,
)
from geometry.weightings import linear


def stats_of(documents, size, window=4):
    counter = PairCounter(size, linear(window))
    counter.update(np.concatenate(documents), [len(d) for d in documents])
    return counter.answer([f"w{i}" for i in range(size)])


@pytest.fixture
def stats():
    rng = np.random.default_rng(0)
    return stats_of([np.minimum(rng.geometric(0.3, 30) - 1, 11) for _ in range(8)], 12)


def dense_ratio(stats):
    counts = stats.counts.toarray().astype(float)
    share = stats.unigrams / stats.tokens
    return counts / stats.total / np.outer(share, share)


def test_saturation_of_the_notes():
    assert m_star([5, 20, 100, 1500]).round(3).tolist() == [1.333, 1.810, 1.960, 1.997]
    assert m_star([0.0, 1.0]).tolist() == [-2.0, 0.0]


def test_m_star_is_a_squeezed_pmi():
    """2 tanh(PMI / 2), and PMI = M* + M*^3 / 12 + M*^5 / 80 + ... near rho = 1."""
    rho = np.linspace(0.7, 1.4, 30)
    m = m_star(rho)
    np.testing.assert_allclose(m, 2 * np.tanh(pmi(rho) / 2), atol=1e-14)
    np.testing.assert_allclose(pmi(rho), m + m**3 / 12 + m**5 / 80, atol=1e-5)


def test_ends_of_the_scale():
    assert pmi([0.0]).tolist() == [-np.inf]
    assert ppmi([0.0, 0.5, 2.0]).tolist() == [0.0, 0.0, np.log(2)]
    for bad in ([-1.0], [np.inf], [np.nan]):
        for target in (m_star, pmi, ppmi):
            with pytest.raises(ShapeError, match="ratios: expected finite numbers"):
                target(bad)


def test_ratio_of_some_words_is_that_of_the_whole(stats):
    whole = dense_ratio(stats)
    np.testing.assert_allclose(
        ratio(stats, ["w3", "w0", "w7"]), whole[np.ix_([3, 0, 7], [3, 0, 7])], rtol=1e-13
    )


def test_sparse_targets_are_the_dense_ones(stats):
    rho = dense_ratio(stats)
    np.testing.assert_allclose(m_star_target(stats).dense(), m_star(rho), atol=1e-12)
    np.testing.assert_allclose(ppmi_target(stats).dense(), ppmi(rho), atol=1e-12)
    assert np.shares_memory(sparse_ratio(stats).indices, stats.upper.indices)  # no copy of what is large


@pytest.mark.parametrize("length", [6, 30])
def test_the_report_of_the_whole_is_that_of_all_pairs(length):
    """With most pairs never met, and with most met."""
    rng = np.random.default_rng(2)
    documents = [np.arange(12), *(np.minimum(rng.geometric(0.3, length) - 1, 11) for _ in range(8))]
    stats = stats_of(documents, 12, window=2)
    words, rho = list(stats.words), dense_ratio(stats)[np.triu_indices(12, 1)]
    report = describe_all(stats)
    assert report.pairs == 66
    assert report.zero == pytest.approx(np.mean(rho == 0))
    assert report.median == pytest.approx(np.median(m_star(rho)))
    assert report.saturated == pytest.approx(np.mean(m_star(rho) > 1.9))
    assert report.rarest == stats.unigrams.min()
    some = describe(stats, words)
    assert (some.pairs, some.rarest) == (report.pairs, report.rarest)
    assert some.median == pytest.approx(report.median)
    assert some.zero == pytest.approx(report.zero)


def test_a_seasonal_corpus_shows_its_season():
    """Counts of a corpus whose ratios are known exactly: words follow a hidden time."""
    world = SeasonalCorpus(12, (0.8,))
    found = world.documents(4000, 40, np.random.default_rng(3))
    stats = stats_of(list(found), 12, window=8)
    measured = ratio(stats, list(stats.words))
    # 160,000 words, some 13,000 times each: the error of a ratio is about 1 %
    np.testing.assert_allclose(measured, world.ratio(), atol=0.05)


def test_what_was_never_seen_is_named(stats):
    counter = PairCounter(3, linear(2))
    counter.update([0, 1, 0], [3])
    partial = counter.answer(["a", "b", "c"])
    with pytest.raises(DataError, match="c: never seen in the corpus"):
        ratio(partial, ["a", "c"])
    with pytest.raises(DataError, match="x: not among the words"):
        ratio(partial, ["x"])
    for target in (m_star_target, ppmi_target, describe_all):
        with pytest.raises(DataError, match="some words of the vocabulary never occur"):
            target(partial)
    with pytest.raises(DataError, match="at least two words"):
        describe(stats, ["w0"])
    counter = PairCounter(1, linear(2))
    counter.update([0, 0], [2])
    with pytest.raises(DataError, match="fewer than two words"):
        describe_all(counter.answer(["a"]))
