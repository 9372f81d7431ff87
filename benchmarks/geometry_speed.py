"""The maths half against what one would write otherwise: time, memory of the arrays, and digits.

Every line names its peer. Ours and the peer run in turns on the same data, and the median of the rounds after a
warm-up counts; where the peer takes many seconds it runs once. Seconds are the processor's, summed over threads,
so that other work on the machine counts little: run with OMP_NUM_THREADS=1. Memory is the peak of numpy's
allocations in a run of its own, the data itself not counted.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import scipy.linalg

from geometry.moments import Moments, PairedMoments
from geometry.nulls import haar_basis
from geometry.similarity import unbiased_cka
from geometry.sketch import Sketch
from geometry.spectra import LowRank, spectrum
from geometry.subspaces import overlap, principal_angles


def seconds(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def in_turns(ours: Callable[[], Any], peer: Callable[[], Any], rounds: int = 5) -> dict[str, float]:
    """Median seconds of both, run alternately after one warm-up, and their ratio."""
    ours(), peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(rounds)]
    return compared(*(median(side) for side in zip(*pairs, strict=True)))


def compared(ours: float, peer: float) -> dict[str, float]:
    return {"ours (s)": ours, "peer (s)": peer, "peer / ours": peer / ours}


def peak_mib(run: Callable[[], Any]) -> float:
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def low_rank_spectra(d: int, rank: int, rng: np.random.Generator, rounds: int = 5) -> dict[str, Any]:
    """Singular values of a LoRA update from its factors, against an SVD of the product."""
    update = LowRank(rng.standard_normal((d, rank)), rng.standard_normal((rank, d)), 2.0)
    dense = update.dense()
    update.singular_values()
    ours = median(seconds(update.singular_values) for _ in range(rounds))
    found: list[np.ndarray] = []
    peer = seconds(lambda: found.append(np.linalg.svd(dense, compute_uv=False)))
    gap = np.abs(found[0][:rank] / update.singular_values() - 1).max()
    return compared(ours, peer) | {"largest relative difference": float(gap), "peer rounds": 1}


def kernel_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased CKA with n x n Gram matrices, as Song et al. (2012) and the public implementations write it."""
    n, kernels = len(x), [x @ x.T, y @ y.T]
    for kernel in kernels:
        np.fill_diagonal(kernel, 0.0)

    def hsic(k: np.ndarray, l: np.ndarray) -> float:
        crossed = k.sum(axis=0) @ l.sum(axis=1)
        total = np.vdot(k, l) + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * crossed
        return float(total) / (n * (n - 3))

    k, l = kernels
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


def cka(n: int, d: int, rng: np.random.Generator, rounds: int = 3) -> dict[str, Any]:
    """Streamed unbiased CKA in chunks of 1,024 rows against Gram matrices."""
    x = rng.standard_normal((n, d))
    y = x + rng.standard_normal((n, d))

    def streamed() -> float:
        moments = PairedMoments(d)
        for start in range(0, n, 1024):
            moments.update(x[start : start + 1024], y[start : start + 1024])
        return unbiased_cka(moments.answer()).cka or 0.0

    return in_turns(streamed, lambda: kernel_cka(x, y), rounds) | {
        "ours peak MiB": peak_mib(streamed),
        "peer peak MiB": peak_mib(lambda: kernel_cka(x, y)),
        "difference": abs(streamed() - kernel_cka(x, y)),
    }


def angles(d: int, k: int, rng: np.random.Generator) -> dict[str, Any]:
    """Principal angles with one of a billionth planted beside large ones, against scipy."""
    axes, planted = haar_basis(d, 2 * k, rng), np.geomspace(1.4, 1e-9, k)
    a, b = axes[:, :k], axes[:, :k] * np.cos(planted) + axes[:, k:] * np.sin(planted)
    a, b = a @ haar_basis(k, k, rng), b @ haar_basis(k, k, rng)

    def worst(found: np.ndarray) -> float:
        return float(np.abs(found / planted - 1).max())

    return in_turns(lambda: principal_angles(a, b), lambda: scipy.linalg.subspace_angles(a, b)) | {
        "ours worst relative error": worst(principal_angles(a, b)),
        "peer worst relative error": worst(scipy.linalg.subspace_angles(a, b)),
    }


def sketch(d: int, columns: int, rng: np.random.Generator, rounds: int = 3) -> list[dict[str, Any]]:
    """A sketch against exact moments and a full eigendecomposition, eigenvalues falling as i^-1.2."""
    scales = np.sqrt(np.arange(1, d + 1) ** -1.2)
    chunks = [rng.standard_normal((2048, d)) * scales for _ in range(3)]
    ours, exact = Sketch(d, columns=columns), Moments(d)
    turns = [(seconds(lambda c=c: ours.update(c)), seconds(lambda c=c: exact.update(c))) for c in chunks]
    update = compared(*(median(side) for side in zip(*turns, strict=True)))
    stats, truth = ours.answer(), exact.answer().cov
    full: list[Any] = []
    answered = compared(
        median(seconds(ours.answer) for _ in range(rounds)),
        seconds(lambda: full.append(spectrum(truth))),
    )
    top = stats.spectrum.top(10)
    state = [sum(a.nbytes for a in one.state().values()) / 2**20 for one in (ours, exact)]
    return [
        {"what": "sketch: update with 2,048 rows"} | update | {"ours MiB": state[0], "peer MiB": state[1]},
        {"what": "sketch: top directions"}
        | answered
        | {
            "top 10 energies short by at most": float(np.max(1 - top.values / full[0].values[:10])),
            "top 10 overlap": overlap(top.vectors, full[0].top(10).vectors),
            "error reported": stats.residual_norm,
            "error": float(
                np.linalg.norm(
                    truth - (stats.spectrum.vectors * stats.spectrum.values) @ stats.spectrum.vectors.T
                )
            ),
            "peer rounds": 1,
        },
    ]


def main() -> None:
    """Print every measurement as a line of JSON."""

    def say(what: str, peer: str, found: dict[str, Any]) -> None:
        print(json.dumps({"what": what, "peer": peer} | found), flush=True)

    rng = np.random.default_rng(0)
    say("rank 16 spectrum, d = 2048", "numpy.linalg.svd of the product", low_rank_spectra(2048, 16, rng))
    wide = LowRank(rng.standard_normal((4096, 16)), rng.standard_normal((16, 4096)))
    say(
        "rank 16 spectrum, d = 4096",
        "none",
        {"ours (s)": median(seconds(wide.singular_values) for _ in range(9))},
    )
    for n in (4096, 8192):
        say(f"unbiased CKA, n = {n}, d = 256", "n x n Gram matrices in numpy", cka(n, 256, rng))
    say("principal angles, d = 4096, k = 64", "scipy.linalg.subspace_angles", angles(4096, 64, rng))
    for found in sketch(4096, 256, rng):
        say(found.pop("what"), "Moments and numpy.linalg.eigh, d = 4096", found)


if __name__ == "__main__":
    main()
