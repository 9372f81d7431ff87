"""Folders that are whole or not there, and the hashes that say what is in a file.

A result is written to a hidden sibling of its folder and renamed at the end. A run that is killed in
between leaves the sibling, never half a result; the next run for the same folder clears it away.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from geometry.checks import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

RESULT_FILES = ("manifest.json", "report.json", "training.json", "pretraining.json")
"""A folder that holds one of these was written by us, so a rerun may replace it."""


@contextlib.contextmanager
def whole_folder(out: str | Path, *, known_by: Sequence[str] = RESULT_FILES) -> Iterator[Path]:
    """Write a folder whole or not at all.

    Args:
        out: the folder to make. Its parents are made where they are missing.
        known_by: file names; a folder that is there already and not empty is replaced only if it holds
            one of them at its top, so that nobody's other work is ever deleted.

    Yields:
        An empty temporary folder beside ``out``. When the block ends it becomes ``out``; when the block
        raises it is removed, and ``out`` is what it was.

    Raises:
        InputError: ``out`` is a file, cannot be written, or is a folder that is not ours to replace.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     with whole_folder(Path(place) / "run") as folder:
        ...         _ = (folder / "report.json").write_text("{}")
        ...     [path.name for path in (Path(place) / "run").iterdir()]
        ['report.json']
    """
    target = Path(out).expanduser().resolve()
    require_replaceable(target, known_by=known_by)
    clear_leftovers(target)
    fresh = _sibling(target, "new")
    _make(fresh, target)
    try:
        yield fresh
        _put_in_place(fresh, target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


@contextlib.contextmanager
def work_folder(out: str | Path, request: Mapping[str, object]) -> Iterator[Path]:
    """Keep the checkpoints of long work beside its result, for the same request to go on with.

    Args:
        out: the folder of the result; the work lies in ``<out>.partial``.
        request: what decides the result, as JSON values: hashes of recipe, model and data.

    Yields:
        The work folder. It holds what an earlier run of the same request left, and is empty after a run
        of another request. It is removed when the block ends, and kept when the block raises or dies.

    Raises:
        InputError: the place cannot be written, ``<out>.partial`` holds something else, or another
            process is at work in it.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     with work_folder(Path(place) / "run", {"seed": 0}) as folder:
        ...         folder.name
        'run.partial'
    """
    target = Path(out).expanduser().resolve()
    folder = target.with_name(f"{target.name}.partial")
    wanted = json.dumps(dict(request), sort_keys=True)
    note = folder / "request.json"
    if not folder.exists():
        fresh = _sibling(target, "new")
        _make(fresh, target)
        write_whole(fresh / note.name, wanted)
        fresh.rename(folder)
    if not note.is_file():
        raise InputError(f"{folder}: is needed for checkpoints but holds something else; move it away")
    with _held(folder, target):
        if note.read_text(encoding="utf-8") != wanted:
            # Nobody's request while it is being emptied: a kill in the middle must not look like progress.
            write_whole(note, "{}")
            for path in folder.iterdir():
                if path != note:
                    _remove(path)
            write_whole(note, wanted)
        yield folder
        dead = _sibling(target, "new")
        folder.rename(dead)
        shutil.rmtree(dead, ignore_errors=True)


def require_replaceable(out: str | Path, *, known_by: Sequence[str] = RESULT_FILES) -> None:
    """Refuse a place that :func:`whole_folder` could not or should not write, before any work is done.

    Args:
        out: the folder that will be made.
        known_by: as for :func:`whole_folder`.

    Raises:
        InputError: ``out`` is a file, cannot be written, or is a folder that is not ours to replace.
    """
    target = Path(out).expanduser().resolve()
    if target.exists() and not target.is_dir():
        raise InputError(f"{out}: is a file; name a folder for the results")
    if target.is_dir() and any(target.iterdir()) and not any((target / name).exists() for name in known_by):
        raise InputError(f"{out}: holds files of something else; name a new or an empty folder")
    probe = _sibling(target, "new")
    _make(probe, target)
    probe.rmdir()


def clear_leftovers(out: str | Path) -> None:
    """Remove what killed runs left beside ``out``; put the old ``out`` back if one died while replacing it.

    Temporaries of processes that still live are left alone.
    """
    target = Path(out).expanduser().resolve()
    for path in sorted(target.parent.glob(f".{_literal(target.name)}.*-*-*")):
        kind, pid, _ = path.name[len(target.name) + 2 :].split("-", 2)
        if kind not in {"new", "old"} or not pid.isdigit() or _alive(int(pid)):
            continue
        if kind == "old" and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def write_whole(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all: a reader sees the old text or the new one.

    Raises:
        InputError: the place cannot be written.
    """
    try:
        replace_file(path, lambda fresh: fresh.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def replace_file(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary sibling and rename it onto ``path``, so that a kill leaves old or new.

    Args:
        path: the file to make or replace.
        write: is called with the temporary path and writes that file, of any format.
    """
    target = Path(path)
    fresh = target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        write(fresh)
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in 64 hexadecimal digits; the file is read in pieces.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, in 64 hexadecimal digits.

    Examples:
        >>> sha256_text("abc")[:16]
        'ba7816bf8f01cfea'
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _sibling(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{kind}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _make(folder: Path, target: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another folder") from error


def _put_in_place(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    old = _sibling(target, "old")
    target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _held(folder: Path, target: Path) -> Iterator[None]:
    """Hold a lock on a folder that ends with the process, however it ends (on Windows there is none)."""
    if os.name == "nt":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise InputError(f"{target}: another run is writing it; wait, or choose another folder") from error
    try:
        yield
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
