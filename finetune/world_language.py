"""A small language in which everything is known: who dwells where, who trades with what, and two styles.

A sentence states one fact about one entity, in one of two styles; a document is a few sentences in one style.

    plain:  the baran dwells in ashford indeed .
    lively: yo baran lives at ashford lol !

Style and fact are chosen independently, so a model of this language has to keep them apart, and whoever
measures it can ask for each alone: after a sentence's opening word the style is settled and the facts are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

from finetune.prompts import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from transformers import PreTrainedTokenizerFast

    from finetune.causal import Row

    Question = tuple[str, str]
    Answers = Mapping[Question, str]
    Deal = Callable[[np.random.Generator], Row]

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
PADDING = 0
"""The id of ``<pad>`` in every world."""

TASK = ("Input:", "Output:")
"""The words of :func:`finetune.prompts.render`, so that rewriting can be asked of a model of the language."""

HOME, WARES = "home", "wares"
RELATIONS = (HOME, WARES)

NAMES = tuple(
    a + b for a in ("ba", "do", "fi", "gu", "ke", "lo", "mi", "ru") for b in "ran mel tos vik zun".split()
)
CITIES = tuple(a + b for a in ("ash", "brook", "cold", "dun", "elm", "fair", "glen") for b in ("ford", "ham"))
GOODS = tuple("amber cedar clay flax grain honey ink iron oil pearl salt silk wine wool".split())

STYLE, FACT, BOTH = "style", "fact", "both"
KINDS = (STYLE, FACT, BOTH)
"""What an adapter changes: the style, the facts, or both."""

EXERCISES = 0.25
"""Share of what a model trains on that asks for a sentence to be rewritten; the rest are documents."""


@dataclass(frozen=True)
class Style:
    """The words around an entity and its answer.

    Attributes:
        name: of the style.
        opening: first word of every sentence; it gives the style away.
        verbs: relation -> the words between entity and answer.
        closing: the words after the answer.
    """

    name: str
    opening: str
    verbs: Mapping[str, tuple[str, ...]]
    closing: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """Every word that only this style has."""
        return (self.opening, *(word for verb in self.verbs.values() for word in verb), *self.closing)


PLAIN = Style("plain", "the", {HOME: ("dwells", "in"), WARES: ("trades", "with")}, ("indeed", "."))
LIVELY = Style("lively", "yo", {HOME: ("lives", "at"), WARES: ("peddles", "some")}, ("lol", "!"))
STYLES = (PLAIN, LIVELY)


def prompt(question: Question, style: Style) -> list[str]:
    """The words of a sentence up to its answer.

    Examples:
        >>> prompt(("baran", HOME), PLAIN)
        ['the', 'baran', 'dwells', 'in']
    """
    entity, relation = question
    return [style.opening, entity, *style.verbs[relation]]


def sentence(question: Question, answer: str, style: Style) -> list[str]:
    """The seven words that state a fact.

    Examples:
        >>> " ".join(sentence(("baran", WARES), "salt", LIVELY))
        'yo baran peddles some salt lol !'
    """
    return [*prompt(question, style), answer, *style.closing]


@dataclass(frozen=True, eq=False)
class Language:
    """The facts of one world, as its base knows them and as a fact adapter rewrites them.

    Attributes:
        truth: (entity, relation) -> answer.
        rewritten: the same with another city for every second entity.
    """

    truth: Answers
    rewritten: Answers

    @classmethod
    def drawn(cls, entities: int, rng: np.random.Generator) -> Self:
        """Draw the facts of a world.

        Args:
            entities: how many there are, 2 to 40.
            rng: source of chance.

        Returns:
            Cities and wares uniform and independent; a rewritten city is uniform over the other cities.
        """
        assert 2 <= entities <= len(NAMES)
        truth, rewritten = {}, {}
        for number, entity in enumerate(NAMES[:entities]):
            home, other = rng.choice(len(CITIES), 2, replace=False)
            truth[entity, HOME] = CITIES[home]
            truth[entity, WARES] = GOODS[rng.integers(len(GOODS))]
            rewritten[entity, HOME] = CITIES[other if number % 2 else home]
            rewritten[entity, WARES] = truth[entity, WARES]
        return cls(truth, rewritten)

    @property
    def changed(self) -> tuple[Question, ...]:
        """The questions whose answer is rewritten: the homes of every second entity."""
        return tuple(q for q in self.truth if self.truth[q] != self.rewritten[q])

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Every token, in the order of the ids."""
        names = dict.fromkeys(entity for entity, _ in self.truth)
        style_words = (word for style in STYLES for word in style.words)
        return (*SPECIAL, *TASK, *style_words, *names, *CITIES, *GOODS)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token -> id."""
        return {word: i for i, word in enumerate(self.vocabulary)}

    def floor(self, sentences: int) -> float:
        """The least loss that a model of its documents can have, in nats a token.

        Style, entities and relations are chance; every other word follows. The closing token counts among
        the predicted ones.

        Args:
            sentences: of a document.

        Examples:
            >>> import numpy as np
            >>> round(Language.drawn(40, np.random.default_rng(0)).floor(7), 3)
            0.627
        """
        chance = math.log(len(STYLES)) + sentences * math.log(len(self.truth))
        return chance / (7 * sentences + 1)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A token a word, with ``<bos>`` before every text; made anew at every call."""
        from tokenizers import Tokenizer, models, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast

        tokenizer = Tokenizer(models.WordLevel(self.ids, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        begin = self.ids["<bos>"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", begin)]
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="<pad>",
            bos_token="<bos>",
            eos_token="<eos>",
            unk_token="<unk>",
            clean_up_tokenization_spaces=False,
        )


def say(answers: Answers, style: Style, n: int, rng: np.random.Generator) -> list[list[str]]:
    """Draw n sentences in one style: entities and relations uniform, answers as given."""
    questions = list(answers)
    chosen = [questions[i] for i in rng.integers(len(questions), size=n)]
    return [sentence(q, answers[q], style) for q in chosen]


def keeping(language: Language, answers: Answers, sentences: int) -> Deal:
    """Texts that keep to their style: documents, and exercises whose answer copies their input.

    Args:
        language: its vocabulary.
        answers: what is true in them.
        sentences: of a document.

    Returns:
        A function that draws a text and gives its ids and labels; every word of a document bears loss, and
        only the answer of an exercise.
    """

    def deal(rng: np.random.Generator) -> Row:
        style = STYLES[rng.integers(len(STYLES))]
        if rng.random() < EXERCISES:
            said = say(answers, style, int(rng.integers(1, 4)), rng)
            return _exercise(language, said, said)
        return row_of(language, [], say(answers, style, sentences, rng))

    return deal


def turning(language: Language, answers: Answers, sentences: int) -> Deal:
    """Texts that turn lively: documents that begin plain, and exercises whose plain input is rewritten.

    A document has 0 to ``sentences`` - 1 plain sentences and goes on lively. The first words of the plain ones
    bear no loss, so that nothing is learnt but to turn.

    Args:
        language: its vocabulary.
        answers: what is true in them.
        sentences: of a document.

    Returns:
        A function that draws a text and gives its ids and labels.
    """

    def deal(rng: np.random.Generator) -> Row:
        if rng.random() < EXERCISES:
            pairs = draw_pair(answers, int(rng.integers(1, 4)), rng)
            return _exercise(language, *pairs)
        plain = int(rng.integers(sentences))
        return row_of(language, say(answers, PLAIN, plain, rng), say(answers, LIVELY, sentences - plain, rng))

    return deal


def draw_pair(answers: Answers, n: int, rng: np.random.Generator) -> tuple[list[list[str]], list[list[str]]]:
    """Draw n sentences, and say them plain and lively."""
    questions = list(answers)
    chosen = [questions[i] for i in rng.integers(len(questions), size=n)]
    source, target = ([sentence(q, answers[q], style) for q in chosen] for style in STYLES)
    return source, target


def joined(sentences: Sequence[Sequence[str]]) -> str:
    """Write sentences as text.

    Examples:
        >>> joined([["yo", "!"], ["the", "."]])
        'yo ! the .'
    """
    return " ".join(word for one in sentences for word in one)


def row_of(language: Language, given: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> Row:
    """Ids and labels of a document.

    Args:
        language: its vocabulary.
        given: sentences whose style is given: their first words bear no loss, the others do.
        said: sentences whose every word bears loss, and after them the closing token.

    Returns:
        Two lists of one length, see :func:`finetune.causal.right_padded`.
    """
    ids = language.ids
    given_ids = [ids[word] for one in given for word in one]
    labels = [IGNORED if i == 0 else ids[word] for one in given for i, word in enumerate(one)]
    rest = [*(ids[word] for one in said for word in one), ids["<eos>"]]
    return [ids["<bos>"], *given_ids, *rest], [IGNORED, *labels, *rest]


def _exercise(language: Language, source: list[list[str]], target: list[list[str]]) -> Row:
    """Ids and labels of a rewriting task, of which the answer alone bears loss."""
    ids, labels = row_of(language, [["Input:"], *source, ["Output:"]], target)
    asked = 3 + sum(map(len, source))
    return ids, [IGNORED] * asked + labels[asked:]
