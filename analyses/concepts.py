"""Concepts: words with a place, such as the months round their year.

A concept is a YAML file: what its items are, where they lie (`topology`), how else they are written (`aliases`),
which of them mean other things too (`ambiguous`). Fifteen come with the package, in `concept_sets/`; a user's own
is given by its path. Places on the globe are read from the user's copy of a GeoNames file.

    about: The days of the week.
    topology: cycle                   # or line, grid, sphere
    items: [Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday]
    templates: ["Today is {}", "She goes to the market every {} morning."]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from analyses.geonames import capitals, largest_cities, read_places, state_centres
from analyses.item_templates import GENERIC, require_templates
from finetune.recipe import read_fields, validated
from geometry import layouts
from geometry.checks import DataError
from geometry.nuisances import NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from analyses.geonames import Place

FOLDER = Path(__file__).parent / "concept_sets"

LEAST_ITEMS = 5
"""Fewer items have too few pairs for any score."""


@dataclass(frozen=True)
class Concept:
    """Words in latent order, and where they lie.

    Attributes:
        name: of the concept.
        about: one sentence for the page.
        items: the words as they are written, n of them.
        layout: where they lie, n items.
        aliases: other spellings of an item that count as it.
        ambiguous: items with other common meanings; every score is to be given with and without them.
        order_nuisances: nuisances that are the order itself and cannot be taken out, such as the alphabet of
            letters.
        regions: for each item the part of the world that it lies in, for folds that leave one out; empty where
            there are none.
        source: where coordinates are from; empty where none were read.
        templates: texts with ``{}`` in them where an item stands, for models to read; context before the item.
    """

    name: str
    about: str
    items: tuple[str, ...]
    layout: layouts.Layout
    aliases: Mapping[str, tuple[str, ...]]
    ambiguous: tuple[str, ...] = ()
    order_nuisances: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    source: str = ""
    templates: tuple[str, ...] = GENERIC

    def only(self, items: Sequence[str]) -> Concept:
        """The concept with some of its items, in latent order.

        Args:
            items: which to keep, in any order.

        Returns:
            The same concept where all are kept; else its layout is a part, see :func:`geometry.layouts.part`.

        Raises:
            DataError: an item that the concept does not have, or fewer than 5.

        Examples:
            >>> year = load("months")
            >>> year.only([month for month in year.items if month != "May"]).layout.kind
            'part'
        """
        if unknown := sorted(set(items) - set(self.items)):
            raise DataError(f"{self.name}: has no item {unknown[0]!r}")
        keep = [at for at, item in enumerate(self.items) if item in set(items)]
        if len(keep) < min(LEAST_ITEMS, len(self.items)):
            raise DataError(
                f"{self.name}: {len(keep)} items are left, {LEAST_ITEMS} are needed; count more text"
            )
        chosen = tuple(self.items[at] for at in keep)
        return replace(
            self,
            items=chosen,
            layout=layouts.part(self.layout, keep),
            aliases={item: self.aliases[item] for item in chosen if item in self.aliases},
            ambiguous=tuple(item for item in self.ambiguous if item in chosen),
            regions=tuple(self.regions[at] for at in keep) if self.regions else (),
        )


@dataclass(frozen=True)
class Excluded:
    """An item that was left out, and why."""

    item: str
    because: str


class _Range(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    first: int
    last: int
    step: int = Field(1, ge=1)
    format: str = "{}"

    def words(self) -> tuple[str, ...]:
        return tuple(self.format.format(number) for number in range(self.first, self.last + 1, self.step))


class ConceptFile(BaseModel):
    """The fields of a concept's YAML file; exactly one of items, range, coordinates and geonames says what is in it.

    Attributes:
        about: one sentence.
        topology: ``cycle``, ``line``, ``grid`` or ``sphere``.
        items: words in latent order; the last axis of a grid fastest.
        range: numbers as words: first, last, step and a Python format.
        coordinates: of a sphere: latitude and longitude of each item.
        geonames: of a sphere: ``cities`` (the largest), ``capitals`` or ``states`` of a GeoNames file.
        codes: for ``capitals`` and ``states``: the code of each item.
        largest: for ``cities``: how many.
        at_most_a_country: for ``cities``: how many of one country.
        shape: of a grid: steps along each axis.
        aliases: other spellings of items.
        ambiguous: items with other common meanings.
        nuisances_that_are_the_order: names in :data:`geometry.nuisances.NAMES`.
        templates: texts with ``{}`` in them once; :data:`analyses.item_templates.GENERIC` where none are given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    topology: Literal["cycle", "line", "grid", "sphere"]
    items: tuple[str, ...] = ()
    range: _Range | None = None
    coordinates: dict[str, tuple[float, float]] = {}
    geonames: Literal["cities", "capitals", "states"] | None = None
    codes: dict[str, str] = {}
    largest: int = Field(200, ge=LEAST_ITEMS)
    at_most_a_country: int = Field(10, ge=1)
    shape: tuple[int, ...] = ()
    aliases: dict[str, tuple[str, ...]] = {}
    ambiguous: tuple[str, ...] = ()
    nuisances_that_are_the_order: tuple[str, ...] = ()
    templates: tuple[str, ...] = GENERIC

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        placed = bool(self.coordinates) + (self.geonames is not None)
        listed = bool(self.items) + (self.range is not None)
        if self.topology == "sphere" and (placed, listed) != (1, 0):
            raise ValueError("a sphere needs either `coordinates` or `geonames`")
        if self.topology != "sphere" and (placed, listed) != (0, 1):
            raise ValueError(f"a {self.topology} needs either `items` or `range`")
        if bool(self.shape) != (self.topology == "grid"):
            raise ValueError("`shape` belongs to a grid, and a grid needs it")
        if bool(self.codes) != (self.geonames in {"capitals", "states"}):
            raise ValueError("`codes` belong to geonames `capitals` or `states`, and those need them")
        if unknown := sorted(set(self.nuisances_that_are_the_order) - set(NAMES)):
            raise ValueError(f"unknown nuisance {unknown[0]!r}; expected some of {', '.join(NAMES)}")
        require_templates(self.templates)
        return self


