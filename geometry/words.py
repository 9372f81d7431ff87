"""Text becomes numbered words: compiled, exact, and with phrases such as "new york" as one word.

A word is an unbroken run of letters, digits and combining marks of any script; everything else separates. So "1990s"
is a word, "don't" is two ("don", "t"), and so are "New York" and "Saint-Denis" unless phrases join them.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Letters = Callable[[], NDArray[np.uint32]]

CHARACTERS = 0x110000
"""Number of code points of Unicode."""


@cache
def cased() -> NDArray[np.uint32]:
    """Tell letters from separators: code point -> itself, or 0 where it separates; shape (0x110000,)."""
    letters = np.zeros(CHARACTERS, dtype=np.uint32)
    for code in range(CHARACTERS):
        character = chr(code)
        if character.isalnum() or unicodedata.category(character)[0] == "M":
            letters[code] = code
    return letters


@cache
def folded() -> NDArray[np.uint32]:
    """Tell letters from separators and fold case: code point -> its lower case, or 0 where it separates.

    Characters are folded one by one; one whose lower case is two characters (the dotted capital I) stays.
    """
    letters = cased().copy()
    for code in np.flatnonzero(letters):
        lower = chr(code).lower()
        if len(lower) == 1:
            letters[code] = ord(lower)
    return letters


@dataclass(frozen=True, eq=False)
class Words:
    """Documents as numbers, with the words that the numbers stand for.

    Attributes:
        ids: (n,) number of each word, documents one after the other, int32.
        lengths: (documents,) words in each document; 0 where it has none.
        names: the words, by number.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    names: list[str]

    def frequencies(self) -> NDArray[np.int64]:
        """How often each word occurs, shape (len(names),)."""
        return np.bincount(self.ids, minlength=len(self.names))

    def numbered(self, numbers: Mapping[str, int]) -> NDArray[np.int32]:
        """The same words by other numbers, and -1 for those that have none.

        Examples:
            >>> cut(["To be or not to be"], folded).numbered({"be": 0, "not": 1})
            array([-1,  0, -1,  1, -1,  0], dtype=int32)
        """
        table = np.fromiter((numbers.get(name, -1) for name in self.names), np.int32, len(self.names))
        return table[self.ids]


