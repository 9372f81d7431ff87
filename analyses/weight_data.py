"""What updates do on texts: which of their ranks fire, and whether two adapters respond to the same things.

One pass of the base over a group of texts gathers the moments of what every adapted module reads; everything
here is exact from those, see :mod:`geometry.functional`. Null are updates with the same singular values and random
directions, which read the same texts.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.floors import with_null
from finetune.module_inputs import module_inputs
from finetune.pairs import read_texts
from geometry.alignment import live_ranks, phi, update_cosine
from geometry.functional import reading_basis
from geometry.nulls import matched_random
from geometry.spectra import effective_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from finetune.deltas import AdapterUpdates, Update
    from geometry.functional import Inputs
    from geometry.live.models import Loaded
    from geometry.spectra import LowRank

    Present = dict[str, dict[str, Update]]
    Draws = Callable[[str, str], Iterator[LowRank]]


def on_data(
    adapters: Mapping[str, AdapterUpdates],
    base: Loaded,
    texts: Mapping[str, Path],
    *,
    n: int,
    rng: np.random.Generator,
    progress: Callable[[str, float], None],
) -> list[dict[str, Any]]:
    """Say what updates do on groups of texts.

    Args:
        adapters: name -> updates, whole ones.
        base: the base of all.
        texts: name of a group -> JSONL file of its texts.
        n: random updates of each null.
        rng: source of chance.
        progress: is called with what is being done and the share of it that is done.

    Returns:
        One record for each group: ``group``, ``texts``; ``modules``, one for each update that is not zero;
        ``pairs``, for every two adapters the modules that both change.

    Raises:
        DataError: texts that cannot be read or do not fit into the base.
        ModelError: a module that does not read tokens.
    """
    present: Present = {}
    for name, adapter in adapters.items():
        for update in adapter.updates:
            if update.delta.norm() > 0:
                present.setdefault(update.module, {})[name] = update
    draws = _draws(present, n, rng)
    bases = {module: _basis(module, found, draws, n) for module, found in present.items()}
    records = []
    for number, (group, path) in enumerate(texts.items()):
        read = read_texts(path)

        def show(share: float, group: str = group, number: int = number) -> None:
            progress(f"reading {group}", (number + share) / len(texts))

        inputs = module_inputs(base, bases, [text.text for text in read.texts], progress=show)
        records.append({
            "group": group,
            "texts": len(read.texts),
            **_group(list(adapters), present, inputs, draws),
        })
    return records


def _group(
    names: list[str], present: Present, inputs: Mapping[str, Inputs], draws: Draws
) -> dict[str, list[dict[str, Any]]]:
    """Records of one group, module by module: the random updates of all modules together may be large."""
    modules: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    pairs: dict[tuple[str, str], list[dict[str, Any]]] = {
        pair: [] for pair in itertools.combinations(names, 2)
    }
    for module, found in present.items():
        read = inputs[module]
        seen = {
            name: [read.seen_by(d) for d in (update.delta, *draws(module, name))]
            for name, update in found.items()
        }
        for name, update in found.items():
            modules[name].append({"adapter": name, **_module(update, read, seen[name])})
        for one, other in pairs:
            if one in found and other in found and found[one].delta.shape == found[other].delta.shape:
                pairs[one, other] += _pair(found[one], seen[one], seen[other])
    return {
        "modules": [record for name in names for record in modules[name]],
        "pairs": [{"one": one, "other": other, "modules": found} for (one, other), found in pairs.items()],
    }


def _draws(present: Present, n: int, rng: np.random.Generator) -> Draws:
    """The random updates of each update, drawn anew and alike whenever they are asked for.

    They are needed before the pass, for what they read, and after it; all of them together may be large.
    """
    keys = [(module, name) for module, found in present.items() for name in found]
    seeds = dict(zip(keys, rng.bit_generator.seed_seq.spawn(len(keys)), strict=True))

    def drawn(module: str, name: str) -> Iterator[LowRank]:
        own = np.random.default_rng(seeds[module, name])
        return (matched_random(present[module][name].delta, own) for _ in range(n))

    return drawn


def _basis(module: str, found: dict[str, Update], draws: Draws, n: int) -> NDArray[np.float64]:
    """Directions that the updates of a module and their random counterparts read; all, where that is no more."""
    width = next(iter(found.values())).delta.shape[1]
    if sum(update.delta.rank for update in found.values()) * (1 + n) >= width:
        return np.eye(width)
    readers = [d.a for name, update in found.items() for d in (update.delta, *draws(module, name))]
    return reading_basis(readers)


def _module(update: Update, inputs: Inputs, seen: list[LowRank]) -> dict[str, Any]:
    values = [one.singular_values() for one in seen]
    live, live_in_weights = live_ranks(values[0]), live_ranks(update.delta.singular_values())
    norms = [float(np.linalg.norm(v)) for v in values]
    # a module that read nothing but zeros has no gain, and no division by it
    even = inputs.even_norm(update.delta) or 1.0  # that of the random updates too, since they share its norm
    return {
        "module": update.module,
        "layer": update.layer,
        "projection": update.projection,
        "tokens": inputs.n,
        "values": values[0],
        "norm": norms[0],
        "live": live,
        "silent": max(0, live_in_weights - live),
        "effective_rank": with_null(
            effective_rank(values[0] ** 2), [effective_rank(v**2) for v in values[1:]]
        ),
        "gain": with_null(norms[0] / even, [norm / even for norm in norms[1:]]),
    }


def _pair(update: Update, one: list[LowRank], other: list[LowRank]) -> list[dict[str, Any]]:
    """Overlap of what two adapters respond to in a module, and cosine of what they add; [] if one never fires."""
    pairs = list(zip(one, other, strict=True))
    if not all(a.norm() > 0 and b.norm() > 0 for a, b in pairs):
        return []
    overlaps = [_responses(a, b) for a, b in pairs]
    cosines = [update_cosine(a, b) for a, b in pairs]
    return [
        {
            "module": update.module,
            "layer": update.layer,
            "projection": update.projection,
            "overlap": with_null(overlaps[0], overlaps[1:]),
            "cosine": with_null(cosines[0], cosines[1:]),
        }
    ]


def _responses(one: LowRank, other: LowRank) -> float:
    """Overlap of what two updates respond to, over the directions that fire in each."""
    right = []
    for update in (one, other):
        _, values, vt = update.svd()
        right.append(vt[: live_ranks(values)].T)
    return float(phi(*right)[-1, -1])