def names() -> tuple[str, ...]:
    """Concepts that come with the package.

    Examples:
        >>> "months" in names()
        True
    """
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load(name: str, *, geonames: str | Path | None = None) -> Concept:
    """Read a concept.

    Args:
        name: of one that comes with the package, or the path of a YAML file.
        geonames: path of a GeoNames file, for concepts whose places are read from one.

    Returns:
        The concept.

    Raises:
        DataError: no such concept, items twice or too few, aliases or ambiguous items that are no items, places
            that the GeoNames file lacks, or no such file given.
        InputError: the file is no YAML, or has unknown or missing fields.

    Examples:
        >>> week = load("weekdays")
        >>> week.items[0], week.layout.kind, week.layout.n
        ('Monday', 'cycle', 7)
    """
    path = FOLDER / f"{name}.yaml"
    if not path.exists():
        path = Path(name)
    if not path.is_file():
        raise DataError(f"concept {name!r}: expected one of {', '.join(names())}, or the path of a YAML file")
    fields = validated(ConceptFile, read_fields(path), name=path.stem)
    items, layout, regions = _placed(path.stem, fields, geonames)
    _check_names(path.stem, items, fields)
    return Concept(
        name=path.stem,
        about=fields.about,
        items=items,
        layout=layout,
        aliases={item: found for item, found in fields.aliases.items() if item in items},
        ambiguous=fields.ambiguous,
        order_nuisances=fields.nuisances_that_are_the_order,
        regions=regions,
        source=str(geonames) if fields.geonames else "",
        templates=fields.templates,
    )


def counted(
    concept: Concept, counts: Mapping[str, int], *, at_least: int = 50
) -> tuple[Concept, tuple[Excluded, ...]]:
    """Leave out items that a corpus lacks or hardly has.

    Args:
        concept: all of it.
        counts: how often each item occurs, aliases added; items that are not in it occur 0 times.
        at_least: occurrences needed; ratios of rarer words are noise.

    Returns:
        What is left, and what was left out with its reason.

    Raises:
        DataError: fewer than 5 items are left.

    Examples:
        >>> week = load("weekdays")
        >>> counts = dict.fromkeys(week.items, 100) | {"Sunday": 3}
        >>> counted(week, counts)[1]
        (Excluded(item='Sunday', because='occurs 3 times, 50 are needed'),)
    """
    out = []
    for item in concept.items:
        found = int(counts.get(item, 0))
        if found == 0:
            out.append(Excluded(item, "does not occur"))
        elif found < at_least:
            out.append(Excluded(item, f"occurs {found} times, {at_least} are needed"))
    gone = {one.item for one in out}
    return concept.only([item for item in concept.items if item not in gone]), tuple(out)


