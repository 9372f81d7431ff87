"""A concept in the spectral embedding of a corpus: word vectors that are written down, looked at as states are."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.symmetry_closeup import closeup
from analyses.symmetry_probes import folds_of
from geometry.cloud_scores import cloud_scores, nearness
from geometry.label_nulls import shuffled_correlations
from geometry.probes import ridge_probe
from geometry.robustness import collective_index, helper_curve
from geometry.symmetry import monotonicity
from geometry.targets import m_star, ratio
from geometry.verdict import judge_clouds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from analyses.symmetry_held import Held
    from geometry.cooccurrence import Cooccurrence
    from geometry.embedding import SpectralEmbedding

    Array = NDArray[np.float64]

DIMENSIONS = (3, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Leading dimensions that are looked at, as far as the embedding has them, and then all of them."""

HELPERS = (10, 30, 100, 200)
"""Numbers of other words that a concept whose own pairs are taken away is embedded among."""

POOL = 2000
"""Words that these are drawn from, at most."""

FULL_DRAWS = 10
"""Draws of them beside which the whole block is looked at."""


def embedding_facts(
    embedding: SpectralEmbedding | None,
    stats: Cooccurrence,
    spellings: Mapping[str, Sequence[str]],
    held: Held,
    rng: np.random.Generator,
) -> dict[str, Any] | None:
    """Look at a concept's rows of a spectral embedding.

    Args:
        embedding: of the whole vocabulary.
        stats: its counts.
        spellings: item -> words of the vocabulary; the most frequent of them stands for the item.
        held: what the rows are held against.
        rng: source of shuffles and folds.

    Returns:
        JSON values, or None without an embedding: ``dimensions``, ``scores`` (name -> ``values``, one for each
        number of leading dimensions, and ``null``: {mean, low, high} of shuffled labels; ``nearness``,
        ``alignment``, ``curve``, round a cycle ``first`` and ``isotropy``), ``probes`` (folds -> R^2 of each
        number of dimensions), ``verdict`` over all of them as over layers, ``at`` (the number that it judged)
        and ``closeup`` of the whole embedding (:func:`analyses.symmetry_closeup.closeup`).
    """
    if embedding is None:
        return None
    rows = embedding.rows[stats.of(_members(stats, spellings)[0])]
    sizes = _sizes(rows.shape[1], held.expected.dimensions)
    clouds = [rows[:, :size] for size in sizes]
    nuisances = held.nuisances(()).matrices
    verdict = judge_clouds(clouds, held.expected.modes, held.layout, nuisances, rng)
    folds = folds_of(held, rng)
    return {
        "dimensions": sizes,
        "scores": _scores(clouds, held),
        "probes": {
            name: [float(ridge_probe(cloud, held.layout.targets, fold).r2[-1]) for cloud in clouds]
            for name, fold in folds.items()
        },
        "verdict": asdict(verdict)
        | {"shown": verdict.shown, "failed": list(verdict.failed), "sentence": verdict.sentence},
        "at": None if verdict.where is None else sizes[verdict.where],
        "closeup": closeup(rows, held, nuisances, rng),
    }


def robustness_facts(
    stats: Cooccurrence, spellings: Mapping[str, Sequence[str]], held: Held, rng: np.random.Generator
) -> dict[str, Any] | None:
    """Is the concept's geometry made by its own pairs, or by all words that share what it varies with?

    The items are embedded among other words, by M* over both, with their own block set to 0 and with it whole.

    Args:
        stats: counts of more words than the concept's.
        spellings: item -> words of the vocabulary; the most frequent of them stands for the item.
        held: what is judged: the Spearman correlation of nearness in the embedding with that of the layout.
        rng: source of the choice of other words.

    Returns:
        JSON values, or None where fewer than 30 other words are counted: ``helpers`` (curve over numbers of
        other words, own block 0: at, mean, low, high), ``full`` (the mean with the own block, among as many as
        the last of them), ``zeroed`` (that of the curve there), ``null`` (mean, low, high for shuffled labels),
        and ``collective``, zeroed over full; None where full is not above what shuffled labels reach.
    """
    members, others = _members(stats, spellings)
    if len(others) < 30:
        return None
    chosen = rng.choice(len(others), min(POOL, len(others)), replace=False)
    target = m_star(ratio(stats, [*members, *(others[at] for at in chosen)]))
    n, score = len(members), _nearness_score(held)
    sizes = [size for size in HELPERS if size <= len(chosen)]
    curve = helper_curve(target, range(n), score, sizes, rng)
    draws = [n + rng.choice(len(chosen), sizes[-1], replace=False) for _ in range(FULL_DRAWS)]
    clouds = [_rows_of(target, np.concatenate([np.arange(n), draw]), n) for draw in draws]
    full = float(np.mean([score(cloud) for cloud in clouds]))
    null = shuffled_correlations([nearness(clouds[0])], held.layout, held.orders[1:], [])[:, 0]
    low, high = np.quantile(null, [0.025, 0.975])
    return {
        "helpers": {name: list(values) for name, values in asdict(curve).items()},
        "full": full,
        "zeroed": curve.mean[-1],
        "null": {"mean": float(null.mean()), "low": float(low), "high": float(high)},
        "collective": collective_index(curve.mean[-1], full) if full > high else None,
    }


def _members(stats: Cooccurrence, spellings: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """The most frequent spelling of each item, and the words that are no spelling of any."""
    own = {word for found in spellings.values() for word in found}
    seen = stats.unigrams
    members = [max(found, key=lambda word: seen[stats.numbers[word]]) for found in spellings.values()]
    return members, [word for word, n in zip(stats.words, seen, strict=True) if n and word not in own]


def _rows_of(target: Array, draw: NDArray[np.int64], n: int) -> Array:
    values, vectors = np.linalg.eigh(target[np.ix_(draw, draw)])
    return vectors[:n] * np.sqrt(np.abs(values))


def _nearness_score(held: Held) -> Callable[[Array], float]:
    return lambda cloud: monotonicity(nearness(cloud), held.layout)


def _sizes(most: int, least: int) -> list[int]:
    return [*(size for size in DIMENSIONS if least <= size < most), most]


def _scores(clouds: Sequence[Array], held: Held) -> dict[str, Any]:
    found = [cloud_scores(cloud, held.expected, held.orders) for cloud in clouds]
    near = shuffled_correlations([nearness(cloud) for cloud in clouds], held.layout, held.orders, [])
    columns = {name: np.array([one[name] for one in found]).T for name in found[0]} | {"nearness": near}
    return {name: _beside(values) for name, values in columns.items()}


def _beside(values: Array) -> dict[str, Any]:
    """Values of the true order beside those of the others, for each column."""
    low, high = np.quantile(values[1:], [0.025, 0.975], axis=0)
    return {
        "values": values[0].tolist(),
        "null": {"mean": values[1:].mean(axis=0).tolist(), "low": low.tolist(), "high": high.tolist()},
    }
