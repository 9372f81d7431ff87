"""Names for folders of adapters and runs: as short as tells them apart, for tables, figures and titles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SAY_NOTHING = frozenset({"adapter", "page"})
"""Names that our own commands give to folders inside a run."""


def short_names(folders: Sequence[str | Path]) -> dict[str, Path]:
    """Name folders after the end of their paths.

    Args:
        folders: all different once they are resolved.

    Returns:
        Name -> folder as it was given, in the order given. A name has as many parts of the path as are needed,
        the same number for all, and does without an ending that says nothing.

    Examples:
        >>> list(short_names(["/runs/kjv/adapter", "/runs/ornate"]))
        ['kjv', 'ornate']
        >>> list(short_names(["/a/x/one", "/a/y/one"]))
        ['x/one', 'y/one']
    """
    whole = [Path(folder).resolve().parts for folder in folders]
    for parts in (list(map(_telling, whole)), whole):
        for length in range(1, max(map(len, parts), default=0) + 1):
            names = ["/".join(p[-length:]) for p in parts]
            if len(set(names)) == len(names):
                return dict(zip(names, map(Path, folders), strict=True))
    return {}


def in_words(names: Sequence[str]) -> str:
    """List names in a sentence.

    Examples:
        >>> in_words(["one", "two", "three"]), in_words(["one"])
        ('one, two and three', 'one')
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _telling(parts: tuple[str, ...]) -> tuple[str, ...]:
    return parts[:-1] if len(parts) > 2 and parts[-1] in SAY_NOTHING else parts
