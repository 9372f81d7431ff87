"""Places from a GeoNames file: the user's own copy, read where it lies.

The files `cities500` to `cities15000` (CC BY 4.0) have one place a line, 19 fields parted by tabs; they may stay
in their zip.
"""

from __future__ import annotations

import io
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import DataError
from geometry.layouts import unit_sphere

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_FIELDS = 19


@dataclass(frozen=True)
class Place:
    """One line of a GeoNames file.

    Attributes:
        name: in its own spelling.
        latitude: degrees north.
        longitude: degrees east.
        country: two letters, ISO 3166.
        region: first-order division; two letters in the USA.
        population: 0 where it is not known.
        capital: whether it is the capital of its country.
        zone: first part of its time zone, such as ``Europe``: where it lies, for folds that leave a part out.
    """

    name: str
    latitude: float
    longitude: float
    country: str
    region: str
    population: int
    capital: bool
    zone: str


def read_places(path: str | Path) -> tuple[Place, ...]:
    """Read all places of a GeoNames file.

    Args:
        path: a text file, or a zip of one.

    Returns:
        Places in the order of the file.

    Raises:
        DataError: the file cannot be read, is empty, or has a line that is no GeoNames line.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     line = "1 Rome Rome x 41.9 12.5 P PPLC IT x 07 x x x 2318895 x 20 Europe/Rome 2020"
        ...     _ = (Path(folder) / "cities.txt").write_text(line.replace(" ", chr(9)))
        ...     read_places(Path(folder) / "cities.txt")[0].zone
        'Europe'
    """
    try:
        found = tuple(_place(path, number, line) for number, line in enumerate(_lines(Path(path)), 1))
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a GeoNames file ({type(error).__name__})") from error
    if not found:
        raise DataError(f"{path}: holds no places; expected GeoNames lines of {_FIELDS} fields")
    return found


def largest_cities(places: Sequence[Place], count: int, *, at_most_a_country: int) -> tuple[Place, ...]:
    """The most populous places; of places with one name the largest.

    Args:
        places: to choose from.
        count: how many.
        at_most_a_country: how many of one country.

    Returns:
        Largest first, fewer than ``count`` where there are not so many.
    """
    names: set[str] = set()
    taken: dict[str, int] = defaultdict(int)
    found = []
    for place in sorted(places, key=lambda place: -place.population):
        if len(found) == count:
            break
        if place.name in names or taken[place.country] == at_most_a_country:
            continue
        names.add(place.name)
        taken[place.country] += 1
        found.append(place)
    return tuple(found)


def capitals(places: Sequence[Place], codes: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Latitude and longitude of countries' capitals.

    Args:
        places: to look in.
        codes: name of each country and its ISO code.

    Returns:
        By name, for those that have a capital among the places.
    """
    found = {place.country: (place.latitude, place.longitude) for place in places if place.capital}
    return {name: found[code] for name, code in codes.items() if code in found}


def state_centres(places: Sequence[Place], codes: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Latitude and longitude of the mean inhabitant of the cities of each state of the USA.

    Args:
        places: to look in.
        codes: name of each state and its two letters.

    Returns:
        By name, for those that have a city among the places.
    """
    inside = defaultdict(list)
    for place in places:
        if place.country == "US" and place.population:
            inside[place.region].append(place)
    return {name: _centre(inside[code]) for name, code in codes.items() if inside[code]}


def _centre(places: Sequence[Place]) -> tuple[float, float]:
    points = unit_sphere([(place.latitude, place.longitude) for place in places])
    x, y, z = np.average(points, axis=0, weights=[place.population for place in places])
    return float(np.rad2deg(np.arctan2(z, np.hypot(x, y)))), float(np.rad2deg(np.arctan2(y, x)))


def _lines(path: Path) -> Iterator[str]:
    if not zipfile.is_zipfile(path):
        with path.open(encoding="utf-8") as file:
            yield from file
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                yield from io.TextIOWrapper(file, encoding="utf-8")


def _place(path: str | Path, number: int, line: str) -> Place:
    fields = line.rstrip("\n").split("\t")
    try:
        if len(fields) != _FIELDS:
            raise ValueError
        return Place(
            name=fields[1],
            latitude=float(fields[4]),
            longitude=float(fields[5]),
            country=fields[8],
            region=fields[10],
            population=int(fields[14] or 0),
            capital=fields[7] == "PPLC",
            zone=fields[17].split("/")[0],
        )
    except ValueError:
        raise DataError(
            f"{path}: line {number} is no GeoNames line of {_FIELDS} fields parted by tabs; give cities15000.zip"
        ) from None
