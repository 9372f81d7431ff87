"""Systems that rewrite, scored on the same items and compared with each other: the numbers of ``repgeo score``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.score_systems import COPY, REFERENCE, Wanted, read_outputs
from analyses.score_writing import write_all
from finetune.aggregates import Measured, aggregate_scores, item_parts
from finetune.changes import changes_by_kind
from finetune.content import CharGrams, cosines, length_ratio, names_kept, numbers_added, strangers
from finetune.contests import contests
from finetune.facts import facts_kept
from finetune.fluency import perplexity
from finetune.judges import CrossFitted
from finetune.leaks import leaking, leaks
from finetune.score import bleu, chrf, document_draws, mean_score, numbers_kept
from finetune.style import StyleClassifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from analyses.score_systems import Written
    from finetune.content import Embedding
    from finetune.judges import Judge
    from finetune.pairs import Pair
    from finetune.score import Score
    from geometry.live.models import Loaded

COMPARED = ("J", "judged_styled", "bleu", "chrf")
"""Scores by which all systems are tested against each other."""


@dataclass(frozen=True)
class ScoreRequest:
    """What is scored, and by whom it is judged.

    Attributes:
        test: the pairs that every system answers.
        outputs: name -> file of what a system wrote elsewhere.
        wanted: the systems that are made here.
        judged_by: pairs that the judge of style learns from; none lets it learn from the test's own other
            documents.
        judge: a judge that somebody else trained, in place of that.
        embedding: of likeness of content; None goes by character n-grams.
        exchanges: of each paired test.
        seed: of draws and exchanges.
        quotable: whether sentences may stand on the page.
    """

    test: tuple[Pair, ...]
    outputs: Mapping[str, Path] = field(default_factory=dict)
    wanted: Wanted = field(default_factory=Wanted)
    judged_by: tuple[Pair, ...] = ()
    judge: Judge | None = None
    embedding: Embedding | None = None
    exchanges: int = 2000
    seed: int = 0
    quotable: bool = True


def score(
    request: ScoreRequest,
    base: Loaded | None,
    *,
    progress: Callable[[str, float], None],
    keep: Path | None = None,
) -> dict[str, Any]:
    """Let all systems answer, score them, and compare them.

    Args:
        request: what is scored.
        base: for prompts, adapters, fluency and facts; None leaves these out.
        progress: is told what is done and the share.
        keep: folder for the answers of systems that are done, to go on from after a kill.

    Returns:
        Every number, as JSON values but for NumPy's.

    Raises:
        DataError: outputs that do not answer the test, or data that cannot be used.
        InputError: whatever a model, an adapter or an engine refuses.
    """
    test, rng = request.test, np.random.default_rng(request.seed)
    given = {name: read_outputs(path, test) for name, path in request.outputs.items()}
    written = write_all(test, given, request.wanted, base, progress, keep=keep)
    progress("scoring", 1.0)
    documents = [pair.doc_id for pair in test]
    draws = document_draws(documents, rng)
    judge, trained = _judge(request, rng)
    embedding = request.embedding or CharGrams.fit(_all_texts(request))
    yard = _Yard(test, draws, judge, embedding, strangers(embedding, [p.source for p in test], documents))
    scored, tells = yard.scores(written)
    compared = {
        name: [
            asdict(one) | {"sure": one.sure}
            for one in contests(
                {s: row[name] for s, row in scored.items() if s != REFERENCE and name in row},
                documents, rng, times=request.exchanges,
            )
        ]
        for name in COMPARED
    }  # fmt: skip
    parts = {"train": request.wanted.train, "test": test} if request.wanted.train else {"test": test}
    return {
        "n": len(test),
        "documents": len(set(documents)),
        "tells": tells,
        "systems": {
            name: {"how": s.how, "seconds": s.seconds, "model": s.model,
                   "empty": sum(not o.strip() for o in s.outputs)}
            for name, s in written.systems.items()
        },
        "scores": {name: {m: plain_score(v) for m, v in row.items()} for name, row in scored.items()},
        "contests": compared,
        "judge": trained,
        "content": {"embedding": embedding.name, "strangers": yard.strangers},
        "fluency": bool(written.losses),
        "facts": _facts(written, rng),
        "changes": {
            name: changes_by_kind(s.outputs, [p.source for p in test], [p.target for p in test])
            for name, s in written.systems.items()
            if name != COPY
        },
        "learnt": {"rules": written.rules, "terms": written.terms, "pairs": len(request.wanted.train)},
        "shared": leaking(leaks(parts)),
        "samples": _samples(test, written) if request.quotable else [],
    }  # fmt: skip


def plain_score(score: Score) -> dict[str, Any]:
    """Write a score as JSON values: value, interval, number of items, signature."""
    found = {"value": score.value, "low": score.low, "high": score.high, "n": score.n}
    return found | ({"signature": score.signature} if score.signature else {})


@dataclass(frozen=True, eq=False)
class _Yard:
    """Everything that all systems are measured by."""

    test: Sequence[Pair]
    draws: NDArray[np.int32]
    judge: Judge
    embedding: Embedding
    strangers: float

    def scores(self, written: Written) -> tuple[dict[str, dict[str, Score]], int]:
        """Score every system; also the number of items that can tell anything by the aggregates."""
        measured = {
            name: self._measured(system.outputs, written.losses.get(name))
            for name, system in written.systems.items()
        }
        found, tells = {}, 0
        for name, system in written.systems.items():
            parts = item_parts(measured[name], measured[COPY], measured[REFERENCE], strangers=self.strangers)
            tells = int((~np.isnan(parts[:, 0])).sum())
            found[name] = aggregate_scores(parts, self.draws) | self._single(system.outputs, measured[name])
            if name in written.losses:
                found[name]["perplexity"] = perplexity(written.losses[name], self.draws)
        return found, tells

    def _measured(self, outputs: Sequence[str], losses: NDArray[np.float64] | None) -> Measured:
        return Measured(
            self.judge.probability(outputs),
            cosines(self.embedding, outputs, [pair.source for pair in self.test]),
            np.zeros(len(outputs)) if losses is None else losses[:, 0] / losses[:, 1],
        )

    def _single(self, outputs: Sequence[str], measured: Measured) -> dict[str, Score]:
        sources, targets = [p.source for p in self.test], [p.target for p in self.test]
        draws = self.draws
        return {
            "judged_styled": mean_score("judged styled", (measured.style >= 0.5).astype(float), draws),
            "bleu": bleu(outputs, targets, draws),
            "chrf": chrf(outputs, targets, draws),
            "bleu_to_input": bleu(outputs, sources, draws),
            "chrf_to_input": chrf(outputs, sources, draws),
            "like_reference": mean_score("likeness", cosines(self.embedding, outputs, targets), draws),
            "like_input": mean_score("likeness", measured.likeness, draws),
            "numbers_kept": numbers_kept(outputs, sources, draws),
            "numbers_added": numbers_added(outputs, sources, draws),
            "names_kept": names_kept(outputs, sources, draws),
            "length": length_ratio(outputs, sources, draws),
        }


def _judge(request: ScoreRequest, rng: np.random.Generator) -> tuple[Judge, dict[str, Any]]:
    """The judge of style, and what it is worth on texts that it has not read."""
    if request.judge is not None:
        return request.judge, {"kind": "given", "name": getattr(request.judge, "name", "given")}
    learnt = request.judged_by
    if not learnt:
        sides = [p.source for p in request.test], [p.target for p in request.test]
        return CrossFitted.fit(*sides, [p.doc_id for p in request.test]), {"kind": "cross-fitted"}
    own = {pair.doc_id for pair in request.test}
    learnt = [pair for pair in learnt if pair.doc_id not in own]
    judge = StyleClassifier.fit(
        [p.source for p in learnt], [p.target for p in learnt], [p.doc_id for p in learnt], rng=rng
    )
    trained = {p.id for p in request.wanted.train}
    return judge, {
        "kind": "pairs",
        "pairs": len(learnt),
        "left_out": len(request.judged_by) - len(learnt),
        "also_trained_on": sum(p.id in trained for p in learnt),
        **{name: plain_score(getattr(judge, name)) for name in ("ceiling", "floor", "accuracy")},
    }


def _all_texts(request: ScoreRequest) -> list[str]:
    """Texts that n-grams are weighed by: both sides of all pairs, and nothing that a system wrote."""
    pairs = [*request.test, *request.wanted.train]
    return [text for pair in pairs for text in (pair.source, pair.target)]


def _facts(written: Written, rng: np.random.Generator) -> dict[str, Any]:
    if not written.facts:
        return {}
    base = written.facts["base"]
    found = {"asked": len(base), "models": {}}
    for name, asked in written.facts.items():
        kept = facts_kept(base, asked, rng)
        found["models"][name] = {
            "known": sum(f.known for f in asked),
            "styled_known": sum(f.styled_known for f in asked),
            "kept": plain_score(kept.kept),
            "styled_kept": plain_score(kept.styled_kept),
            "learnt": plain_score(kept.learnt),
            "forgotten": list(kept.forgotten),
        }
    return found


def _samples(test: Sequence[Pair], written: Written) -> list[dict[str, Any]]:
    return [
        {
            "id": pair.id,
            "source": pair.source,
            "outputs": {name: s.outputs[i] for name, s in written.systems.items() if name != COPY},
        }
        for i, pair in enumerate(test)
    ]
