"""How strong a neutralisation is: what is left of the wording, and whether a judge still hears the style."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.entities import words
from finetune.passages import Bounds, read_others
from finetune.score import bleu, bootstrap_draws, chrf
from finetune.style import StyleClassifier
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from analyses.neutralise_run import NeutraliseRequest, Similarity
    from finetune.pairs import Text
    from finetune.round_trips import Trip
    from finetune.score import Score

JUDGED = 1500
"""Sentences, at most, on which the strength of a neutralisation is measured."""


def strengths(
    request: NeutraliseRequest,
    texts: Sequence[Text],
    ways: Mapping[str, list[list[Trip]]],
    similarity: Similarity | None,
    rng: np.random.Generator,
    progress: Callable[[str, float], None],
) -> list[dict[str, Any]]:
    """Measure how far each number of trips through each engine takes the sentences.

    Args:
        request: what was neutralised; its corpus is read again for other text to judge by.
        texts: the sentences.
        ways: engine -> the trips of all sentences, first trip, second and so on.
        similarity: compares embeddings; None leaves this out.
        rng: draws the sample and the intervals.
        progress: is told what is done and the share.

    Returns:
        A record for each engine and number of trips, all on one sample of at most ``JUDGED`` sentences and on the
        same draws.
    """
    chosen = np.sort(rng.permutation(len(texts))[:JUDGED])
    styled = [texts[i].text for i in chosen]
    groups = [texts[i].doc_id for i in chosen]
    draws = bootstrap_draws(len(chosen), rng)
    against = _outside_judge(request, texts, chosen, rng)
    found = []
    rounds = [
        (name, number, trips) for name, way in ways.items() for number, trips in enumerate(way, start=1)
    ]
    for done, (name, number, trips) in enumerate(rounds):
        progress(f"measuring {name}, trip {number}", done / len(rounds))
        neutral = [trips[i].text for i in chosen]
        cosine = similarity(styled, neutral) if similarity else None
        found.append({
            "engine": name,
            "trips": number,
            "n": len(chosen),
            "bleu": _score(bleu(neutral, styled, draws)),
            "chrf": _score(chrf(neutral, styled, draws)),
            "length_ratio": float(
                np.mean([len(t.split()) for t in neutral]) / np.mean([len(t.split()) for t in styled])
            ),
            "similarity": None
            if cosine is None
            else {"mean": float(cosine.mean()), "sd": float(cosine.std())},
            **_judged(neutral, styled, groups, rng),
            **(against(neutral) if against else {}),
        })
    return found


def _judged(
    neutral: list[str], styled: list[str], groups: list[str], rng: np.random.Generator
) -> dict[str, Any]:
    """How well a judge tells both sides apart, trained on them with whole documents held out."""
    whole = [i for i, text in enumerate(neutral) if words(text)]
    judge = StyleClassifier.fit(*([side[i] for i in whole] for side in (neutral, styled, groups)), rng=rng)
    return {"judge": {name: _score(getattr(judge, name)) for name in ("floor", "ceiling", "accuracy")}}


def _outside_judge(
    request: NeutraliseRequest, texts: Sequence[Text], chosen: NDArray[np.int64], rng: np.random.Generator
) -> Callable[[list[str]], dict[str, Any]] | None:
    """A judge that tells the style from the other records of the corpus, and has read neither side's documents.

    It is the paper's kind of judge: trained on real text of both kinds, never on translations. Half of the
    documents train it, the other half is judged.
    """
    if not request.fields.where:
        return None
    bounds = Bounds(**{**asdict(request.bounds), "most": len(texts)})
    try:
        others = read_others(request.corpus, request.fields, bounds, split=request.split, rng=rng).texts
    except DataError:
        return None
    documents = list(dict.fromkeys(texts[i].doc_id for i in chosen))
    held = set(documents[1::2])
    place = {int(i): at for at, i in enumerate(chosen)}
    judged = [i for i in place if texts[i].doc_id in held]
    learnt = [texts[i] for i in place if texts[i].doc_id not in held]
    others = [others[i] for i in rng.permutation(len(others))[: len(learnt)]]
    n = min(len(learnt), len(others))
    if len(judged) < 2 or n < 2:
        return None
    judge = StyleClassifier.fit(
        [t.text for t in others[:n]], [t.text for t in learnt[:n]], [t.doc_id for t in learnt[:n]], rng=rng
    )
    draws = bootstrap_draws(len(judged), rng)
    original = _score(judge.rate([texts[i].text for i in judged], draws))

    def rate(neutral: list[str]) -> dict[str, Any]:
        rated = judge.rate([neutral[place[i]] for i in judged], draws)
        return {"outside": {"neutral": _score(rated), "original": original, "others": _score(judge.floor)}}

    return rate


def _score(score: Score) -> dict[str, Any]:
    plain = {"value": score.value, "low": score.low, "high": score.high, "n": score.n}
    return plain | ({"signature": score.signature} if score.signature else {})
