"""The counts that a run of symmetry needs: read from a folder, or made from texts, of the concepts' words alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analyses.count_run import AT_ONCE, CountRequest, count
from analyses.symmetry_corpus import Counts
from finetune.folders import replace_file
from geometry import words
from geometry.checks import DataError
from geometry.count_files import read_blocks, read_counts, read_notes
from geometry.embedding import SpectralEmbedding, spectral_embedding
from geometry.targets import m_star_target
from geometry.weightings import linear

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analyses.concepts import Concept
    from geometry.cooccurrence import Cooccurrence

WINDOW = 16
"""Words on either side that count as near, where texts are counted here."""

DIMENSIONS = 200
"""Of the spectral embedding of a vocabulary; half the vocabulary where it is smaller than twice that."""

BLOCKS = 32
"""Blocks of documents, where texts are counted here."""


def is_counts(corpus: Path) -> bool:
    """Whether a path is a folder of counts, and not of texts."""
    return (corpus / "counts.json").is_file()


def read_corpus(folder: Path) -> Counts:
    """Read counts that ``repgeo count`` made.

    Args:
        folder: of counts. Where a vocabulary was counted, its spectral embedding is kept there, once it was made.

    Returns:
        The counts, with how their words were cut, those of its blocks of documents if there are any, and the
        embedding of a vocabulary.

    Raises:
        DataError: the folder holds no counts, or damaged ones.
    """
    recipe, stats = read_notes(folder)["recipe"], read_counts(folder)
    embedding = _embedding(folder, stats) if isinstance(recipe["vocabulary"], int) else None
    return Counts(stats, getattr(words, recipe["letters"]), read_blocks(folder), embedding)


def _embedding(folder: Path, stats: Cooccurrence) -> SpectralEmbedding:
    """Read the embedding beside the counts, or make it and keep it there."""
    d = min(DIMENSIONS, len(stats.words) // 2)
    path = folder / f"embedding-{d}.npz"
    try:
        with np.load(path) as kept:
            return SpectralEmbedding(kept["values"], kept["modes"])
    except (OSError, ValueError, KeyError):
        pass  # not made yet, or not to the end
    made = spectral_embedding(m_star_target(stats), d, np.random.default_rng(0))

    def save(fresh: Path) -> None:
        with fresh.open("wb") as file:
            np.savez(file, values=made.values, modes=made.modes)

    replace_file(path, save)
    return made


def count_concepts(
    corpus: Path,
    concepts: Sequence[Concept],
    out: Path,
    *,
    workers: int,
    show: Callable[[str, float], None],
) -> Path:
    """Count the words of concepts in texts: window 16, linear weights, case kept, other words in their places.

    Documents are counted in blocks as well, up to 2,000 words.

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
    found = spelled(concepts)
    blocks = BLOCKS if len(found) <= AT_ONCE else 0
    request = CountRequest((corpus,), linear(WINDOW), words=found, places=True, blocks=blocks)
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
