"""Training against plain transformers.Trainer with peft, batched rewriting, and round trips by several workers.

``python -m benchmarks.style_transfer [BASE]``. Ours and the peer train in turns on the same pairs, with the same
LoRA, optimiser, batch size and number of steps; the peer is what the peft documentation shows, with the collator
that pads labels. Tokens are those of the pairs, without padding. Seconds are of the processor, for a machine that
is shared; round trips run in child processes, so theirs are of all children, beside the clock's.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune.causal import Row
    from finetune.pairs import Pair
    from finetune.recipe import Recipe
    from geometry.live.models import Loaded

DATA = Path(__file__).parents[1] / "finetune" / "data"


def ours(loaded: Loaded, rows: list[Row], recipe: Recipe) -> float:
    """Processor seconds of our training loop."""
    from finetune.causal import padding_id, seeded
    from finetune.graft import grafted
    from finetune.loop import Task, run_loop

    with tempfile.TemporaryDirectory() as place, seeded(0), grafted(loaded.model, recipe) as model:
        # one short row to validate on: the peer does not validate
        task = Task(rows, [min(rows, key=lambda row: len(row[0]))], padding_id(loaded.tokenizer))
        start = time.process_time()
        run_loop(model, task, recipe, Path(place), None)
        return time.process_time() - start


def plain(loaded: Loaded, rows: list[Row], recipe: Recipe) -> float:
    """Processor seconds of transformers.Trainer on a peft model, as its documentation shows it."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    from finetune.causal import seeded
    from finetune.graft import grafted

    with tempfile.TemporaryDirectory() as place, seeded(0), grafted(loaded.model, recipe) as model:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=place, per_device_train_batch_size=recipe.batch_size, learning_rate=recipe.lr,
                num_train_epochs=recipe.epochs, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            ),
            train_dataset=[{"input_ids": ids, "labels": labels} for ids, labels in rows],
            data_collator=DataCollatorForSeq2Seq(loaded.tokenizer),
        )  # fmt: skip
        start = time.process_time()
        trainer.train()
        return time.process_time() - start


def training(base: str, rounds: int = 3) -> dict[str, Any]:
    """Tokens a processor second of both, in turns."""
    from finetune.pairs import read_pairs
    from finetune.prompts import encode
    from finetune.recipe import Recipe
    from geometry.live.memory import keep_freed_memory
    from geometry.live.models import load

    keep_freed_memory()
    loaded = load(base, dtype="float32", device="cpu")
    recipe = Recipe(epochs=1, batch_size=16, lr=2e-3)
    pairs = read_pairs(DATA / "ornate-train.jsonl").pairs[:256]
    rows = [encode(loaded.tokenizer, p.source, p.target) for p in pairs]
    seconds = [(ours(loaded, rows, recipe), plain(loaded, rows, recipe)) for _ in range(rounds)]
    tokens = sum(len(ids) for ids, _ in rows)
    mine, theirs = (tokens / median(column) for column in zip(*seconds, strict=True))
    return {
        "tokens": tokens, "ours (tokens/s)": mine, "plain Trainer (tokens/s)": theirs, "ratio": mine / theirs,
        "ratios": [theirs / mine for mine, theirs in seconds],
    }  # fmt: skip


def rewriting(base: str, n: int = 64) -> dict[str, Any]:
    """Sentences a processor second with several batch sizes."""
    from finetune.pairs import read_pairs
    from finetune.transfer import transfer
    from geometry.live.models import load

    loaded = load(base, dtype="float32", device="cpu")
    sources = [p.source for p in read_pairs(DATA / "ornate-train.jsonl").pairs[:n]]
    speeds = {}
    for size in (1, 16, 64):
        start = time.process_time()
        transfer(loaded.model, loaded.tokenizer, sources, batch_size=size, max_new_tokens=64)
        speeds[f"batch {size} (sentences/s)"] = n / (time.process_time() - start)
    return speeds


def round_trips(n: int = 2048) -> list[dict[str, Any]]:
    """Round trips through Spanish by one and two workers."""
    from finetune.neutralise import Apertium
    from finetune.pairs import read_pairs
    from finetune.round_trips import TripStore, round_trips

    pairs: list[Pair] = list(read_pairs(DATA / "ornate-train.jsonl").pairs)
    sentences = [f"{pairs[i % len(pairs)].target} {i}" for i in range(n)]
    found = []
    for workers in (1, 2, 1, 2):
        with tempfile.TemporaryDirectory() as place:
            spent, start = _children(), time.perf_counter()
            round_trips(sentences, Apertium(), TripStore(Path(place) / "t.sqlite"), workers=workers)
            clock, spent = time.perf_counter() - start, _children() - spent
        found.append({
            "workers": workers,
            "round trips/s of the clock": n / clock,
            "round trips/s of the processor": n / spent,
        })
    return found


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(base: str = "embedded") -> None:
    """Print every measurement as a line of JSON."""
    print(json.dumps({"training": training(base)}), flush=True)
    print(json.dumps({"rewriting": rewriting(base)}), flush=True)
    for line in round_trips():
        print(json.dumps({"apertium": line}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
