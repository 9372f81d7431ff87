"""What is planted in a corpus is said of it: a season that its months share, and what the counts do not hold."""

import numpy as np
import pytest

from analyses import symmetry_corpus, symmetry_held
from analyses.concepts import load
from analyses.report import plain
from analyses.symmetry_corpus import NOT_COUNTED, PMI, Counts, corpus_facts
from analyses.symmetry_corpus_page import corpus_sections
from analyses.symmetry_report import SymmetryRequest, symmetry
from geometry.checks import DataError
from geometry.cooccurrence import PairCounter
from geometry.embedding import spectral_embedding
from geometry.latent import SeasonalCorpus
from geometry.targets import m_star_target
from geometry.weightings import linear
from geometry.words import cased

MONTHS = load("months").items
WORDS = [MONTHS[i // 8] if i % 8 == 0 else f"w{i}" for i in range(96)]


@pytest.fixture(autouse=True, scope="module")
def fewer_shuffles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(symmetry_held, "DRAWS", 199)
        patch.setattr(symmetry_corpus, "RESAMPLES", 40)
        yield


def counted(documents, words, window=16):
    counter = PairCounter(len(words), linear(window))
    counter.update(documents.ravel(), np.full(len(documents), documents.shape[1]))
    return counter.answer(words)


def counts_of(documents, words, blocks=1):
    stats = counted(documents, words)
    parts = () if blocks == 1 else tuple(counted(documents[at::blocks], words) for at in range(blocks))
    embedding = spectral_embedding(m_star_target(stats), 10, np.random.default_rng(0))
    return Counts(stats, cased, parts, embedding)


@pytest.fixture(scope="module")
def season():
    return SeasonalCorpus(96, (0.9,)).documents(12_000, 8, np.random.default_rng(0))


@pytest.fixture(scope="module")
def facts(season):
    counts = counts_of(season, WORDS, blocks=12)
    return plain(symmetry(counts, SymmetryRequest(("months",))))


def test_a_planted_season_is_shown_by_counts_and_by_their_word_vectors(facts):
    found = facts["concepts"][0]["corpus"]
    assert found["verdict"]["shown"] and found["embedding"]["verdict"]["shown"]
    symmetric = found["symmetric"]
    assert symmetric["null"]["high"] < symmetric["low"] < symmetric["value"] < symmetric["high"]
    scored = found["scores"]["first"]
    assert scored["value"] > 1.5 * scored["null"]["high"] and found["circle"]["in_order"]
    first = found["embedding"]["scores"]["first"]
    assert min(np.subtract(first["values"], first["null"]["high"])) > 0
    assert found["embedding"]["closeup"]["circle"]["in_order"]


def test_a_season_that_other_words_share_outlives_the_pairs_of_its_months(facts):
    found = facts["concepts"][0]["corpus"]["robustness"]
    assert found["zeroed"] > found["null"]["high"] and found["collective"] > 0.8


def test_the_page_lays_word_vectors_over_the_curve_and_draws_what_is_read_off_them(facts):
    sections = corpus_sections(facts["concepts"][0])
    figures = {figure.name: figure for section in sections for figure in section.figures}
    panels = figures["months-manifold-flat"].data["panels"]
    assert [panel["title"].split(":")[0] for panel in panels] == ["corpus", "word vectors"]
    assert {"months-word-vectors-ranks-1", "months-word-vectors-ranks-2"} <= figures.keys()
    assert "months-word-vectors-map" not in figures
    assert "of it stays" in sections[-1].text[0]


def test_words_dealt_at_random_show_nothing(season):
    order = np.random.default_rng(5).permutation(96)
    found = corpus_facts(
        counts_of(season, [WORDS[at] for at in order]), load("months"), np.random.default_rng(1)
    )
    assert not found["verdict"]["shown"] and not found["embedding"]["verdict"]["shown"]
    assert found["documents"] is None and "low" not in found["symmetric"]


def test_what_the_counts_lack_is_stated_with_the_reason(season):
    words = ["w40" if word == "June" else word for word in WORDS]
    words[40] = "other"
    rare = np.where((season == WORDS.index("October")) & (np.arange(len(season))[:, None] > 200), 1, season)
    found = corpus_facts(counts_of(rare, words), load("months"), np.random.default_rng(0))
    reasons = {one["item"]: one["because"] for one in found["excluded"]}
    assert reasons["June"] == NOT_COUNTED
    assert reasons.keys() == {"June", "October"} and reasons["October"].endswith("50 are needed")
    assert found["items"] == [month for month in MONTHS if month not in reasons]
    assert found["topology"] == "part" and found["verdict"]["gates"][0]["passed"]


def test_months_that_never_meet_have_no_symmetry_and_say_so(season):
    few = load("months")
    alone = np.array([[at, 96] for at in range(0, 96, 8)] * 60)
    with pytest.raises(DataError, match="items are left"):
        corpus_facts(Counts(counted(alone, [*WORDS, "x"])), few, np.random.default_rng(0))


def test_blocks_of_other_words_are_refused_and_the_remedy_is_named(season):
    others = [word if word == "May" else word.lower() for word in WORDS]
    counts = Counts(counted(season, WORDS), cased, (counted(season, others),) * 2)
    with pytest.raises(DataError, match=r"January: was not counted by block of .* --block-words") as caught:
        corpus_facts(counts, load("months"), np.random.default_rng(0))
    assert "\n" not in str(caught.value)


def test_saturated_statistics_are_judged_by_their_pmi():
    pairs = [(day, (day + step) % 7) for day in range(7) for step in (0, 1, 1, 1, 1, 2, 2, 3)]
    rare = np.array([[one, other] for one, other in pairs] * 20)
    filler = np.full((60_000, 2), 7)
    words = [*load("weekdays").items, "and"]
    found = corpus_facts(
        Counts(counted(np.vstack([rare, filler]), words)), load("weekdays"), np.random.default_rng(0)
    )
    assert found["target"] == PMI and found["symmetric"]["value"] > 0.9
