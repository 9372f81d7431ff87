"""The demo: the main job on the model and the data that are shipped, in a few minutes on a laptop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyses.report import write
from analyses.style_run import ORNATE, Watch, style_run
from finetune.recipe import Recipe
from geometry.live.models import load

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = Recipe(lr=2e-3, epochs=8, batch_size=16, patience=3)
"""A model this small learns from a few hundred pairs only at a rate far above that of large ones."""


def demo(out: str | Path, *, watch: Watch) -> Path:
    """Train on the embedded pairs, rewrite, score and diff; write one page.

    Args:
        out: folder of the run: ``adapter`` and ``page`` are made in it.
        watch: is told how far it is.

    Returns:
        The path of the page.
    """
    report = style_run(load("embedded", dtype="float32"), ORNATE, RECIPE, out, watch=watch)
    return write(report, f"{out}/page")
