"""A question hidden in a long context: where everything stands, in characters and in tokens.

A :class:`Case` is what does not depend on length: the needles that answer a question, the filler that hides
them, and the options. :func:`lay_out` makes a prompt of it, with as much filler as is asked for, and knows where
needles, their keys and values, rivals and the question stand; :func:`fitted` finds the filler that fills a
number of tokens. The text is the condition: nothing here needs a model, only its tokenizer.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from finetune.prompts import completion, token_spans
from geometry.checks import DataError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from transformers import PreTrainedTokenizerBase

Ranges = tuple[tuple[int, int], ...]
"""First and last + 1, ascending and apart."""


class Place(StrEnum):
    """Where the question stands; what the answer continues always ends the prompt."""

    last = "last"
    first = "first"
    both = "both"


@dataclass(frozen=True)
class Piece:
    """A sentence, record or document of a context.

    Attributes:
        text: as it stands there.
        marks: name -> ranges of characters inside it, such as ``key`` and ``value``.
        rival: whether it answers the same question about something else.
    """

    text: str
    marks: Mapping[str, Ranges] = field(default_factory=dict)
    rival: bool = False


class Filler:
    """Pieces that hide a needle: an iterator that can be read from its start again, as far as is needed."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        """Take pieces from any iterable; an endless one is never read further than asked."""
        self._rest: Iterator[Piece] = iter(pieces)
        self._read: list[Piece] = []

    def __iter__(self) -> Iterator[Piece]:
        """All pieces; whoever goes through them must be the only reader from then on."""
        return itertools.chain(tuple(self._read), self._rest)

    def take(self, n: int) -> list[Piece]:
        """Return the first n pieces; the same ones each time.

        Raises:
            DataError: there are fewer.
        """
        self._read += itertools.islice(self._rest, max(0, n - len(self._read)))
        if len(self._read) < n:
            raise DataError(
                f"the filler ends after {len(self._read)} pieces; give more text or a shorter length"
            )
        return self._read[:n]


@dataclass(frozen=True)
class Case:
    """A question with its needles, without the length and the place that they will have.

    Attributes:
        needles: pieces that together hold the answer, in order.
        filler: what hides them.
        question: the question.
        lead: what the answer continues, without a space at its end.
        answer: the right completion, without its leading space.
        foils: wrong completions of the same kind.
        head: what opens the prompt; may be empty.
        joint: what stands between two pieces.
        numbered: text before each piece, with ``{}`` for its number from 1; may be empty.
    """

    needles: tuple[Piece, ...]
    filler: Filler
    question: str
    lead: str
    answer: str
    foils: tuple[str, ...]
    head: str = ""
    joint: str = " "
    numbered: str = ""


@dataclass(frozen=True)
class Arrangement:
    """Where the needles and the question stand.

    Attributes:
        depth: share of the filler before the first needle, 0 to 1.
        spacing: how far the needles spread over what is left after the first: 0 side by side, 1 up to the end.
        question: where it stands.

    Raises:
        DataError: depth or spacing is not in 0 to 1.
    """

    depth: float = 0.5
    spacing: float = 0.0
    question: Place = Place.last

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("depth", "spacing"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{name}: expected a share from 0 to 1, got {getattr(self, name)}")

    def before(self, fill: int, needles: int) -> list[int]:
        """How many pieces of filler stand before each needle.

        Examples:
            >>> Arrangement(0.5).before(10, 2), Arrangement(0.5, spacing=1.0).before(10, 3)
            ([5, 5], [5, 8, 10])
        """
        reach = (1 - self.depth) * self.spacing / max(1, needles - 1)
        return [int(fill * (self.depth + i * reach) + 0.5) for i in range(needles)]


@dataclass(frozen=True)
class Question:
    """A prompt with what is asked and where everything stands.

    Attributes:
        prompt: ends in what the answer continues.
        answer: the right completion, without its leading space.
        foils: wrong ones.
        spans: name -> ranges of characters: ``needle``, ``key``, ``value``, ``rivals`` (if there are any),
            ``question``, and ``pieces`` (every piece, needles among them).
        pieces: how many pieces stand in it.
        rivals: how many of them are rivals.
    """

    prompt: str
    answer: str
    foils: tuple[str, ...]
    spans: Mapping[str, Ranges]
    pieces: int
    rivals: int

    @property
    def options(self) -> tuple[str, ...]:
        """The answer, then its foils."""
        return (self.answer, *self.foils)


def lay_out(case: Case, fill: int, arrangement: Arrangement) -> Question:
    r"""Write a prompt.

    Args:
        case: question and needles.
        fill: pieces of filler, 0 or more.
        arrangement: where the needles and the question stand.

    Returns:
        The prompt with its spans.

    Raises:
        DataError: the filler ends before.

    Examples:
        >>> case = Case((Piece("Key is 7."),), Filler([Piece("Rain."), Piece("Sun.")]), "Key?", "Key is", "7", ("8",))
        >>> found = lay_out(case, 2, Arrangement(0.5))
        >>> found.prompt
        'Rain. Key is 7. Sun.\n\nKey?\nKey is'
        >>> [found.prompt[a:b] for a, b in found.spans["needle"]]
        ['Key is 7.']
    """
    before = arrangement.before(fill, len(case.needles))
    return _written(case, _mixed(case.filler.take(fill), case.needles, before), arrangement.question)


def without_needles(case: Case, fill: int, arrangement: Arrangement) -> Question:
    """Write the prompt with the next pieces of filler in place of the needles.

    What a model gets right here it has not read: it is the floor of :func:`lay_out` with the same numbers.

    Args:
        case: question and needles.
        fill: pieces of filler besides those in place of the needles.
        arrangement: where the question stands.

    Returns:
        The prompt; its needle spans are empty.

    Raises:
        DataError: the filler ends before.
    """
    return _written(case, case.filler.take(fill + len(case.needles)), arrangement.question)


def fitted(
    case: Case, arrangements: Sequence[Arrangement], tokenizer: PreTrainedTokenizerBase, length: int
) -> int:
    """Find how much filler fills a context, the same for all places of its needles.

    Args:
        case: question and needles.
        arrangements: where they will stand.
        tokenizer: of the model that will be asked.
        length: tokens of prompt and longest option together.

    Returns:
        The most pieces with which the prompt, with needles and without, stays within ``length``.

    Raises:
        DataError: not even the needles alone fit, or the filler ends before the length is reached.
    """

    def fits(fill: int, places: Sequence[Arrangement]) -> bool:
        made = [lay_out(case, fill, place) for place in places]
        made.append(without_needles(case, fill, places[0]))
        return all(token_count(tokenizer, question) <= length for question in made)

    if not fits(0, arrangements):
        needed = token_count(tokenizer, lay_out(case, 0, arrangements[0]))
        raise DataError(f"length {length}: needles and question alone take {needed} tokens; ask for more")
    low, high = 0, 1
    while fits(high, arrangements[:1]):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle, arrangements[:1]) else (low, middle)
    # moved about, the same pieces may take a token more
    while not fits(low, arrangements):
        low -= 1
    return low


def token_count(tokenizer: PreTrainedTokenizerBase, question: Question) -> int:
    """Tokens of the prompt with its longest option, each tokenised alone."""
    options = tokenizer([completion(option) for option in question.options], add_special_tokens=False)[
        "input_ids"
    ]
    return len(token_spans(tokenizer, question.prompt, "")[0]) + max(map(len, options))


def token_ranges(
    tokenizer: PreTrainedTokenizerBase, text: str, spans: Mapping[str, Ranges]
) -> dict[str, Ranges]:
    """Find which tokens of a text make up spans of its characters.

    Args:
        tokenizer: a fast one, which knows where its tokens come from.
        text: what is tokenised, with the tokenizer's own opening tokens and no closing ones.
        spans: name -> ranges of characters.

    Returns:
        Name -> ranges of token indices. A token belongs to a span that it shares a character with.

    Raises:
        ModelError: the tokenizer does not tell where its tokens come from.
        DataError: a span does not survive tokenisation: no token is in it, or a token at its edge holds letters
            or digits of what stands beside it.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            "the tokenizer cannot tell where its tokens come from; take a fast one (tokenizer.json)"
        )
    found = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True,
        return_attention_mask=False,
    )  # fmt: skip
    opening = len(token_spans(tokenizer, text, "")[0]) - len(found["input_ids"])
    offsets = found["offset_mapping"]
    return {
        name: tuple(_tokens(offsets, text, name, one, opening) for one in ranges)
        for name, ranges in spans.items()
    }


