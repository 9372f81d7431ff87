"""What a rewriting must not change: numbers and names, found by their looks.

A name here is a capitalised word inside a sentence. That misses names that open a sentence, and takes in
whatever else is capitalised; the same on both sides of a pair, so a comparison is fair.
"""

from __future__ import annotations

import re
from collections import Counter

_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
"""A run of letters, with apostrophes and hyphens inside."""

_OPENED = re.compile(r"(?:^|[.!?:;…—–\-])[\s\"'“”‘’«»(\[]*$|[\"“‘«]\s*$")
_OPENED_WITHIN = 12
"""Characters before a word that are looked at for the end of a sentence."""

_NO_NAMES = frozenset({"I", "O", "Oh", "Mr", "Mrs", "Miss", "Ms", "Dr", "Sir"})


def numbers(text: str) -> Counter[str]:
    """Count the numbers written in digits, without their thousands commas.

    Examples:
        >>> sorted(numbers("1,000 men at 7:30, and 7:30 again").items())
        [('1000', 1), ('7:30', 2)]
    """
    return Counter(re.sub(r",(?=\d{3}\b)", "", number) for number in _NUMBER.findall(text))


def names(text: str) -> Counter[str]:
    r"""Count the capitalised words that open no sentence and no quotation; none in a text all in capitals.

    Possessive endings are taken off: ``Anna's`` is ``Anna``.

    Examples:
        >>> sorted(names('In May Anna went to St. Ives. "Oh," said Anna\'s aunt, "I see London."'))
        ['Anna', 'London', 'May', 'St']
    """
    if text.isupper():
        return Counter()
    found = []
    for match in WORD.finditer(text):
        word = re.sub(r"['’]s?$", "", match[0])
        if not word[:1].isupper() or word.split("'")[0].split("’")[0] in _NO_NAMES:
            continue
        before = text[max(0, match.start() - _OPENED_WITHIN) : match.start()]
        if not _OPENED.search(before):
            found.append(word)
    return Counter(found)


def words(text: str) -> list[str]:
    """List the words of a text in lower case: runs of letters, with apostrophes and hyphens inside.

    Examples:
        >>> words("Don't touch 3 well-kept hats!")
        ["don't", 'touch', 'well-kept', 'hats']
    """
    return [word.lower() for word in WORD.findall(text)]
