"""Libraries that write to stderr, or change how loud others are, kept in check."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from transformers.utils import logging

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the notes and progress bars of transformers, and put both back as they were.

    What those notes would say about a model (weights missing, shapes that differ) is raised as an error
    by whoever loads it. Restoring also undoes what importing transformer_lens does to the log level.

    Yields:
        Nothing.
    """
    loudness, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(loudness)
        if bars:
            logging.enable_progress_bar()
