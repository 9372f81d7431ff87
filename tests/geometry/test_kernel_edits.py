"""A kernel is brought where it is wanted, by weights as near to 1 as can be; controls take away exactly as much."""

from collections import Counter

import numpy as np
import pytest

from geometry.checks import DataError, ShapeError
from geometry.circles import fourier_profile
from geometry.corpus_edits import (
    Members,
    anywhere,
    renamed,
    repeated,
    rewritten,
    rewritten_members,
    sentences,
    together,
)
from geometry.kernel_edits import (
    companies,
    flat_kernel,
    kernel_of,
    member_matched,
    moved,
    other_calendar,
    reordered_kernel,
    shuffled_weights,
    size_matched,
    tilt,
)
from geometry.latent import SeasonalCorpus
from geometry.layouts import cycle, line, part
from geometry.symmetry import symmetry_fraction

YEAR = cycle(12)
WORDS = [f"w{i}" for i in range(96)]
MONTHS = Members(tuple(WORDS[::8]))


def season(count=8000, length=7, seed=0):
    """A corpus with a hidden season: one sentence a document, months among 84 helpers."""
    ids = SeasonalCorpus(96, (0.9,)).documents(count, length, np.random.default_rng(seed))
    return [" ".join(WORDS[i] for i in row) + ". " for row in ids]


TEXTS = season()
SEEN = companies(TEXTS, MONTHS)


@pytest.mark.parametrize("wanted", [flat_kernel, reordered_kernel, lambda kernel, _: kernel * 0.5])
def test_weights_meet_the_kernel_and_resampling_reaches_it_up_to_rounding(wanted):
    kernel = wanted(kernel_of(SEEN, YEAR), YEAR)
    found = tilt(SEEN, YEAR, kernel)
    size = np.bincount(YEAR.lags[np.triu_indices(12, 1)])
    np.testing.assert_allclose(found.after, kernel * size, rtol=1e-6)
    edited = rewritten_members(TEXTS, MONTHS, repeated(found.weight, np.random.default_rng(1)))
    reached = kernel_of(companies(edited, MONTHS), YEAR) * size
    np.testing.assert_allclose(reached, kernel * size, atol=4 * np.sqrt(np.max(kernel * size)))
    assert 0 < found.effective <= 1


def test_the_kernel_that_is_there_needs_no_weights_and_leaves_the_corpus_bit_for_bit():
    found = tilt(SEEN, YEAR, kernel_of(SEEN, YEAR))
    assert found.effective == pytest.approx(1.0, abs=1e-12)
    assert list(rewritten_members(TEXTS, MONTHS, repeated(found.weight, np.random.default_rng(0)))) == TEXTS


def test_weights_are_those_of_least_entropy():
    """Any other weights with the same kernel, moved along the constraint, are further from 1."""
    found = tilt(SEEN, YEAR, flat_kernel(kernel_of(SEEN, YEAR), YEAR))
    sets = list(SEEN)
    n = np.array([SEEN[own] for own in sets], dtype=float)
    w = np.array([found.weight(own) for own in sets])
    lags = [Counter(YEAR.lags[i, j] for i in own for j in own if i < j) for own in sets]
    table = np.array([[one[lag] for lag in range(6)] for one in lags], dtype=float)
    rng = np.random.default_rng(0)

    def entropy(v):
        return float(np.sum(n * (v * np.log(v) - v + 1)))

    for _ in range(20):
        step = rng.standard_normal(len(w))
        weighted = table * n[:, None]
        step -= weighted @ np.linalg.solve(weighted.T @ weighted, weighted.T @ step)  # keeps the kernel
        assert entropy(w + 1e-3 * step / np.abs(step).max()) >= entropy(w)


