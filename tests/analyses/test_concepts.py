"""Every concept that is shipped loads and lies right; users' own are checked in one line; exclusions are stated."""

import zipfile

import numpy as np
import pytest

from analyses.concepts import Excluded, counted, load, meeting, names
from analyses.geonames import largest_cities, read_places
from geometry.checks import DataError, InputError
from geometry.label_nulls import count_orders
from geometry.nuisances import nuisance_matrices


def geonames_line(
    name, latitude, longitude, *, country="XX", region="", population=1000, code="PPL", zone="Europe/X"
):
    fields = [""] * 19
    fields[1], fields[4], fields[5], fields[7], fields[8] = name, str(latitude), str(longitude), code, country
    fields[10], fields[14], fields[17] = region, str(population), "Europe/X"
    return "\t".join(fields) + "\n"


@pytest.fixture(scope="module")
def geonames(tmp_path_factory):
    """A made-up file in the format of GeoNames, with a capital for every country and a city in every state."""
    import yaml

    from analyses.concepts import FOLDER

    rng, lines = np.random.default_rng(0), []

    def codes(name):
        return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))["codes"].values()

    for i, code in enumerate(codes("countries")):
        place = rng.uniform(-60, 60), rng.uniform(-180, 180)
        lines.append(geonames_line(f"Capital {i}", *place, country=code, code="PPLC", population=10 * i))
    for code in codes("us_states"):
        for lon in (-100, -98):
            lines.append(geonames_line(f"Town {code}{lon}", 40, lon, country="US", region=code, population=5))
    path = tmp_path_factory.mktemp("geonames") / "cities.txt"
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def user_file(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize("name", names())
def test_shipped_concepts_load(name, geonames):
    concept = load(name, geonames=geonames)
    assert len(concept.items) == concept.layout.n == len(set(concept.items))
    assert concept.about.endswith(".")
    assert set(concept.ambiguous) <= set(concept.items) and set(concept.aliases) <= set(concept.items)
    assert (concept.layout.kind == "sphere") is bool(concept.source)
    assert len(concept.regions) in {0, concept.layout.n}
    few = concept.items[:40]
    assert nuisance_matrices(few, counts=range(1, len(few) + 1), without=concept.order_nuisances).matrices


@pytest.mark.parametrize(
    ("name", "n", "kind", "first", "last"),
    [
        ("months", 12, "cycle", "January", "December"),
        ("weekdays", 7, "cycle", "Monday", "Sunday"),
        ("hours", 24, "cycle", "00:00", "23:00"),
        ("dates", 365, "cycle", "January 1", "December 31"),
        ("years", 118, "line", "1900", "2017"),
        ("decades", 22, "line", "1800s", "2010s"),
        ("letters", 26, "line", "A", "Z"),
        ("numbers", 100, "line", "1", "100"),
        ("two_digit_numbers", 90, "grid", "10", "99"),
    ],
)
def test_shipped_concepts_hold_what_they_say(name, n, kind, first, last):
    concept = load(name)
    assert (concept.layout.n, concept.layout.kind, concept.items[0], concept.items[-1]) == (
        n,
        kind,
        first,
        last,
    )


def test_the_concepts_of_the_paper_and_its_controls_are_there():
    wanted = (
        "months weekdays hours dates years decades numbers letters us_states countries cities seasons colours"
    )
    assert set(wanted.split()) <= set(names())


def test_grid_neighbours_are_tens_and_units():
    grid = load("two_digit_numbers")
    at = {item: i for i, item in enumerate(grid.items)}
    assert grid.layout.distance[at["34"], at["35"]] == grid.layout.distance[at["34"], at["44"]] == 1
    assert grid.layout.distance[at["39"], at["40"]] > 9


def test_states_lie_at_the_mean_inhabitant_and_countries_at_their_capital(geonames):
    from geometry.layouts import unit_sphere

    states = load("us_states", geonames=geonames)
    middle = unit_sphere([[40.0, -100], [40.0, -98]]).mean(axis=0)
    np.testing.assert_allclose(states.layout.targets[0], middle / np.linalg.norm(middle), atol=1e-9)
    countries, places = load("countries", geonames=geonames), read_places(geonames)
    np.testing.assert_allclose(
        countries.layout.targets[:147], unit_sphere([(p.latitude, p.longitude) for p in places if p.capital])
    )
    assert set(countries.regions) == {"Europe"}


def test_largest_cities_are_few_of_a_country_and_of_one_name_the_largest(tmp_path):
    path = tmp_path / "places.zip"
    lines = [
        geonames_line("A", 0, 0, country="AA", population=9), geonames_line("B", 1, 1, country="AA", population=8),
        geonames_line("C", 2, 2, country="AA", population=7), geonames_line("A", 3, 3, country="BB", population=6),
        geonames_line("D", 4, 4, country="BB", population=5),
    ]  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("places.txt", "".join(lines))
    found = largest_cities(read_places(path), 10, at_most_a_country=2)
    assert [(p.name, p.latitude) for p in found] == [("A", 0), ("B", 1), ("D", 4)]
    assert len(largest_cities(read_places(path), 1, at_most_a_country=2)) == 1


def test_without_may_the_other_months_keep_their_distances():
    year = load("months")
    less = year.only([month for month in year.items if month not in year.ambiguous])
    assert "May" not in less.items and less.layout.kind == "part" and not less.ambiguous
    assert less.layout.distance[less.items.index("April"), less.items.index("June")] == 2
    assert "August" not in less.aliases and "September" in less.aliases
    assert count_orders(less.layout) > count_orders(year.layout) / 1e3
    assert year.only(year.items).layout is year.layout


def test_parts_are_judged_without_what_needs_equal_steps():
    from geometry.verdict import judge

    year = load("months")
    less = year.only([month for month in year.items if month != "May"])
    spelling = nuisance_matrices(less.items).matrices
    found = judge(np.exp(-less.layout.distance / 3), less.layout, spelling, np.random.default_rng(0))
    assert found.shown and not any("closed" in gate.name for gate in found.gates)


def test_missing_and_rare_words_are_stated():
    year = load("months")
    counts = dict.fromkeys(year.items, 500) | {"May": 0, "June": 49}
    del counts["July"]
    left, out = counted(year, counts)
    assert out == (
        Excluded("May", "does not occur"),
        Excluded("June", "occurs 49 times, 50 are needed"),
        Excluded("July", "does not occur"),
    )
    assert left.layout.n == 9 and set(left.items) == set(year.items) - {"May", "June", "July"}
    assert counted(year, dict.fromkeys(year.items, 50))[1] == ()


def test_items_that_never_met_are_stated():
    year = load("months")
    ratio = np.ones((12, 12))
    for i, j in [(0, 1), (0, 2), (0, 3), (7, 8)]:
        ratio[i, j] = ratio[j, i] = 0
    left, out = meeting(year, ratio)
    assert out == (
        Excluded("January", "never met 3 of the other 11"),
        Excluded("September", "never met 1 of the other 10"),
    )
    assert left.layout.n == 10
    assert meeting(year, np.ones((12, 12))) == (year, ())
    assert [one.item for one in meeting(year, ratio, allowed=0.2)[1]] == ["January"]
    assert meeting(year, ratio, allowed=0.3)[1] == ()


def test_too_few_left_is_an_error_that_says_so():
    week = load("weekdays")
    with pytest.raises(DataError, match="2 items are left, 5 are needed"):
        counted(week, {"Monday": 100, "Friday": 100})
    with pytest.raises(DataError, match="items are left"):
        meeting(week, np.eye(7))
    with pytest.raises(DataError, match="share from 0 to below 1"):
        meeting(week, np.ones((7, 7)), allowed=1.0)
    with pytest.raises(DataError, match="no item 'Funday'"):
        week.only(["Funday"])


def test_a_user_s_own_concepts(user_file):
    keys = load(user_file("about: Keys.\ntopology: cycle\nitems: [C, G, D, A, E, B]\naliases: {C: [do]}\n"))
    assert keys.name == "mine" and keys.layout.n == 6 and keys.aliases == {"C": ("do",)}
    places = "{a: [0, 0], b: [0, 90], c: [90, 0], d: [0, -90], e: [45, 45]}"
    globe = load(user_file(f"about: Five.\ntopology: sphere\ncoordinates: {places}\n"))
    assert globe.items == ("a", "b", "c", "d", "e") and globe.layout.kind == "sphere"
    board = load(user_file("about: B.\ntopology: grid\nshape: [2, 3]\nitems: [a1, a2, a3, b1, b2, b3]\n"))
    assert board.layout.distance[0, 3] == 1


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("about: x\ntopology: ring\nitems: [a, b, c]\n", "mine: topology"),
        ("about: x\ntopology: cycle\n", "needs either `items` or `range`"),
        ("about: x\ntopology: cycle\nitems: [a, b, c]\nrange: {first: 1, last: 3}\n", "needs either"),
        ("about: x\ntopology: cycle\nitems: [a, b, a]\n", "'a' is listed twice"),
        ("about: x\ntopology: cycle\nitems: [a, b, c]\naliases: {a: [b]}\n", "'b' is listed twice"),
        ("about: x\ntopology: cycle\nitems: [a, b, c]\nambiguous: [d]\n", "'d' has aliases or is called"),
        ("about: x\ntopology: line\nitems: [a, b]\n", "at least 3 items"),
        ("about: x\ntopology: line\nitems: [a, b, ' ']\n", "none of them empty"),
        ("about: x\ntopology: line\nitems: [a, b, c]\ncolour: red\n", "colour"),
        ("topology: line\nitems: [a, b, c]\n", "about"),
        ("about: x\ntopology: grid\nitems: [a, b, c]\n", "`shape` belongs to a grid"),
        ("about: x\ntopology: grid\nshape: [2, 2]\nitems: [a, b, c]\n", "needs 4 items, got 3"),
        ("about: x\ntopology: sphere\nitems: [a, b, c]\n", "either `coordinates` or `geonames`"),
        ("about: x\ntopology: sphere\ncoordinates: {a: [0, 0]}\n", "1 places are too few"),
        ("about: x\ntopology: sphere\ngeonames: capitals\n", "`codes` belong to"),
        ("about: x\ntopology: sphere\ngeonames: cities\n", "give its path"),
        ("about: x\ntopology: line\nitems: [a, b, c]\nnuisances_that_are_the_order: [hue]\n", "nuisance 'hue'"),
        ("items: [a, b\n", "is not YAML"),
    ],
)  # fmt: skip
def test_faults_in_a_user_s_file_are_named_in_one_line(user_file, text, match):
    with pytest.raises(InputError, match=match) as error:
        load(user_file(text))
    assert "\n" not in str(error.value)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(DataError, match="expected one of cities, colours"):
        load("planets")


def test_places_that_the_file_lacks_are_named(user_file, tmp_path):
    path = tmp_path / "few.txt"
    path.write_text(geonames_line("Paris", 48.9, 2.4, country="FR", code="PPLC"), encoding="utf-8")
    with pytest.raises(DataError, match="has no place for Afghanistan, Albania, Algeria"):
        load("countries", geonames=path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "holds no places"),
        (b"a\tb\n", "line 1 is no GeoNames line"),
        (b"\xff\xfe\x00", "UnicodeDecodeError"),
    ],
)
def test_files_that_are_no_geonames_are_refused(tmp_path, content, match):
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=match):
        read_places(path)
    with pytest.raises(DataError, match="FileNotFoundError"):
        read_places(tmp_path / "missing.txt")
