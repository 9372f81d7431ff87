"""Metrics on constructed cases: each moves as it should, and no aggregate can be won by copying."""

from types import SimpleNamespace

import numpy as np
import pytest

from finetune.aggregates import Measured, aggregate_scores, item_parts
from finetune.content import CharGrams, cosines, length_ratio, names_kept, numbers_added, strangers
from finetune.judges import CrossFitted
from finetune.score import bleu, bootstrap_draws, chrf, mean_score, numbers_kept
from geometry.checks import DataError

NOUNS = "bread garden river market letter horse winter school window doctor kettle harbour".split()
VERBS = "found carried watched kept painted lost wanted opened".split()
NAMES = "Anna Peter Clara Edwin".split()


def ornate(text):
    for plain, styled in (("before", "ere"), ("big", "vast"), ("then", "thereupon"), ("said", "did declare")):
        text = text.replace(plain, styled)
    return text


@pytest.fixture(scope="module")
def world():
    """Plain sentences with names and numbers, their styled twins, and a scorer of any system's texts."""
    rng = np.random.default_rng(0)
    sources, documents = [], []
    for d, noun in enumerate(NOUNS):
        for i, verb in enumerate(VERBS):
            other = NOUNS[(d + 1 + i % 3) % len(NOUNS)]
            sources.append(
                f"And then {NAMES[(d + i) % 4]} {verb} {2 + i * d} big {noun}s near the {other}, and said "
                "so before noon."
            )
            documents.append(f"d{d}")
    targets = [ornate(text) for text in sources]
    draws = bootstrap_draws(len(sources), rng, times=50)
    judge = CrossFitted.fit(sources, targets, documents)
    grams = CharGrams.fit([*sources, *targets])
    far = strangers(grams, sources, documents)

    def measured(outputs):
        # A stand-in for the base: losses grow where words repeat, as those of a language model fall for fluent text.
        loss = np.array([1.0 + 4.0 * (1 - len(set(o.split())) / max(1, len(o.split()))) for o in outputs])
        return Measured(
            judge.probability(outputs), cosines(grams, outputs, sources), loss + (np.array(outputs) == "") * 5
        )

    def scores(outputs):
        parts = item_parts(measured(outputs), measured(sources), measured(targets), strangers=far)
        return {
            **aggregate_scores(parts, draws),
            "judged": mean_score("judged", (judge.probability(outputs) >= 0.5).astype(float), draws),
            "bleu": bleu(outputs, targets, draws),
            "chrf": chrf(outputs, targets, draws),
            "bleu_to_input": bleu(outputs, sources, draws),
            "numbers_kept": numbers_kept(outputs, sources, draws),
            "numbers_added": numbers_added(outputs, sources, draws),
            "names_kept": names_kept(outputs, sources, draws),
            "length": length_ratio(outputs, sources, draws),
        }

    def values(outputs):
        return SimpleNamespace(**{name: score.value for name, score in scores(outputs).items()})

    shuffled = [targets[(i + len(VERBS) * 5 + 3) % len(targets)] for i in range(len(targets))]
    return SimpleNamespace(
        sources=sources, targets=targets, shuffled=shuffled, values=values, scores=scores, measured=measured, far=far,
        documents=documents, grams=grams, judge=judge, draws=draws,
    )  # fmt: skip


def test_a_perfect_rewriting_has_everything(world):
    got = world.values(world.targets)
    assert got.J == got.G == got.H == got.style == got.content == got.fluency == 1
    assert got.bleu == pytest.approx(100) and got.chrf == pytest.approx(100)
    assert got.judged > 0.95 and got.numbers_kept == got.names_kept == 1 and got.numbers_added == 0


def test_a_copy_has_all_of_the_content_and_no_aggregate(world):
    got = world.values(world.sources)
    assert got.J == got.G == got.H == got.style == 0
    assert got.content == 1 and got.bleu_to_input == pytest.approx(100)
    assert got.judged < 0.05
    assert got.bleu > 30  # content scores alone would praise it


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_copying_a_share_of_the_items_takes_that_share_away(world, share):
    """Hedging with copies cannot raise J above what the items that were rewritten earn."""
    n = len(world.sources)
    copied = np.random.default_rng(1).permutation(n) < share * n
    mixed = [s if c else t for s, t, c in zip(world.sources, world.targets, copied, strict=True)]
    got = world.values(mixed)
    assert pytest.approx(1 - share, abs=1e-9) == got.J
    assert got.G < 1 and got.H < 1


def test_a_copy_judged_styled_by_mistake_gains_nothing(world):
    """Even a judge that calls every input styled gives the copy no way towards the style."""
    n = 6
    inputs = Measured(np.full(n, 0.8), np.ones(n), np.ones(n))
    references = Measured(np.full(n, 0.95), np.full(n, 0.6), np.ones(n))
    got = aggregate_scores(
        item_parts(inputs, inputs, references, strangers=0.1), bootstrap_draws(n, np.random.default_rng(0))
    )
    assert got["J"].value == got["G"].value == got["H"].value == 0


