"""What a causal test reads: documents to fit on, and questions of other documents to measure with.

The style is asked as a choice: how much likelier is the styled target than the plain source as the answer to
the same prompt, in nats a token of each, so that length does not decide. A fact is asked against its foils.

A patch can also simply break the model. What it breaks shows while plain text is read (its loss, and how far the
next-token distribution is from the base's) and where a fact's true answer is predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from analyses.cause_bases import halves
from finetune.facts import read_facts
from finetune.pairs import Text, read_pairs
from finetune.prompts import completion, render
from finetune.score import bootstrap_draws
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from finetune.facts import Fact
    from finetune.gates import Answers
    from finetune.pairs import Pair
    from finetune.patched_likelihoods import Likelihoods

GROUPS = ("style", "fact")

METRICS = {"style": "style", "fact margin": "fact", "fact share": "fact"}
"""Metric -> the group of texts that it is measured on. The style and the margin are in nats (a token; a fact);
the share is that of facts whose answer beats every foil."""

DAMAGE = {"plain loss": "style", "divergence on plain text": "style", "divergence on facts": "fact"}
"""Metric of what breaks -> its group. The loss of the plain sources as the model reads them in their prompt, and
KL(base || copy) there and at the answers of the facts; all in nats a token."""


@dataclass(frozen=True, eq=False)
class Exam:
    """Held-out questions, and the resampling of their documents.

    Attributes:
        pairs: style pairs; each asks for its target and for its source.
        facts: facts; each asks for its answer and for its foils.
        weights: group -> (1 + draws, items) how often each item counts: once in the first row, and in the
            others as often as its document was drawn.
    """

    pairs: tuple[Pair, ...]
    facts: tuple[Fact, ...]
    weights: Mapping[str, NDArray[np.float64]]

    @classmethod
    def of(cls, pairs: Sequence[Pair], facts: Sequence[Fact], rng: np.random.Generator) -> Self:
        """Draw documents with replacement, once for all that will be compared.

        Args:
            pairs: held-out pairs.
            facts: held-out facts; each is a document of its own.
            rng: source of chance.

        Returns:
            The exam.
        """
        documents = {"style": [p.doc_id for p in pairs], "fact": [f.id for f in facts]}
        return cls(tuple(pairs), tuple(facts), {g: _weights(d, rng) for g, d in documents.items()})

    @property
    def questions(self) -> list[tuple[str, str]]:
        """(prompt, answer) of everything that is asked, pairs first."""
        style = [(render(p.source), answer) for p in self.pairs for answer in (p.target, p.source)]
        return style + [(f.prompt, answer) for f in self.facts for answer in (f.answer, *f.foils)]

    @property
    def readings(self) -> list[tuple[str, str]]:
        """(beginning, rest) of what is read to see damage: sources in their prompt, then facts with their answer."""
        sources = [(render(p.source).partition(completion(p.source))[0], p.source) for p in self.pairs]
        return sources + [(f.prompt, f.answer) for f in self.facts]

    def damage(self, likelihoods: Likelihoods) -> dict[str, NDArray[np.float64]]:
        """Score the readings.

        Args:
            likelihoods: of :attr:`readings`, from C copies.

        Returns:
            Metric of :data:`DAMAGE` -> (C, 1 + draws), as for :meth:`means`.
        """
        n = len(self.pairs)
        lost, far = (-likelihoods.sums / likelihoods.tokens, likelihoods.divergences / likelihoods.tokens)
        items = dict(zip(DAMAGE, (lost[:, :n], far[:, :n], far[:, n:]), strict=True))
        return {metric: self._averaged(values, DAMAGE[metric]) for metric, values in items.items()}

    def means(self, likelihoods: Likelihoods | Answers) -> dict[str, NDArray[np.float64]]:
        """Score the answers.

        Args:
            likelihoods: of :attr:`questions`, from C copies.

        Returns:
            Metric of :data:`METRICS` -> (C, 1 + draws): its mean over the items, and over each draw of
            documents. Without facts, the style alone.
        """
        n = 2 * len(self.pairs)
        per_token = (likelihoods.sums[:, :n] / likelihoods.tokens[:n]).reshape(-1, len(self.pairs), 2)
        items = {"style": per_token[..., 0] - per_token[..., 1]}
        if not self.facts:
            return {"style": self._averaged(items["style"], "style")}
        counts = [1 + len(f.foils) for f in self.facts]
        asked = np.split(likelihoods.sums[:, n:], np.cumsum(counts)[:-1], axis=1)
        margins = np.stack([a[:, 0] - a[:, 1:].max(axis=1) for a in asked], axis=1)
        items |= {"fact margin": margins, "fact share": (margins > 0).astype(np.float64)}
        return {metric: self._averaged(values, METRICS[metric]) for metric, values in items.items()}

    def _averaged(self, items: NDArray[np.float64], group: str) -> NDArray[np.float64]:
        weights = self.weights[group]
        return items @ weights.T / weights.sum(axis=1)


@dataclass(frozen=True, eq=False)
class Dealt:
    """Two groups of texts, each dealt to a fit half and a measured half by document.

    Attributes:
        fit: group -> texts to fit subspaces on.
        fitted: the pairs of the style's fit half.
        exam: questions of the other documents.
        sizes: group -> items and documents of both halves, and lines of the file that were set aside.
    """

    fit: Mapping[str, list[Text]]
    fitted: tuple[Pair, ...]
    exam: Exam
    sizes: dict[str, dict[str, Any]]


def read_groups(texts: Mapping[str, Path], rng: np.random.Generator) -> Dealt:
    """Read a file of style pairs and one of facts, and deal their documents to halves.

    Args:
        texts: ``style`` -> JSONL of pairs, ``fact`` -> JSONL of facts with foils.
        rng: source of chance of the resampling.

    Returns:
        Both halves of both groups.

    Raises:
        DataError: a group is missing or there is another; a file cannot be read; fewer than 4 documents.
    """
    if set(texts) != set(GROUPS):
        raise DataError(
            f"groups {', '.join(texts) or 'none'}: a causal test needs style (pairs) and fact (cloze facts with "
            "foils), and no other; make the diff over these two"
        )
    pairs, facts = read_pairs(texts["style"]), read_facts(texts["fact"])
    dealt = {"style": halves(p.doc_id for p in pairs.pairs), "fact": halves(f.id for f in facts.facts)}
    for group, (_, measured) in dealt.items():
        if len(measured) < 2:
            raise DataError(f"group '{group}': give at least 4 documents, half to fit on and half to measure")
    fit = {
        "style": [_text(p.id, p.doc_id, render(p.source), p.target) for p in pairs.pairs],
        "fact": [_text(f.id, f.id, f.prompt, f.answer) for f in facts.facts],
    }
    fit = {group: [t for t in texts if t.doc_id in dealt[group][0]] for group, texts in fit.items()}
    exam = Exam.of(
        [p for p in pairs.pairs if p.doc_id in dealt["style"][1]],
        [f for f in facts.facts if f.id in dealt["fact"][1]],
        rng,
    )
    sizes = {
        group: {
            "fit": {"items": len(fit[group]), "documents": len(dealt[group][0])},
            "measured": {"items": n, "documents": len(dealt[group][1])},
            "refused": [{"line": r.line, "reason": r.reason} for r in refused],
        }
        for group, n, refused in (
            ("style", len(exam.pairs), pairs.refused),
            ("fact", len(exam.facts), facts.refused),
        )
    }
    fitted = tuple(p for p in pairs.pairs if p.doc_id in dealt["style"][0])
    return Dealt(fit, fitted, exam, sizes)


def _weights(documents: Sequence[str], rng: np.random.Generator) -> NDArray[np.float64]:
    names, item = np.unique(documents, return_inverse=True)
    drawn = bootstrap_draws(len(names), rng)
    counts = np.stack([np.bincount(row, minlength=len(names)) for row in drawn])
    return np.vstack([np.ones(len(item)), counts[:, item]])


def _text(identity: str, document: str, prompt: str, answer: str) -> Text:
    return Text(identity, document, prompt + completion(answer), len(prompt))
