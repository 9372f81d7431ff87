"""Sets of parts: pruned to the few that are enough, drawn by chance, and how many of an order are enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np


def pruned(
    order: Sequence[int], share: Callable[[Sequence[int]], float], keep: float
) -> tuple[tuple[int, ...], list[dict[str, Any]]]:
    """Remove parts one after another for as long as the rest has enough.

    Args:
        order: all parts, those to try first in front.
        share: of the effect that a set has; asked once for each part.
        keep: a part is removed for good when the rest has at least this share.

    Returns:
        The parts kept, ascending, and for each part tried the ``share`` without it and whether it was ``removed``.
        Where shares never grow when a part goes, no single part of the result can be removed any more.

    Examples:
        >>> weights = {0: 0.5, 1: 0.02, 2: 0.45, 3: 0.03}
        >>> pruned([1, 3, 2, 0], lambda some: sum(weights[i] for i in some), 0.9)[0]
        (0, 2)
    """
    kept, steps = sorted(order), []
    for part in order:
        rest = [i for i in kept if i != part]
        left = share(rest)
        removed = left >= keep
        steps.append({"part": part, "share": left, "removed": removed})
        if removed:
            kept = rest
    return tuple(kept), steps


def random_sets(n: int, k: int, draws: int, rng: np.random.Generator) -> list[list[int]]:
    """Draw sets of k of n parts, each set equally likely.

    Args:
        n: parts.
        k: size, 0 to n.
        draws: how many sets.
        rng: source of chance.

    Returns:
        The sets, each ascending.
    """
    return [sorted(rng.choice(n, k, replace=False).tolist()) for _ in range(draws)]


def sizes_up_to(n: int) -> list[int]:
    """Sizes of sets at about even ratios, from 1 to n.

    Examples:
        >>> sizes_up_to(42)
        [1, 2, 4, 8, 12, 16, 24, 32, 42]
    """
    sizes = sorted({2**i for i in range(n.bit_length())} | {3 * 2**i for i in range(2, n.bit_length())})
    return [size for size in sizes if size < n] + [n]


def smallest_enough(n: int, share: Callable[[int], float], keep: float) -> int:
    """Find a size at which the first parts of an order become enough, by bisection.

    Args:
        n: parts; all of them together are enough.
        share: of the effect that the first k have.
        keep: what is enough.

    Returns:
        A k from 1 to n whose share is at least ``keep`` while that of k - 1 is not; the smallest such k where shares
        never fall as k grows.

    Examples:
        >>> smallest_enough(100, lambda k: k / 50, 0.9)
        45
    """
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        if share(middle) >= keep:
            high = middle
        else:
            low = middle
    return high
