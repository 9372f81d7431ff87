"""What adapters are in weight space: their updates, read from files, without running a model.

Spectra of every update come from its factors; pairs of adapters are compared module by module; with the base,
:mod:`analyses.weight_base` says where each update lies in the weight that it changes; with texts as well, one pass
of the base gives :mod:`analyses.weight_data` what each update does to them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.floors import with_haar, with_null
from analyses.run_names import short_names
from analyses.weight_base import against_base, placement
from analyses.weight_data import on_data
from finetune.adapter_folder import require_same_base
from finetune.deltas import read_updates, require_one_space, with_whole_updates
from geometry.alignment import DEAD, live_ranks, phi, phi_by_chance, update_cosine
from geometry.checks import AdapterError, DataError
from geometry.nulls import haar_overlap, matched_random
from geometry.spectra import LowRank, effective_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from finetune.deltas import AdapterUpdates, Side, Update
    from geometry.live.models import Loaded

Facts = dict[str, Any]

GRID = 16
"""phi(i, j) is listed for i and j up to this."""


@dataclass(frozen=True)
class WeightRequest:
    """What is asked of a weight report.

    Attributes:
        adapters: PEFT folders; every two are compared.
        n_random: random updates of each null, at least 2.
        seed: of the random updates.
        texts: name of a group -> JSONL file of texts that the base reads; none for what is in the files alone.
    """

    adapters: tuple[Path, ...]
    n_random: int = 8
    seed: int = 0
    texts: dict[str, Path] = field(default_factory=dict)


def weight_report(
    request: WeightRequest, base: Loaded | None = None, *, progress: Callable[[str, float], None]
) -> Facts:
    """Describe adapters in weight space.

    Args:
        request: adapters, nulls and texts.
        base: the base that all of them were trained on; None leaves out what needs it.
        progress: is called with what is being done and the share that is done.

    Returns:
        Facts, JSON-able: ``adapters``; ``modules``, one record for each update; ``pairs`` of adapters;
        ``writers``, the overlap of what modules of one adapter write; ``against_base``, one record for each
        update, and ``placement``, their sums, both empty without a base; ``on_data``, one record for each group
        of texts.

    Raises:
        AdapterError: see :func:`finetune.deltas.read_updates`; an adapter that changes nothing; or the base is
            another than an adapter's.
        DataError: fewer than 2 random updates, no adapter, or one that is given twice; texts without a base, or
            that cannot be read.
        ModelError: see :func:`analyses.weight_data.on_data`.
    """
    if request.n_random < 2:
        raise DataError(f"{request.n_random} random updates make no null; ask for 2 or more")
    if request.texts and base is None:
        raise DataError("texts are read by the base; give --base, or leave out --texts")
    rng = np.random.default_rng(request.seed)
    adapters = {name: read_updates(folder) for name, folder in _named(request.adapters).items()}
    if base is not None:
        for name, adapter in adapters.items():
            require_same_base(base, adapter.folder)
            adapters[name] = with_whole_updates(adapter, base)
    for adapter in adapters.values():
        _require_active(adapter)
    progress("reading spectra", 0.0)
    chance = _ByChance(request.n_random, rng)
    modules = [
        {"adapter": name, **_module(update, chance)} for name, a in adapters.items() for update in a.updates
    ]
    pairs = []
    for one, other in itertools.combinations(adapters, 2):
        progress(f"comparing {one} and {other}", 0.1)
        pairs.append({
            "one": one,
            "other": other,
            **_pair(adapters[one], adapters[other], request.n_random, rng),
        })
    chances: dict[str, Any] = {"n": request.n_random, "rng": rng, "progress": progress}
    records = [] if base is None else against_base(adapters, base, **chances)
    data = [] if base is None else on_data(adapters, base, request.texts, **chances)
    return {
        "base": None if base is None else base.name,
        "random": request.n_random,
        "seed": request.seed,
        "dead": DEAD,
        "adapters": [_adapter(name, a, base) for name, a in adapters.items()],
        "modules": modules,
        "pairs": pairs,
        "writers": [{"adapter": name, **found} for name, a in adapters.items() if (found := _writers(a))],
        "against_base": records,
        "placement": placement(records),
        "on_data": data,
    }


def _require_active(adapter: AdapterUpdates) -> None:
    if not any(update.delta.norm() > 0 for update in adapter.updates):
        raise AdapterError(
            f"{adapter.folder}: is inactive, each of its {len(adapter.updates)} updates is exactly 0; train it, or "
            "name another"
        )


class _ByChance:
    """Spectra of products of Gaussian factors, drawn once for each shape."""

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self._n, self._rng = n, rng
        self._drawn: dict[tuple[int, int, int], np.ndarray] = {}

    def spectra(self, out: int, rank: int, width: int) -> np.ndarray:
        """Singular values of ``n`` products (out, rank) @ (rank, width), shares of the largest."""
        key = (out, rank, width)
        if key not in self._drawn:
            normal = self._rng.standard_normal
            products = (LowRank(normal((out, rank)), normal((rank, width))) for _ in range(self._n))
            values = np.array([product.singular_values() for product in products])
            self._drawn[key] = values / values[:, :1]
        return self._drawn[key]


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    if not folders:
        raise DataError("no adapter; give --adapter FOLDER, more than once to compare")
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise DataError("an adapter is given twice; every number would be that of an adapter with itself")
    return short_names(folders)


def _adapter(name: str, adapter: AdapterUpdates, base: Loaded | None) -> dict[str, Any]:
    norm = float(np.linalg.norm([u.delta.norm() for u in adapter.updates]))
    whole = base is not None or adapter.variant != "dora"
    notes = list(adapter.notes)
    if not whole:
        notes.append(
            "DoRA gives every row of the weight a norm of its own, so `s B A` is not the update of this adapter: "
            "what is listed is the direction that it adds before rescaling. Give `--base` for the update itself."
        )
    elif adapter.variant == "dora":
        notes.append("DoRA: updates are the adapted weight minus the base's, of full rank, not `s B A`.")
    return {
        "name": name,
        "folder": str(adapter.folder),
        "variant": adapter.variant,
        "base": adapter.base,
        "updates": len(adapter.updates),
        "norm": norm,
        "whole": whole,
        "notes": notes,
    }


def _module(update: Update, chance: _ByChance) -> dict[str, Any]:
    delta = update.delta
    values = delta.singular_values()
    out, width = delta.shape
    live = live_ranks(values)
    record = {
        "module": update.module, "layer": update.layer, "projection": update.projection,
        "out": out, "in": width, "rank": update.rank, "alpha": update.alpha, "scale": update.delta.scale,
        "reads": update.reads, "writes": update.writes,
        "values": values, "norm": float(np.linalg.norm(values)),
        "live": live, "dead": max(0, min(update.rank, out, width) - live),
    }  # fmt: skip
    if live:
        spectra = chance.spectra(out, update.rank, width)
        record["effective_rank"] = with_null(
            effective_rank(values**2), [effective_rank(sample**2) for sample in spectra]
        )
        record["values_by_chance"] = {
            "mean": spectra.mean(0),
            "low": spectra.min(0),
            "high": spectra.max(0),
        }
    return record


def _pair(one: AdapterUpdates, other: AdapterUpdates, n: int, rng: np.random.Generator) -> dict[str, Any]:
    theirs = {u.module: u for u in other.updates}
    shared, refused = [], []
    for update in one.updates:
        partner = theirs.get(update.module)
        if partner is None:
            continue
        try:
            require_one_space(update, partner, "reads")
            require_one_space(update, partner, "writes")
        except AdapterError as error:
            refused.append(str(error))
            continue
        if update.delta.norm() and partner.delta.norm():
            shared.append((update, partner))
    record: dict[str, Any] = {
        "modules": [_module_pair(u, v, n, rng) for u, v in shared],
        "refused": refused,
        "only_one": len(one.updates) - len({u.module for u in one.updates} & set(theirs)),
        "only_other": len(other.updates) - len({u.module for u in one.updates} & set(theirs)),
        "same_base": one.base == other.base,
    }
    if shared:
        norms = [np.array([p[i].delta.norm() for p in shared]) for i in (0, 1)]
        weights = norms[0] * norms[1] / (np.linalg.norm(norms[0]) * np.linalg.norm(norms[1]))
        total = weights @ [m["cosine"]["value"] for m in record["modules"]]
        samples = weights @ np.array([m["samples"] for m in record["modules"]])
        record["cosine"] = with_null(float(total), samples)
    for module in record["modules"]:
        del module["samples"]
    return record


def _module_pair(one: Update, other: Update, n: int, rng: np.random.Generator) -> dict[str, Any]:
    samples = [
        update_cosine(matched_random(one.delta, rng), matched_random(other.delta, rng)) for _ in range(n)
    ]
    record = {
        "module": one.module, "layer": one.layer, "projection": one.projection, "samples": samples,
        "cosine": with_null(update_cosine(one.delta, other.delta), samples),
    }  # fmt: skip
    return record | {side: _phi(one, other, side) for side in ("reads", "writes")}


def _phi(one: Update, other: Update, side: Side) -> dict[str, Any]:
    """Overlaps of the directions that are not dead; a dead one points anywhere."""
    u, v = (_directions(update, side) for update in (one, other))
    d, whole = len(u), phi(u, v)
    grid = whole[:GRID, :GRID]
    return {
        **with_haar(whole[-1, -1], *haar_overlap(d, *whole.shape)),
        "k": list(whole.shape),
        "grid": grid,
        "grid_by_chance": phi_by_chance(d, *grid.shape)[0],
    }


def _directions(update: Update, side: Side) -> np.ndarray:
    left, values, right = update.delta.svd()
    vectors = right.T if side == "reads" else left
    return vectors[:, : live_ranks(values)]


def _writers(adapter: AdapterUpdates) -> dict[str, Any] | None:
    """Overlap of what the modules of one adapter write to the residual stream, two by two."""
    writers = [u for u in adapter.updates if u.writes and u.delta.norm() > 0]
    writers = [u for u in writers if u.delta.shape[0] == writers[0].delta.shape[0]]
    if len(writers) < 2:
        return None
    for update in writers:
        require_one_space(writers[0], update, "writes")
    bases = [_directions(u, "writes") for u in writers]
    overlaps = np.array([[phi(u, v)[-1, -1] for v in bases] for u in bases])
    mean = [[haar_overlap(len(u), u.shape[1], v.shape[1])[0] for v in bases] for u in bases]
    return {"modules": [u.module for u in writers], "overlap": overlaps, "chance": mean}
