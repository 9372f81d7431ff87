"""Where an update lies in the weight that it changes: its bands, its amplification, and its intruders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.floors import pooled, with_null
from finetune.deltas import weight_of
from geometry.alignment import WeightSVD, amplification, band_energies, best_matches, intruders, leading
from geometry.nulls import matched_random

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from finetune.deltas import AdapterUpdates, Update
    from geometry.live.models import Loaded
    from geometry.spectra import LowRank

SIDES = ("left", "right")
KS = (5, 10, 20)
THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
BANDS = 10


def against_base(
    adapters: Mapping[str, AdapterUpdates],
    base: Loaded,
    *,
    n: int,
    rng: np.random.Generator,
    progress: Callable[[str, float], None],
) -> list[dict[str, Any]]:
    """Place every update of every adapter in its weight, beside random updates with its singular values.

    Args:
        adapters: name -> updates, whole ones.
        base: the base of all.
        n: random updates of each null.
        rng: source of chance.
        progress: is called with what is being done and the share that is done.

    Returns:
        One record for each update that is not zero: adapter, module, ``relative_norm``, ``sigma_ratio``,
        ``amplification``, its reciprocal ``base_along`` with a null; and for ``left`` and ``right`` the
        ``bands`` and ``intruders``, each with ``value`` and ``samples``, one for each random update.

    Raises:
        AdapterError: the base lacks a module.
    """
    wanted: dict[str, list[tuple[str, Update]]] = {}
    for name, adapter in adapters.items():
        for update in adapter.updates:
            if update.delta.norm() > 0:
                wanted.setdefault(update.module, []).append((name, update))
    records = []
    for done, (module, updates) in enumerate(wanted.items()):
        progress(f"placing {module}", done / len(wanted))
        weight = weight_of(base, module)
        svd = WeightSVD.of(weight)  # once for all adapters
        records += [{"adapter": name, **_record(update, weight, svd, n, rng)} for name, update in updates]
    order = {name: i for i, name in enumerate(adapters)}
    return sorted(records, key=lambda r: order[r["adapter"]])


def placement(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add up the modules of each adapter: intruders in all, and the mean share of energy in each band.

    Args:
        records: what :func:`against_base` gives.

    Returns:
        One record for each adapter and side: ``intruders`` over the grid of ``KS`` and ``THRESHOLDS``, and
        ``bands`` (the last one is outside the span of the weight), each number with its null.
    """
    found = []
    for adapter in dict.fromkeys(r["adapter"] for r in records):
        for side in SIDES:
            mine = [r[side] for r in records if r["adapter"] == adapter]
            # a module of fewer singular values than bands has bands of its own
            banded = [m["bands"] for m in mine if len(m["bands"]["value"]) == BANDS + 1]
            found.append({
                "adapter": adapter,
                "side": side,
                "modules": len(mine),
                "intruders": _pooled([m["intruders"] for m in mine], 1),
                "bands": _pooled(banded, len(banded)) if banded else [],
            })
    return found


def _pooled(parts: list[dict[str, Any]], divisor: int) -> list[Any]:
    values, samples = (np.array([p[key] for p in parts]) / divisor for key in ("value", "samples"))
    return pooled(values, samples)


def _record(
    update: Update, weight: NDArray[np.float64], svd: WeightSVD, n: int, rng: np.random.Generator
) -> dict[str, Any]:
    sides = [_placed(update.delta, weight, svd)]
    sides += [_placed(matched_random(update.delta, rng), weight, svd) for _ in range(n)]
    values = update.delta.singular_values()
    found, *by_chance = sides
    return {
        "module": update.module,
        "layer": update.layer,
        "projection": update.projection,
        "relative_norm": float(np.linalg.norm(values) / np.linalg.norm(svd.values)),
        "sigma_ratio": float(values[0] / svd.values[0]),
        # its reciprocal has the null: over a random direction where the weight happens to do nothing, the
        # amplification itself has no mean
        "amplification": 1 / found["base_along"] if found["base_along"] else None,
        "base_along": with_null(found["base_along"], [s["base_along"] for s in by_chance]),
        **{
            side: {
                what: {"value": found[side][what], "samples": [s[side][what] for s in by_chance]}
                for what in ("bands", "intruders")
            }
            for side in SIDES
        },
    }


def _placed(delta: LowRank, weight: NDArray[np.float64], svd: WeightSVD) -> dict[str, Any]:
    u, s, vt = delta.svd()
    bands = min(BANDS, len(svd.values))
    tops = leading(weight + delta.dense(), min(max(KS), len(svd.values)))
    placed: dict[str, Any] = {"base_along": 1 / amplification(delta, weight)}
    for side, own, basis, top in zip(SIDES, (u, vt.T), (svd.left, svd.right), tops, strict=True):
        placed[side] = {
            "bands": band_energies(own, s**2, basis, bands),
            "intruders": intruders(best_matches(top, basis), KS, THRESHOLDS),
        }
    return placed