def meeting(
    concept: Concept, ratio: ArrayLike, *, allowed: float = 0.0
) -> tuple[Concept, tuple[Excluded, ...]]:
    """Leave out items that never met too many of the others: a ratio of 0 has no PMI, and an M* of -2.

    The item with most empty pairs goes first, and the later of two with equally many, until none of those left
    has more than is allowed.

    Args:
        concept: items in the order of the matrix.
        ratio: P_ij / (P_i P_j), 0 where two items never met, shape (n, n); the diagonal is not used.
        allowed: share of the other items that an item may never have met, 0 to below 1. PMI needs 0; M* is
            bounded, and a few pairs at -2 do less harm than half the items gone.

    Returns:
        What is left, and what was left out with its reason.

    Raises:
        DataError: fewer than 5 items are left, or no such share.
        ShapeError: not a symmetric matrix over the items.

    Examples:
        >>> import numpy as np
        >>> ratio = np.ones((7, 7))
        >>> ratio[0, 3] = ratio[3, 0] = ratio[3, 5] = ratio[5, 3] = 0
        >>> meeting(load("weekdays"), ratio)[1]
        (Excluded(item='Thursday', because='never met 2 of the other 6'),)
    """
    if not 0 <= allowed < 1:
        raise DataError(f"allowed: expected a share from 0 to below 1, got {allowed}")
    empty = layouts.square(ratio, "ratio", concept.layout.n) <= 0
    np.fill_diagonal(empty, False)
    left = np.ones(concept.layout.n, dtype=bool)
    out = []
    while (missed := np.where(left, (empty & left).sum(axis=1), 0)).max() > allowed * (left.sum() - 1):
        worst = len(missed) - 1 - int(np.argmax(missed[::-1]))
        out.append(Excluded(concept.items[worst], f"never met {missed[worst]} of the other {left.sum() - 1}"))
        left[worst] = False
    kept = [item for item, here in zip(concept.items, left, strict=True) if here]
    return concept.only(kept), tuple(out)


def _placed(
    name: str, fields: ConceptFile, geonames: str | Path | None
) -> tuple[tuple[str, ...], layouts.Layout, tuple[str, ...]]:
    if fields.topology == "sphere":
        found, regions = _on_the_globe(name, fields, geonames)
        if len(found) < LEAST_ITEMS:
            raise DataError(f"{name}: {len(found)} places are too few; {LEAST_ITEMS} are needed")
        bins = min(12, len(found) * (len(found) - 1) // 2)
        return tuple(found), layouts.sphere(list(found.values()), bins=bins), regions
    items = fields.range.words() if fields.range else fields.items
    if fields.topology == "grid" and len(items) != np.prod(fields.shape):
        raise DataError(
            f"{name}: a grid of {fields.shape} needs {np.prod(fields.shape)} items, got {len(items)}"
        )
    match fields.topology:
        case "cycle":
            return items, layouts.cycle(len(items)), ()
        case "line":
            return items, layouts.line(len(items)), ()
        case _:
            return items, layouts.grid(fields.shape), ()


def _on_the_globe(
    name: str, fields: ConceptFile, geonames: str | Path | None
) -> tuple[dict[str, tuple[float, float]], tuple[str, ...]]:
    if fields.geonames is None:
        return dict(fields.coordinates), ()
    if geonames is None:
        raise DataError(f"{name}: reads places from a GeoNames file; give its path, such as cities15000.zip")
    places = read_places(geonames)
    if fields.geonames == "cities":
        chosen = largest_cities(places, fields.largest, at_most_a_country=fields.at_most_a_country)
        return {city.name: (city.latitude, city.longitude) for city in chosen}, tuple(c.zone for c in chosen)
    find = capitals if fields.geonames == "capitals" else state_centres
    found = find(places, fields.codes)
    if missing := [item for item in fields.codes if item not in found]:
        raise DataError(f"{name}: {geonames} has no place for {', '.join(missing[:3])}; give cities15000.zip")
    return found, _zones(places, fields) if fields.geonames == "capitals" else ()


def _zones(places: Sequence[Place], fields: ConceptFile) -> tuple[str, ...]:
    zones = {place.country: place.zone for place in places if place.capital}
    return tuple(zones[code] for code in fields.codes.values())


def _check_names(name: str, items: tuple[str, ...], fields: ConceptFile) -> None:
    if len(items) < 3 or any(not item.strip() for item in items):
        raise DataError(f"{name}: expected at least 3 items, none of them empty, got {len(items)}")
    spelled = [*items, *(alias for item in items for alias in fields.aliases.get(item, ()))]
    if twice := sorted({word for word in spelled if spelled.count(word) > 1}):
        raise DataError(
            f"{name}: {twice[0]!r} is listed twice; an item or alias may stand for one thing only"
        )
    # the cities of a GeoNames file change with the file: aliases for those that are not there do no harm
    named = () if fields.geonames == "cities" else (*fields.aliases, *fields.ambiguous)
    if unknown := sorted(set(named) - set(items)):
        raise DataError(f"{name}: {unknown[0]!r} has aliases or is called ambiguous, but is no item")
