import numpy as np
import pytest

from finetune.pairs import Pair
from finetune.terms import Substitutions, Term, TermBank, associations
from geometry.checks import DataError

PLAIN = [f"{a}{b}" for a in ("bo", "ka", "mi", "tu") for b in ("ral", "sen", "dop", "fim", "nug")]
PLANTED = {"boral": "xylo", "kasen": "yvane", "midop": "zukar", "tufim": "wembo"}


def corpus(rng, *, chance=1.0, n=300, planted=PLANTED):
    """Random plain sentences; planted words become their styled ones with some probability; words are reordered."""
    pairs = []
    for i in range(n):
        chosen = list(rng.choice(PLAIN, 6, replace=False))
        styled = [planted[w] if w in planted and rng.random() < chance else w for w in chosen]
        rng.shuffle(styled)
        pairs.append(Pair(str(i), f"d{i}", " ".join(chosen), " ".join(styled)))
    return pairs


@pytest.mark.parametrize("chance", [1.0, 0.6])
def test_planted_terms_are_found_and_nothing_else(chance):
    found = associations(corpus(np.random.default_rng(0), chance=chance))
    assert {t.source: t.target for t in found} == PLANTED
    for term in found:
        assert term.share == pytest.approx(chance, abs=0.12)
        assert term.together <= term.sources


def test_words_that_change_without_a_law_are_no_terms():
    """Every sentence loses and gains words by chance: no pair of them is associated."""
    rng = np.random.default_rng(0)
    pairs = [
        Pair(
            str(i),
            "d",
            " ".join(rng.choice(PLAIN, 4)),
            " ".join(w.upper() + "Q" for w in rng.choice(PLAIN, 4)),
        )
        for i in range(300)
    ]
    assert associations(pairs) == ()


def test_the_least_number_of_sightings_holds():
    pairs = corpus(np.random.default_rng(0))
    counts = {t.source: t.together for t in associations(pairs)}
    least = sorted(counts.values())[1] + 1
    assert {t.source for t in associations(pairs, least=least)} == {
        s for s, n in counts.items() if n >= least
    }
    assert associations(pairs[:2]) == ()


def named():
    rng = np.random.default_rng(0)
    pairs = []
    for i in range(200):
        a, b, c = rng.choice(PLAIN, 3, replace=False)
        who, styled = (("Peter", "Cephas"), ("Anna", "Anna"))[i % 40 > 1]
        saw, beheld = (("saw", "beheld"), ("met", "met"))[i % 2]
        pairs.append(
            Pair(str(i), "d", f"The {a} {saw} {who} and {b} {c}.", f"The {a} {beheld} {styled} and {b} {c}.")
        )
    return pairs


def test_a_word_that_nearly_always_comes_with_another_is_a_phrase():
    rng = np.random.default_rng(0)
    pairs = []
    for i in range(100):
        a, b = rng.choice(PLAIN, 2, replace=False)
        answered, made = (("answered", "made answer"), ("slept", "slept"))[i % 2]
        pairs.append(Pair(str(i), "d", f"The {a} {answered} the {b}", f"The {a} {made} the {b}"))
    assert [(t.source, t.target) for t in associations(pairs)] == [("answered", "made answer")]


def test_names_keep_their_capital_and_are_told_from_words():
    bank = TermBank.learnt(named())
    assert [(t.source, t.target, t.name, t.together) for t in bank.terms] == [("peter", "Cephas", True, 10)]
    assert [t.target for t in bank.occurring("When Peter came home.")] == ["Cephas"]
    assert bank.occurring("When Anna came home.") == ()


def test_a_bank_is_of_rare_words_and_rules_are_of_sure_ones():
    pairs = named()
    assert {t.source for t in associations(pairs)} == {"saw", "peter"}
    assert {t.source for t in TermBank.learnt(pairs, rare=1.0).terms} == {"saw", "peter"}
    rules = Substitutions.learnt(pairs)
    assert rules("Saw you Peter? I saw him; a seesaw.") == "Beheld you Cephas? I beheld him; a seesaw."
    unsure = corpus(np.random.default_rng(0), chance=0.4)
    assert Substitutions.learnt(unsure).terms == () and associations(unsure)


def test_another_finder_can_be_given():
    term = Term("a", "b", 1, 1, 1, 1.0, False)
    assert TermBank.learnt([Pair("1", "d", "a", "b")] * 50, finder=lambda pairs: [term]).terms == (term,)
    assert Substitutions.learnt([], finder=lambda pairs: [term])("a") == "b"


def test_only_the_surest_terms_of_a_text_are_told():
    terms = tuple(Term(w, w.upper(), n, 10, n, 9.0, False) for w, n in (("one", 3), ("two", 9), ("three", 6)))
    assert [t.source for t in TermBank(terms).occurring("one two three", most=2)] == ["two", "three"]


def test_no_pairs_teach_no_terms():
    with pytest.raises(DataError, match="terms need pairs"):
        associations([])
