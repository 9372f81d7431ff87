"""What a rewriting changed, word by word: which words went, which came, and of what kind they are."""

from __future__ import annotations

import re
from collections import Counter
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from finetune.entities import names, words
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PIECE = re.compile(r"\s+|[^\W_]+(?:[.,:/'’-][^\W_]+)*|.", re.DOTALL)

_CLASSES = {
    "pronouns": "i you he she it we they me him her us them my your his its our their mine yours hers ours theirs "
    "myself yourself himself herself itself ourselves themselves who whom whose which what this that these those "
    "thou thee thy thine ye thyself one someone anyone everyone something anything everything nothing none",
    "articles": "a an the",
    "prepositions": "of in to for with on at from by about as into like through after over between out against "
    "during without before under around among upon unto toward towards within beneath beside besides betwixt amid "
    "off up down near across behind beyond till until since",
    "conjunctions": "and or but nor so yet if because although though while whilst when where whereas unless than "
    "that lest ere for therefore wherefore thereupon whereupon",
    "auxiliaries": "be am is are was were been being have has had having do does did will would shall should can "
    "could may might must hath doth hast dost art wert wast shalt wilt canst cannot don't didn't isn't wasn't",
    "negation": "not no never n't nay neither nothing nought naught",
}
_CLASS_OF = {word: name for name, members in reversed(_CLASSES.items()) for word in members.split()}
_LONG = 8
"""Letters from which a content word is a long one."""

KINDS = (*_CLASSES, "short content words", "long content words", "names", "numbers", "punctuation")
"""The kinds of words that are told apart; closed classes by their lists, the rest by form and length."""


def pieces(text: str) -> list[str]:
    """Split a text into words, numbers, single signs and runs of white space; joined they are the text again.

    Examples:
        >>> pieces("Don't pay 1,000!")
        ["Don't", ' ', 'pay', ' ', '1,000', '!']
    """
    return _PIECE.findall(text)


def kind(word: str, *, name: bool = False) -> str:
    """Say of what kind a word or sign is.

    Args:
        word: of :func:`pieces`, not white space.
        name: whether it is written as a name where it stands.

    Returns:
        One of :data:`KINDS`.

    Examples:
        >>> [kind(w) for w in ("Thee", "ran", "considerable", "7:30", "!")]
        ['pronouns', 'short content words', 'long content words', 'numbers', 'punctuation']
    """
    if any(c.isdigit() for c in word):
        return "numbers"
    if not any(c.isalpha() for c in word):
        return "punctuation"
    if name:
        return "names"
    return _CLASS_OF.get(word.lower()) or (
        "long content words" if len(word) >= _LONG else "short content words"
    )


def marked(text: str, against: str) -> list[tuple[str, bool]]:
    """Cut a text into stretches, and say which of them the other text does not have at their place.

    Args:
        text: what is shown.
        against: what it is compared with; case does not count.

    Returns:
        (stretch, new) in order; joined the stretches are the text. White space between new words is new.

    Examples:
        >>> marked("He did come.", "he came.")
        [('He ', False), ('did come', True), ('.', False)]
    """
    parts = pieces(text)
    places = [i for i, part in enumerate(parts) if not part.isspace()]
    new = [True] * len(parts)
    seen = [part for part in pieces(against) if not part.isspace()]
    for block in _matcher(seen, [parts[i] for i in places]).get_matching_blocks():
        for i in places[block.b : block.b + block.size]:
            new[i] = False
    for i, part in enumerate(parts):
        if part.isspace():
            new[i] = 0 < i < len(parts) - 1 and new[i - 1] and new[i + 1]
    stretches: list[tuple[str, bool]] = []
    for part, fresh in zip(parts, new, strict=True):
        if stretches and stretches[-1][1] == fresh:
            stretches[-1] = (stretches[-1][0] + part, fresh)
        else:
            stretches.append((part, fresh))
    return stretches


def changes_by_kind(
    outputs: Sequence[str], sources: Sequence[str], references: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Count what went and what came, by kind of word.

    Args:
        outputs: the texts of a system.
        sources: what was rewritten.
        references: what a person made of it.

    Returns:
        For each of :data:`KINDS` a record: ``source`` (words of the sources), ``gone`` (those that the outputs
        do not have at their place), ``new`` (words of the outputs that the sources do not have there) and
        ``as_reference`` (new ones that the reference of the same text has and the source has not).

    Raises:
        DataError: the three are not of one length.

    Examples:
        >>> found = changes_by_kind(["Thou art old"], ["You are old"], ["Thou art aged"])
        >>> found["pronouns"]
        {'source': 1, 'gone': 1, 'new': 1, 'as_reference': 1}
    """
    if not len(outputs) == len(sources) == len(references):
        raise DataError(
            f"{len(outputs)} outputs, {len(sources)} sources, {len(references)} references: align them"
        )
    counts = {name: Counter({"source": 0, "gone": 0, "new": 0, "as_reference": 0}) for name in KINDS}
    for output, source, reference in zip(outputs, sources, references, strict=True):
        before, after = _tagged(source), _tagged(output)
        gone, new = set(range(len(before))), set(range(len(after)))
        for block in _matcher([w for w, _ in before], [w for w, _ in after]).get_matching_blocks():
            gone -= set(range(block.a, block.a + block.size))
            new -= set(range(block.b, block.b + block.size))
        meant = Counter(w.lower() for w, _ in _tagged(reference)) - Counter(w.lower() for w, _ in before)
        for i, (_, name) in enumerate(before):
            counts[name]["source"] += 1
            counts[name]["gone"] += i in gone
        for i in sorted(new):
            word, name = after[i]
            counts[name]["new"] += 1
            if meant[word.lower()] > 0:
                meant[word.lower()] -= 1
                counts[name]["as_reference"] += 1
    return {name: dict(found) for name, found in counts.items()}


def _tagged(text: str) -> list[tuple[str, str]]:
    named = {word for name in names(text) for word in words(name)}
    return [
        (part, kind(part, name=part[:1].isupper() and part.lower() in named))
        for part in pieces(text)
        if not part.isspace()
    ]


def _matcher(before: list[str], after: list[str]) -> SequenceMatcher:
    return SequenceMatcher(None, [w.lower() for w in before], [w.lower() for w in after], autojunk=False)
