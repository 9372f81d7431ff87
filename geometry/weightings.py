"""What a neighbour adds to a count, by its distance: whole numbers, so that sums are exact in any order."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

from geometry.checks import ShapeError

LONGEST = 4096
"""Longest window: beyond it documents themselves are the windows."""

LONGEST_INVERSE = 22
"""Longest window of weights 1/d: the least common multiple of 1 to 22 is 2.3e8, which leaves 2^35 to be counted."""


@dataclass(frozen=True)
class Weighting:
    """Weights of a window.

    Attributes:
        name: ``flat``, ``linear`` or ``inverse``.
        steps: weight at distance 1, 2, ..., L in units of 1 / ``unit``.
        unit: whole number that makes every weight whole.
    """

    name: str
    steps: tuple[int, ...]
    unit: int = 1

    @property
    def window(self) -> int:
        """The longest distance L that is counted."""
        return len(self.steps)

    def pairs(self, lengths: dict[int, int]) -> int:
        """Weight of all ordered pairs of places no further apart than the window, exactly, in units.

        Args:
            lengths: length of a document -> number of documents that long.

        Examples:
            >>> flat(2).pairs({3: 1})
            6
        """
        return 2 * sum(
            step * max(0, length - d) * count
            for d, step in enumerate(self.steps, 1)
            for length, count in lengths.items()
        )


def flat(window: int) -> Weighting:
    """Every neighbour counts 1.

    Args:
        window: longest distance.

    Raises:
        ShapeError: a window below 1 or above 4096.

    Examples:
        >>> flat(3).steps
        (1, 1, 1)
    """
    return Weighting("flat", (1,) * _checked(window, LONGEST))


def linear(window: int) -> Weighting:
    """A neighbour at distance d counts L + 1 - d (Karkada et al. 2026, section 2).

    Args:
        window: longest distance L.

    Raises:
        ShapeError: a window below 1 or above 4096.

    Examples:
        >>> linear(3).steps
        (3, 2, 1)
    """
    return Weighting("linear", tuple(range(_checked(window, LONGEST), 0, -1)))


def inverse(window: int) -> Weighting:
    """A neighbour at distance d counts 1/d (Pennington et al. 2014), in units of 1 / lcm(1, ..., L).

    Args:
        window: longest distance L.

    Raises:
        ShapeError: a window below 1 or above 22, where whole numbers of 64 bits would soon be too small.

    Examples:
        >>> inverse(3)
        Weighting(name='inverse', steps=(6, 3, 2), unit=6)
    """
    unit = lcm(*range(1, _checked(window, LONGEST_INVERSE) + 1))
    return Weighting("inverse", tuple(unit // d for d in range(1, window + 1)), unit)


def _checked(window: int, longest: int) -> int:
    if not 1 <= window <= longest:
        raise ShapeError(f"window: expected 1 to {longest} words with these weights, got {window}")
    return window
