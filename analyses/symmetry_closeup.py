"""One cloud of items looked at closely: its curve, its spectrum, what probes read off it, what it owes the corpus."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.floors import with_null
from analyses.symmetry_probes import RANDOM, folds_of, unit_errors
from geometry.checks import ShapeError
from geometry.circles import circle_fit, fourier_profile
from geometry.cloud_scores import cloud_scores, nearness
from geometry.label_nulls import spectrum_matched
from geometry.lattice import modes, probe_error
from geometry.mode_match import mode_alignment, procrustes, spectrum_match
from geometry.probes import errors_by_rank, ridge_probe
from geometry.rsa import corpus_link, partial_rsa
from geometry.symmetry import symmetry_fraction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from analyses.symmetry_held import Held

    Array = NDArray[np.float64]

SHUFFLES = 99
"""Shuffles, and clouds of the same spectrum, where a score has no fast null."""

PROBE_SHUFFLES = 19
"""Shuffles of the targets of probes, which take long."""

RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def closeup(
    cloud: Array, held: Held, nuisances: Mapping[str, Array], rng: np.random.Generator
) -> dict[str, Any]:
    """Look at one cloud closely.

    Args:
        cloud: rows in latent order, (n, d).
        held: what it is held against.
        nuisances: named matrices over the items.
        rng: source of shuffles, matched clouds and folds.

    Returns:
        JSON values: ``nearness`` (minus squared distances, the mean of pairs and their standard deviation taken
        out), ``manifold`` (:func:`laid_over`), ``spectrum`` (shares of
        harmonics or components of model, corpus and kernel, with the band of shuffles), ``modes`` (cumulative
        alignment), ``matched`` (scores beside clouds of the same spectrum), ``symmetric`` (share of the
        nearness that depends on the lag), ``circle`` for cycles, ``probes`` (errors with shuffled targets, by
        rank, decoded places) and ``link`` (to the corpus).
    """
    near = nearness(cloud)
    found = {
        "nearness": standardised(near),
        "manifold": laid_over(cloud, held),
        "spectrum": _spectrum(cloud, held),
        "modes": _modes(cloud, held),
        "matched": _matched(cloud, held, rng),
        "symmetric": asdict(symmetry_fraction(near, held.layout)),
        "probes": _probes(cloud, held, rng),
        "link": _link(near, held, nuisances),
    }
    return found | ({"circle": asdict(circle_fit(cloud))} if held.layout.kind == "cycle" else {})


def standardised(matrix: Array) -> list[list[float | None]]:
    """Pairs less their mean, over their standard deviation, the diagonal empty: for pictures side by side."""
    pairs = matrix[np.triu_indices(len(matrix), 1)]
    table = (matrix - pairs.mean()) / pairs.std()
    return [
        [None if i == j else round(float(x), 3) for j, x in enumerate(row)] for i, row in enumerate(table)
    ]


def laid_over(cloud: Array, held: Held) -> dict[str, dict[str, Any]]:
    """Leading components of a cloud, laid over the curve that the kernel predicts, for pictures.

    Components of one group of equal eigenvalues are never parted: two pairs of a cycle are fitted where three
    coordinates are drawn.

    Args:
        cloud: rows in latent order.
        held: whose kernel predicts the curve.

    Returns:
        ``flat`` (two coordinates) and ``solid`` (three, or as many as there are), each with ``fitted`` (how many
        components are), ``r2``, ``points`` and ``curve``.
    """
    groups = [group.stop for group in held.expected.modes.groups()]
    rank = np.linalg.matrix_rank(cloud - cloud.mean(axis=0))
    found = {}
    for name, shown in (("flat", 2), ("solid", 3)):
        fitted = min(next((stop for stop in groups if stop >= shown), groups[-1]), rank)
        curve = held.expected.modes.coordinates[:, :fitted]
        laid = procrustes(cloud, curve)
        found[name] = {
            "fitted": int(fitted),
            "r2": laid.r2,
            "points": laid.laid[:, :shown].round(4).tolist(),
            "curve": curve[:, :shown].round(4).tolist(),
        }
    return found


def _shares(cloud: Array, held: Held) -> Array:
    if held.layout.kind == "cycle":
        return fourier_profile(cloud).shares
    values = np.linalg.svd(cloud - cloud.mean(axis=0), compute_uv=False) ** 2
    return (values / values.sum())[: _most(held)]


def _most(held: Held) -> int:
    return min(10, held.layout.n - 1)


def corpus_shares(matrix: Array, held: Held) -> Array:
    """Shares of harmonics (of cycles) or of components in a matrix over items, by absolute value."""
    if held.layout.kind == "cycle":
        n = held.layout.n
        wave = np.exp(-2j * np.pi * np.outer(np.arange(1, n // 2 + 1), np.arange(n)) / n)
        values = np.abs(np.einsum("ki,ij,kj->k", wave, matrix, wave.conj()).real)
        values[: (n - 1) // 2] *= 2
        return values / values.sum()
    values = np.abs(modes(matrix).values)
    return (values / values.sum())[: _most(held)]


def _spectrum(cloud: Array, held: Held) -> dict[str, Any]:
    shares = _shares(cloud, held)
    kernel = corpus_shares(held.kernel(held.layout.distance), held)
    corpus = corpus_shares(_off_diagonal(held.block, held), held)
    found: dict[str, Any] = {"model": shares.tolist(), "corpus": corpus.tolist(), "kernel": kernel.tolist()}
    if held.layout.kind == "cycle":
        orders = held.orders[1:]
        shuffled = np.array([_shares(cloud[order], held) for order in orders])
        low, high = np.quantile(shuffled, [0.025, 0.975], axis=0)
        found["null"] = {"mean": shuffled.mean(axis=0).tolist(), "low": low.tolist(), "high": high.tolist()}
    for name, reference in (("corpus", corpus), ("kernel", kernel)):
        keep = (shares > 1e-12) & (reference > 1e-12)
        match = spectrum_match(shares[keep], reference[keep]) if keep.sum() >= 2 else None
        found[f"match_{name}"] = match and asdict(match)
    return found


def _off_diagonal(block: Array, held: Held) -> Array:
    """The block with the kernel's value on the diagonal: how often a word is near itself is another matter."""
    filled = block.copy()
    np.fill_diagonal(filled, held.kernel(np.zeros(1))[0])
    return filled


