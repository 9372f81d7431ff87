"""The counts that a run of symmetry needs: read from a folder, or made from texts, of the concepts' words alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analyses.count_run import CountRequest, count
from analyses.symmetry_corpus import Counts
from geometry import words
from geometry.checks import DataError
from geometry.count_files import read_counts, read_notes
from geometry.weightings import linear

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analyses.concepts import Concept

WINDOW = 16
"""Words on either side that count as near, where texts are counted here."""


def is_counts(corpus: Path) -> bool:
    """Whether a path is a folder of counts, and not of texts."""
    return (corpus / "counts.json").is_file()


def read_corpus(folder: Path) -> Counts:
    """Read counts that ``repgeo count`` made.

    Args:
        folder: of counts.

    Returns:
        The counts, with how their words were cut.

    Raises:
        DataError: the folder holds no counts, or damaged ones.
    """
    letters = getattr(words, read_notes(folder)["recipe"]["letters"])
    return Counts(read_counts(folder), letters)


def count_concepts(
    corpus: Path,
    concepts: Sequence[Concept],
    out: Path,
    *,
    workers: int,
    show: Callable[[str, float], None],
) -> Path:
    """Count the words of concepts in texts: window 16, linear weights, case kept, other words in their places.

    Args:
        corpus: file or folder of documents.
        concepts: whose items and other spellings are counted.
        out: folder to make.
        workers: processes.
        show: is told how far it is.

    Returns:
        The folder.

    Raises:
        DataError: concepts that take words from each other, none of whose words is one, or that the corpus lacks;
            see :func:`analyses.count_run.count`.
    """
    request = CountRequest((corpus,), linear(WINDOW), words=spelled(concepts), places=True)
    return count(request, out, workers=workers, show=show)


def spelled(concepts: Sequence[Concept]) -> tuple[str, ...]:
    """All spellings of the items of concepts, each once, as counting writes them.

    Raises:
        DataError: a phrase of one concept holds a word of another, whose counts it would take away.

    Examples:
        >>> from analyses.concepts import load
        >>> spelled([load("weekdays")])[:2]
        ('Monday', 'Tuesday')
    """
    found: dict[str, str] = {}
    for concept in concepts:
        for item in concept.items:
            for spelling in (item, *concept.aliases.get(item, ())):
                found.setdefault(words.normal(spelling, words.cased), concept.name)
    found.pop("", None)
    for phrase, owner in found.items():
        for word in phrase.split(" "):
            if found.get(word, owner) != owner:
                raise DataError(
                    f"{owner} and {found[word]}: {phrase!r} would take {word!r} away; ask for them in two runs"
                )
    return tuple(found)
