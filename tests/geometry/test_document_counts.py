"""Spellings that are added up are what one spelling would have given; whole documents are what is resampled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.block_resampling import hull_interval
from geometry.checks import DataError
from geometry.cooccurrence import PairCounter
from geometry.document_counts import by_block, document_keys, pooled, resampled_ratios
from geometry.kernels import fit_kernels, width_interval
from geometry.latent import SeasonalCorpus
from geometry.layouts import cycle
from geometry.symmetry import symmetry_fraction
from geometry.targets import m_star, ratio
from geometry.weightings import flat, linear

BLOCKS = 32


FLAT = flat(4)


def counted(documents, words, weighting=FLAT):
    counter = PairCounter(len(words), weighting)
    ids = np.concatenate([np.empty(0, np.int64), *(np.asarray(d, np.int64) for d in documents)])
    counter.update(ids, [len(d) for d in documents])
    return counter.answer(words)


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=1, max_size=6))
def test_spellings_added_up_are_one_spelling_in_the_text(documents):
    """Words 1 and 3 are spellings of one item, 4 of another; 2 is not asked for."""
    found = pooled(counted(documents, list("abcde"), linear(3)), {"x": ["d", "b"], "e": ["e"]})
    rewritten = [[{0: 3, 2: 3, 1: 0, 3: 0, 4: 1}[word] for word in d] for d in documents]
    expected = counted(rewritten, ["x", "e", "_2", "_3"], linear(3))
    assert (found.counts.toarray() == expected.block(["x", "e"])).all()
    assert found.unigrams.tolist() == expected.unigrams[:2].tolist()
    assert (found.tokens, found.total) == (expected.tokens, expected.total)


def test_what_cannot_be_added_up_is_refused():
    stats = counted([[0, 1]], ["a", "b"])
    with pytest.raises(DataError, match="x: has no word"):
        pooled(stats, {"x": []})
    with pytest.raises(DataError, match="a: stands for two items"):
        pooled(stats, {"x": ["a"], "y": ["b", "a"]})
    with pytest.raises(DataError, match="not among the words"):
        pooled(stats, {"x": ["c"]})


def test_documents_are_parted_whole():
    ids, lengths = np.arange(6), np.array([2, 0, 3, 1])
    parts = {b: (i.tolist(), n.tolist()) for b, i, n in by_block(ids, lengths, np.array([1, 0, 0, 1]))}
    assert parts == {0: ([2, 3, 4], [0, 3]), 1: ([0, 1, 5], [2, 1])}


def test_a_document_s_block_is_its_own():
    texts = [f"document {i}" for i in range(400)]
    keys = document_keys(texts)
    assert (document_keys(texts[::-1]) == keys[::-1]).all()
    assert document_keys(["\ud800"]).shape == (1,)  # a lone surrogate, as broken UTF-8 leaves it
    assert np.bincount(keys % 8).min() > 25


def test_blocks_that_cannot_be_resampled_are_refused():
    one, other = counted([[0, 1]], ["a", "b"]), counted([[0, 1]], ["a", "c"])
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="at least 8 blocks"):
        resampled_ratios([one] * 7, 2, rng)
    with pytest.raises(DataError, match="other words"):
        resampled_ratios([one] * 8 + [other], 2, rng)


def test_resamples_are_sums_of_whole_blocks():
    """Where one block alone has a word, its share in a resample is that of a number of copies."""
    blocks = [counted([[0, 1]], ["a", "b"])] + [counted([[0, 0]], ["a", "b"])] * 7
    found = resampled_ratios(blocks, 200, np.random.default_rng(0))[:, 0, 1]
    copies = np.arange(1, 9)
    # k copies of (a b), 8 - k of (a a): P_ab = 2k/32 over ordered pairs of 16, P_a = (16 - k)/16, P_b = k/16
    possible = np.append((copies / 16) / ((16 - copies) / 16 * copies / 16), 1.0)
    assert np.abs(found[:, None] - possible).min(axis=1).max() < 1e-12
    assert len(np.unique(found.round(9))) > 3


@pytest.fixture(scope="module")
def studies():
    """Small corpora with one answer: the matrix of the world, in an order with two neighbours' pairs swapped."""
    world, year = SeasonalCorpus(12, (0.7, 0.2)), cycle(12)
    order = np.array([0, 1, 2, 6, 4, 5, 3, 7, 8, 9, 10, 11])
    found = []
    for seed in range(24):
        rng, words = np.random.default_rng(seed), [str(i) for i in range(12)]
        documents = [world.documents(25, 30, rng) for _ in range(BLOCKS)]
        blocks = [counted(some, words) for some in documents]
        whole = ratio(counted([d for some in documents for d in some], words), words)
        drawn = resampled_ratios(blocks, 60, rng)
        found.append([m_star(one)[..., order, :][..., order] for one in (whole, drawn)])
    return m_star(world.ratio())[np.ix_(order, order)], found, year


def covered(truth, intervals):
    return sum(low <= truth <= high for low, high in intervals) / len(intervals)


def test_intervals_of_the_share_by_lag_cover_the_planted_one(studies):
    truth, found, year = studies
    planted = symmetry_fraction(truth, year).value
    assert 0.4 < planted < 0.9  # in this order the world is symmetric in part
    intervals = []
    for whole, drawn in found:
        values = np.array([symmetry_fraction(one, year).value for one in drawn])
        reach = hull_interval(symmetry_fraction(whole, year).value, values, 0.0, 1.0)
        intervals.append((reach.low, reach.high))
    assert covered(planted, intervals) >= 0.85
    assert np.mean(np.ptp(intervals, axis=1)) < 0.4  # and say something


def test_intervals_of_a_kernel_s_width_cover_the_planted_one(studies):
    truth, found, year = studies

    def width(matrix):
        fits = fit_kernels(matrix, year, np.random.default_rng(0))
        return next(fit.width for fit in fits if fit.shape == "gaussian")

    planted, intervals = width(truth), []
    for whole, drawn in found[:12]:
        low, high = width_interval(drawn, year, "gaussian")
        value = width(whole)
        intervals.append((min(low, value**2 / high), max(high, value**2 / low)))
    assert covered(planted, intervals) >= 0.8
