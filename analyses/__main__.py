"""The entry of the command line: ``repgeo`` and ``python -m analyses``."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

import typer

from analyses.cli import app

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE_ERROR = typer.BadParameter.__mro__[2]
"""Click's ClickException, the root of what a wrong option raises; typer has moved it more than once."""


def main() -> None:
    """Run the command line and exit."""
    quiet_libraries()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: what follows ``repgeo``.

    Returns:
        The exit code: 0; 2 where what was asked cannot be done, with one line that says why; 130 where it
        was interrupted; 1 where the reader of a pipe went away. Other errors are bugs of ours and raised.
    """
    try:
        code = app(list(arguments) or ["--help"], prog_name="repgeo", standalone_mode=False)
        sys.stdout.flush()
    except USAGE_ERROR as error:
        return _refuse(error.format_message())
    except BrokenPipeError:
        return _hush()
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except ValueError as error:
        # Imported here, not above, since it brings NumPy, and help should come at once.
        from geometry.checks import InputError

        if not isinstance(error, InputError):
            raise
        return _refuse(str(error))
    if code == 130:
        print("repgeo: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def quiet_libraries() -> None:
    """Keep other people's warnings from drowning ours; what is set in the environment wins."""
    for name, value in {
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _refuse(message: str) -> int:
    print(f"repgeo: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _hush() -> int:
    """Nobody reads on: say nothing, not even when Python flushes standard output at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    main()
