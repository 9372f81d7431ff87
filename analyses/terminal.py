"""What a person at a terminal sees: progress and notes on standard error, results on standard output."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

from analyses.digits import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from finetune.pairs import Refused

PLAIN_EVERY = 10.0
"""Seconds between two lines of progress where nobody watches a bar."""


def note(text: str) -> None:
    """Say something that is not a result."""
    print(f"repgeo: {text}", file=sys.stderr, flush=True)


def refusals(path: object, refused: Sequence[Refused], *, shown: int = 5) -> None:
    """Say which lines of a file were set aside, and why; the first few in full, the rest counted."""
    for line in refused[:shown]:
        note(f"{path}, line {line.line}: set aside, {line.reason}")
    if len(refused) > shown:
        note(f"{path}: {len(refused) - shown} more lines were set aside")


@contextlib.contextmanager
def watched(title: str) -> Iterator[Callable[[str, float], None]]:
    """Show how far something is: a bar where somebody watches, else a plain line now and then.

    Args:
        title: what is being done.

    Yields:
        A function that takes what to say and the share that is done, in [0, 1].
    """
    if not sys.stderr.isatty():
        yield _plain(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0, left="")
        pace = _Pace()

        def show(text: str, share: float) -> None:
            bar.update(task, completed=share, description=f"{title}: {text}", left=pace.left(share))

        yield show


class _Pace:
    """Time left, from the share done since the first report: what a resumed run found done was free."""

    def __init__(self) -> None:
        self.began, self.first, self.last = 0.0, 0.0, 2.0

    def left(self, share: float) -> str:
        now = time.monotonic()
        if share < self.last:  # the first report, or that of a new stage
            self.began, self.first = now, share
        self.last = share
        done = share - self.first
        return f"{duration((now - self.began) * (1 - share) / done)} left" if done > 0 and share < 1 else ""


def _plain(title: str) -> Callable[[str, float], None]:
    pace, last = _Pace(), -PLAIN_EVERY

    def show(text: str, share: float) -> None:
        nonlocal last
        new_stage, now = share < pace.last, time.monotonic()
        left = pace.left(share)
        if new_stage or now - last >= PLAIN_EVERY:
            last = now
            note(", ".join(part for part in (f"{title}: {100 * share:.0f} %", text, left) if part))

    return show
