"""Pretrain a small Llama-type model from a corpus, on a laptop CPU or a GPU.

A run is a list of numbered steps. Step s always reads the same rows, whatever happened before, so a
killed run that resumes from its last checkpoint neither repeats nor skips data.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finetune.exercises import sentences
from finetune.folders import (
    require_replaceable,
    sha256_file,
    whole_folder,
    work_folder,
    write_whole,
)
from finetune.learner import Learner, summed_loss
from finetune.mixture import mixed
from finetune.model_card import NOTE, measure_card, write_model_card
from finetune.packing import HELD_OUT_LENGTH, held_out_texts, prepare
from finetune.pretrain_recipe import PretrainRecipe, schedule
from finetune.stream import Plan
from finetune.vocabulary import learn, split_words, wrap
from geometry.checks import InputError
from geometry.corpora import files
from geometry.live.memory import keep_freed_memory
from geometry.live.models import load
from geometry.live.quiet import quiet_transformers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

    from finetune.neutralise import Engine
    from finetune.stream import Stream

__all__ = ["PretrainRecipe", "pretrain", "run"]

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 180.0
"""Time between two checkpoints."""
_SAMPLE = 7_500
"""Pieces that the vocabulary is learnt from: 33 M characters settle the merges of a few thousand tokens."""
_COPIED = 200
"""Held-out sentences that the card's model is asked to copy."""


def pretrain(
    corpora: Sequence[str | Path],
    out: str | Path,
    recipe: PretrainRecipe,
    *,
    engine: Engine | None = None,
    on_step: Callable[[dict[str, float], int], None] = lambda record, steps: None,
) -> Path:
    """Learn a vocabulary, pack the corpora, train, and write a model folder; resume where a run was killed.

    A request whose result lies in ``out`` already is not done again. The same request gives the same
    model bit for bit on the same machine with the same number of threads, killed and resumed or not.

    Args:
        corpora: files or folders, see :mod:`geometry.corpora`. Their texts are held in memory while they
            are packed, which takes a minute for every 200 M characters and is done before the first step.
        out: the model folder to make; work in progress lies beside it in ``<out>.partial``.
        recipe: shape, data and schedule.
        engine: round-trip translator for the exercises, or None for copying and repairing alone.
        on_step: is called with each record of :func:`run` and the number of steps.

    Returns:
        The finished folder: config, tokenizer, bfloat16 safetensors, ``pretraining.json`` and a model
        card.

    Raises:
        DataError: a corpus cannot be read, or is a single document.
        InputError: too little text, an unwritable place, a partial run of another request or one that is
            at work, a failed engine, or a loss that is not finite.
    """
    request = {
        "recipe": recipe.model_dump(mode="json"),
        "corpora": [[f.name, sha256_file(f)] for path in corpora for f in files(path)],
        "engine": engine.name if engine else None,
    }
    require_replaceable(out)
    if _request_of(Path(out) / NOTE) == request:
        return Path(out)
    _refuse_another(out, request)
    keep_freed_memory()
    with quiet_transformers(), work_folder(out, request) as work:
        tokenizer = _vocabulary(corpora, recipe, work)
        stream = prepare(corpora, tokenizer, recipe, work=work, engine=engine)
        plan, texts = Plan(recipe, stream), held_out_texts(stream, tokenizer)
        learner = Learner(recipe, tokenizer, "cuda" if torch.cuda.is_available() else "cpu")
        if shutil.which("c++") or torch.cuda.is_available():
            learner.compile()
        for record in run(learner, plan, work):
            on_step(record, plan.steps)
        with whole_folder(out) as folder:
            made = {"request": request, **_made(learner, tokenizer, stream, _read_log(work / "log.jsonl"))}
            write_whole(folder / NOTE, json.dumps(made, indent=1))
            _write_model(learner, tokenizer, texts, folder)
    return Path(out)


def run(
    learner: Learner, plan: Plan, work: Path, *, every: float | None = None
) -> Iterator[dict[str, float]]:
    """Train from the last checkpoint in ``work``, or from the start, to the end of the plan.

    It may be stopped at any moment, also by ``kill -9``: the steps since the last checkpoint are then
    done again, the same way, and the log holds each step once.

    Args:
        learner: the fresh model; restored in place when there is a checkpoint.
        plan: the rows of each step.
        work: folder for ``checkpoint.safetensors`` and ``log.jsonl``, of this very request.
        every: seconds between checkpoints, each of which also measures the held-out loss; None is
            ``CHECKPOINT_SECONDS``.

    Yields:
        For every step a record of step (from 1), loss (nats a token), tokens (seen so far) and seconds
        (of work so far); with ``held_out`` (nats a token) where it was measured. The log has the same.

    Raises:
        InputError: the checkpoint is of another recipe or damaged, its log is lost, or the loss is not
            finite.
    """
    every = CHECKPOINT_SECONDS if every is None else every
    checkpoint, log = work / CHECKPOINT, work / "log.jsonl"
    done, seconds = _resume(learner, checkpoint, log)
    last = began = time.monotonic()
    for step in range(done, plan.steps):
        loss = learner.step(*plan.batch(step), schedule(learner.recipe, step, plan.steps))
        now = time.monotonic()
        record = {
            "step": step + 1,
            "loss": loss,
            "tokens": (step + 1) * plan.batch_tokens,
            "seconds": seconds + now - began,
        }
        due = now - last > every or step + 1 == plan.steps
        if due:
            record["held_out"] = _held_out_loss(learner, plan)
        if not math.isfinite(record.get("held_out", loss)):
            raise InputError(
                f"step {step + 1}: the loss is not finite; lower lr_matrix and lr_rest and choose another --out"
            )
        # the log first: whatever step a checkpoint has done, its record is there
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if due:
            learner.save(checkpoint, step + 1)
            last = time.monotonic()
        yield record