def test_style_without_content(world):
    got = world.values(world.shuffled)
    assert got.style == pytest.approx(1, abs=0.05) and got.judged > 0.95
    assert got.content < 0.25 and got.J < 0.25 and got.H < 0.5
    assert got.bleu < 60 and got.names_kept < 0.7 and got.numbers_kept < 0.3 and got.numbers_added > 0.7
    one = world.values([world.targets[0]] * len(world.targets))  # the same styled sentence for everything
    assert one.J < 0.25 and one.style > 0.9


def test_content_without_style(world):
    other_words = [s.replace("near", "close to").replace("noon", "midday") for s in world.sources]
    got = world.values(other_words)
    assert got.content > 0.8 and got.style < 0.1 and got.J < 0.1
    assert got.names_kept == 1 and got.numbers_kept == 1 and got.length > 1


def test_an_empty_answer_has_nothing(world):
    got = world.values([""] * len(world.sources))
    assert got.J == got.G == got.H == got.style == got.content == got.judged == 0
    assert got.bleu == got.chrf == got.numbers_kept == got.names_kept == got.length == 0
    assert np.isnan(got.numbers_added) and got.fluency < 0.1


def test_wrong_numbers_move_the_numbers_and_little_else(world):
    import re

    wrong = [re.sub(r"\d+", lambda m: str(int(m[0]) + 1000), t) for t in world.targets]
    got = world.values(wrong)
    assert got.numbers_kept == 0 and got.numbers_added == 1
    assert got.names_kept == 1 and got.style > 0.9 and got.content > 0.8


def test_other_names_move_the_names(world):
    got = world.values([t.replace("Anna", "Bertha") for t in world.targets])
    assert got.names_kept == pytest.approx(0.75, abs=0.01) and got.numbers_kept == 1


def test_stammering_costs_fluency_alone(world):
    got = world.values([f"{t} {t} {t}" for t in world.targets])
    assert got.fluency < 0.2 and got.J < 0.2 and got.style > 0.9 and got.content > 0.9 and got.length > 2.5


def test_half_of_the_style_is_between_copy_and_reference(world):
    half = [s.replace("before", "ere").replace("then", "thereupon") for s in world.sources]
    got = world.values(half)
    assert 0.05 < got.J < 1 and got.content > 0.9


def test_order_of_items_does_not_matter_and_values_lie_in_intervals(world):
    for score in world.scores(world.targets[: len(world.targets)]).values():
        assert score.low <= score.value + 1e-9 and score.value - 1e-9 <= score.high
    order = np.random.default_rng(0).permutation(len(world.sources))
    parts = item_parts(
        world.measured(world.shuffled),
        world.measured(world.sources),
        world.measured(world.targets),
        strangers=world.far,
    )
    whole = aggregate_scores(parts, world.draws)
    again = aggregate_scores(parts[order], world.draws)
    assert all(whole[name].value == pytest.approx(again[name].value) for name in whole)


def test_items_that_cannot_tell_are_left_out_for_every_system():
    inputs = Measured(np.array([0.1, 0.5, 0.1]), np.ones(3), np.ones(3))
    references = Measured(np.array([0.9, 0.55, 0.9]), np.array([0.6, 0.6, 0.05]), np.ones(3))
    parts = item_parts(references, inputs, references, strangers=0.1)
    assert np.isnan(parts).all(axis=1).tolist() == [False, True, True]
    draws = bootstrap_draws(3, np.random.default_rng(0), times=20)
    assert aggregate_scores(parts, draws)["J"].value == 1
    assert np.isnan(aggregate_scores(parts[1:], draws[:, :2] * 0)["J"].value)


def test_strangers_are_texts_of_other_documents():
    grams = CharGrams.fit(["red apple", "green pear", "blue sky"])
    assert strangers(grams, ["red apple", "red apple", "blue sky"], ["a", "a", "b"]) == pytest.approx(
        float(cosines(grams, ["red apple"], ["blue sky"])[0])
    )
    texts, documents = ["red apple", "apple tart", "blue sky", "sky lark"], ["a", "a", "b", "c"]
    both = list(zip(texts, documents, strict=True))
    slow = [cosines(grams, [t], [u])[0] for t, d in both for u, e in both if d != e]
    assert strangers(grams, texts, documents) == pytest.approx(np.mean(slow))


def test_what_does_not_belong_together_is_refused(world):
    one, two = (Measured(*[np.ones(n)] * 3) for n in (1, 2))
    with pytest.raises(DataError, match="same items"):
        item_parts(one, two, two, strangers=0.0)
    with pytest.raises(DataError, match="same items"):
        aggregate_scores(np.ones((2, 3)), world.draws)
    with pytest.raises(DataError, match="same items"):
        names_kept(["a"], ["a", "b"], world.draws)
    with pytest.raises(DataError, match="two documents"):
        strangers(world.grams, ["a", "b"], ["x", "x"])
    with pytest.raises(DataError, match="all are empty"):
        CharGrams.fit(["", " "])
