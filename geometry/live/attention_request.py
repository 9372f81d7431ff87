"""What is asked of a probe: which rows, which keys are marked, and how they are cut into segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from geometry.attention_rows import SINK
from geometry.checks import DataError, InputError
from geometry.dispersion import distance_edges

if TYPE_CHECKING:
    from numpy.typing import NDArray

Span = tuple[int, int] | Sequence[Sequence[tuple[int, int]]]
"""Keys first to last (not included), the same in every text; or a list for each text, of any number of such."""

_FAR = 1 << 62
_MOST_RANGES = 2048


@dataclass(frozen=True)
class Rows:
    """Which queries to measure. ``Rows.log(256) | Rows.last(64) | Rows.spans()`` is the default.

    Queries after the stated length, as those of written tokens are, are measured always.

    Attributes:
        all: every one of them.
        spaced: about this many, evenly spaced in the logarithm of their index.
        ending: this many at the end.
        positions: these absolute indices; negative ones count from the end.
        within: those inside these spans; ``*`` for all spans.
    """

    all: bool = False
    spaced: int = 0
    ending: int = 0
    positions: tuple[int, ...] = ()
    within: tuple[str, ...] = ()

    @classmethod
    def every(cls) -> Rows:
        """All rows. Give the probe a folder, or memory grows as layers x heads x tokens."""
        return cls(all=True)

    @classmethod
    def log(cls, n: int) -> Rows:
        """About n rows, evenly spaced in the logarithm; fewer where integers run out."""
        return cls(spaced=n)

    @classmethod
    def last(cls, n: int) -> Rows:
        """The last n rows."""
        return cls(ending=n)

    @classmethod
    def at(cls, positions: Sequence[int]) -> Rows:
        """Rows at absolute indices; negative ones count from the end."""
        return cls(positions=tuple(int(p) for p in positions))

    @classmethod
    def spans(cls, *names: str) -> Rows:
        """Rows inside marked spans: those named, or all of them."""
        return cls(within=names or ("*",))

    def __or__(self, other: Rows) -> Rows:
        """The rows of either."""
        return Rows(
            self.all or other.all,
            max(self.spaced, other.spaced),
            max(self.ending, other.ending),
            self.positions + other.positions,
            self.within + other.within,
        )

    def chosen(self, length: int, spans: Mapping[str, list[list[tuple[int, int]]]]) -> NDArray[np.int64]:
        """Absolute indices below `length`, ascending.

        Args:
            length: of the context.
            spans: name -> for each text -> ranges; rows of any text's span are measured in all texts.

        Returns:
            (R,).

        Raises:
            DataError: a span that was not marked, a position outside of the context, or no row at all.
        """
        if self.all:
            return np.arange(length)
        wanted = [np.arange(max(length - self.ending, 0), length)]
        if self.spaced:
            wanted.append(np.rint(np.geomspace(1, length, self.spaced)).astype(np.int64) - 1)
        outside = [p for p in self.positions if not -length <= p < length]
        if outside:
            raise DataError(f"rows: no position {outside[0]} in a context of {length} tokens")
        wanted.append(np.array([p % length for p in self.positions], np.int64))
        for name in self.within:
            if name != "*" and name not in spans:
                raise DataError(f"rows: no span {name!r} was marked; there are {', '.join(spans) or 'none'}")
            for found in spans.values() if name == "*" else (spans[name],):
                wanted += [np.arange(*span) for ranges in found for span in ranges]
        rows = np.unique(np.concatenate(wanted))
        if not len(rows):
            raise DataError("rows: none asked for; try Rows.log(256) | Rows.last(64)")
        return rows


DEFAULT_ROWS = Rows.log(256) | Rows.last(64) | Rows.spans()


@dataclass(frozen=True)
class Measure:
    """How finely to look; the defaults cost little.

    Attributes:
        sink: first tokens of a text (padding not counted) that make the group ``sink``; 0 for none.
        top: largest weights to keep of each row, at least 1.
        subsets: nested random halves of the keys, for the null; 0 for none.
        buckets: equal parts of the context whose mass is summed.
        closer: also read whole rows, a second time: received mass, nucleus size, gap counts, block map.
        tile: rows of queries and keys that are read at once; their logits, 1 MiB, stay in the second cache.
    """

    sink: int = 4
    top: int = 8
    subsets: int = 4
    buckets: int = 16
    closer: bool = False
    tile: tuple[int, int] = (256, 1024)

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        least = {"sink": 0, "top": 1, "subsets": 0, "buckets": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"{name}: expected {low} or more, got {getattr(self, name)}")
        if min(self.tile) < 1:
            raise InputError(f"tile: expected two numbers above 0, got {self.tile}")


def checked_spans(spans: Mapping[str, Span]) -> dict[str, Span]:
    """Refuse spans that no context could hold.

    Args:
        spans: name -> span.

    Returns:
        The same.

    Raises:
        DataError: a name that is taken or has a dot in it, or a range that is empty, reversed or negative.
    """
    for name, span in spans.items():
        if not name or name == SINK or "." in name:
            raise DataError(f"span {name!r}: choose another name, without dots, and not {SINK!r}")
        every = [span] if _is_range(span) else [part for ranges in span for part in ranges]
        for part in every:
            if not _is_range(part) or not 0 <= part[0] < part[1]:
                raise DataError(f"span {name!r}: expected (first, last + 1) with a token in it, got {part}")
    return dict(spans)


def _is_range(span: Span) -> bool:
    return len(span) == 2 and all(isinstance(end, int | np.integer) for end in span)


@dataclass(frozen=True)
class Plan:
    """A request made concrete for one context.

    Attributes:
        length: tokens of the context when it was planned; later keys fall into the last bucket.
        cuts: (S,) absolute index where each segment of keys begins, from 0; the last has no end.
        members: name -> (B, S), which segments make up a group.
        buckets: (P, S), the same for the position buckets.
        position_edges: (P,), first key of each.
        edges: (E,), lower edges of the distance buckets.
        rows: (R,), chosen rows below the length.
        measure: how finely.
        salt: seed of the random subsets.
        sinks: for each text, the keys that are sinks.
        bands: (text, first key, last key) -> random subsets of a tile, kept for other rows and layers.
    """

    length: int
    cuts: NDArray[np.int64]
    members: Mapping[str, NDArray[np.bool_]]
    buckets: NDArray[np.bool_]
    position_edges: NDArray[np.int64]
    edges: NDArray[np.int64]
    rows: NDArray[np.int64]
    measure: Measure
    salt: int
    sinks: list[list[tuple[int, int]]] = field(repr=False, default_factory=list)
    bands: dict[tuple[int, int, int], Any] = field(repr=False, default_factory=dict)

    @classmethod
    def of(
        cls,
        length: int,
        starts: NDArray[np.int64],
        rows: Rows,
        spans: Mapping[str, Span],
        measure: Measure,
        salt: int,
    ) -> Plan:
        """Make a plan.

        Args:
            length: tokens of the context, padding included.
            starts: (B,), index of the first token of each text that is not padding.
            rows: which.
            spans: checked by :func:`checked_spans`.
            measure: how finely.
            salt: seed of the random subsets.

        Returns:
            The plan for these B texts.

        Raises:
            DataError: a span beyond the context, spans for another number of texts, too many ranges, or
                rows that do not exist.
        """
        marked = {name: _ranges(name, span, len(starts), length) for name, span in spans.items()}
        chosen = rows.chosen(length, marked)
        sinks = [[(int(first), int(first) + measure.sink)] for first in starts] if measure.sink else []
        if sinks:
            marked = {SINK: sinks, **marked}
        parts = min(measure.buckets, length)
        position_edges = np.arange(parts, dtype=np.int64) * length // parts
        ends = [end for found in marked.values() for ranges in found for span in ranges for end in span]
        cuts = np.unique(np.concatenate([position_edges, np.array(ends, np.int64)]))
        if len(cuts) > _MOST_RANGES:
            raise DataError(
                f"spans: {len(cuts)} borders between keys are too many to follow; mark fewer ranges"
            )
        last = np.append(position_edges[1:], _FAR)
        return cls(
            length,
            cuts,
            {name: np.stack([_inside(cuts, ranges) for ranges in found]) for name, found in marked.items()},
            (cuts >= position_edges[:, None]) & (cuts < last[:, None]),
            position_edges,
            distance_edges(length),
            chosen,
            measure,
            salt,
            sinks,
        )

    def chosen(self, first: int, count: int) -> NDArray[np.int64]:
        """Chosen rows among `count` queries from absolute index `first` on, as local indices."""
        known = self.rows[(self.rows >= first) & (self.rows < first + count)]
        later = np.arange(max(first, self.length), max(first + count, self.length))
        return np.concatenate([known, later]) - first

    def pieces(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Segments that keys start to stop (absolute) touch: (segment, from, to), relative to start."""
        low, high = np.searchsorted(self.cuts, [start, stop - 1], side="right") - 1
        ends = np.append(self.cuts[1:], _FAR)
        return [
            (int(s), max(int(self.cuts[s]), start) - start, min(int(ends[s]), stop) - start)
            for s in range(low, high + 1)
        ]

    def levels(self, item: int, start: int, stop: int) -> NDArray[np.int64]:
        """How often each key (absolute) survives when the keys are halved at random; 0 for sinks."""
        keys = np.arange(start, stop)
        level = np.zeros(stop - start, np.int64)
        bits = _hashed(keys.astype(np.uint64) + np.uint64(self.salt))
        for depth in range(1, self.measure.subsets + 1):
            level[bits % np.uint64(1 << depth) == 0] = depth
        for first, last in self.sinks[item] if self.sinks else ():
            level[(keys >= first) & (keys < last)] = 0
        return level


def _ranges(name: str, span: Span, texts: int, length: int) -> list[list[tuple[int, int]]]:
    found = [[(int(span[0]), int(span[1]))]] * texts if _is_range(span) else [list(part) for part in span]
    if len(found) != texts:
        raise DataError(f"span {name!r}: given for {len(found)} texts, but the batch has {texts}")
    for ranges in found:
        beyond = [last for _, last in ranges if last > length]
        if beyond:
            raise DataError(f"span {name!r}: ends at {beyond[0]}, but the context has {length} tokens")
    return found


def _inside(cuts: NDArray[np.int64], ranges: list[tuple[int, int]]) -> NDArray[np.bool_]:
    inside = np.zeros(len(cuts), bool)
    for first, last in ranges:
        inside |= (cuts >= first) & (cuts < last)
    return inside


def _hashed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): neighbours become unrelated."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
