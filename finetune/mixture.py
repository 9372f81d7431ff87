"""Several corpora read as one, in pieces and in a random order, with whole documents held out.

All texts are held in memory while they are shuffled: a byte a character for English, twice or four times
that for documents with other scripts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import DataError
from geometry.corpora import documents

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PIECE = 8_000
"""Characters after which a document is cut at the next line end, so that no book fills a thousand steps."""
FIRST = 60
"""Where the order of training begins, and goes round; the shipped model was trained from there."""
HELD_OUT_SHARE = 0.05
"""Largest share of the characters that is held out."""


@dataclass(frozen=True)
class Mixture:
    """Corpora ready to be packed.

    Attributes:
        training: pieces in the order to read them.
        held_out: whole documents. No piece of them is in ``training``, nor a piece that equals one of
            theirs.
    """

    training: list[str]
    held_out: list[str]


def mixed(paths: Sequence[str | Path], seed: int) -> Iterator[str]:
    """Read several corpora as one, in a random order that keeps each at its own share throughout.

    Args:
        paths: files or folders, see :mod:`geometry.corpora`. All their texts are held in memory.
        seed: of the order.

    Yields:
        Documents, the longer ones in pieces of about ``PIECE`` characters that end at line ends; a line
        longer than that stays whole.

    Raises:
        DataError: a corpus cannot be read.
    """
    pieces, _ = _cut(paths)
    for i in _order(len(pieces), seed):
        yield pieces[i]


def apart(paths: Sequence[str | Path], seed: int, *, characters: int = 300_000) -> Mixture:
    """Mix corpora as :func:`mixed` does, and hold whole documents out.

    The documents of fewest pieces are held out first, from the end of the order, until there are enough
    characters: the text of short articles rather than of books, since half a book held out would leave
    its names and its story in the other half.

    Args:
        paths: files or folders, see :mod:`geometry.corpora`. All their texts are held in memory.
        seed: of the order.
        characters: to hold out, rounded up to a document; at most ``HELD_OUT_SHARE`` of all, so rounded.

    Returns:
        What to train on and what to measure on.

    Raises:
        DataError: a corpus cannot be read, or there is but one document.
    """
    pieces, owner = _cut(paths)
    if not pieces or owner[0] == owner[-1]:
        raise DataError("the corpora hold one document at most; give more, so that one can be held out")
    order = np.roll(_order(len(pieces), seed), -FIRST)
    sizes = np.bincount(owner, weights=[len(piece) for piece in pieces])
    # each document once, the last of the order first; sort() keeps that among documents of as many pieces
    candidates = list(dict.fromkeys(owner[order[::-1]].tolist()))
    candidates.sort(key=np.bincount(owner).__getitem__)
    wanted = min(characters, HELD_OUT_SHARE * sizes.sum())
    enough = int(np.searchsorted(np.cumsum(sizes[candidates]), wanted)) + 1
    # at least one document is left to train on
    chosen = candidates[: min(enough, len(candidates) - 1)]
    parts = [pieces[np.searchsorted(owner, doc) : np.searchsorted(owner, doc, "right")] for doc in chosen]
    known = {piece for part in parts for piece in part}
    return Mixture([pieces[i] for i in order if pieces[i] not in known], ["".join(part) for part in parts])


def _order(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 2]).permutation(n)


def _cut(paths: Sequence[str | Path]) -> tuple[list[str], np.ndarray]:
    """Read all pieces, and the number of the document that each is of; pieces of one document are neighbours."""
    texts = (text for path in paths for text in documents(path))
    cut = [(piece, number) for number, text in enumerate(texts) for piece in _pieces(text)]
    return [piece for piece, _ in cut], np.array([number for _, number in cut], dtype=np.int64)


def _pieces(text: str) -> Iterator[str]:
    part: list[str] = []
    held = 0
    for line in text.splitlines(keepends=True):
        part.append(line)
        held += len(line)
        if held >= PIECE:
            yield "".join(part)
            part, held = [], 0
    if part:
        yield "".join(part)
