import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.embedder import Embedder
from finetune.pairs import Pair
from finetune.retrieve import Bm25, Cosine, ExampleBank, SimilarShots, same_document
from geometry.checks import DataError

WORDS = "the cat dog sat ran sea king ship 7 1,000 gold".split()
sentences = st.lists(st.sampled_from(WORDS), min_size=0, max_size=8).map(" ".join)


def slow_bm25(texts, query, k1=1.5, b=0.75):
    """The formula word by word, as a textbook writes it."""
    tokens = [text.replace(",", "").split() for text in texts]
    mean = sum(map(len, tokens)) / len(tokens)
    scores = []
    for document in tokens:
        score = 0.0
        for word in query.replace(",", "").split():
            df = sum(word in other for other in tokens)
            idf = math.log(1 + (len(tokens) - df + 0.5) / (df + 0.5))
            tf = document.count(word)
            score += idf * tf / (tf + k1 * (1 - b + b * len(document) / mean)) if tf else 0.0
        scores.append(score)
    return scores


@given(st.lists(sentences, min_size=1, max_size=7), sentences)
def test_bm25_equals_a_slow_reference(texts, query):
    assert Bm25.of(texts)([query])[0] == pytest.approx(slow_bm25(texts, query), abs=1e-12)


def test_bm25_takes_its_numbers_and_refuses_those_out_of_range():
    texts = ["the cat", "the cat and the dog and the cat"]
    assert Bm25.of(texts, k1=1.2, b=0)(["cat"])[0] == pytest.approx(slow_bm25(texts, "cat", 1.2, 0))
    for numbers in ({"k1": 0}, {"b": 1.1}):
        with pytest.raises(DataError, match="BM25 needs"):
            Bm25.of(texts, **numbers)
    with pytest.raises(DataError, match="a text to search"):
        Bm25.of([])


def planted(n=60, topics=6):
    """Pairs of a few topics; a pair and the next of its topic stand in one document."""
    rng = np.random.default_rng(0)
    words = [[f"{'abcdef'[t]}word{'xyzuvw'[i]}" for i in range(6)] for t in range(topics)]
    pairs = []
    for i in range(n):
        chosen = rng.choice(words[i % topics], 4, replace=False)
        pairs.append(
            Pair(str(i), f"d{i // (2 * topics)}-{i % topics}", f"plain {i}", f"{i} " + " ".join(chosen))
        )
    return pairs


def bank_of(pairs):
    return ExampleBank(pairs, Bm25.of([pair.target for pair in pairs]))


def test_neighbours_are_of_the_topic_and_the_most_alike_comes_last():
    pairs = planted()
    bank = bank_of(pairs)
    for pair, found in zip(pairs, bank.nearest([p.target for p in pairs], 3, own=pairs), strict=True):
        assert all(int(one.id) % 6 == int(pair.id) % 6 for one in found)
        places = [pairs.index(one) for one in found]
        scores = bank.likeness([pair.target])[0][places]
        assert np.all(np.diff(scores) >= 0)


def test_a_pair_is_never_its_own_example_nor_is_its_twin():
    pairs = planted()
    twins = [
        Pair("twin-source", "t", pairs[0].source, "another"),
        Pair("twin-target", "t", "x", pairs[0].target),
    ]
    bank = bank_of([*pairs, *twins])
    everything = bank.nearest([p.target for p in pairs], len(bank.pairs), own=pairs)
    for pair, found in zip(pairs, everything, strict=True):
        assert pair.id not in {one.id for one in found}
    assert not {"0", "twin-source", "twin-target"} & {one.id for one in everything[0]}


def test_documents_can_be_kept_apart():
    pairs = planted()
    found = bank_of(pairs).nearest([p.target for p in pairs], 5, own=pairs, apart=same_document)
    assert all(one.doc_id != pair.doc_id for pair, some in zip(pairs, found, strict=True) for one in some)
    near = bank_of(pairs).nearest([p.target for p in pairs], 5, own=pairs)
    assert any(one.doc_id == pair.doc_id for pair, some in zip(pairs, near, strict=True) for one in some)


def test_no_two_examples_say_the_same():
    pairs = [Pair(str(i), "d", "same source", f"gold {i}") for i in range(5)] + planted(6)
    assert len({one.source for one in bank_of(pairs).nearest(["gold"], 3)[0]}) == 3


def test_ranking_a_few_first_changes_nothing():
    rng = np.random.default_rng(1)
    pairs = [Pair(str(i), "d", f"s{i}", f"t{i}") for i in range(300)]
    scores = rng.integers(0, 9, (4, 300)).astype(float)  # many ties
    bank = ExampleBank(pairs, lambda queries: scores[: len(queries)])
    for row, found in zip(scores, bank.nearest(["q"] * 4, 40), strict=True):
        assert [int(one.id) for one in reversed(found)] == np.argsort(-row, kind="stable")[:40].tolist()


def test_shots_of_a_training_pair():
    pairs = planted()
    shots = SimilarShots(bank_of(pairs), 2)
    assert len(shots(pairs[0])) == 2 and pairs[0] not in shots(pairs[0])
    assert SimilarShots(bank_of(pairs), 0)(pairs[0]) == ()


def test_dense_likeness_is_the_cosine_of_any_encoder(tiny_folder):
    encoder = Embedder.load(tiny_folder)
    texts = ["The king sailed home.", "It rained on Monday.", "Three letters to London."]
    likeness = Cosine.of(texts, encoder)
    assert np.allclose(np.diag(likeness(texts)), 1, atol=1e-5)
    pairs = [Pair(str(i), "d", f"s{i}", text) for i, text in enumerate(texts)]
    assert ExampleBank(pairs, likeness).nearest([texts[1]], 1)[0][0].id == "1"


def test_what_cannot_be_found_is_refused():
    bank = bank_of(planted(6))
    with pytest.raises(DataError, match="one own pair"):
        bank.nearest(["a", "b"], 1, own=bank.pairs[:1])
    with pytest.raises(DataError, match="0 or more"):
        bank.nearest(["a"], -1)
