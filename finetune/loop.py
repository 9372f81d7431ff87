"""The training loop: transformers' Trainer, made to give the same adapter again, also after a kill.

Three things are ours. Batches are dealt by a sampler that depends on seed and epoch alone, so a resumed run
sees the pairs that the killed one would have seen. The validation loss is the mean over answer tokens, not
over batches. And whether to stop is read from the history, not from counters that a kill would lose.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from finetune.causal import evaluating, right_padded
from finetune.folders import write_whole
from finetune.graft import load_weights
from finetune.progress import Progress
from geometry.checks import InputError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from peft import PeftModel
    from torch import nn
    from transformers import TrainerControl, TrainerState

    from finetune.recipe import Recipe

Row = tuple[list[int], list[int]]
"""Ids and labels of one pair, see :func:`finetune.prompts.encode`."""

_WHOLE = "whole.json"
"""Written last into a checkpoint: one without it was cut short by a kill."""


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


def answer_loss(model: nn.Module, rows: Sequence[Row], pad: int, *, batch_size: int) -> float:
    """Return the mean negative log-likelihood of the answers' tokens, in nats.

    Args:
        model: a causal language model; it comes back in the mode that it was in.
        rows: tokenised pairs.
        pad: id to fill short rows with.
        batch_size: rows in one forward pass; does not change the result.

    Returns:
        The mean over all answer tokens of all rows, each token counting the same.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]), reverse=True)
    total, count = 0.0, 0
    with evaluating(model):
        for first in range(0, len(order), batch_size):
            picked = [rows[i] for i in order[first : first + batch_size]]
            batch = right_padded(picked, pad, device=next(model.parameters()).device)
            tokens = int((batch["labels"][:, 1:] >= 0).sum())
            total += float(model(**batch).loss) * tokens
            count += tokens
    return total / count


def steps_of(n: int, recipe: Recipe) -> int:
    """Return the number of steps for n training pairs."""
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
        InputError: a tracker in ``report_to`` is not installed.
    """
    checkpoint = _last_whole(folder)
    start_loss = _start_loss(model, task, recipe, folder)
    watch = _Watch(recipe, _seconds_so_far(checkpoint), start_loss, progress)
    trainer = _trainer(model, task, recipe, folder, watch)
    state = _state(trainer, checkpoint)
    if not _stalled(state.log_history, recipe.patience):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        state = trainer.state
    load_weights(model, folder / f"checkpoint-{state.best_global_step}")
    return Fit(
        steps=state.global_step,
        best_step=state.best_global_step,
        train_losses=_curve(state.log_history, "loss"),
        valid_losses=((0, start_loss), *_curve(state.log_history, "eval_loss")),
        seconds=watch.seconds,
        resumed_from=_step(checkpoint) if checkpoint else 0,
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


class _Watch(TrainerCallback):
    """Ends the loop in time, marks whole checkpoints, refuses NaN, and tells how far it is."""

    def __init__(
        self,
        recipe: Recipe,
        before: float,
        start_loss: float,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.recipe, self.before, self.start_loss, self.progress = recipe, before, start_loss, progress
        self.start, self.first_step = time.monotonic(), 0

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.start

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.start, self.first_step = time.monotonic(), state.global_step

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if _stalled(state.log_history, self.recipe.patience):
            control.should_training_stop = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        place = f"{args.output_dir}/checkpoint-{state.global_step}/{_WHOLE}"
        write_whole(place, json.dumps({"seconds": self.seconds}))

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        losses = [
            entry[key] for entry in state.log_history[-1:] for key in ("loss", "eval_loss") if key in entry
        ]
        if not all(map(math.isfinite, losses)):
            raise ModelError(
                f"the loss became {losses[0]} at step {state.global_step}; lower the learning rate"
            )
        if self.progress is not None and losses:
            self.progress(self._moment(state))

    def _moment(self, state: TrainerState) -> Progress:
        done = state.global_step - self.first_step
        pace = (time.monotonic() - self.start) / done if done else None
        train = _curve(state.log_history, "loss")
        valid = [self.start_loss, *(loss for _, loss in _curve(state.log_history, "eval_loss"))]
        return Progress(
            step=state.global_step,
            steps=state.max_steps,
            loss=train[-1][1] if train else None,
            valid_loss=valid[-1],
            best=min(valid),
            seconds_left=pace * (state.max_steps - state.global_step) if pace else None,
        )


def _trainer(model: PeftModel, task: Task, recipe: Recipe, folder: Path, watch: _Watch) -> _Trainer:
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
        save_total_limit=2,
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
    """The newest checkpoint that was written to its end; those that were not are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / _WHOLE).is_file():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


def _seconds_so_far(checkpoint: Path | None) -> float:
    return json.loads((checkpoint / _WHOLE).read_text())["seconds"] if checkpoint else 0.0


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


def _curve(history: list[dict[str, float]], key: str) -> tuple[tuple[int, float], ...]:
    return tuple((int(entry["step"]), entry[key]) for entry in history if key in entry)


def _stalled(history: list[dict[str, float]], patience: int) -> bool:
    losses = [loss for _, loss in _curve(history, "eval_loss")]
    return bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= patience
