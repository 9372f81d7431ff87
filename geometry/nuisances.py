"""What else could make words alike: their spelling, their frequency, their tokens.

Each nuisance is a matrix over pairs of words that knows nothing of what they mean. Only ranks of its entries
are used, so that distances and likenesses serve equally.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import DataError
from geometry.layouts import pairs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Nuisances:
    """Matrices over pairs of words, and those that do not vary.

    Attributes:
        matrices: by name, each symmetric, shape (n, n).
        left_out: names of nuisances that are the same for all pairs, and so cannot explain anything.
    """

    matrices: dict[str, NDArray[np.float64]]
    left_out: tuple[str, ...]


def edit_distance(one: str, other: str) -> int:
    """Fewest insertions, deletions and substitutions that make one word the other (Levenshtein 1966).

    Examples:
        >>> edit_distance("June", "July")
        2
    """
    before = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        now = [i]
        for j, wanted in enumerate(other, 1):
            now.append(min(before[j] + 1, now[-1] + 1, before[j - 1] + (letter != wanted)))
        before = now
    return before[-1]


def shared_start(one: str, other: str) -> int:
    """Number of letters at the start that two words share.

    Examples:
        >>> shared_start("June", "July")
        2
    """
    return next(
        (i for i, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1),
        min(len(one), len(other)),
    )


def shared_end(one: str, other: str) -> int:
    """Number of letters at the end that two words share.

    Examples:
        >>> shared_end("September", "October")
        3
    """
    return shared_start(one[::-1], other[::-1])


def shared_tokens(one: Sequence[int], other: Sequence[int]) -> float:
    """Share of the tokens of two words that both have (Jaccard), 0 to 1.

    Examples:
        >>> shared_tokens([5, 7], [5, 9])
        0.333...
    """
    return len(set(one) & set(other)) / max(1, len(set(one) | set(other)))


SPELLING: dict[str, Callable[[str, str], float]] = {
    "edits": edit_distance,
    "length": lambda one, other: abs(len(one) - len(other)),
    "start": shared_start,
    "end": shared_end,
    "capitals": lambda one, other: abs(sum(map(str.isupper, one)) - sum(map(str.isupper, other))),
}
"""Nuisances that need the words alone; ``alphabet`` needs all of them."""

NAMES = (*SPELLING, "alphabet", "frequency", "frequency sum", "token count", "tokens")
"""Every nuisance there is."""


def nuisance_matrices(
    words: Sequence[str],
    *,
    counts: Sequence[int] = (),
    tokens: Sequence[Sequence[int]] = (),
    without: Sequence[str] = (),
) -> Nuisances:
    """Compare words by all that is not meant.

    Args:
        words: as they are written, at least 3, all different.
        counts: how often each occurs; gives ``frequency`` (difference of logs) and ``frequency sum``.
        tokens: ids of each word's tokens; gives ``token count`` and ``tokens`` (share in common).
        without: names that do not apply, since the nuisance is the concept itself: the alphabetical order of
            letters.

    Returns:
        The matrices, and the names of those that are the same for all pairs.

    Raises:
        DataError: fewer than 3 words or a word twice, counts or tokens of another number, a count below 1, or
            an unknown name in ``without``.

    Examples:
        >>> found = nuisance_matrices(["may", "june", "july"], without=["alphabet"])
        >>> sorted(found.matrices), found.left_out
        (['edits', 'end', 'length', 'start'], ('capitals',))
    """
    _check(words, counts, tokens, without)
    found = {name: _compared(words, score) for name, score in SPELLING.items()}
    place = np.argsort(np.argsort(np.array(words))).astype(np.float64)
    found["alphabet"] = np.abs(np.subtract.outer(place, place))
    if len(counts):
        logs = np.log(np.asarray(counts, dtype=np.float64))
        found["frequency"] = np.abs(np.subtract.outer(logs, logs))
        found["frequency sum"] = np.add.outer(logs, logs)
    if len(tokens):
        found["token count"] = _compared(tokens, lambda one, other: abs(len(one) - len(other)))
        found["tokens"] = _compared(tokens, shared_tokens)
    found = {name: matrix for name, matrix in found.items() if name not in without}
    flat = tuple(name for name, matrix in found.items() if np.ptp(pairs_of(matrix)) == 0)
    return Nuisances({name: matrix for name, matrix in found.items() if name not in flat}, flat)


def _compared(things: Sequence, score: Callable) -> NDArray[np.float64]:
    matrix = np.zeros((len(things), len(things)))
    for i, one in enumerate(things):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = score(one, things[j])
    return matrix


def _check(
    words: Sequence[str], counts: Sequence[int], tokens: Sequence[Sequence[int]], without: Sequence[str]
) -> None:
    if len(words) < 3 or len(set(words)) < len(words):
        raise DataError(f"words: expected at least 3, all different, got {len(set(words))} of {len(words)}")
    for name, given in (("counts", counts), ("tokens", tokens)):
        if len(given) not in {0, len(words)}:
            raise DataError(f"{name}: expected one for each of {len(words)} words, got {len(given)}")
    if len(counts) and min(counts) < 1:
        raise DataError(f"counts: {words[int(np.argmin(counts))]!r} does not occur; leave it out")
    if unknown := sorted(set(without) - set(NAMES)):
        raise DataError(f"without: unknown nuisance {unknown[0]!r}; expected some of {', '.join(NAMES)}")