def closed_up(ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Remove the words that have no number, so that those about them become neighbours.

    Args:
        ids: (n,) words by number, -1 for those without.
        lengths: (documents,) words in each document.

    Returns:
        The ids that are left, and how many are left in each document.

    Examples:
        >>> closed_up(np.array([0, -1, 1, -1]), np.array([3, 1]))
        (array([0, 1]), array([2, 0]))
    """
    left = ids >= 0
    upto = np.concatenate([[0], np.cumsum(left)])
    ends = np.cumsum(lengths)
    return ids[left], upto[ends] - upto[ends - lengths]


def cut(texts: Iterable[str], letters: Letters, phrases: Sequence[str] = ()) -> Words:
    """Cut documents into words.

    Args:
        texts: the documents.
        letters: :func:`cased` or :func:`folded`.
        phrases: runs of words to join; the longest that begins at a word wins, from left to right. What stands
            between their words does not matter, but they do not reach over the end of a document. A phrase is
            cut by the same letters as the text, and named by its words with one space between.

    Returns:
        The words, numbered as they first occur.

    Raises:
        DataError: a phrase has fewer than two words.

    Examples:
        >>> found = cut(["He left New York.", "New ideas"], cased, ["New York"])
        >>> [found.names[i] for i in found.ids], found.lengths
        (['He', 'left', 'New York', 'New', 'ideas'], array([3, 2]))
    """
    store = _Store(letters())
    pieces = [store.cut(text) for text in texts]
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    ids = np.concatenate([np.empty(0, np.int32), *pieces])
    if not phrases:
        return Words(ids, lengths, store.names())
    parts = [normal(phrase, letters).split(" ") for phrase in phrases]
    for phrase, part in zip(phrases, parts, strict=True):
        if len(part) < 2:
            raise DataError(f"phrase '{phrase}': has fewer than two words; leave it out")
    return _joined(Words(ids, lengths, store.names()), parts)


def normal(text: str, letters: Letters) -> str:
    """Write a word or phrase as :func:`cut` names it: its words with one space between.

    Examples:
        >>> normal("Saint-Denis", folded), normal(" May ", cased)
        ('saint denis', 'May')
    """
    store = _Store(letters())
    ids, names = store.cut(text), store.names()
    return " ".join(names[i] for i in ids)


def _joined(words: Words, parts: list[list[str]]) -> Words:
    """Put a number of its own where a phrase stands."""
    number = {name: i for i, name in enumerate(words.names)}
    by_first: dict[int, dict[tuple[int, ...], str]] = defaultdict(dict)
    for part in parts:
        if all(word in number for word in part):
            run = tuple(number[word] for word in part)
            by_first[run[0]][run] = " ".join(part)
    runs, names = [], list(words.names)
    starts = np.zeros(len(words.names) + 1, dtype=np.int64)
    for first in range(len(words.names)):
        longest_first = sorted(by_first.get(first, {}).items(), key=lambda item: (-len(item[0]), item[0]))
        for run, name in longest_first:
            runs.append(np.array([len(names), *run], dtype=np.int32))
            names.append(name)
        starts[first + 1] = len(runs)
    if not runs:
        return words
    bounds = np.concatenate([[0], np.cumsum([len(run) for run in runs])])
    ids, lengths = _join(words.ids, words.lengths, starts, bounds, np.concatenate(runs))
    return Words(ids, lengths, names)


class _Store:
    """Words by number: code points in one pool, found again through an open-addressing table."""

    def __init__(self, letters: NDArray[np.uint32]) -> None:
        self.letters = letters
        self.n = 0
        self.slots = np.full(1 << 12, -1, dtype=np.int32)
        self.hashes = np.empty(1 << 11, dtype=np.uint64)
        self.ends = np.zeros((1 << 11) + 1, dtype=np.int64)
        self.pool = np.empty(1 << 14, dtype=np.uint32)

    def cut(self, text: str) -> NDArray[np.int32]:
        characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        most = len(characters) // 2 + 1
        self._make_room(self.n + most, int(self.ends[self.n]) + len(characters) + 1)
        ids = np.empty(most, dtype=np.int32)
        self.n, found = _cut(
            characters, self.letters, self.slots, self.hashes, self.ends, self.pool, self.n, ids
        )
        return ids[:found].copy()

    def names(self) -> list[str]:
        text = self.pool[: self.ends[self.n]].tobytes().decode("utf-32-le")
        ends = self.ends[: self.n + 1].tolist()
        return [text[a:b] for a, b in pairwise(ends)]

    def _make_room(self, words: int, characters: int) -> None:
        if words > len(self.hashes):
            size = 1 << (words - 1).bit_length()
            self.hashes = _grown(self.hashes, size)
            self.ends = _grown(self.ends, size + 1)
            self.slots = np.full(2 * size, -1, dtype=np.int32)
            _refill(self.slots, self.hashes, self.n)
        if characters > len(self.pool):
            self.pool = _grown(self.pool, 1 << (characters - 1).bit_length())


def _grown(array: NDArray, size: int) -> NDArray:
    new = np.empty(size, dtype=array.dtype)
    new[: len(array)] = array
    return new


@njit(cache=True, nogil=True)
def _cut(characters, letters, slots, hashes, ends, pool, n, ids):  # noqa: ANN001, ANN202 - compiled
    mask = np.uint64(len(slots) - 1)
    found, begin, i = 0, ends[n], 0
    while i < len(characters):
        letter = letters[characters[i]]
        if letter == 0:
            i += 1
            continue
        end, key = begin, np.uint64(0)
        while letter != 0:
            pool[end] = letter
            end += 1
            key = (key ^ np.uint64(letter)) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
            i += 1
            letter = letters[characters[i]] if i < len(characters) else np.uint32(0)
        slot = key & mask
        while True:
            word = slots[slot]
            if word < 0:  # a new word: what was written at the end of the pool stays there
                word = n
                slots[slot], hashes[n], ends[n + 1] = n, key, end
                begin, n = end, n + 1
                break
            if hashes[word] == key and _same(pool, ends[word], ends[word + 1], begin, end):
                break
            slot = (slot + np.uint64(1)) & mask
        ids[found] = word
        found += 1
    return n, found


@njit(cache=True, nogil=True)
def _same(pool, start, stop, begin, end):  # noqa: ANN001, ANN202
    if stop - start != end - begin:
        return False
    for k in range(end - begin):  # noqa: SIM110 - compiled code knows no all()
        if pool[start + k] != pool[begin + k]:
            return False
    return True


@njit(cache=True, nogil=True)
def _refill(slots, hashes, n):  # noqa: ANN001, ANN202
    mask = np.uint64(len(slots) - 1)
    for word in range(n):
        slot = hashes[word] & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = word


@njit(cache=True, nogil=True)
def _join(ids, lengths, starts, bounds, runs):  # noqa: ANN001, ANN202
    """Replace runs; ``runs[bounds[r]:bounds[r + 1]]`` is the new number and then the words of run r."""
    out, new_lengths = np.empty_like(ids), np.empty_like(lengths)
    at, p, end = 0, 0, 0
    for document in range(len(lengths)):
        end += lengths[document]
        before = at
        while p < end:
            taken, name = 1, ids[p]
            for r in range(starts[ids[p]], starts[ids[p] + 1]):
                length = bounds[r + 1] - bounds[r] - 1
                if p + length > end:
                    continue
                same = True
                for k in range(length):
                    if ids[p + k] != runs[bounds[r] + 1 + k]:
                        same = False
                        break
                if same:
                    taken, name = length, runs[bounds[r]]
                    break
            out[at] = name
            at += 1
            p += taken
        new_lengths[document] = at - before
    return out[:at].copy(), new_lengths
