"""Edit a corpus sentence by sentence: delete, rename, repeat; texts in, texts out, one text held at a time.

Statistics that are changed in a matrix are a thought; statistics that are changed in a corpus are an experiment,
since everything that follows from the text changes with them. An edit decides by the members of a concept that stand
in a sentence: several of them (they co-occur), one alone (it keeps company with other words only), or none.
Sentences that an edit leaves alone come out letter by letter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from geometry.checks import DataError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np

    Found = tuple[int, ...]
    Which = Callable[[Found], bool]
    Rewrite = Callable[[str, Found], str]

_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+|\n+")


@dataclass(frozen=True)
class Members:
    """The words of a concept, found in text as :mod:`geometry.words` cuts it: whole words, case as it stands.

    Attributes:
        names: the words, distinct; of two that begin at one place the longer is found. A name of several words
            (``New York``) is found with any white space between them.

    Raises:
        DataError: no name, one twice, or one without a letter.

    Examples:
        >>> Members(("May", "June")).found("From May to June, maybe.")
        (0, 1)
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise DataError("members: expected distinct words, at least one")
        if empty := [name for name in self.names if not re.search(r"[^\W_]", name)]:
            raise DataError(f"members: {empty[0]!r} holds no letter; leave it out")

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds any of them."""
        longest_first = sorted(self.names, key=lambda name: (-len(name), name))
        spelled = "|".join(r"\s+".join(map(re.escape, name.split())) for name in longest_first)
        return re.compile(rf"(?<![^\W_])(?:{spelled})(?![^\W_])")

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Name -> its number."""
        return {" ".join(name.split()): i for i, name in enumerate(self.names)}

    def number(self, match: re.Match[str]) -> int:
        """The member that a match of the pattern is."""
        return self.numbers[" ".join(match.group().split())]

    def found(self, text: str) -> tuple[int, ...]:
        """Numbers of the members in a text, in the order of the text, each as often as it stands there."""
        return tuple(self.number(match) for match in self.pattern.finditer(text))


def sentences(text: str) -> list[str]:
    r"""Cut a text after full stops, question and exclamation marks before white space, and after line ends.

    Nothing is lost: the pieces, put together, are the text. Abbreviations end a sentence too (``Jan. 5``).

    Examples:
        >>> sentences("In May. And \"June!\" he said.\nThen 3.5 more")
        ['In May. ', 'And "June!" ', 'he said.\n', 'Then 3.5 more']
    """
    ends = [match.end() for match in _END.finditer(text)]
    starts = [0, *ends]
    return [text[a:b] for a, b in zip(starts, [*ends, len(text)], strict=True) if a < b]


def rewritten(texts: Iterable[str], members: Members, rewrite: Rewrite) -> Iterator[str]:
    """Rewrite every sentence.

    Args:
        texts: the corpus.
        members: of the concept.
        rewrite: takes a sentence, white space after it included, and the members in it; gives what stands in its
            place.

    Yields:
        As many texts as came in; one of which nothing is left is empty.

    Examples:
        >>> months = Members(("May", "June"))
        >>> list(rewritten(["Now. May or June. End"], months, without(together)))
        ['Now. End']
    """
    for text in texts:
        yield "".join(rewrite(sentence, members.found(sentence)) for sentence in sentences(text))


def rewritten_members(texts: Iterable[str], members: Members, rewrite: Rewrite) -> Iterator[str]:
    """The same for edits that leave sentences without members alone; texts without any are passed on unread."""
    for text in texts:
        if members.pattern.search(text):
            pieces = sentences(text)
            found = map(members.found, pieces)
            yield "".join(rewrite(s, own) if own else s for s, own in zip(pieces, found, strict=True))
        else:
            yield text


def together(found: Found) -> bool:
    """Whether two or more different members stand in a sentence.

    Examples:
        >>> together((3, 4)), together((3, 3)), together(())
        (True, False, False)
    """
    return len(set(found)) > 1


def alone(found: Found) -> bool:
    """Whether one member stands in a sentence, once or several times, and no other.

    Examples:
        >>> alone((3, 4)), alone((3, 3)), alone(())
        (False, True, False)
    """
    return len(set(found)) == 1


def anywhere(found: Found) -> bool:
    """Whether a member stands in a sentence.

    Examples:
        >>> anywhere((3, 4)), anywhere((3,)), anywhere(())
        (True, True, False)
    """
    return bool(found)


def without(which: Which) -> Rewrite:
    """Delete sentences.

    Args:
        which: tells them by the members in them, such as :func:`together`.

    Returns:
        For :func:`rewritten_members`.
    """
    return lambda sentence, found: "" if which(found) else sentence


def renamed(members: Members, order: Sequence[int], which: Which) -> Rewrite:
    """Put another member in the place of each: member i becomes member ``order[i]``.

    Args:
        members: of the concept.
        order: a permutation.
        which: tells the sentences in which it is done.

    Returns:
        For :func:`rewritten_members`.

    Raises:
        ShapeError: not a permutation of the members.

    Examples:
        >>> months = Members(("May", "June", "July"))
        >>> renamed(months, [1, 2, 0], together)("From May to June.", (0, 1))
        'From June to July.'
    """
    if sorted(order) != list(range(len(members.names))):
        raise ShapeError(f"order: expected each of 0 to {len(members.names) - 1} once")

    def rewrite(sentence: str, found: Found) -> str:
        if not which(found):
            return sentence
        return members.pattern.sub(lambda match: members.names[order[members.number(match)]], sentence)

    return rewrite


def at_random(rewrite: Rewrite, share: float, rng: np.random.Generator) -> Rewrite:
    """Do an edit in a share of the sentences with members only, each chosen independently.

    Args:
        rewrite: the edit.
        share: probability, 0 to 1.
        rng: source of the choice; one number is drawn for each sentence with a member.

    Returns:
        For :func:`rewritten_members`.

    Raises:
        ShapeError: no probability.
    """
    if not 0 <= share <= 1:
        raise ShapeError(f"share: expected a probability, 0 to 1, got {share}")
    return lambda sentence, found: rewrite(sentence, found) if rng.random() < share else sentence


def repeated(weight: Callable[[Found], float], rng: np.random.Generator) -> Rewrite:
    """Resample sentences: each stands there so many times, 0 included, that the mean is its weight.

    Args:
        weight: of a sentence, by its members; at least 0. One of weight 1 stands there once, without chance.
        rng: source of the rounding, up or down, of weights that are not whole.

    Returns:
        For :func:`rewritten_members`.

    Examples:
        >>> import numpy as np
        >>> repeated(lambda found: len(found), np.random.default_rng(0))("May or June. ", (0, 1))
        'May or June. May or June. '
    """

    def rewrite(sentence: str, found: Found) -> str:
        mean = weight(found)
        copies = int(mean) + (mean % 1 > 0 and rng.random() < mean % 1)
        if copies < 2 or sentence[-1].isspace():
            return sentence * copies
        return " ".join([sentence] * copies)

    return rewrite
