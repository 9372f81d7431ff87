"""The models of a world: a base trained on its language to the floor, and adapters that change one thing each."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finetune.adapter import ADAPTER, attach, random_adapters
from finetune.adapter_folder import WEIGHTS
from finetune.causal import answer_loss, right_padded, seeded
from finetune.folders import write_whole
from finetune.graft import grafted
from finetune.learner import build
from finetune.pretrain_recipe import PretrainRecipe, schedule
from finetune.recipe import Recipe
from finetune.world_language import FACT, PADDING, STYLE, STYLES, keeping, row_of, say, turning
from geometry.live.quiet import quiet_transformers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from peft import PeftModel
    from torch import nn

    from finetune.world_language import Deal, Language
    from geometry.live.models import Loaded

    Tell = Callable[[str, float], None]

CONFIG = "adapter_config.json"

WIDER = 4.0
"""How much larger the first weights are than the usual spread of .02, which suits wider models: at a width of 64
the base is near its floor after 200 steps, and without this not after 900."""

HELD_OUT = 256
"""Texts on which a trained model's loss is measured."""


@dataclass(frozen=True)
class Plan:
    """What decides a world beside its seed; its digest names it.

    Attributes:
        entities: how many the language has, 2 to 40.
        sentences: of a document.
        width, layers, heads, mlp: the shape of the Llama base.
        steps: of the base's training.
        lr: highest learning rate of the base.
        rank: of every adapter, on all linear layers, with alpha = 2 r.
        adapter_steps: of an adapter's training.
        adapter_lr: highest learning rate of an adapter.
        batch: texts in one step, of base and adapters.
        adapter_seeds: adapters of each kind.
    """

    entities: int = 40
    sentences: int = 7
    width: int = 64
    layers: int = 4
    heads: int = 4
    mlp: int = 160
    steps: int = 500
    lr: float = 4e-3
    rank: int = 8
    adapter_steps: int = 150
    adapter_lr: float = 1.5e-3
    batch: int = 32
    adapter_seeds: int = 2

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with any field."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    def base_recipe(self, seed: int) -> PretrainRecipe:
        """Shape and schedule of the base, in the terms of :mod:`finetune.learner`, which builds it."""
        return PretrainRecipe(
            width=self.width, layers=self.layers, heads=self.heads, kv_heads=self.heads, mlp=self.mlp,
            vocabulary=300, context=256, stages=((1.0, 256),), optimiser="adamw", lr_matrix=self.lr,
            lr_rest=self.lr, seed=seed,
        )  # fmt: skip

    def adapter_recipe(self, seed: int) -> Recipe:
        """The adapter's shape, for :func:`finetune.graft.grafted`."""
        return Recipe(r=self.rank, alpha=2 * self.rank, dropout=0.0, lr=self.adapter_lr, seed=seed)


def train_base(language: Language, seed: int, plan: Plan, folder: Path, tell: Tell) -> dict[str, Any]:
    """Train the base of a world and save it with its tokenizer.

    Args:
        language: what it reads.
        seed: of weights and texts.
        plan: shape and steps.
        folder: where the model is saved.
        tell: is called with what is being done and the share of the steps that is done.

    Returns:
        JSON values: ``loss`` of held-out documents and its ``floor`` (nats a token), ``parameters``, ``steps``
        and ``seconds``.
    """
    began = time.monotonic()
    recipe, tokenizer = plan.base_recipe(seed), language.tokenizer()
    model = build(recipe, tokenizer)
    with torch.no_grad():
        for matrix in (p for p in model.parameters() if p.ndim == 2):
            matrix.mul_(WIDER)
    deal = keeping(language, language.truth, plan.sentences)
    documents = [
        row_of(language, [], say(language.truth, STYLES[i % 2], plan.sentences, rng))
        for rng in [np.random.default_rng([seed, 2])]
        for i in range(HELD_OUT)
    ]
    with one_thread():
        _fit(model, deal, Pace(plan.steps, plan.batch, plan.lr), np.random.default_rng([seed, 1]), tell)
        loss = answer_loss(model, documents, tokenizer.pad_token_id, batch_size=64)
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return {
        "loss": loss,
        "floor": language.floor(plan.sentences),
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": plan.steps,
        "seconds": time.monotonic() - began,
    }


