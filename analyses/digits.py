"""How numbers are written, on pages, in figures and on the terminal: one place decides it."""

from __future__ import annotations

import math
from collections.abc import Mapping

MISSING = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def digits(value: object, significant: int = 3) -> str:
    """Write one value with as many digits as a reader needs.

    Args:
        value: a number, a truth value, None, or a text, which is left as it is. NaN and infinity are
            written like None.
        significant: significant digits of a number that is not whole; at least 1.

    Returns:
        A short text. Whole numbers keep all their digits; below a thousandth and from a million on,
        a power of ten is split off.

    Examples:
        >>> [digits(x) for x in (0.123456, 12.3456, 1234.5, 48210, 1.2345e-7, 0.0, None, True)]
        ['0.123', '12.3', '1,234', '48,210', '1.23 × 10⁻⁷', '0', '–', 'yes']
        >>> digits(float("nan")), digits("copy"), digits(-0.5)
        ('–', 'copy', '−0.500')
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _minus(f"{value:,}")
    if isinstance(value, float):
        return _minus(_real(value, significant))
    return str(value)


def span(low: object, high: object) -> str:
    """Write an interval.

    Examples:
        >>> span(0.25, 0.75)
        '[0.250, 0.750]'
    """
    return f"[{digits(low)}, {digits(high)}]"


def measured(cell: Mapping[str, object]) -> tuple[str, str]:
    """Write a number that brings its floor along.

    Args:
        cell: ``value``, and any of ``low`` and ``high`` (its interval), ``n``, ``p``, ``null`` (a mapping
            with ``low`` and ``high``, or ``mean``) and ``verdict``.

    Returns:
        The number with its interval, and the rest in small print, empty where there is none.

    Examples:
        >>> measured({"value": 0.83, "low": 0.79, "high": 0.87, "n": 120, "p": 0.25})
        ('0.830 [0.790, 0.870]', 'n = 120, p = 0.250')
    """
    main = digits(cell.get("value"))
    if "low" in cell and "high" in cell:
        main += f" {span(cell['low'], cell['high'])}"
    small = [f"{key} = {digits(cell[key])}" for key in ("n", "p") if cell.get(key) is not None]
    floor = cell.get("null")
    if isinstance(floor, Mapping):
        around = span(floor["low"], floor["high"]) if "low" in floor else digits(floor.get("mean"))
        small.append(f"null {around}")
    if cell.get("verdict"):
        small.append(str(cell["verdict"]))
    return main, ", ".join(small)


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


def _real(value: float, significant: int) -> str:
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{significant - 1}e}".split("e")
    power = int(exponent)
    if power < -3 or power >= 6:
        return f"{mantissa} × 10{str(power).translate(_SUPERSCRIPT)}"
    return f"{value:,.{max(0, significant - 1 - power)}f}"


def _minus(text: str) -> str:
    return text.replace("-", "−")
