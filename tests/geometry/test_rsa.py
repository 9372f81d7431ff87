"""Ranks of pairs are compared as scipy does, nuisances are taken out, and a corpus must beat its kernel."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from geometry.checks import ShapeError
from geometry.layouts import cycle, line, pairs_of
from geometry.rsa import corpus_link, partial_rsa, ranks, rsa


def noise(n, rng):
    m = rng.standard_normal((n, n))
    return m + m.T


def test_rsa_is_spearman_over_pairs_and_knows_no_scale():
    rng = np.random.default_rng(0)
    a, b = noise(9, rng), noise(9, rng)
    assert rsa(a, b) == pytest.approx(spearmanr(pairs_of(a), pairs_of(b)).statistic)
    assert rsa(np.exp(3 * a), b) == pytest.approx(rsa(a, b))


def test_partial_rsa_is_the_textbook_formula_for_one_nuisance():
    rng = np.random.default_rng(1)
    a, b, z = (noise(9, rng) for _ in range(3))
    ab, az, bz = rsa(a, b), rsa(a, z), rsa(b, z)
    assert partial_rsa(a, b, [z]) == pytest.approx((ab - az * bz) / np.sqrt((1 - az**2) * (1 - bz**2)))


def test_likeness_that_is_all_nuisance_goes_and_the_rest_stays():
    rng = np.random.default_rng(2)
    z, near = noise(20, rng), -line(20).distance
    fake = [z + 0.1 * noise(20, rng) for _ in range(2)]
    assert rsa(*fake) > 0.9 and abs(partial_rsa(*fake, [z])) < 0.2
    assert partial_rsa(near + 0.1 * noise(20, rng), near, [z, z]) > 0.9


def test_constant_and_repeated_nuisances_take_out_nothing_more():
    rng = np.random.default_rng(3)
    a, b, z = (noise(9, rng) for _ in range(3))
    assert partial_rsa(a, b, [z, z, np.ones((9, 9))]) == pytest.approx(partial_rsa(a, b, [z]))


def test_a_model_that_follows_its_corpus_beats_the_kernel_and_one_that_does_not_does_not():
    rng = np.random.default_rng(4)
    year = -cycle(12).distance
    corpus = year + noise(12, rng)
    follows = corpus_link(corpus + 0.2 * noise(12, rng), corpus, year)
    assert follows.low > 0 and follows.given_generic > 0.8
    generic = corpus_link(year + 0.5 * noise(12, rng), corpus, year)
    assert generic.gain < 0 and generic.low < 0


def test_a_corpus_that_is_its_kernel_leaves_nothing_to_give():
    year = -cycle(12).distance
    assert corpus_link(year, year, year).given_generic is None


def test_rounding_makes_no_ranks():
    assert ranks([0.1 + 0.2, 0.3, 7.0]).tolist() == [1.5, 1.5, 3.0]


def test_what_cannot_be_compared_is_refused():
    a = noise(4, np.random.default_rng(0))
    with pytest.raises(ShapeError, match="at least 3 items"):
        rsa([[0, 1], [1, 0]], [[0, 1], [1, 0]])
    with pytest.raises(ShapeError, match="expected"):
        rsa(a, a[:3, :3])
    with pytest.raises(ShapeError, match="nothing is left"):
        partial_rsa(a, a, [a])
    with pytest.raises(ShapeError, match="nothing is left"):
        rsa(a, np.ones((4, 4)))
    with pytest.raises(ShapeError, match="at least 5 items"):
        corpus_link(a, a, a)
