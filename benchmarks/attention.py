"""Statistics of attention: the probe against plain sdpa, and against eager attention with its entropy.

``python -m benchmarks.attention`` prints a line of JSON for each measurement: seconds of the processor for a
forward pass (the least of a few), and how far the resident memory rose above what it was with the model loaded
and a short text read. Every measurement is in a process of its own, and memory in another than time: there the
allocator is told to give freed blocks back at once, or holes in its heap, which depend on the order in which blocks
came, would count as memory of whoever came last. Lengths may be named: ``OMP_NUM_THREADS=1 ... 2048 8192``.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import multiprocessing
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = {
    "vocab_size": 1024, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1 << 17,
}  # fmt: skip
LENGTHS = (2048, 4096, 8192, 16384, 32768)
WAYS = ("sdpa", "probe, 256 rows", "probe, all rows", "eager + entropy")
WINDOW = 1024
LONGEST = {"eager": 8192, "window": 16384}
"""Longest contexts of these ways, which need memory for a T x T matrix."""
IMPORTED = (
    "geometry.live.attention",
    "transformers.models.llama.modeling_llama",
    "transformers.models.mistral.modeling_mistral",
)
M_MMAP_THRESHOLD, AT_ONCE = -3, 1 << 18
"""What tells glibc to give freed blocks from 256 KiB on back at once."""


def model_of(way: str, window: int | None) -> Any:
    """A two-layer Llama or, with a window, Mistral of that shape, random weights."""
    import torch
    import transformers

    torch.manual_seed(0)
    kind = transformers.LlamaConfig if window is None else transformers.MistralConfig
    config = kind(**SHAPE, **({} if window is None else {"sliding_window": window}))
    config._attn_implementation = "eager" if way.startswith("eager") else "sdpa"
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def pass_over(model: Any, way: str, tokens: int) -> None:
    """One forward pass over random tokens, measured in this way."""
    import torch

    from geometry.live.attention import AttentionProbe, Rows

    ids = torch.randint(0, SHAPE["vocab_size"], (1, tokens), generator=torch.Generator().manual_seed(0))
    lean = {"use_cache": False, "logits_to_keep": 1}
    with torch.inference_mode():
        if way == "sdpa":
            model(ids, **lean)
        elif way.startswith("eager"):
            weights = model(ids, output_attentions=True, **lean).attentions
            [-(p * p.clamp_min(1e-30).log()).sum(dim=-1) for p in weights]
        else:
            rows = Rows.log(256) if "256" in way else Rows.every()
            spans = {"needle": (tokens // 2, tokens // 2 + 16)}
            with AttentionProbe(model, rows=rows, spans=spans) as probe:
                model(ids, **lean)
            probe.answer()


def measure(way: str, tokens: int, window: int | None, rounds: int) -> dict[str, Any]:
    """Time and memory of one way, in this process."""
    model = model_of(way, window)
    pass_over(model, way, 512)
    before = _peak()
    spent, wall = [], []
    for _ in range(rounds):
        began, clock = time.process_time(), time.perf_counter()
        pass_over(model, way, tokens)
        spent.append(time.process_time() - began)
        wall.append(time.perf_counter() - clock)
    return {
        "attention": "full" if window is None else f"window {window}",
        "tokens": tokens,
        "way": way,
        "processor s": round(min(spent), 3),
        "wall s": round(min(wall), 3),
        "memory MiB": round(_peak() - before, 1),
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def held(way: str, tokens: int, window: int | None) -> float:
    """Memory of one way, MiB, with blocks given back as soon as they are freed."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, AT_ONCE)
    return measure(way, tokens, window, 1)["memory MiB"]


def in_a_process(what: Callable[..., Any], *asked: Any) -> Any:
    """Call a function in a process of its own, which finds everything imported."""
    for name in IMPORTED:
        importlib.import_module(name)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(what, asked)


def best(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The least time of several processes: what else ran on the machine only ever adds."""
    return lines[0] | {key: min(line[key] for line in lines) for key in ("processor s", "wall s")}


def main(lengths: tuple[int, ...] = LENGTHS, repeats: int = 2) -> None:
    """Print every measurement, the ways in turns; long contexts once."""
    for tokens in lengths:
        for window in (None, WINDOW) if tokens <= LONGEST["window"] else (None,):
            ways = [w for w in WAYS if not (w.startswith("eager") and (tokens > LONGEST["eager"] or window))]
            rounds = 2 if tokens <= 4096 else 1
            found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
            for _ in range(repeats if tokens <= 8192 else 1):
                for way in ways:
                    found[way].append(in_a_process(measure, way, tokens, window, rounds))
            for way in ways:
                memory = in_a_process(held, way, tokens, window)
                print(json.dumps(best(found[way]) | {"memory MiB": memory}), flush=True)


if __name__ == "__main__":
    main(tuple(int(tokens) for tokens in sys.argv[1:]) or LENGTHS)