def _mixed(fill: list[Piece], needles: tuple[Piece, ...], before: list[int]) -> list[Piece]:
    mixed, start = [], 0
    for needle, place in zip(needles, before, strict=True):
        mixed += [*fill[start:place], needle]
        start = place
    return mixed + fill[start:]


def _written(case: Case, pieces: list[Piece], place: Place) -> Question:
    text = ""
    spans: dict[str, list[tuple[int, int]]] = {"needle": [], "pieces": [], "question": [], "rivals": []}
    if case.head:
        text += f"{case.head}\n\n"
    if place is not Place.last:
        spans["question"].append((len(text), len(text) + len(case.question)))
        text += f"{case.question}\n\n"
    for number, piece in enumerate(pieces, 1):
        text += (case.joint if number > 1 else "") + case.numbered.format(number)
        here = (len(text), len(text) + len(piece.text))
        spans["pieces"].append(here)
        if any(piece is needle for needle in case.needles):
            spans["needle"].append(here)
            for name, marks in piece.marks.items():
                spans.setdefault(name, []).extend((len(text) + a, len(text) + b) for a, b in marks)
        elif piece.rival:
            spans["rivals"].append(here)
        text += piece.text
    text += "\n\n"
    if place is not Place.first:
        spans["question"].append((len(text), len(text) + len(case.question)))
        text += f"{case.question}\n"
    text += case.lead
    rivals = len(spans["rivals"])
    kept = {name: tuple(ranges) for name, ranges in spans.items() if ranges}
    return Question(text, case.answer, case.foils, kept, len(pieces), rivals)


def _tokens(
    offsets: list[tuple[int, int]], text: str, name: str, span: tuple[int, int], opening: int
) -> tuple[int, int]:
    first, last = span
    inside = [i for i, (a, b) in enumerate(offsets) if a < last and b > first and b > a]
    if not inside:
        raise DataError(f'span "{name}": no token is made of "{text[first:last][:40]}"')
    start, end = offsets[inside[0]][0], offsets[inside[-1]][1]
    if any(sign.isalnum() for sign in text[start:first] + text[last:end]):
        raise DataError(
            f'span "{name}": "{text[first:last][:40]}" does not survive tokenisation, a token holds '
            f'"{text[start:end][:40]}"; set the span at a border of words'
        )
    return inside[0] + opening, inside[-1] + 1 + opening
