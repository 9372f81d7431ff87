"""Does a concept have the symmetry of its layout, in a corpus and in a model? Facts of one run.

A corpus comes as counts; its side is in :mod:`analyses.symmetry_corpus`, the model's in
:mod:`analyses.symmetry_model`. The kernel that the corpus follows is what the states of the model are held against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.concepts import LEAST_ITEMS, load
from analyses.symmetry_adapter import AdapterRequest, adapter_facts
from analyses.symmetry_closeup import laid_over
from analyses.symmetry_corpus import corpus_facts
from analyses.symmetry_held import held_against
from analyses.symmetry_model import model_facts
from analyses.symmetry_read import read_model
from geometry.checks import DataError
from geometry.kernels import KernelFit
from geometry.lattice import modes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from analyses.concepts import Concept
    from analyses.symmetry_corpus import Counts
    from analyses.symmetry_held import Held
    from geometry.live.models import Loaded

_FIT = KernelFit.__dataclass_fields__.keys()


@dataclass(frozen=True)
class SymmetryRequest:
    """What to look at.

    Attributes:
        concepts: names of shipped ones, or paths of YAML files.
        geonames: file that places are read from.
        templates: to read a model in, in place of those of the concepts; empty for those.
        n_untrained: models of random weights to put beside a model.
        seed: of shuffles, folds and random weights.
        adapter: to compare a model with, and its controls; None compares nothing.
    """

    concepts: tuple[str, ...]
    geonames: Path | None = None
    templates: tuple[str, ...] = ()
    n_untrained: int = 3
    seed: int = 0
    adapter: AdapterRequest | None = None


def concepts_of(request: SymmetryRequest) -> tuple[Concept, ...]:
    """Read the concepts of a request, before any work is done.

    Raises:
        DataError: two have one name, one has fewer than 5 items, or see :func:`analyses.concepts.load`.
    """
    found = tuple(load(name, geonames=request.geonames) for name in request.concepts)
    names = [concept.name for concept in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"concept {twice[0]}: is asked for twice; give two files two names")
    if few := [concept for concept in found if concept.layout.n < LEAST_ITEMS]:
        raise DataError(
            f"{few[0].name}: {few[0].layout.n} items are too few for any score, {LEAST_ITEMS} are needed"
        )
    return found


def symmetry(
    counts: Counts,
    request: SymmetryRequest,
    loaded: Loaded | None = None,
    *,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> dict[str, Any]:
    """Score concepts in a corpus, and in a model if there is one.

    Args:
        counts: of the corpus.
        request: what to look at.
        loaded: the model.
        progress: is told what is going on and the share that is done.

    Returns:
        JSON values: ``corpus`` (tokens, words, window), ``model`` (its name, or None) and ``concepts``, one record
        each: ``name``, ``about``, ``layout``, ``places``, ``ambiguous``, ``source``, ``corpus`` (see
        :func:`analyses.symmetry_corpus.corpus_facts`), ``prediction`` (the kernel over the items), ``laid`` (the
        corpus over its curve), ``distance`` (M* by distance), ``model`` (see
        :func:`analyses.symmetry_model.model_facts`; None without a model) and ``adapter`` (see
        :func:`analyses.symmetry_adapter.adapter_facts`; None without one).

    Raises:
        DataError: a concept that the corpus has too little of, or that the model cannot read.
    """
    concepts, records = concepts_of(request), []
    for at, concept in enumerate(concepts):
        rng = np.random.default_rng([request.seed, at])

        def tell(what: str, share: float, at: int = at, concept: Concept = concept) -> None:
            progress(f"{concept.name}: {what}", (at + share) / len(concepts))

        records.append(_record(counts, concept, request, loaded, rng, tell))
    stats = counts.stats
    return {
        "corpus": {
            "tokens": stats.tokens,
            "words": len(stats.words),
            "window": stats.weighting.window,
            "weights": stats.weighting.name,
        },
        "model": loaded.name if loaded else None,
        "concepts": records,
    }


def held_of(concept: Concept, corpus: Mapping[str, Any], rng: np.random.Generator) -> Held:
    """What a model is held against, from the facts of a corpus.

    Args:
        concept: all of it.
        corpus: of :func:`analyses.symmetry_corpus.corpus_facts`.
        rng: source of shuffles.
    """
    fits = [KernelFit(**{key: fit[key] for key in _FIT}) for fit in corpus["fits"]]
    kept = concept.only(corpus["items"])
    return held_against(kept, np.array(corpus["block"]), corpus["counts"], fits, rng)


def _record(
    counts: Counts,
    concept: Concept,
    request: SymmetryRequest,
    loaded: Loaded | None,
    rng: np.random.Generator,
    tell: Callable[[str, float], None],
) -> dict[str, Any]:
    tell("the corpus", 0.0)
    corpus = corpus_facts(counts, concept, rng)
    held = held_of(concept, corpus, rng)
    model = adapter = None
    if loaded is not None:
        templates = request.templates or concept.templates
        read = read_model(
            loaded, held.concept, templates, rng, n_untrained=request.n_untrained,
            tell=lambda share: tell("reading the model", 0.1 + 0.5 * share),
        )  # fmt: skip
        tell("scoring the model", 0.6)
        model = model_facts(read, held, rng)
        if request.adapter is not None:
            adapter = adapter_facts(
                loaded, held, templates, request.adapter, rng,
                tell=lambda share: tell("comparing with the adapter", 0.8 + 0.2 * share),
            )  # fmt: skip
    return {
        "name": concept.name,
        "about": concept.about,
        "layout": held.layout.kind,
        "places": _places(held),
        "ambiguous": list(held.concept.ambiguous),
        "source": concept.source,
        "corpus": corpus,
        "prediction": held.kernel_record | {"values": held.kernel(held.layout.distance).round(3).tolist()},
        "laid": laid_over(modes(held.block).coordinates, held),
        "distance": {"unit": "km" if concept.layout.kind == "sphere" else "steps"} | _by_lag(held),
        "model": model,
        "adapter": adapter,
    }


def _places(held: Held) -> list[list[float]] | None:
    """Degrees north and east of the items of a globe."""
    if held.layout.kind != "sphere":
        return None
    x, y, z = held.layout.targets.T
    return np.rad2deg(np.column_stack([np.arcsin(z), np.arctan2(y, x)])).tolist()


def _by_lag(held: Held) -> dict[str, list[float]]:
    """M* and the kernel by distance: mean and spread over the pairs of each class, at most 24 classes."""
    upper = np.triu_indices(held.layout.n, 1)
    distance, values = held.layout.distance[upper], held.block[upper]
    edges = np.unique(np.quantile(distance, np.linspace(0, 1, 25)))
    at = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, max(0, len(edges) - 2))
    if len(np.unique(distance)) <= 24:
        at = np.searchsorted(np.unique(distance), distance)
    classes = [values[at == k] for k in np.unique(at)]
    centres = np.array([distance[at == k].mean() for k in np.unique(at)])
    return {
        "at": centres.tolist(),
        "mean": [float(one.mean()) for one in classes],
        "low": [float(np.quantile(one, 0.1)) for one in classes],
        "high": [float(np.quantile(one, 0.9)) for one in classes],
        "kernel": held.kernel(centres).tolist(),
    }
