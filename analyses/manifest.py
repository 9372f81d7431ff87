"""How a result was made: enough to make it again, and to notice when it was made with something else."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.folders import sha256_file

if TYPE_CHECKING:
    from collections.abc import Mapping

LIBRARIES = ("torch", "transformers", "peft", "transformer_lens", "numpy", "scipy", "scikit-learn", "numba")


def manifest(*, files: Mapping[str, str | Path] | None = None, **inputs: object) -> dict[str, Any]:
    """Write down how a result is being made.

    Args:
        files: what a file was used for -> its path; each is hashed.
        **inputs: what decided the result, as JSON values: seed, dtype, attention implementation,
            fingerprints of models and adapters, layers, the request.

    Returns:
        JSON values: ``repgeo``, ``python`` and ``libraries`` (versions; None where one is missing),
        ``platform``, ``machine``, ``cores``, ``threads`` (None before torch is loaded), ``command_line``,
        ``time`` (UTC), ``files`` (path and SHA-256) and everything of ``inputs``.

    Raises:
        FileNotFoundError: one of the files is not there.
    """
    torch = sys.modules.get("torch")
    return {
        **inputs,
        "repgeo": installed("repgeo"),
        "python": platform.python_version(),
        "libraries": {name: installed(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": cores(),
        "threads": torch.get_num_threads() if torch is not None else None,
        "command_line": command_line(sys.argv),
        "time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "files": {use: {"path": str(p), "sha256": sha256_file(p)} for use, p in (files or {}).items()},
    }


def command_line(argv: list[str]) -> str:
    """Write the command as one would type it again.

    Examples:
        >>> command_line(["/usr/bin/repgeo", "transfer", "it is cold"])
        "repgeo transfer 'it is cold'"
        >>> command_line(["/src/analyses/__main__.py", "redraw", "run"])
        'repgeo redraw run'
    """
    program = Path(argv[0])
    ours = program.stem == "repgeo" or program.parts[-2:] == ("analyses", "__main__.py")
    return shlex.join(["repgeo" if ours else argv[0], *argv[1:]])


def run_id(request: Mapping[str, Any]) -> str:
    """Name a run after what was asked, so that the same request lands on the same folder.

    Args:
        request: JSON values; hashes of models and data rather than their places.

    Returns:
        Twelve hexadecimal digits of the SHA-256 of the canonical JSON; the order of keys does not matter.

    Raises:
        TypeError: the request holds something that is not a JSON value.
        ValueError: it holds NaN or infinity.

    Examples:
        >>> run_id({"k": 8, "seed": 0}) == run_id({"seed": 0, "k": 8})
        True
        >>> len(run_id({}))
        12
    """
    text = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def cores() -> int | None:
    """Count the cores that this process may use; None where that cannot be found out."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def installed(name: str) -> str | None:
    """Give the version of an installed library.

    Args:
        name: as pip calls it.

    Returns:
        The version; None where it is not installed.
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return None