def _modes(cloud: Array, held: Held) -> dict[str, Any]:
    """Cumulative alignment of model and corpus with the predicted modes, beside shuffles."""
    shown = 12
    model = mode_alignment(cloud, held.expected.modes)
    corpus = mode_alignment(modes(held.block).coordinates, held.expected.modes)
    size = min(shown, len(model.ends), len(corpus.ends))
    orders = held.orders[1 : SHUFFLES + 1]
    shuffled = np.array([
        mode_alignment(cloud[order], held.expected.modes).cumulative[:size] for order in orders
    ])
    low, high = np.quantile(shuffled, [0.025, 0.975], axis=0)
    return {
        "ends": list(model.ends[:size]),
        "model": list(model.cumulative[:size]),
        "corpus": list(corpus.cumulative[:size]),
        "null": {"mean": shuffled.mean(axis=0).tolist(), "low": low.tolist(), "high": high.tolist()},
    }


def _matched(cloud: Array, held: Held, rng: np.random.Generator) -> dict[str, Any]:
    """Scores beside those of clouds with the same principal variances and no shape."""
    true = np.arange(held.layout.n)[None]
    value = cloud_scores(cloud, held.expected, true)
    drawn = [cloud_scores(spectrum_matched(cloud, rng), held.expected, true) for _ in range(SHUFFLES)]
    return {score: with_null(float(v[0]), [float(d[score][0]) for d in drawn]) for score, v in value.items()}


def _probes(cloud: Array, held: Held, rng: np.random.Generator) -> dict[str, Any]:
    targets, found = held.layout.targets, {}
    for name, folds in folds_of(held, rng).items():
        probe = ridge_probe(cloud, targets, folds)
        orders = rng.permuted(np.tile(np.arange(len(targets)), (PROBE_SHUFFLES, 1)), axis=1)
        shuffled = [ridge_probe(cloud, targets[order], folds) for order in orders]
        smallest = len(folds) - int(np.bincount(folds).max())
        ranks = [rank for rank in RANKS if rank <= min(smallest - 1, cloud.shape[1])]
        curves = [errors_by_rank(cloud, targets[order], folds, ranks) for order in orders]
        found[name] = {
            "error": with_null(float(probe.errors[-1]), [float(one.errors[-1]) for one in shuffled]),
            "by_target": [float(1 - error) for error in probe.errors[:-1]],
            "units": {
                unit: with_null(value, [unit_errors(one, held)[unit] for one in shuffled])
                for unit, value in unit_errors(probe, held).items()
            },
            "ranks": ranks,
            "by_rank": errors_by_rank(cloud, targets, folds, ranks).tolist(),
            "predicted": probe_error(held.expected.modes, targets, ranks).tolist(),
            "shuffled": {
                "low": np.min(curves, axis=0).tolist(),
                "high": np.max(curves, axis=0).tolist(),
                "mean": np.mean(curves, axis=0).tolist(),
            },
        }
        if name == RANDOM and held.layout.kind == "sphere":
            found[name]["decoded"] = probe.predicted.tolist()
    return found


def _link(near: Array, held: Held, nuisances: Mapping[str, Array]) -> dict[str, Any] | None:
    """Does the corpus say more about the model than distance alone does?"""
    try:
        link = asdict(corpus_link(near, held.block, -held.layout.distance))
    except ShapeError:
        return None
    try:
        link["given_nuisances"] = partial_rsa(near, held.block, list(nuisances.values()))
    except ShapeError:
        link["given_nuisances"] = None
    return link
