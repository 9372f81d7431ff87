import math

import pytest

from analyses.digits import decimals, digits, duration, measured


@pytest.mark.parametrize("value", [1234.5678, -0.00123456, 0.5, 99.96, 1e-9, -7.25e12])
def test_what_is_written_reads_back_to_three_digits(value):
    text = digits(value).replace("−", "-").replace(",", "")
    mantissa, _, power = text.partition(" × 10")
    exponent = int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))) if power else 0
    assert float(mantissa) * 10.0**exponent == pytest.approx(value, rel=5e-3)


def test_whole_numbers_keep_every_digit():
    assert digits(123456789) == "123,456,789"


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_never_written_as_one(value):
    assert digits(value) == "–"


def test_numbers_in_line_share_their_places_unless_sizes_forbid():
    places = decimals([0.02, 0.43, None, math.nan, "x"])
    assert [digits(x, places=places) for x in (0.02, 0.43)] == ["0.020", "0.430"]
    assert decimals([1e-5, 1.0]) is None
    assert decimals([2e-7, 3e-7]) is None
    assert decimals([]) is None


def test_a_number_without_floor_has_no_small_print():
    assert measured({"value": None}) == ("–", ())
    assert measured({"value": 0.5, "null": {"mean": 0.25}}) == ("0.500", ("null 0.250",))


def test_durations_round_to_units_that_one_reads():
    assert [duration(s) for s in (0.04, 59.94, 60, 3599, 7199.9)] == [
        "0.0 s", "59.9 s", "1 min 0 s", "59 min 59 s", "2 h 0 min",
    ]  # fmt: skip