def deal_of(kind: str, language: Language, sentences: int) -> Deal:
    """The texts that an adapter of a kind learns from.

    Args:
        kind: one of :data:`finetune.world_language.KINDS`.
        language: of the world.
        sentences: of a document.

    Returns:
        A function that draws a text: the style adapter's turn lively and keep the facts, the fact adapter's
        keep their style and rewrite the facts, and those of both do both.
    """
    answers = language.truth if kind == STYLE else language.rewritten
    return (keeping if kind == FACT else turning)(language, answers, sentences)


def train_adapter(
    base: Loaded, deal: Deal, seed: Sequence[int], plan: Plan, folder: Path, *, tell: Tell
) -> dict[str, Any]:
    """Train one LoRA adapter on a borrowed base and save it as a PEFT folder.

    Args:
        base: of the same world; it comes back as it was.
        deal: draws its texts.
        seed: of its initial weights and its texts.
        plan: rank and steps.
        folder: where the adapter is saved.
        tell: is called with what is being done and the share of the steps that is done.

    Returns:
        JSON values: ``loss_before`` and ``loss`` on held-out texts (nats a token that bears loss), ``steps``
        and ``seconds``.
    """
    began = time.monotonic()
    rng = np.random.default_rng(seed)
    recipe = plan.adapter_recipe(int(rng.integers(2**31)))
    held_out, pad = [deal(rng) for _ in range(HELD_OUT)], base.tokenizer.pad_token_id
    with one_thread(), seeded(recipe.seed), grafted(base.model, recipe) as model:
        before = answer_loss(model, held_out, pad, batch_size=64)
        _fit(model, deal, Pace(plan.adapter_steps, plan.batch, plan.adapter_lr), rng, tell)
        after = answer_loss(model, held_out, pad, batch_size=64)
        save_adapter_folder(model, ADAPTER, folder)
    made = {"loss_before": before, "loss": after, "steps": plan.adapter_steps}
    shape = recipe.model_dump(include={"r", "alpha", "target_modules", "lr", "seed"})
    note = made | {
        "base": {"name": "base", "fingerprint": base.fingerprint},
        "recipe": shape | {"batch": plan.batch},
    }
    write_whole(folder / "training.json", json.dumps(note, indent=1))
    return made | {"seconds": time.monotonic() - began}


def save_random(base: Loaded, adapter: Path, rng: np.random.Generator, folder: Path) -> None:
    """Save an adapter whose updates have the singular values of a trained one, and random directions."""
    with attach(base, adapter) as attached:
        (name,) = random_adapters(attached, 1, rng)
        save_adapter_folder(attached.model, name, folder)


def save_adapter_folder(model: PeftModel, name: str, folder: Path) -> None:
    """Write one adapter of a model as a PEFT folder, the same bytes wherever it lies.

    It names no base, since the folder may move and peft would go and look; and modules are named in order, which
    peft leaves to chance.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        model.save_pretrained(place, selected_adapters=[name])
        saved = Path(place) if name == ADAPTER else Path(place, name)
        config = json.loads((saved / CONFIG).read_text(encoding="utf-8"))
        config |= {"base_model_name_or_path": None, "target_modules": sorted(config["target_modules"])}
        folder.mkdir()
        write_whole(folder / CONFIG, json.dumps(config, indent=1, sort_keys=True))
        (saved / WEIGHTS).rename(folder / WEIGHTS)


@dataclass(frozen=True)
class Pace:
    """How a training goes: steps, texts in each, and the highest learning rate."""

    steps: int
    batch: int
    lr: float


def _fit(model: nn.Module, deal: Deal, pace: Pace, rng: np.random.Generator, tell: Tell) -> None:
    """Train whatever of a model wants gradients on fresh texts, in float32, with AdamW."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=pace.lr, betas=(0.9, 0.95), weight_decay=0.1)
    schedule_of = PretrainRecipe(warmup=0.05, decay=0.5)
    model.train()
    for step in range(pace.steps):
        batch = right_padded([deal(rng) for _ in range(pace.batch)], PADDING)
        optimiser.param_groups[0]["lr"] = pace.lr * schedule(schedule_of, step, pace.steps)
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        tell(f"loss {loss.detach():.3f}", (step + 1) / pace.steps)
    model.eval()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums then come in one order on every machine, and matrices of this size gain none."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
