"""The causal test on a language model: train small ones on the corpus, its edits and their controls, and look.

Models read sentences with a member only, where all is learnt that a corpus says of the members. Those of one seed
start alike and read the same places, so that they differ by their corpora. Every member is read in the same
contexts, so that what differs between members is the word itself and not the company of a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geometry.checks import DataError
from geometry.corpus_edits import sentences
from geometry.words import cased

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from finetune.word_model import WordPlan
    from geometry.corpus_edits import Members

    Score = Callable[[NDArray[np.float64]], dict[str, float]]

CONTEXTS = 8
"""Contexts of each member; all members are read in all of them."""


@dataclass(frozen=True)
class ModelPlan:
    """What is trained.

    Attributes:
        shape: of each model, and its training.
        seeds: one model each.
        words: the vocabulary, members first.
    """

    shape: WordPlan
    seeds: tuple[int, ...]
    words: tuple[str, ...]


class ModelEye:
    """Trains models on texts and scores their members, in the contexts of the first texts that it sees."""

    def __init__(self, plan: ModelPlan, members: Members, score: Score) -> None:
        self.plan, self.members, self.score = plan, members, score
        self.contexts: list[NDArray[np.int64]] = []

    def look(self, texts: Iterable[str]) -> list[dict[str, Any]]:
        """Train and score.

        Args:
            texts: the corpus.

        Returns:
            For each seed ``seed``, ``loss`` (nats a word), ``rows`` (of training) and ``scores``: one mapping for
            the embedding and one for each block.

        Raises:
            DataError: no sentence with a member holds two words.
        """
        from finetune.word_model import train_words, word_rows, word_states

        plan, words = self.plan.shape, self.plan.words
        rows = word_rows(with_members(texts, self.members), words, cased, plan.context)
        if not self.contexts:
            self.contexts = contexts_of(rows, len(self.members.names), np.random.default_rng(0))
        found = []
        for seed in self.plan.seeds:
            model, loss = train_words(rows, len(words), plan, seed)
            clouds = word_states(model, self.contexts, range(len(self.members.names)))
            scores = [self.score(cloud.astype(np.float64)) for cloud in clouds]
            found.append({"seed": seed, "loss": loss, "rows": len(rows), "scores": scores})
        return found


def with_members(texts: Iterable[str], members: Members) -> Iterator[str]:
    """Sentences in which a member stands."""
    for text in texts:
        if members.pattern.search(text):
            yield from (sentence for sentence in sentences(text) if members.pattern.search(sentence))


def contexts_of(rows: NDArray[np.int64], n: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """What stands before members that are alone in their row: as many contexts of each member as can be had.

    Args:
        rows: tokens, members from 2 on, see :func:`finetune.word_model.word_rows`.
        n: number of members.
        rng: source of the choice.

    Returns:
        Rows of tokens, each of two or more, start token first; at most :data:`CONTEXTS` a member.

    Raises:
        DataError: there is none.
    """
    is_member = (rows >= 2) & (rows < n + 2)
    at = is_member.argmax(axis=1)
    single = np.flatnonzero((is_member.sum(axis=1) == 1) & (at >= 2))
    found: list[NDArray[np.int64]] = []
    for member in range(n):
        own = single[rows[single, at[single]] == member + 2]
        chosen: Sequence[int] = rng.permutation(own)[:CONTEXTS].tolist()
        found += [rows[row, : at[row]] for row in chosen]
    if not found:
        raise DataError(
            "word model: no member stands alone in a sentence, words before it; take a larger corpus"
        )
    return found
