"""How numbers are written, on pages, in figures and on the terminal: one place decides it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MISSING = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def digits(value: object, significant: int = 3, places: int | None = None) -> str:
    """Write one value with as many digits as a reader needs.

    Args:
        value: a number, a truth value, None, or a text, which is left as it is. NaN and infinity are
            written like None.
        significant: significant digits of a number that is not whole; at least 1.
        places: digits after the point, for numbers that stand in line with others (see :func:`decimals`);
            ``significant`` then says nothing.

    Returns:
        A short text. Whole numbers keep all their digits; below a thousandth and from a million on,
        a power of ten is split off.

    Examples:
        >>> [digits(x) for x in (0.123456, 12.3456, 1234.5, 48210, 1.2345e-7, 0.0, None, True)]
        ['0.123', '12.3', '1,234', '48,210', '1.23 × 10⁻⁷', '0', '–', 'yes']
        >>> digits(float("nan")), digits("copy"), digits(-0.5), digits(0.02, places=3)
        ('–', 'copy', '−0.500', '0.020')
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _minus(f"{value:,}")
    if isinstance(value, float):
        return _minus(_real(value, significant, places))
    return str(value)


def decimals(values: Iterable[object], significant: int = 3) -> int | None:
    """Choose the digits after the point that numbers in line have in common.

    Args:
        values: numbers; what is not a finite float is passed over.
        significant: significant digits of the largest.

    Returns:
        How many, or None where no common number serves: the sizes differ by more than a factor of 1000,
        or call for powers of ten.

    Examples:
        >>> decimals([0.02, 1.0]), decimals([5.35, 12.345]), decimals([1e-5, 1.0]), decimals([3, None])
        (3, 1, None, None)
    """
    sizes = [abs(x) for x in values if isinstance(x, float) and math.isfinite(x) and x]
    if not sizes or max(sizes) > 1000 * min(sizes) or not 1e-3 <= max(sizes) < 1e6:
        return None
    # A power of ten is the end of the scale below it: shares and overlaps of 1 stand among 0.43 and 0.02.
    return max(0, significant - math.ceil(math.log10(max(sizes))))


def measured(cell: Mapping[str, Any], places: int | None = None) -> tuple[str, tuple[str, ...]]:
    """Write a number that brings its floor along.

    Args:
        cell: ``value``, and any of ``low`` and ``high`` (its interval), ``null`` (a mapping with ``low`` and
            ``high``, or ``mean``), ``n``, ``p`` and ``verdict``.
        places: digits after the point, of the number, its interval and its null.

    Returns:
        The number with its interval; and lines of small print: the null, and what is said of it.

    Examples:
        >>> measured({"value": 0.83, "low": 0.79, "high": 0.87})
        ('0.830 [0.790, 0.870]', ())
        >>> measured({"value": 0.83, "null": {"low": 0.1, "high": 0.3}, "n": 120, "p": 0.25, "verdict": "above"})
        ('0.830', ('null [0.100, 0.300]', 'n = 120, p = 0.25, above'))
    """
    places = decimals([cell["value"]]) if places is None else places
    main = digits(cell["value"], places=places)
    if cell.get("low") is not None:
        main += f" {_span(cell, places)}"
    null, lines = cell.get("null"), []
    if null is not None:
        lines.append(f"null {_span(null, places) if 'low' in null else digits(null['mean'], places=places)}")
    said = [f"{key} = {digits(cell[key], 2)}" for key in ("n", "p") if cell.get(key) is not None]
    if cell.get("verdict"):
        said.append(str(cell["verdict"]))
    return main, (*lines, ", ".join(said)) if said else tuple(lines)


def duration(seconds: float) -> str:
    """Write a time in at most two units.

    Examples:
        >>> [duration(s) for s in (4.21, 75, 3 * 3600 + 120)]
        ['4.2 s', '1 min 15 s', '3 h 2 min']
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _span(ends: Mapping[str, Any], places: int | None) -> str:
    return f"[{digits(ends['low'], places=places)}, {digits(ends['high'], places=places)}]"


def _real(value: float, significant: int, places: int | None) -> str:
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    if places is not None:
        return f"{value:,.{places}f}"
    mantissa, exponent = f"{value:.{significant - 1}e}".split("e")
    power = int(exponent)
    if power < -3 or power >= 6:
        return f"{mantissa} × 10{str(power).translate(_SUPERSCRIPT)}"
    return f"{value:,.{max(0, significant - 1 - power)}f}"


def _minus(text: str) -> str:
    return text.replace("-", "−")
