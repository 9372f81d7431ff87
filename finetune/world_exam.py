"""What a model of a world says: which style it writes in, and which facts it holds true, by its likeliest words.

The grammar settles what every next word can be, so nothing has to be judged: after a finished sentence the
next word opens a sentence of one style or the other, and after "the baran dwells in" it is a city, the old
one or the new. The same questions are put to the base, the adapted model, random adapters and patched copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from finetune.causal import right_padded
from finetune.patched import Patch, patched_logits
from finetune.world_language import HOME, LIVELY, PADDING, PLAIN, STYLES, prompt, say, sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from finetune.adapter import Attached
    from finetune.world_language import Language, Question

CONTEXTS, LONGEST = 40, 4
"""Plain texts after which the style is read, and how many sentences they have at most."""

WRITTEN = 16
"""How many of them are continued for a whole sentence."""

TOGETHER = 12
"""Patched copies in one forward pass, beside base and adapted model."""

READINGS = ("style", "old", "new", "kept")
"""``style``: share of plain texts that are continued lively. ``old``: share of the homes that are answered as
the base knows them; where a fact adapter rewrites every second one, half is what is left. ``new``: share of the
rewritten homes that are answered in the new way. ``kept``: share of the facts that nobody rewrites that are
answered right."""


@dataclass(frozen=True, eq=False)
class Exam:
    """Questions about style and facts, as token ids.

    Attributes:
        language: of the world.
        contexts: beginnings of documents, a few plain sentences each.
        questions: what each prompt asks.
        prompts: first sentences up to their answer; every question is asked plain and lively.
    """

    language: Language
    contexts: tuple[list[int], ...]
    questions: tuple[Question, ...]
    prompts: tuple[list[int], ...]

    @classmethod
    def drawn(cls, language: Language, sentences: int, rng: np.random.Generator) -> Self:
        """Draw the plain texts, and ask about every fact.

        Args:
            language: of the world.
            sentences: of a document; the plain texts have less.
            rng: source of chance.
        """

        def ids(words: Sequence[str]) -> list[int]:
            return [language.ids[word] for word in ("<bos>", *words)]

        longest = min(LONGEST, sentences - 1)
        drawn = (say(language.truth, PLAIN, 1 + i % longest, rng) for i in range(CONTEXTS))
        asked = [(question, style) for question in language.truth for style in STYLES]
        return cls(
            language,
            tuple(ids([word for one in said for word in one]) for said in drawn),
            tuple(question for question, _ in asked),
            tuple(ids(prompt(question, style)) for question, style in asked),
        )

    def score(self, openings: NDArray[np.int64], answers: NDArray[np.int64]) -> dict[str, float]:
        """Turn the likeliest next tokens into the shares of :data:`READINGS`.

        Args:
            openings: (contexts,) ids.
            answers: (prompts,) ids.

        Returns:
            Reading -> share in [0, 1].
        """
        language, changed = self.language, set(self.language.changed)
        old = np.array([language.ids[language.truth[q]] for q in self.questions])
        new = np.array([language.ids[language.rewritten[q]] for q in self.questions])
        of_changed = np.array([q in changed for q in self.questions])
        homes = np.array([relation == HOME for _, relation in self.questions])
        return {
            "style": float((openings == language.ids[LIVELY.opening]).mean()),
            "old": float((answers == old)[homes].mean()),
            "new": float((answers == new)[of_changed].mean()),
            "kept": float((answers == old)[~of_changed].mean()),
        }


def ask(attached: Attached, exam: Exam, patches: Sequence[Patch] = ()) -> list[dict[str, float]]:
    """Put every question to the base, the adapted model and patched copies.

    Args:
        attached: the attached adapter.
        exam: the questions.
        patches: of :mod:`finetune.patched`; ``Patch({}, name)`` is another adapter on the model, untouched.

    Returns:
        Readings of the base, of the adapted model, and of each patched copy in order.
    """
    copies: list[dict[str, float]] = []
    for first in range(0, max(1, len(patches)), TOGETHER):
        some = patches[first : first + TOGETHER]
        found = (_likeliest(attached, texts, some) for texts in (exam.contexts, exam.prompts))
        scores = [exam.score(*pair) for pair in zip(*found, strict=True)]
        copies += scores[2:] if copies else scores
    return copies


def written_lively(attached: Attached, exam: Exam, patch: Patch) -> float:
    """Let a patched copy write on greedily, a sentence after each plain text.

    Every token is read and written by the copy; base and adapted model read what it wrote, and the patch takes
    its part out of their difference there.

    Args:
        attached: the attached adapter.
        exam: its first :data:`WRITTEN` contexts are continued.
        patch: which copy; ``Patch({}, BASE)`` and ``Patch({}, ADAPTER)`` are the models themselves.

    Returns:
        Share of the texts that are continued with a whole lively sentence, whatever entity and answer it names.
    """
    texts = [list(ids) for ids in exam.contexts[:WRITTEN]]
    length = len(sentence(exam.questions[0], "", LIVELY))
    for _ in range(length):
        for text, token in zip(texts, _likeliest(attached, texts, [patch])[2].tolist(), strict=True):
            text.append(token)
    return float(np.mean([_is_lively(exam.language, text[-length:]) for text in texts]))


def _is_lively(language: Language, ids: Sequence[int]) -> bool:
    words = [language.vocabulary[i] for i in ids]
    frames = [sentence(("", relation), "", LIVELY) for relation in LIVELY.verbs]
    return any(all(w == f for w, f in zip(words, frame, strict=True) if f) for frame in frames)


def _likeliest(attached: Attached, texts: Sequence[list[int]], patches: Sequence[Patch]) -> NDArray[np.int64]:
    """The likeliest token after each text, (2 + patches, texts)."""
    batch = right_padded([(ids, ids) for ids in texts], PADDING, device=attached.loaded.device)
    del batch["labels"]
    last = torch.tensor([len(ids) - 1 for ids in texts])
    with torch.inference_mode():
        logits = patched_logits(attached, batch, patches)
    return logits[:, torch.arange(len(texts)), last].argmax(-1).cpu().numpy()
