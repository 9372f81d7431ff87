"""Adapters that differ from the attached one in one respect, so that the respect can be seen.

Half-random adapters keep what the trained one writes, or what it reads, and draw the other side anew. A flipped
adapter is the trained one with its sign changed: to first order its differences are those of the trained one
with their sign changed, and how far they are from it says how far a linear picture carries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from finetune.adapter import add_adapter
from geometry.nulls import haar_basis
from geometry.spectra import LowRank

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetune.adapter import Attached

FLIPPED = "flipped"


def keep_writes(update: LowRank, rng: np.random.Generator) -> LowRank:
    """Keep the left singular vectors and values of an update; draw the right ones from the Haar measure.

    Args:
        update: the update to match.
        rng: source of chance.

    Returns:
        An update with factors of the same shapes and the same scale.

    Examples:
        >>> one = LowRank([[3.0], [0.0]], [[0.0, 2.0, 0.0]])
        >>> made = keep_writes(one, np.random.default_rng(0)).dense()
        >>> bool(made[1].any()), round(float(np.linalg.norm(made[0])), 9)
        (False, 6.0)
    """
    u, s, vt = update.svd()
    return _split(u, s, haar_basis(vt.shape[1], len(s), rng).T, update)


def keep_reads(update: LowRank, rng: np.random.Generator) -> LowRank:
    """Keep the right singular vectors and values of an update; draw the left ones from the Haar measure.

    Args:
        update: the update to match.
        rng: source of chance.

    Returns:
        An update with factors of the same shapes and the same scale.
    """
    u, s, vt = update.svd()
    return _split(haar_basis(u.shape[0], len(s), rng), s, vt, update)


HALF_RANDOM: dict[str, Callable[[LowRank, np.random.Generator], LowRank]] = {
    "keep writes": keep_writes,
    "keep reads": keep_reads,
}
"""Kind of half-random adapter -> how an update of it is drawn."""


def half_random_adapters(attached: Attached, kind: str, n: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Add n adapters that share one side of every update with the attached one.

    Args:
        attached: the attached adapter; the new ones live on the same model, and go when it is detached.
        kind: a key of :data:`HALF_RANDOM`.
        n: how many, 0 or more.
        rng: source of chance.

    Returns:
        Their names, to be used beside ``BASE`` and ``ADAPTER``.
    """
    make = HALF_RANDOM[kind]
    names = tuple(f"{kind.replace(' ', '_')}_{i}" for i in range(n))
    for name in names:
        add_adapter(attached, name, lambda update: make(update, rng))
    return names


def flipped_adapter(attached: Attached) -> str:
    """Add the attached adapter with the sign of every update changed.

    Args:
        attached: the attached adapter; the new one lives on the same model, and goes when it is detached.

    Returns:
        Its name.
    """
    add_adapter(attached, FLIPPED, lambda update: LowRank(-update.b, update.a, update.scale))
    return FLIPPED


def _split(u: np.ndarray, s: np.ndarray, vt: np.ndarray, update: LowRank) -> LowRank:
    """Factors of u s vt in the shapes of an update, its singular values split evenly between them."""
    root = np.sqrt(s / abs(update.scale)) if update.scale else np.zeros(len(s))
    b, a = np.zeros_like(update.b), np.zeros_like(update.a)
    b[:, : len(s)] = np.sign(update.scale) * u * root
    a[: len(s)] = root[:, None] * vt
    return LowRank(b, a, update.scale)
