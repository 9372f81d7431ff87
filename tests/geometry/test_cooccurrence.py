"""Counting: hand-counted corpora, a slow reference, and that no split of the work changes a count."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry import cooccurrence
from geometry.checks import DataError, ShapeError
from geometry.cooccurrence import PairCounter
from geometry.weightings import Weighting, flat, inverse, linear

WEIGHTINGS = [flat(3), linear(3), inverse(3), linear(1)]
WEIGHT = {"flat": lambda L, d: 1, "linear": lambda L, d: L + 1 - d, "inverse": lambda L, d: Fraction(1, d)}


def slow_counts(documents, size, weighting):
    """Every place, every neighbour, fractions."""
    counts, total = {}, Fraction(0)
    for words in documents:
        for p, word in enumerate(words):
            for q, other in enumerate(words):
                if p != q and abs(p - q) <= weighting.window:
                    weight = Fraction(WEIGHT[weighting.name](weighting.window, abs(p - q)))
                    total += weight
                    if min(word, other) >= 0:
                        counts[word, other] = counts.get((word, other), 0) + weight
    dense = [[counts.get((i, j), 0) * weighting.unit for j in range(size)] for i in range(size)]
    return np.array(dense, dtype=object), total * weighting.unit


def counted(documents, size, weighting, *, threads=1):
    counter = PairCounter(size, weighting, threads=threads)
    counter.update(np.array([w for d in documents for w in d], dtype=int), [len(d) for d in documents])
    return counter


def answer(counter):
    return counter.answer([f"w{i}" for i in range(counter.size)])


def same(one, other):
    one, other = one.state(), other.state()
    return all(np.array_equal(one[key], other[key]) for key in one)


DOCUMENTS = st.lists(st.lists(st.integers(-1, 4), max_size=12), max_size=6)


def test_counted_by_hand():
    """a b a c: flat, two either side. a meets b twice and a twice; c meets a and b once."""
    found = answer(counted([[0, 1, 0, 2]], 3, flat(2)))
    assert found.counts.toarray().tolist() == [[2, 2, 1], [2, 0, 1], [1, 1, 0]]
    assert found.unigrams.tolist() == [2, 1, 1]
    assert (found.tokens, found.total) == (4, 10)


def test_counted_by_hand_with_linear_weights():
    found = answer(counted([[0, 1, 0, 2]], 3, linear(2)))
    assert found.counts.toarray().tolist() == [[2, 4, 2], [4, 0, 1], [2, 1, 0]]


@settings(deadline=None, max_examples=60)
@given(DOCUMENTS, st.sampled_from(WEIGHTINGS))
def test_as_the_slow_way_counts(documents, weighting):
    if not sum(map(len, documents)):
        return
    found = answer(counted(documents, 5, weighting))
    counts, total = slow_counts(documents, 5, weighting)
    assert (found.counts.toarray() == counts).all()
    assert found.total == total
    assert found.unigrams.tolist() == [sum(d.count(i) for d in documents) for i in range(5)]
    assert found.tokens == sum(map(len, documents))
    assert (found.upper.toarray() == np.triu(counts)).all()


@settings(deadline=None, max_examples=40)
@given(DOCUMENTS, st.lists(st.integers(0, 2), min_size=6, max_size=6), st.integers(1, 3))
def test_any_split_is_the_whole(documents, parts, threads):
    whole = counted(documents, 5, linear(3))
    merged = PairCounter(5, linear(3), threads=threads)
    for part in range(3):
        shard = counted([d for d, p in zip(documents, parts, strict=False) if p == part], 5, linear(3))
        merged.merge(PairCounter.from_state(shard.state(), "linear"))
    assert same(whole, merged)


def test_small_pieces_and_large_ones_count_the_same(monkeypatch):
    """Documents that fill the room many times over, one of them longer than the room; many blocks of rows."""
    rng = np.random.default_rng(0)
    documents = [rng.integers(-1, 100, n).tolist() for n in (3, 0, 1, 40, 700, 9, 80, 80)]
    whole = counted(documents, 100, linear(5))
    monkeypatch.setattr(cooccurrence, "PENDING", 64)
    assert same(whole, counted(documents, 100, linear(5), threads=2))
    one_by_one = PairCounter(100, linear(5))
    for words in documents:
        one_by_one.update(words, [len(words)])
    assert same(whole, one_by_one)
    assert (answer(whole).counts.toarray() == slow_counts(documents, 100, linear(5))[0]).all()


def test_windows_do_not_reach_the_next_document():
    assert answer(counted([[0], [1], [0, 1]], 2, flat(9))).counts.toarray().tolist() == [[0, 1], [1, 0]]


def test_the_last_window_and_word_number_zero_are_counted():
    found = answer(counted([[1] * 20 + [0]], 2, flat(1)))
    assert found.unigrams.tolist() == [1, 20]
    assert found.counts[0, 1] == 1


def test_a_gap_keeps_its_place():
    near = answer(counted([[0, -1, 1]], 2, flat(1)))
    assert near.counts.nnz == 0
    assert near.total == 4
    assert answer(counted([[0, -1, 1]], 2, flat(2))).counts[0, 1] == 1


def test_more_words_than_sixteen_bits():
    size = 70_000
    found = answer(counted([[69_999, 0, 69_999]], size, flat(2)))
    assert found.counts[69_999, 69_999] == 2
    assert found.counts[0, 69_999] == found.counts[69_999, 0] == 2


@pytest.mark.parametrize("exponent", [24, 28, 31, 53])
def test_counts_do_not_stall(exponent):
    """Where float32 stops to count (2^24; 2^28 in steps of 16), where 32 bits overflow, and where float64 stops."""
    state = counted([[0, 1]], 2, linear(16)).state()
    state["data"][:] = state["total"][:] = 2**exponent
    counter = PairCounter.from_state(state, "linear")
    for _ in range(3):
        counter.merge(counted([[0, 1]], 2, linear(16)))
    counter.update([0, 1], [2])
    assert answer(counter).counts[0, 1] == 2**exponent + 4 * 16
    assert answer(counter).total == 2**exponent + 8 * 16


def test_a_row_that_passes_32_bits_in_one_go_is_exact():
    """Weights of 1 / d have a unit of 2.3e8, so that ten neighbours are enough."""
    weighting = inverse(22)
    found = answer(counted([[0, 1] * 40], 2, weighting))
    assert (found.counts.toarray() == slow_counts([[0, 1] * 40], 2, weighting)[0]).all()
    assert found.counts.max() > 2**33


def test_counts_do_not_overflow():
    state = counted([[0, 1]], 2, flat(1)).state()
    state["total"][:] = 2**63 - 2
    counter = PairCounter.from_state(state, "flat")
    before = counter.state()
    with pytest.raises(DataError, match=r"would pass 2\^63"):
        counter.update([0, 1], [2])
    with pytest.raises(DataError, match=r"would pass 2\^63"):
        counter.merge(counted([[0, 1]], 2, flat(1)))
    assert all(np.array_equal(before[key], value) for key, value in counter.state().items())


def test_block_is_a_part_of_the_whole_in_any_order():
    rng = np.random.default_rng(1)
    found = answer(counted([rng.integers(0, 6, 50).tolist()], 6, linear(4)))
    chosen = [4, 0, 5]
    assert (found.block([f"w{i}" for i in chosen]) == found.counts.toarray()[np.ix_(chosen, chosen)]).all()
    with pytest.raises(DataError, match="w9, w7: not among the words"):
        found.block(["w9", "w1", "w7"])


def test_weights():
    assert linear(16).steps[0] == 16
    assert inverse(16).unit == 720_720
    assert [Fraction(s, inverse(22).unit) for s in inverse(22).steps] == [
        Fraction(1, d) for d in range(1, 23)
    ]
    for make, window in ((flat, 0), (linear, 5000), (inverse, 23)):
        with pytest.raises(ShapeError, match="window: expected 1 to"):
            make(window)


@pytest.mark.parametrize(
    ("ids", "lengths", "says"),
    [
        ([0, 5], [2], "ids: expected a row of whole numbers from -1 to 4"),
        ([0.5], [1], "ids: expected"),
        ([-2], [1], "ids: expected"),
        ([[0]], [1], "ids: expected"),
        ([0, 1], [1], "lengths of documents that sum to 2"),
        ([0], [2, -1], "lengths"),
    ],
)
def test_refuses_what_is_no_documents(ids, lengths, says):
    with pytest.raises(ShapeError, match=says):
        PairCounter(5, flat(2)).update(ids, lengths)


def test_refuses_what_does_not_belong_together():
    counter = counted([[0, 1]], 2, flat(2))
    for other in (PairCounter(3, flat(2)), PairCounter(2, linear(2))):
        with pytest.raises(ShapeError, match="merge like with like"):
            counter.merge(other)
    with pytest.raises(ShapeError, match="words: expected 2, got 1"):
        counter.answer(["a"])
    with pytest.raises(DataError, match="no words yet"):
        PairCounter(2, flat(2)).answer(["a", "b"])
    with pytest.raises(ShapeError, match="expected words and threads"):
        PairCounter(0, flat(2))
    with pytest.raises(DataError, match="was it written by state"):
        PairCounter.from_state({"data": [1]}, "flat")
    with pytest.raises(DataError, match="do not fit together"):
        PairCounter.from_state(counter.state() | {"data": np.zeros(9)}, "flat")


def test_a_state_is_a_copy():
    counter = counted([[0, 1]], 2, flat(2))
    counter.state()["unigrams"][:] = 9
    assert counter.unigrams.tolist() == [1, 1]
    assert counter.weighting == Weighting("flat", (1, 1))
