"""The corpus with a known answer has that answer, exactly and when it is counted."""

import numpy as np
import pytest

from geometry.checks import ShapeError
from geometry.latent import SeasonalCorpus, reordered
from geometry.lattice import modes


def target(ratio):
    return 2 * (ratio - 1) / (ratio + 1)


def test_top_eigenvalues_are_n_a_squared_over_four():
    season = SeasonalCorpus(300, (0.6,))
    assert season.eigenvalues()[0] == pytest.approx(27.0)
    np.testing.assert_allclose(modes(season.ratio() - 1).values[:2], 27.0)
    np.testing.assert_allclose(modes(target(season.ratio())).values[:2], 27.17, atol=0.01)


def test_harmonics_come_back_in_order():
    season = SeasonalCorpus(50, (0.5, 0.3))
    np.testing.assert_allclose(modes(season.ratio() - 1).values[:5], [*season.eigenvalues(), 0], atol=1e-10)


def test_probabilities_sum_to_one_and_average_to_even():
    season = SeasonalCorpus(12, (0.6, -0.4))
    found = season.probabilities(np.linspace(0, 2 * np.pi, 1000, endpoint=False))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found.mean(axis=0), 1 / 12)
    assert found.min() >= 0


def test_counted_documents_give_the_exact_ratio():
    season = SeasonalCorpus(12, (0.9,))
    documents = season.documents(20_000, 10, np.random.default_rng(0))
    counts = np.zeros((len(documents), 12))
    np.add.at(counts, (np.arange(len(documents))[:, None], documents), 1)
    pairs = counts.T @ counts - np.diag(counts.sum(axis=0))
    word = counts.sum(axis=0) / counts.sum()
    np.testing.assert_allclose(pairs / pairs.sum() / np.outer(word, word), season.ratio(), atol=0.03)


def test_eigenvalues_grow_with_the_number_of_words_and_a_block_hardly_matters():
    from geometry.robustness import zeroed_block

    season = SeasonalCorpus(300, (0.6,))
    block = zeroed_block(target(season.ratio()), range(0, 300, 25))
    np.testing.assert_allclose(modes(block).values[:2], 27.17, rtol=0.02)


def test_renamed_words_carry_their_counts():
    documents = SeasonalCorpus(5, (0.5,)).documents(3, 4, np.random.default_rng(0))
    order = [1, 2, 3, 4, 0]
    np.testing.assert_array_equal(reordered(documents, order), (documents + 1) % 5)


@pytest.mark.parametrize(("n", "amplitudes"), [(12, (0.7, 0.7)), (12, ()), (4, (0.5, 0.2))])
def test_impossible_seasons_are_refused(n, amplitudes):
    with pytest.raises(ShapeError):
        SeasonalCorpus(n, amplitudes)
