"""What training and test have in common that they should not: documents, sentences, runs of words."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

from finetune.passages import said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from finetune.pairs import Pair

RUN = 8
"""Words in a row that two sentences hardly share by chance (n-gram overlap, as in Brown et al. 2020, C)."""


def leaks(parts: Mapping[str, Sequence[Pair]]) -> list[dict[str, Any]]:
    """Count what each two parts of a data set share.

    Args:
        parts: name of each part and its pairs; order matters: what is counted are items of the later part.

    Returns:
        For each two parts a record: ``earlier``, ``later``, ``n`` (pairs of the later one), and how many of these
        have a ``document``, a ``source``, a ``target`` (words alone are compared) or a run of ``RUN`` words of
        the target that the earlier part has too.

    Examples:
        >>> from finetune.pairs import Pair
        >>> parts = {"train": [Pair("1", "d", "a", "b")], "test": [Pair("2", "d", "c", "B!")]}
        >>> {k: v for k, v in leaks(parts)[0].items() if k in ("document", "source", "target", "run")}
        {'document': 1, 'source': 0, 'target': 1, 'run': 0}
    """
    return [
        {"earlier": a, "later": b, "n": len(parts[b]), **_shared(parts[a], parts[b])}
        for a, b in combinations(parts, 2)
    ]


def repeats(pairs: Sequence[Pair]) -> int:
    """Count the pairs of one part whose target an earlier pair of it has: several sources for one target."""
    return len(pairs) - len({said(pair.target) for pair in pairs})


def leaking(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in words what parts share: a sentence for each two that share anything.

    Examples:
        >>> counts = {"document": 0, "source": 1, "target": 0, "run": 2}
        >>> leaking([{"earlier": "train", "later": "test", "n": 9, **counts}])
        ['of 9 pairs in test, train has the source of 1, a run of 8 words of 2']
    """
    names = {"document": "document", "source": "source", "target": "target", "run": f"run of {RUN} words"}
    sentences = []
    for one in found:
        shared = [
            f"{'a' if kind == 'run' else 'the'} {name} of {one[kind]}"
            for kind, name in names.items()
            if one[kind]
        ]
        if shared:
            sentences.append(
                f"of {one['n']} pairs in {one['later']}, {one['earlier']} has {', '.join(shared)}"
            )
    return sentences


def _shared(earlier: Sequence[Pair], later: Sequence[Pair]) -> dict[str, int]:
    known = {
        "document": {p.doc_id for p in earlier},
        "source": {said(p.source) for p in earlier},
        "target": {said(p.target) for p in earlier},
    }
    runs = {run for p in earlier for run in _runs(said(p.target))}
    return {
        "document": sum(p.doc_id in known["document"] for p in later),
        "source": sum(said(p.source) in known["source"] for p in later),
        "target": sum(said(p.target) in known["target"] for p in later),
        "run": sum(not runs.isdisjoint(_runs(said(p.target))) for p in later),
    }


def _runs(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [words[i : i + RUN] for i in range(len(words) - RUN + 1)]
