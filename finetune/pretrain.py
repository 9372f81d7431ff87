"""Pretrain a small Llama-type model from a corpus, on a laptop CPU or a GPU.

A run is a list of numbered steps. Step s always reads the same rows, whatever happened before, so a
killed run that resumes from its last checkpoint neither repeats nor skips data.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open
from safetensors.torch import save_file

from finetune.exercises import MASKED
from finetune.folders import replace_file, require_replaceable, sha256_file, whole_folder, write_whole
from finetune.stream import Plan, mixed, prepare
from finetune.vocabulary import learn, split_words, wrap
from geometry.checks import InputError
from geometry.corpora import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

    from finetune.neutralise import Engine


class PretrainRecipe(BaseModel):
    """What decides a pretraining run; its digest names the run.

    Attributes:
        width, layers, heads, kv_heads, mlp: the shape of the Llama model; heads divide width.
        vocabulary: number of BPE tokens.
        context: longest sequence that the model promises to take.
        tokens: tokens seen in all, exercises included.
        stages: (share of the tokens, sequence length), in order; shares add to one.
        batch_tokens: tokens of one step.
        exercise_share: share of the rows that are rewriting exercises.
        optimiser: ``muon`` (Jordan 2024: matrices by Muon, the rest by AdamW) or ``adamw``.
        lr_matrix, lr_rest: peak learning rates of the hidden matrices and of everything else.
        weight_decay: decoupled, on matrices.
        warmup, decay: shares of the steps that warm up and that decay linearly to zero.
        seed: of the initial weights, of the data order and of the exercises.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(256, gt=0)
    layers: int = Field(6, gt=0)
    heads: int = Field(4, gt=0)
    kv_heads: int = Field(2, gt=0)
    mlp: int = Field(704, gt=0)
    vocabulary: int = Field(8192, ge=300, le=65535)
    context: int = Field(1024, gt=0)
    tokens: int = Field(15_000_000, gt=0)
    stages: tuple[tuple[float, int], ...] = ((0.88, 256), (0.06, 512), (0.06, 1024))
    batch_tokens: int = Field(8192, gt=0)
    exercise_share: float = Field(0.15, ge=0, lt=1)
    optimiser: str = Field("muon", pattern="^(muon|adamw)$")
    lr_matrix: float = Field(4e-3, gt=0)
    lr_rest: float = Field(4e-3, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    warmup: float = Field(0.02, ge=0, le=1)
    decay: float = Field(0.6, ge=0, le=1)
    seed: int = 0

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with any field."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


def build(recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """Make the untrained model: Llama with tied embeddings and rotary positions."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # At these lengths plain matrix products beat the fused kernel on a CPU (measured: +13 %).
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config)


class Trainer:
    """A model in training: float32 masters, a working copy in bfloat16, and the optimisers.

    The forward and backward pass run in bfloat16; gradients are copied to the float32 masters, where
    small updates are not rounded away.
    """

    def __init__(self, recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerBase, device: str) -> None:
        self.recipe = recipe
        self.model = build(recipe, tokenizer).to(device)
        self.masters = {n: p.detach().clone().float() for n, p in self.model.named_parameters()}
        self.model.to(torch.bfloat16)
        matrices = [p for n, p in self.masters.items() if p.ndim == 2 and "embed" not in n]
        rest = [p for n, p in self.masters.items() if p.ndim < 2 or "embed" in n]
        decay = recipe.weight_decay
        if recipe.optimiser == "muon":
            self.optimisers: list[torch.optim.Optimizer] = [
                torch.optim.Muon(
                    matrices, lr=recipe.lr_matrix, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
                )
            ]
        else:
            self.optimisers = [
                torch.optim.AdamW(matrices, lr=recipe.lr_matrix, betas=(0.9, 0.95), weight_decay=decay)
            ]
        self.optimisers.append(
            torch.optim.AdamW(rest, lr=recipe.lr_rest, betas=(0.9, 0.95), weight_decay=0.0)
        )
        self.peaks = [recipe.lr_matrix, recipe.lr_rest]
        self.body: Callable = self.model.model

    def compile(self) -> None:
        """Fuse the blocks with torch.compile (measured on 2 CPU cores: 1.28 times the tokens per second)."""
        self.body = torch.compile(self.model.model, dynamic=False)

    def loss(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean next-token loss in nats over the labels that are not masked."""
        hidden = self.body(input_ids=ids, use_cache=False).last_hidden_state
        logits = self.model.lm_head(hidden).float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=MASKED)

    def step(self, ids: torch.Tensor, labels: torch.Tensor, factor: float) -> float:
        """Take one optimiser step at ``factor`` times the peak learning rates; give the loss in nats."""
        loss = self.loss(ids, labels)
        loss.backward()
        for name, p in self.model.named_parameters():
            self.masters[name].grad = p.grad.float()
            p.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters.values(), 1.0)
        for optimiser, peak in zip(self.optimisers, self.peaks, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = peak * factor
            optimiser.step()
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                p.copy_(self.masters[name])
        return float(loss.detach())

    def save(self, path: Path, step: int) -> None:
        """Write weights, optimiser states and the step to one safetensors file, whole or not at all."""
        tensors = {f"weight.{n}": p for n, p in self.masters.items()}
        for i, optimiser in enumerate(self.optimisers):
            for j, state in optimiser.state_dict()["state"].items():
                tensors |= {f"state.{i}.{j}.{k}": torch.as_tensor(v).contiguous() for k, v in state.items()}
        metadata = {"step": str(step), "recipe": self.recipe.digest}
        replace_file(path, lambda temporary: save_file(tensors, temporary, metadata))

    def restore(self, path: Path) -> int:
        """Read a checkpoint back, and give the number of steps done."""
        with safe_open(path, framework="pt") as file:
            step = int(file.metadata()["step"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        states: list[dict[int, dict[str, torch.Tensor]]] = [{} for _ in self.optimisers]
        with torch.no_grad():
            for key, tensor in tensors.items():
                kind, rest = key.split(".", 1)
                if kind == "weight":
                    self.masters[rest].copy_(tensor)
                else:
                    i, j, name = rest.split(".")
                    states[int(i)].setdefault(int(j), {})[name] = tensor
            for name, p in self.model.named_parameters():
                p.copy_(self.masters[name])
        for optimiser, state in zip(self.optimisers, states, strict=True):
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        return step


def schedule(recipe: PretrainRecipe, step: int, steps: int) -> float:
    """Give the learning rate factor of a step: linear warm-up, plateau, linear decay to zero.

    Examples:
        >>> recipe = PretrainRecipe(warmup=0.1, decay=0.5)
        >>> [round(schedule(recipe, s, 100), 2) for s in (0, 9, 49, 75, 99)]
        [0.1, 1.0, 1.0, 0.5, 0.02]
    """
    warm = max(1, math.ceil(recipe.warmup * steps))
    fall = max(1, math.ceil(recipe.decay * steps))
    return min(1.0, (step + 1) / warm, (steps - step) / fall)


def held_out_loss(model: torch.nn.Module, tokens: np.ndarray, *, length: int = 512, rows: int = 8) -> float:
    """Mean next-token loss in nats on consecutive rows of a token stream, without overlap."""
    total, n = 0.0, 0
    usable = (len(tokens) - 1) // length
    with torch.inference_mode():
        for start in range(0, usable, rows):
            count = min(rows, usable - start)
            piece = torch.from_numpy(tokens[start * length : (start + count) * length + 1].astype(np.int64))
            logits = model(input_ids=piece[:-1].view(count, length), use_cache=False).logits
            total += float(
                torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), piece[1:], reduction="sum")
            )
            n += count * length
    if not n:
        raise InputError(f"held-out text: {len(tokens)} tokens, at least {length + 1} needed; add documents")
    return total / n


def run(trainer: Trainer, plan: Plan, work: Path, *, every: float = 180.0) -> Iterator[dict[str, float]]:
    """Train from the last checkpoint in ``work``, or from the start, to the end of the plan.

    Args:
        trainer: the fresh model; restored in place when a checkpoint of the same recipe is found.
        plan: the rows of each step.
        work: folder for ``checkpoint.safetensors`` and ``log.jsonl``.
        every: seconds between checkpoints; each also measures the held-out loss.

    Yields:
        For every step a record of step, loss (nats a token), tokens seen and seconds; with
        ``held_out`` where it was measured. The same records are in the log.

    Raises:
        InputError: the checkpoint belongs to another recipe.
    """
    checkpoint, log = work / "checkpoint.safetensors", work / "log.jsonl"
    done = _resume(trainer, checkpoint, log)
    seconds = _log(log)[-1]["seconds"] if done else 0.0
    last = began = time.monotonic()
    for step in range(done, plan.steps):
        ids, labels = plan.batch(step)
        loss = trainer.step(ids, labels, schedule(trainer.recipe, step, plan.steps))
        now = time.monotonic()
        record = {
            "step": step + 1,
            "loss": loss,
            "tokens": (step + 1) * trainer.recipe.batch_tokens,
            "seconds": seconds + now - began,
        }
        if now - last > every or step + 1 == plan.steps:
            record["held_out"] = held_out_loss(trainer.model, plan.stream.held_out)
            last = time.monotonic()
            trainer.save(checkpoint, step + 1)
        with log.open("a") as file:
            file.write(json.dumps(record) + "\n")
        yield record


def _resume(trainer: Trainer, checkpoint: Path, log: Path) -> int:
    """Restore the checkpoint and cut the log back to it; steps after it are run again, the same way."""
    if not checkpoint.exists():
        log.unlink(missing_ok=True)
        return 0
    with safe_open(checkpoint, framework="pt") as file:
        recipe = file.metadata()["recipe"]
    if recipe != trainer.recipe.digest:
        raise InputError(
            f"{checkpoint.parent}: holds a run of another recipe; remove it or choose another --out"
        )
    done = trainer.restore(checkpoint)
    kept = [json.dumps(record) + "\n" for record in _log(log)[:done]]
    replace_file(log, lambda temporary: temporary.write_text("".join(kept)))
    return done


def _log(log: Path) -> list[dict[str, float]]:
    """Read the log; a last line cut short by a kill is left out."""
    records = []
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def pretrain(
    corpora: list[str],
    out: str | Path,
    recipe: PretrainRecipe,
    *,
    engine: Engine | None = None,
    on_step: Callable[[dict[str, float], int], None] = lambda record, steps: None,
) -> Path:
    """Learn a vocabulary, pack the corpora, train, and write a model folder; resume where a run was killed.

    Args:
        corpora: files or folders, see :mod:`geometry.corpora`.
        out: the model folder to make; work in progress lives beside it in ``<out>.partial``.
        recipe: shape, data and schedule.
        engine: round-trip translator for the exercises, or None for copying and repairing alone.
        on_step: is called with each record of :func:`run` and the number of steps.

    Returns:
        The finished folder: config, tokenizer, bfloat16 safetensors and ``pretraining.json``.

    Raises:
        InputError: unreadable corpora, too little text, an unwritable place, or a partial run of
            another recipe.
    """
    from geometry.live.memory import keep_freed_memory

    require_replaceable(out)
    work = Path(out).with_name(Path(out).name + ".partial")
    work.mkdir(parents=True, exist_ok=True)
    _claim(work, recipe, corpora, engine)
    keep_freed_memory()
    tokenizer = _vocabulary(corpora, recipe, work)
    stream = prepare(corpora, tokenizer, recipe, work=work, engine=engine)
    trainer = Trainer(recipe, tokenizer, "cuda" if torch.cuda.is_available() else "cpu")
    if shutil.which("c++") or torch.cuda.is_available():
        trainer.compile()
    plan = Plan(recipe, stream)
    for record in run(trainer, plan, work):
        on_step(record, plan.steps)
    finish(trainer, tokenizer, corpora, work=work, out=out)
    shutil.rmtree(work)
    return Path(out)


def _claim(work: Path, recipe: PretrainRecipe, corpora: list[str], engine: Engine | None) -> None:
    """Note what this partial run is, or refuse to go on with another's."""
    request = json.dumps(
        {
            "recipe": recipe.model_dump(mode="json"),
            "corpora": [[f.name, f.stat().st_size] for path in corpora for f in files(path)],
            "engine": engine.name if engine else None,
        },
        indent=2,
    )
    note = work / "request.json"
    if note.exists() and note.read_text() != request:
        raise InputError(
            f"{work}: holds the unfinished run of another request; remove it or choose another --out"
        )
    write_whole(note, request)


def _vocabulary(corpora: list[str], recipe: PretrainRecipe, work: Path) -> PreTrainedTokenizerBase:
    from transformers import PreTrainedTokenizerFast

    folder = work / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        # 60 M characters settle the merges of a few thousand tokens; the order is not the one trained in.
        sample = itertools.islice(mixed(corpora, recipe.seed + 1), 7_500)
        wrap(learn(sample, size=recipe.vocabulary)).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def finish(
    trainer: Trainer, tokenizer: PreTrainedTokenizerBase, corpora: list[str], *, work: Path, out: str | Path
) -> None:
    """Write the trained model as a Hugging Face folder in bfloat16, with the record of its making."""
    log = _log(work / "log.jsonl")
    every = max(1, len(log) // 500)
    made = {
        "recipe": trainer.recipe.model_dump(mode="json"),
        "digest": trainer.recipe.digest,
        "corpora": [{"file": f.name, "sha256": sha256_file(f)} for path in corpora for f in files(path)],
        "parameters": sum(p.numel() for p in trainer.masters.values()),
        "tokens": log[-1]["tokens"],
        "seconds": log[-1]["seconds"],
        "held_out_loss": log[-1]["held_out"],
        "split_words": split_words(tokenizer.backend_tokenizer),
        "versions": {"torch": torch.__version__, "transformers": version("transformers")},
        "log": [r for i, r in enumerate(log) if i % every == 0 or "held_out" in r],
    }
    trainer.model.config._attn_implementation = "sdpa"
    with whole_folder(out) as folder:
        trainer.model.save_pretrained(folder, max_shard_size="15MB")
        tokenizer.save_pretrained(folder)
        write_whole(folder / "pretraining.json", json.dumps(made, indent=1))