def test_the_other_calendar_keeps_symmetry_and_swaps_harmonics():
    order = other_calendar(YEAR)
    matrix = moved(np.exp(-YEAR.distance / 3), order)
    assert symmetry_fraction(matrix, YEAR).value == pytest.approx(1.0)
    clock = YEAR.targets
    assert fourier_profile(clock).shares[0] == pytest.approx(1.0)
    there = np.empty_like(clock)
    there[order] = clock
    assert fourier_profile(there).shares[4] == pytest.approx(1.0)
    for n in (5, 7, 24):
        assert sorted(other_calendar(cycle(n))) == list(range(n))
        assert not np.array_equal(moved(cycle(n).distance, other_calendar(cycle(n))), cycle(n).distance)
    assert sorted(other_calendar(line(9))) == list(range(9))
    with pytest.raises(ShapeError, match="cycle of 6"):
        other_calendar(cycle(6))


def geometry_of(texts):
    """Fourier shares of the months in the spectral embedding of a small corpus, counted plainly."""
    number = {word: i for i, word in enumerate(WORDS)}
    rows = np.zeros((len(texts), 96))
    for row, text in zip(rows, texts, strict=True):
        for word in text.replace(".", "").split():
            row[number[word]] += 1
    pairs = rows.T @ rows
    np.fill_diagonal(pairs, 0)
    share = pairs.sum(axis=0) / pairs.sum()
    rho = pairs / pairs.sum() / np.outer(share, share)
    m = 2 * (rho - 1) / (rho + 1)
    np.fill_diagonal(m, 0)
    values, vectors = np.linalg.eigh(m)
    lead = np.argsort(-np.abs(values))[:4]
    return m[::8, ::8], fourier_profile((vectors[:, lead] * np.sqrt(np.abs(values[lead])))[::8]).shares


def test_statistics_follow_an_edited_kernel_and_a_collective_geometry_follows_its_helpers():
    texts = season(30_000, length=4)
    m, shares = geometry_of(texts)
    assert symmetry_fraction(m, YEAR).value > 0.6 and shares[0] > 0.7
    order = other_calendar(YEAR).tolist()
    # two thirds of the months stand alone with helpers, and keep the old calendar for all of them
    edited = list(rewritten_members(texts, MONTHS, renamed(MONTHS, order, together)))
    _, kept = geometry_of(edited)
    # where everything that a month stands with is renamed, its geometry goes along, harmonic 1 to harmonic 5
    _, gone = geometry_of(list(rewritten_members(texts, MONTHS, renamed(MONTHS, order, anywhere))))
    assert gone[4] == pytest.approx(shares[0], abs=1e-9)
    assert gone[0] == pytest.approx(shares[4], abs=1e-9)
    assert 3 * kept[4] < kept[0] < shares[0]


def test_resampled_pairs_move_m_star_to_the_other_calendar():
    texts = season(20_000)
    seen = companies(texts, MONTHS)
    found = tilt(seen, YEAR, reordered_kernel(kernel_of(seen, YEAR), YEAR))
    m, _ = geometry_of(
        list(rewritten_members(texts, MONTHS, repeated(found.weight, np.random.default_rng(0))))
    )
    by_lag = [m[YEAR.lags == lag].mean() for lag in range(6)]
    # lag 1 is now as rare as lag 5 was
    assert by_lag[4] > by_lag[1] > by_lag[2] and by_lag[4] > by_lag[0]


def test_a_size_matched_control_deletes_as_many_sentences_of_each_length():
    rng = np.random.default_rng(0)
    texts = [
        " ".join(rng.choice([*WORDS, *"abcdefghijklmnopqrstuvwxyz"], rng.integers(3, 7))) + ". "
        for _ in range(3000)
    ]
    gone = [s for text in texts for s in sentences(text) if together(MONTHS.found(s))]
    control = size_matched(lambda: texts, MONTHS, np.random.default_rng(1))
    left = list(rewritten(texts, MONTHS, control))
    taken = [text for text, kept in zip(texts, left, strict=True) if not kept]
    assert all(kept in (text, "") for text, kept in zip(texts, left, strict=True))
    assert Counter(len(s.split()) for s in taken) == Counter(len(s.split()) for s in gone)
    assert not any(together(MONTHS.found(s)) for s in taken)


