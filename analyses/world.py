"""What each measure of a diff says about adapters whose effect is known: the measuring half of ``repgeo world``.

In a world of :mod:`finetune.world` the style adapter changes the style and nothing else, and the fact adapter a
set of facts and nothing else. Every measure is taken of both, of a second seed of each, and of random adapters
of the same strength, so that it can be read off what the measure sees and what it misses.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.cause_bases import halves
from analyses.diff_measures import Sides, Tally, tally
from analyses.world_cells import cells, directions, parts
from finetune.adapter import ADAPTER, BASE, attach, random_adapters
from finetune.paired import paired_batches
from finetune.pairs import read_texts
from finetune.patched import Patch
from finetune.world import make
from finetune.world_exam import Exam, ask, written_lively
from finetune.world_language import BOTH, FACT, KINDS, STYLE
from geometry.checks import DataError
from geometry.live.models import load
from geometry.nulls import haar_overlap, null_of
from geometry.similarity import unbiased_cka
from geometry.spectra import effective_rank
from geometry.subspaces import overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from analyses.diff_measures import Side
    from finetune.adapter import Attached
    from finetune.world import World
    from finetune.world_models import Plan
    from geometry.live.models import Loaded

    Tell = Callable[[str, float], None]

MEASURES: dict[str, Callable[[Side], float | None]] = {
    "mean_share": lambda side: side.stats.mean_shift_share_unbiased,
    "effective_rank": lambda side: effective_rank(side.moved.values),
    "cka": lambda side: unbiased_cka(side.stats).cka,
    "base_overlap": lambda side: overlap(side.subspace, side.base),
}
"""Read off the moments of one layer; ``size``, the median of |d| / |h|, comes from the histograms."""


@dataclass(frozen=True)
class Looks:
    """How closely a world is looked at.

    Attributes:
        k: dimension of the subspaces.
        n_random: random adapters beside each trained one, at least 2.
        draws: uniform bases of each size that are taken out and kept.
    """

    k: int = 6
    n_random: int = 8
    draws: int = 3


@dataclass(frozen=True, eq=False)
class Seen:
    """One adapter as it was measured on the documents of its world.

    Attributes:
        sides: block -> moments of the adapter, its halves and its random adapters.
        record: what goes into the report, see :func:`measure_world`.
    """

    sides: Mapping[int, Sides]
    record: dict[str, Any]


def world_report(
    out: Path, seeds: Sequence[int], plan: Plan, looks: Looks, *, progress: Tell
) -> dict[str, Any]:
    """Make one world for each seed and take every measure in it.

    Args:
        out: folder of the worlds, ``world-0`` and so on; those that are there already are not made again.
        seeds: one world each.
        plan: of every world.
        looks: how closely they are looked at.
        progress: is called with what is being done and the share that is done.

    Returns:
        Facts, JSON-able: ``layers``, ``layer`` (the middle one, which tables show), ``k``, ``n_random``,
        ``width``, ``plan`` and ``worlds``, see :func:`measure_world`.

    Raises:
        DataError: k is more than half of the width.
        InputError: ``out`` cannot be written, or holds something else.
    """
    if not 1 <= looks.k <= plan.width // 2:
        raise DataError(f"k = {looks.k}: choose 1 to {plan.width // 2}, half the width of the model")
    found = []
    for number, seed in enumerate(seeds):
        show = _portion(progress, f"world {seed}", number, len(seeds))
        making = _portion(show, "made", 0, 2)
        world = make(out / f"world-{seed}", seed, plan, making)
        found.append(measure_world(world, looks, progress=_portion(show, "measured", 1, 2)))
    return {
        "layers": list(range(plan.layers)),
        "layer": plan.layers // 2,
        "k": looks.k,
        "n_random": looks.n_random,
        "width": plan.width,
        "plan": asdict(plan),
        "worlds": found,
    }


def measure_world(world: World, looks: Looks, *, progress: Tell) -> dict[str, Any]:
    """Take every measure of every adapter of a world.

    Args:
        world: on disk; needs two seeds of style and fact adapters, and one of both.
        looks: dimensions and random adapters.
        progress: is called with what is being done and the share that is done.

    Returns:
        Facts, JSON-able: ``seed``, ``training``; ``adapters``, name -> readings of :mod:`finetune.world_exam`
        and of its random adapters, and ``measures``, a record for each layer and measure with its null;
        ``overlaps``, a record a layer; ``base``, readings; ``cells``, readings of patched copies.

    Raises:
        AdapterError: see :func:`finetune.adapter.attach`.
        DataError: the world has too few documents for subspaces of dimension k.
    """
    base = load(world.base, dtype="float32", device="cpu")
    exam = Exam.drawn(world.language, world.plan["sentences"], np.random.default_rng([world.seed, 6]))
    names = [f"{kind}-{i}" for kind in (STYLE, FACT) for i in range(2)] + [f"{BOTH}-0"]
    seen: dict[str, Seen] = {}
    for number, name in enumerate(names):
        progress(name, number / (len(names) + 3))
        seen[name] = _look(base, world, name, exam, looks)
    bases = {kind: directions(seen[f"{kind}-0"].sides) for kind in (STYLE, FACT)}
    found, rng = [], np.random.default_rng([world.seed, 8])
    for number, kind in enumerate(KINDS):
        progress(f"parts of {kind}-0", (len(names) + number) / (len(names) + 3))
        sides = seen[f"{kind}-0"].sides
        others = {other: columns for other, columns in bases.items() if other != kind}
        tried = parts(sides, others, looks.draws, rng)
        with attach(base, world.adapter(kind)) as attached:
            found += [{"adapter": kind, **cell} for cell in cells(attached, exam, sides, tried)]
    return {
        "seed": world.seed,
        "training": world.training,
        "base": seen[names[0]].record.pop("base"),
        "adapters": {name: one.record for name, one in seen.items()},
        "overlaps": _overlaps(seen, looks.k),
        "cells": found,
    }


def _look(base: Loaded, world: World, name: str, exam: Exam, looks: Looks) -> Seen:
    """Measure one adapter and its random ones on the documents, and ask all of them the questions."""
    kind, seed = name.rsplit("-", 1)
    rng = np.random.default_rng([world.seed, 7, int(seed), KINDS.index(kind)])
    with attach(base, world.adapter(kind, int(seed))) as attached:
        randoms = random_adapters(attached, looks.n_random, rng)
        tallies = _tallies(attached, world.texts("style"), randoms)
        answers = ask(attached, exam, [Patch({}, random) for random in randoms])
        lively = {side: written_lively(attached, exam, Patch({}, side)) for side in (BASE, ADAPTER)}
    sides = {layer: Sides.of(one, looks.k, name) for layer, one in tallies.items()}
    measures = [record for layer, one in tallies.items() for record in _measures(sides[layer], one, layer)]
    record = {
        "base": answers[0] | {"written": lively[BASE]},
        "name": name,
        "kind": kind,
        "readings": answers[1] | {"written": lively[ADAPTER]},
        "random_readings": answers[2:],
        "measures": measures,
    }
    return Seen(sides, record)


def _tallies(attached: Attached, texts: Path, randoms: Sequence[str]) -> dict[int, Tally]:
    read = read_texts(texts).texts
    layers = range(attached.loaded.n_layers)
    tallies = {layer: Tally(attached.loaded.width, len(randoms)) for layer in layers}
    _, second = halves(text.doc_id for text in read)
    for batch in paired_batches(attached, read, list(layers), names=(BASE, ADAPTER, *randoms)):
        half = np.array([read[i].doc_id in second for i in batch.text_index.tolist()], dtype=np.int64)
        tally(batch, tallies, half)
    return tallies


def _measures(sides: Sides, tallied: Tally, layer: int) -> list[dict[str, Any]]:
    sizes = [histogram.answer().median for histogram in tallied.sizes]
    found = {"size": sizes}
    for measure, read in MEASURES.items():
        found[measure] = [read(side) for side in (sides.whole, *sides.randoms)]
    return [_record(measure, layer, values) for measure, values in found.items()]


def _record(measure: str, layer: int, values: Sequence[float | None]) -> dict[str, Any]:
    """A number of the trained adapter before those of the random ones, with the verdict."""
    value, *samples = (float("nan") if v is None else float(v) for v in values)
    null = null_of(value, samples)
    return {
        "measure": measure,
        "layer": layer,
        "value": value,
        "null": {"samples": samples, "band": null.band, "verdict": null.verdict()},
    }


def _overlaps(seen: Mapping[str, Seen], k: int) -> list[dict[str, Any]]:
    """Style against fact at every layer, between what chance gives and what a second seed reaches."""
    records = []
    for layer in seen["style-0"].sides:
        at = {name: one.sides[layer] for name, one in seen.items()}
        subspaces = {name: sides.whole.subspace for name, sides in at.items()}
        randoms = zip(at["style-0"].randoms, at["fact-0"].randoms, strict=True)
        pairs = itertools.product(("style-0", "style-1"), ("fact-0", "fact-1"))
        records.append({
            "layer": layer,
            "style_fact": float(np.mean([overlap(subspaces[a], subspaces[b]) for a, b in pairs])),
            "random": [overlap(a.subspace, b.subspace) for a, b in randoms],
            "haar": haar_overlap(subspaces["style-0"].shape[0], k, k)[0],
            "style_seeds": overlap(subspaces["style-0"], subspaces["style-1"]),
            "fact_seeds": overlap(subspaces["fact-0"], subspaces["fact-1"]),
            "style_halves": at["style-0"].reliability,
            "fact_halves": at["fact-0"].reliability,
            "both_style": overlap(subspaces["both-0"], subspaces["style-0"]),
            "both_fact": overlap(subspaces["both-0"], subspaces["fact-0"]),
        })
    return records


def _portion(progress: Tell, what: str, part: int, parts: int) -> Tell:
    """Turn the share of one part that is done into the share of all."""
    return lambda text, share: progress(f"{what}, {text}", (part + share) / parts)
