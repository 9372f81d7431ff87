"""How far a training run is: one frozen moment of it.

:func:`finetune.train.train` hands such moments to whoever wants to show them. A moment says itself in one
line, so ``progress=print`` is the plainest way; the command line draws a bar from the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A moment of a training run.

    Attributes:
        step: steps done.
        steps: steps that the run has if it does not stop early.
        loss: training loss since the moment before, nats a token; None until one is known.
        valid_loss: last validation loss, nats a token; the base model's own at first.
        best: lowest validation loss so far, the base model's included.
        seconds_left: estimate to the last step, from the pace of this process; None until it is known.
    """

    step: int
    steps: int
    loss: float | None
    valid_loss: float
    best: float
    seconds_left: float | None

    def __str__(self) -> str:
        """Say it in one line."""
        parts = [f"step {self.step}/{self.steps}"]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        parts.append(f"validation {self.valid_loss:.3f} (best {self.best:.3f})")
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Say a time in two units.

    Examples:
        >>> duration(7), duration(61), duration(7260)
        ('7 s', '1 min 01 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