def _resume(learner: Learner, checkpoint: Path, log: Path) -> tuple[int, float]:
    """Restore the checkpoint and cut the log back to it; give the steps and the seconds that are done."""
    for stale in checkpoint.parent.glob(f".{checkpoint.name}.*"):
        stale.unlink()
    if not checkpoint.exists():
        log.unlink(missing_ok=True)
        return 0, 0.0
    done = learner.restore(checkpoint)
    kept = _read_log(log)[:done]
    if [record["step"] for record in kept] != list(range(1, done + 1)):
        raise InputError(
            f"{log}: lacks steps that the checkpoint has done; remove {log.parent} to start again"
        )
    write_whole(log, "".join(json.dumps(record) + "\n" for record in kept))
    return done, kept[-1]["seconds"]


def _read_log(log: Path) -> list[dict[str, float]]:
    """Read the log up to a line that a kill cut short."""
    records = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _held_out_loss(learner: Learner, plan: Plan) -> float:
    length = min(HELD_OUT_LENGTH, learner.recipe.context)
    total, n = summed_loss(learner.model, plan.stream.held_out, length=length)
    return total / n


def _request_of(note: Path) -> dict[str, Any] | None:
    """Read what a finished folder was asked for; None where there is none, or a note of another kind."""
    try:
        return json.loads(note.read_text(encoding="utf-8"))["request"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refuse_another(out: str | Path, request: dict[str, Any]) -> None:
    """Refuse where another request has checkpoints: work_folder would clear them, and they are hours of work."""
    target = Path(out).expanduser().resolve()
    work = target.with_name(f"{target.name}.partial")
    note = work / "request.json"
    if not note.is_file() or not (work / CHECKPOINT).exists():
        return
    if note.read_text(encoding="utf-8") != json.dumps(request, sort_keys=True):
        raise InputError(
            f"{work}: holds the unfinished run of another request; remove it or choose another --out"
        )


def _vocabulary(corpora: Sequence[str | Path], recipe: PretrainRecipe, work: Path) -> PreTrainedTokenizerBase:
    """Learn the vocabulary, once, from a sample of all documents, the held-out ones among them."""
    from transformers import PreTrainedTokenizerFast

    folder = work / "tokenizer"
    if not folder.exists():
        sample = itertools.islice(mixed(corpora, recipe.seed + 1), _SAMPLE)
        with whole_folder(folder) as fresh:
            wrap(learn(sample, size=recipe.vocabulary)).save_pretrained(fresh)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _write_model(
    learner: Learner, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], folder: Path
) -> None:
    """Write weights and tokenizer, load them as a stranger would, and measure what the card says."""
    learner.model.save_pretrained(folder, max_shard_size="15MB")
    tokenizer.model_max_length = learner.recipe.context
    tokenizer.save_pretrained(folder)
    rng = np.random.default_rng([learner.recipe.seed, 4])
    measured = measure_card(
        load(folder, dtype="float32"),
        validation_text="\n\n".join(texts),
        held_out_sentences=rng.permutation([s for text in texts for s in sentences(text)])[:_COPIED].tolist(),
        rng=rng,
    )
    write_model_card(folder, measured, validation_name="the held-out documents")


def _made(
    learner: Learner, tokenizer: PreTrainedTokenizerBase, stream: Stream, log: list[dict[str, float]]
) -> dict[str, Any]:
    """How the model was made, as numbers and names."""
    every = max(1, len(log) // 500)
    return {
        "digest": learner.recipe.digest,
        "parameters": sum(p.numel() for p in learner.masters.values()),
        "machine": _machine(),
        "tokens": log[-1]["tokens"],
        "seconds": log[-1]["seconds"],
        "held_out_loss": log[-1]["held_out"],
        "held_out_tokens": len(stream.held_out),
        "held_out": "whole documents, the shortest; the vocabulary may have seen them, no step has read them",
        "split_words": split_words(tokenizer.backend_tokenizer),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        "log": [r for i, r in enumerate(log) if i % every == 0 or "held_out" in r],
    }


def _machine() -> str:
    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{torch.get_num_threads()} CPU threads"
    )
