"""What watches over a training loop: when to stop, which checkpoints are whole, how far it is."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from finetune.folders import write_whole
from finetune.progress import Progress
from geometry.checks import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import TrainerControl, TrainerState, TrainingArguments

    from finetune.recipe import Recipe

WHOLE = "whole.json"
"""Written last into a checkpoint: one without it was cut short by a kill."""


class Watch(TrainerCallback):
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
        """Time in the loop so far, over all its processes."""
        return self.before + time.monotonic() - self.start

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock."""
        self.start, self.first_step = time.monotonic(), state.global_step

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stop when patience is at its end."""
        if stalled(state.log_history, self.recipe.patience):
            control.should_training_stop = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Mark the new checkpoint as whole, and only then let go of those that are no longer needed."""
        folder = Path(args.output_dir)
        write_whole(folder / f"checkpoint-{state.global_step}" / WHOLE, json.dumps({"seconds": self.seconds}))
        for path in folder.glob("checkpoint-*"):
            if step_of(path) not in {state.global_step, state.best_global_step}:
                shutil.rmtree(path)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Refuse a loss that is not finite; report."""
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
        train = curve(state.log_history, "loss")
        valid = [self.start_loss, *(loss for _, loss in curve(state.log_history, "eval_loss"))]
        return Progress(
            step=state.global_step,
            steps=state.max_steps,
            loss=train[-1][1] if train else None,
            valid_loss=valid[-1],
            best=min(valid),
            seconds_left=pace * (state.max_steps - state.global_step) if pace else None,
        )


def step_of(checkpoint: Path) -> int:
    """Return the step after which a checkpoint was written, which its name says."""
    return int(checkpoint.name.partition("-")[2])


def curve(history: list[dict[str, float]], key: str) -> tuple[tuple[int, float], ...]:
    """Pick one loss out of a Trainer's log: (step, loss), in the order of the steps.

    Examples:
        >>> curve([{"step": 5, "loss": 2.0}, {"step": 5, "eval_loss": 3.0}], "eval_loss")
        ((5, 3.0),)
    """
    return tuple((int(entry["step"]), entry[key]) for entry in history if key in entry)


def stalled(history: list[dict[str, float]], patience: int) -> bool:
    """Say whether the last ``patience`` evaluations brought no new lowest validation loss.

    Examples:
        >>> stalled([{"step": i, "eval_loss": loss} for i, loss in enumerate((3.0, 1.0, 2.0))], 1)
        True
    """
    losses = [loss for _, loss in curve(history, "eval_loss")]
    return bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= patience