def test_lengths_that_are_too_rare_are_made_up_from_the_nearest():
    texts = ["w0 w8 a. "] * 3 + ["b c. "] * 2 + ["a b c d. "] * 4
    left = list(rewritten(texts, MONTHS, size_matched(lambda: texts, MONTHS, np.random.default_rng(0))))
    assert left.count("") == 3
    assert left[:3] == texts[:3]
    assert left[3:5] == ["", ""]  # both as near as four words: the shorter goes first


def test_a_member_matched_control_takes_each_member_as_often():
    lone = np.random.default_rng(0)
    texts = TEXTS[:300] + [f"a {MONTHS.names[i]} b. " for i in lone.integers(12, size=6000)]
    wanted = Counter(i for text in texts for i in MONTHS.found(text) if together(MONTHS.found(text)))
    left = list(rewritten(texts, MONTHS, member_matched(lambda: texts, MONTHS, np.random.default_rng(1))))
    taken = Counter(i for text, kept in zip(texts, left, strict=True) if not kept for i in MONTHS.found(text))
    assert taken == wanted


def test_controls_choose_evenly():
    texts = ["w0 w8. "] * 10 + ["a b. "] * 40
    often = np.zeros(40)
    for seed in range(400):
        control = size_matched(lambda: texts, MONTHS, np.random.default_rng(seed))
        often += [not kept for kept in list(rewritten(texts, MONTHS, control))[10:]]
    assert often.sum() == 4000
    assert np.abs(often - 100).max() < 4.5 * np.sqrt(100 * 0.75)


def test_shuffled_weights_have_the_same_distribution_and_know_no_lag():
    found = tilt(SEEN, YEAR, reordered_kernel(kernel_of(SEEN, YEAR), YEAR))
    weight = shuffled_weights(SEEN, found, np.random.default_rng(0))
    near, far = ([weight(own) for _ in range(4000)] for own in ((0, 1), (0, 5)))
    counts = np.array(list(SEEN.values()))
    mean = counts @ [found.weight(own) for own in SEEN] / counts.sum()
    spread = np.std(near) / np.sqrt(4000)
    assert abs(np.mean(near) - mean) < 4 * spread and abs(np.mean(far) - mean) < 4 * spread
    assert weight((3,)) == weight(()) == 1.0


def test_what_cannot_be_reached_is_refused():
    with pytest.raises(ShapeError, match="6 positive"):
        tilt(SEEN, YEAR, [1.0] * 5)
    with pytest.raises(ShapeError, match="6 positive"):
        tilt(SEEN, YEAR, [0.0] + [1.0] * 5)
    with pytest.raises(DataError, match="no two members ever"):
        tilt({(0, 1): 3}, YEAR, [1.0] * 6)
    with pytest.raises(DataError, match="no two members ever"):
        tilt(Counter(), YEAR, [1.0] * 6)
    rare = {(0, lag): 5 for lag in range(1, 7)}
    with pytest.raises(DataError, match="times; ask for a nearer"):
        tilt(rare, YEAR, [1000.0] + [1.0] * 5)
    with pytest.raises(DataError, match="no weights"):  # all lags at once or none
        tilt({tuple(range(7)): 5}, YEAR, [9.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    with pytest.raises(DataError, match="fewer sentences"):
        size_matched(lambda: ["w0 w8. "] * 3 + ["a b. "], MONTHS, np.random.default_rng(0))
    with pytest.raises(DataError, match="'w0' stands alone"):
        member_matched(lambda: ["w0 w8. "], MONTHS, np.random.default_rng(0))


def test_months_that_are_missing_leave_a_calendar_of_their_own():
    some = part(YEAR, [0, 1, 2, 4, 5, 7, 8, 10, 11])
    assert sorted(other_calendar(some)) == list(range(9))
    assert len(reordered_kernel(np.arange(1.0, 7.0), some)) == 6
