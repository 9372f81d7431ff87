"""Paired capture against two plain forwards, and the memory of a whole diff at growing token counts.

Ours: one forward of rows [base; adapter] through peft's ``adapter_names``, block outputs of every layer by
hook. Peer: the plain transformers model run twice on the same batches with ``output_hidden_states=True``,
which is what two loaded models cost. Both read the same batches, interleaved, in one process, and neither
computes the logits of any token but the last.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

WORDS = "the old ship came home in a morning with much salt and three letters from london for her daughter".split()


def texts(path: Path, tokens: int, seed: int = 0) -> Path:
    """Write about that many tokens of word salad, a document of 60 words a line."""
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for i in range(tokens // 60):
            text = " ".join(rng.choice(WORDS, 60))
            file.write(json.dumps({"id": f"{path.stem}{i}", "text": text}) + "\n")
    return path


def random_adapter(base: str, folder: Path) -> Path:
    """Save a rank-16 LoRA adapter on all linear layers with random factors."""
    import torch
    from peft import LoraConfig, get_peft_model

    from geometry.live.models import load

    torch.manual_seed(0)
    model = get_peft_model(load(base, dtype="float32").model, LoraConfig(r=16, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    model.save_pretrained(folder)
    return folder


def capture_ratio(base: str, adapter: Path, file: Path, rounds: int = 5) -> dict[str, float]:
    """Median seconds of paired capture and of two plain forwards over the same texts."""
    import torch

    from finetune.adapter import attach
    from finetune.paired import paired_batches
    from finetune.pairs import read_texts
    from geometry.live.capture import model_inputs, token_batches
    from geometry.live.models import load

    loaded = load(base, dtype="float32")
    read = read_texts(file).texts
    layers = range(loaded.n_layers)
    ours, plain = [], []

    def two_forwards() -> float:
        start = time.perf_counter()
        for _ in range(2):
            for batch in token_batches(
                [t.text for t in read], loaded.tokenizer, max_length=loaded.max_length, batch_tokens=2048
            ):
                with torch.inference_mode():
                    loaded.model(
                        **model_inputs(loaded.model, batch), output_hidden_states=True, use_cache=False
                    )
        return time.perf_counter() - start

    def paired() -> float:
        with attach(loaded, adapter) as attached:
            start = time.perf_counter()
            for _ in paired_batches(attached, read, layers):
                pass
            return time.perf_counter() - start

    for _ in range(rounds + 1):
        plain.append(two_forwards())
        ours.append(paired())
    return {"two plain forwards (s)": median(plain[1:]), "paired capture (s)": median(ours[1:])}


def diff_memory(base: str, adapter: Path, tokens: int, folder: Path) -> dict[str, float]:
    """Seconds and peak memory of a whole diff in a process of its own."""
    groups = [
        f"{name}={texts(folder / f'{name}-{tokens}.jsonl', tokens // 2, seed)}"
        for seed, name in enumerate("ab")
    ]
    code = f"""
import json, resource, time
from pathlib import Path
from analyses.adapter_diff import DiffRequest, diff
from geometry.live.models import load
groups = dict(g.split("=") for g in {groups!r})
base = load({base!r}, dtype="float32")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start, spent = time.perf_counter(), time.process_time()
facts = diff(base, {str(adapter)!r}, DiffRequest(groups), progress=lambda what, share: None).facts
print(json.dumps({{
    "tokens": sum(g["tokens"] for g in facts["groups"].values()),
    "seconds": time.perf_counter() - start,
    "processor seconds": time.process_time() - spent,
    "before MiB": before / 1024,
    "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(base: str = "embedded") -> None:
    """Print every measurement as a line of JSON."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        adapter = random_adapter(base, folder / "adapter")
        ratio = capture_ratio(base, adapter, texts(folder / "t.jsonl", 20_000))
        ratio["ratio"] = ratio["paired capture (s)"] / ratio["two plain forwards (s)"]
        print(json.dumps(ratio), flush=True)
        for tokens in (10_000, 100_000):
            print(json.dumps(diff_memory(base, adapter, tokens, folder)), flush=True)
    print(json.dumps({"peak of this process MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])
