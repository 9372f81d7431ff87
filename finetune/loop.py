"""The training loop: transformers' Trainer, made to give the same adapter again, also after a kill.

Three things are ours. Batches are dealt by a sampler that depends on seed and epoch alone, so a resumed run
sees the pairs that the killed one would have seen. The validation loss is the mean over answer tokens, not
over batches. And whether to stop is read from the history, not from counters that a kill would lose.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Sampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from finetune.causal import answer_loss, right_padded
from finetune.folders import write_whole
from finetune.graft import load_weights
from finetune.watch import WHOLE, Watch, curve, stalled, step_of
from geometry.checks import InputError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from peft import PeftModel
    from transformers import TrainerState

    from finetune.causal import Row
    from finetune.progress import Progress
    from finetune.recipe import Recipe


@dataclass(frozen=True)
class Task:
    """What a loop needs besides the model: tokenised pairs, and the id that fills short rows.

    Attributes:
        train: rows to train on.
        valid: rows to measure on.
        pad: id to fill with.
    """

    train: Sequence[Row]
    valid: Sequence[Row]
    pad: int


@dataclass(frozen=True)
class Fit:
    """What a loop did.

    Attributes:
        steps: steps done when it ended.
        best_step: step of the lowest validation loss in training, whose weights the model now has.
        train_losses: (step, mean training loss since the entry before), nats a token.
        valid_losses: (step, validation loss), nats a token; step 0 is the untrained adapter.
        seconds: time in the loop, over all its processes.
        resumed_from: step at which this process took over; 0 if it began.
    """

    steps: int
    best_step: int
    train_losses: tuple[tuple[int, float], ...]
    valid_losses: tuple[tuple[int, float], ...]
    seconds: float
    resumed_from: int


def steps_of(n: int, recipe: Recipe) -> int:
    """Return the number of steps for n training pairs; the last batch of an epoch may be short.

    Examples:
        >>> from finetune.recipe import Recipe
        >>> steps_of(101, Recipe(batch_size=10, epochs=2))
        22
    """
    return max(1, math.ceil(recipe.epochs * _steps_per_epoch(n, recipe)))


def run_loop(
    model: PeftModel,
    task: Task,
    recipe: Recipe,
    folder: Path,
    progress: Callable[[Progress], None] | None,
) -> Fit:
    """Train an adapter until its validation loss no longer falls, and leave its best weights on it.

    Args:
        model: the adapter on its base.
        task: the data.
        recipe: the numbers.
        folder: for checkpoints; whole ones that are there already are gone on with.
        progress: is told of every logged moment; None for silence.

    Returns:
        What was done.

    Raises:
        ModelError: a loss is not finite.
        InputError: a tracker in ``report_to`` is not installed, or memory runs out.
    """
    checkpoint = _last_whole(folder)
    start_loss = _start_loss(model, task, recipe, folder)
    watch = Watch(recipe, _seconds_so_far(checkpoint), start_loss, progress)
    trainer = _trainer(model, task, recipe, folder, watch)
    state = _state(trainer, checkpoint)
    if not stalled(state.log_history, recipe.patience):
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise InputError("out of memory: lower batch_size, and raise accumulation instead") from error
        state = trainer.state
    load_weights(model, folder / f"checkpoint-{state.best_global_step}")
    return Fit(
        steps=state.global_step,
        best_step=state.best_global_step,
        train_losses=curve(state.log_history, "loss"),
        valid_losses=((0, start_loss), *curve(state.log_history, "eval_loss")),
        seconds=watch.seconds,
        resumed_from=step_of(checkpoint) if checkpoint else 0,
    )


class _EvenBatches(Sampler):
    """Shuffled pairs, neighbours of about the same length; the order follows from seed and epoch."""

    def __init__(self, lengths: list[int], step_size: int, seed: int) -> None:
        self.lengths, self.step_size, self.seed, self.epoch = lengths, step_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.step_size, generator=chance))


class _Trainer(Trainer):
    """A Trainer with our sampler and our validation loss."""

    def __init__(self, task: Task, recipe: Recipe, **options: Any) -> None:
        super().__init__(**options)
        self.task, self.recipe = task, recipe

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        del train_dataset
        step_size = self.recipe.batch_size * self.recipe.accumulation
        return _EvenBatches([len(ids) for ids, _ in self.task.train], step_size, self.recipe.seed)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        loss = answer_loss(self.model, self.task.valid, self.task.pad, batch_size=self.recipe.batch_size)
        metrics = {"eval_loss": loss}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def _trainer(model: PeftModel, task: Task, recipe: Recipe, folder: Path, watch: Watch) -> _Trainer:
    every = recipe.eval_every or _steps_per_epoch(len(task.train), recipe)
    every = min(every, steps_of(len(task.train), recipe))
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        learning_rate=recipe.lr,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        max_steps=steps_of(len(task.train), recipe),
        lr_scheduler_type=recipe.schedule,
        warmup_steps=round(recipe.warmup * steps_of(len(task.train), recipe)),
        seed=recipe.seed,
        logging_steps=_log_every(every),
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        report_to=list(recipe.report_to) or "none",
        disable_tqdm=True,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=model.device.type == "cpu",
    )
    if arguments.n_gpu > 1:
        # one process drives one device; more would multiply the recipe's batch size
        arguments._n_gpu = 1
    try:
        trainer = _Trainer(
            task,
            recipe,
            model=model,
            args=arguments,
            train_dataset=task.train,
            eval_dataset=task.valid,
            data_collator=lambda rows: right_padded(rows, task.pad),
            callbacks=[watch],
        )
    except (ImportError, RuntimeError, ValueError) as error:
        if not recipe.report_to:
            raise
        raise InputError(f"report_to: {str(error).splitlines()[0]}") from error
    trainer.remove_callback(PrinterCallback)
    return trainer


def _steps_per_epoch(n: int, recipe: Recipe) -> int:
    return math.ceil(math.ceil(n / recipe.batch_size) / recipe.accumulation)


def _log_every(every: int) -> int:
    """Log about ten times between evaluations, and always at one, so that no loss is lost by a resume."""
    return max(d for d in range(1, every + 1) if every % d == 0 and d <= max(1, every // 10))


def _last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; what a kill cut short is removed."""
    found = list(folder.glob("checkpoint-*"))
    whole = [path for path in found if (path / WHOLE).is_file()]
    for path in set(found) - set(whole):
        shutil.rmtree(path)
    return max(whole, key=step_of, default=None)


def _seconds_so_far(checkpoint: Path | None) -> float:
    return json.loads((checkpoint / WHOLE).read_text())["seconds"] if checkpoint else 0.0


def _start_loss(model: PeftModel, task: Task, recipe: Recipe, folder: Path) -> float:
    """The validation loss before the first step, measured once and kept for resumed runs."""
    note = folder / "start_loss.json"
    if not note.is_file():
        loss = answer_loss(model, task.valid, task.pad, batch_size=recipe.batch_size)
        if not math.isfinite(loss):
            raise ModelError("the base model's loss is not finite; check its weights for NaN")
        write_whole(note, json.dumps(loss))
    return json.loads(note.read_text())


def _state(trainer: Trainer, checkpoint: Path | None) -> TrainerState:
    if checkpoint is None:
        return trainer.state
    return type(trainer.state).load_from_json(str(checkpoint / "trainer_state.json"))
