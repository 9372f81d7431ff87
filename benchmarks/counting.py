"""Counting against the published way, and spectral embeddings against dense eigh.

Peer of counting: a double loop, compiled by numba, that adds the weight of each neighbour on either side to a dense
V x V float32 matrix (what github.com/dkarkada/symmetry-stats-repgeom does; written anew from its description, since
it carries no licence). Both get the same word numbers, in a process each, interleaved; making the peer's matrix is
part of its time, as sorting is of ours. Times are given by the wall and by the processor: on a machine that others
use, the second is the one to compare.

``python -m benchmarks.counting CORPUS [CORPUS ...]`` prints one line of JSON for each measurement.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZE, WINDOW, SLICE, ROUNDS = 20_000, 16, 4_000_000, 5

OURS = """
from geometry.cooccurrence import PairCounter
from geometry.weightings import linear

def run(ids, lengths, threads=THREADS):
    counter = PairCounter(SIZE, linear(WINDOW), threads=threads)
    counter.update(ids, lengths)
    return sum(data.nbytes + indices.nbytes for _, indices, data in counter.rows())
"""

PEER = """
from numba import njit

@njit
def loop(ids, lengths, matrix, window):
    begin = 0
    for length in lengths:
        end = begin + length
        for p in range(begin, end):
            for d in range(1, window + 1):
                if p + d < end:
                    matrix[ids[p], ids[p + d]] += window + 1 - d
                if p - d >= begin:
                    matrix[ids[p], ids[p - d]] += window + 1 - d
        begin = end

def run(ids, lengths):
    matrix = np.zeros((SIZE, SIZE), dtype=np.float32)
    loop(ids, lengths, matrix, WINDOW)
    return matrix.nbytes
"""

MEASURE = """
import json, re, sys, time
from pathlib import Path
import numpy as np
SIZE, WINDOW, THREADS = {size}, {window}, {threads}
{way}
ids, lengths = np.load(sys.argv[1]), np.load(sys.argv[2])
start = time.perf_counter()
run(ids[: lengths[0]], lengths[:1])
compiled = time.perf_counter() - start
def memory(kind):
    return int(re.search(kind + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
before = memory("VmRSS")
wall, processor = time.perf_counter(), time.process_time()
held = run(ids, lengths)
wall, processor = time.perf_counter() - wall, time.process_time() - processor
print(json.dumps({{"tokens": len(ids), "wall s": wall, "processor s": processor, "first call s": compiled,
    "counts MiB": held / 2**20, "before MiB": before, "peak MiB": memory("VmHWM")}}))
"""


def word_numbers(corpora: list[str], folder: Path) -> dict[str, Path]:
    """Number the words of a corpus, lower-cased, most frequent first, the rest removed; save them."""
    from geometry.corpora import documents
    from geometry.words import closed_up, cut, folded

    words = cut((text for corpus in corpora for text in documents(corpus)), folded)
    order = np.argsort(-words.frequencies(), kind="stable")[:SIZE]
    ids, lengths = closed_up(words.numbered({words.names[i]: n for n, i in enumerate(order)}), words.lengths)
    cut_at = int(np.searchsorted(np.cumsum(lengths), SLICE)) + 1
    parts = {"slice": (ids[: lengths[:cut_at].sum()], lengths[:cut_at]), "whole": (ids, lengths)}
    for name, (numbers, counts) in parts.items():
        np.save(folder / f"{name}-ids.npy", numbers)
        np.save(folder / f"{name}-lengths.npy", counts)
    return {name: folder / name for name in parts}


def measured(way: str, threads: int, data: Path) -> dict[str, float]:
    """Count once in a process of its own."""
    code = MEASURE.format(size=SIZE, window=WINDOW, threads=threads, way=way)
    command = [sys.executable, "-c", code, f"{data}-ids.npy", f"{data}-lengths.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def counting(part: str, data: Path) -> None:
    """Ours with one and two threads, and the peer, in turn; of each the best round, and the ratios of all rounds."""
    ways = {
        "ours, 1 thread": (OURS, 1),
        "ours, 2 threads": (OURS, 2),
        "peer: dense float32, numba double loop": (PEER, 1),
    }
    rounds = [{name: measured(*way, data) for name, way in ways.items()} for _ in range(ROUNDS)]
    for name in ways:
        best = min((each[name] for each in rounds), key=lambda run: run["processor s"])
        rates = {
            f"M tokens/s by {clock}": best["tokens"] / best[f"{clock} s"] / 1e6
            for clock in ("wall", "processor")
        }
        line = {"counting": part, "way": name, "V": SIZE, "window": WINDOW, **best, **rates}
        shown = {key: round(v, 3) if isinstance(v, float) else v for key, v in line.items()}
        print(json.dumps(shown), flush=True)
    one, two, peer = (np.array([[each[name][f"{clock} s"] for clock in ("processor", "wall")] for each in rounds])
                      for name in ways)  # fmt: skip
    ratios = {"one core, by processor": (peer / one)[:, 0], "ours on two cores, by wall": (peer / two)[:, 1]}
    for what, found in ratios.items():
        line = {"counting": part, "peer / ours": what, "median": np.median(found), "rounds": sorted(found)}
        print(
            json.dumps({
                k: np.round(v, 1).tolist() if k in {"median", "rounds"} else v for k, v in line.items()
            })
        )


def embedding(data: Path, size: int = 10_000, d: int = 100) -> None:
    """Lanczos and dense eigh on the same M*, of the most frequent words of a corpus."""
    from geometry.cooccurrence import PairCounter
    from geometry.embedding import spectral_embedding
    from geometry.targets import m_star_target
    from geometry.weightings import linear
    from geometry.words import closed_up

    ids, lengths = np.load(f"{data}-ids.npy"), np.load(f"{data}-lengths.npy")
    counter = PairCounter(size, linear(WINDOW))
    counter.update(*closed_up(np.where(ids < size, ids, -1), lengths))
    target = m_star_target(counter.answer([str(i) for i in range(size)]))

    def lanczos() -> np.ndarray:
        return spectral_embedding(target, d, np.random.default_rng(0)).values

    def dense() -> np.ndarray:
        values = np.linalg.eigh(target.dense())[0]
        return values[np.argsort(-np.abs(values))[:d]]

    found = {}
    for way, solve in {"ours: Lanczos": lanczos, "peer: numpy.linalg.eigh, float64": dense}.items():
        wall, processor = time.perf_counter(), time.process_time()
        found[way] = solve()
        line = {
            "embedding": "M*",
            "way": way,
            "V": size,
            "d": d,
            "pairs that meet": int(target.upper.nnz),
            "wall s": round(time.perf_counter() - wall, 2),
            "processor s": round(time.process_time() - processor, 2),
        }
        print(json.dumps(line), flush=True)
    one, other = found.values()
    print(json.dumps({"largest relative difference of eigenvalues": float(np.max(np.abs(one / other - 1)))}))


def main(*corpora: str) -> None:
    """Print every measurement as a line of JSON."""
    with tempfile.TemporaryDirectory() as place:
        parts = word_numbers(list(corpora), Path(place))
        for part, data in parts.items():
            counting(part, data)
        embedding(parts["whole"])


if __name__ == "__main__":
    main(*sys.argv[1:])
