"""What a finished run compared: its base, its adapter and its texts, found again and checked by their hashes.

A run writes this into its manifest (:func:`comparison`), and a later command that asks more about the same
comparison reads it back (:class:`Compared`), so that nobody has to type it twice and nothing can be mixed up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from finetune.folders import sha256_file, sha256_text
from geometry.checks import AdapterError, DataError, ModelError

if TYPE_CHECKING:
    from geometry.live.models import Loaded

WEIGHTS = "adapter_model.safetensors"
MOVED = "was it moved? Paths are as the run was given them, relative ones from the current folder"


@dataclass(frozen=True)
class Compared:
    """The base, the adapter and the texts of a finished run.

    Attributes:
        base: the model as it was asked for: ``embedded``, a folder, or a hub name.
        revision: commit of the hub; None for a folder.
        fingerprint: of the base's weights, see :func:`geometry.live.models.fingerprint`.
        tokenizer: hash of the base's tokenizer.
        dtype: number format that the run was made in, such as ``float32``.
        adapter: PEFT folder, whose weights are those of the run.
        texts: name of a group -> its JSONL file, the same bytes as in the run.
        training: the pairs that the adapter was trained on, where the run has them.
        quotable: whether sentences of the texts may stand on a page.
    """

    base: str
    revision: str | None
    fingerprint: str
    tokenizer: str
    dtype: str
    adapter: Path
    texts: dict[str, Path]
    training: Path | None = None
    quotable: bool = True

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Find again what a run compared.

        Args:
            folder: of a run of ``repgeo diff``, or the page of ``repgeo style`` or ``demo``: what holds the
                manifest.json.

        Returns:
            What was compared. Adapter and texts are there and are what they were; the base is checked when
            it is loaded.

        Raises:
            AdapterError: the adapter is gone or has other weights now.
            DataError: no manifest, one of another command, or a text file that is gone or has changed.
        """
        folder = Path(folder)
        record = _manifest(folder)
        try:
            base, adapter, files = record["base"], record["adapter"], record["files"]
            groups = record.get("groups") or {name: name for name in files}
            texts = {group: files[used] for group, used in groups.items()}
            training = files.get("train") if "groups" in record else None
            found = cls(
                base=str(base["name"]),
                revision=base["revision"],
                fingerprint=str(base["fingerprint"]),
                tokenizer=str(record["tokenizer"]),
                dtype=str(record["dtype"]),
                adapter=Path(adapter["path"]),
                texts={group: Path(file["path"]) for group, file in texts.items()},
                training=training and Path(training["path"]),
                quotable=bool(record.get("quotable", True)),
            )
            hashes = {
                found.adapter / WEIGHTS: adapter["sha256"],
                **{Path(file["path"]): file["sha256"] for file in (*texts.values(), training) if file},
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{folder}: its manifest does not name a base, an adapter and texts; name a folder that "
                "`repgeo diff` made, or the page folder of `repgeo style`"
            ) from error
        for path, sha256 in hashes.items():
            _require_same(path, sha256, folder)
        return found

    def load(self, *, device: str | None = None) -> Loaded:
        """Load the base as the run had it.

        Args:
            device: such as ``cpu``; None takes the first GPU, or else the CPU.

        Returns:
            The base, with the recorded weights and tokenizer.

        Raises:
            ModelError: it cannot be loaded, or has other weights or another tokenizer now.
        """
        from geometry.live.models import load

        loaded = load(self.base, dtype=self.dtype, device=device, revision=self.revision)
        for part, now, then in (
            ("weights", loaded.fingerprint, self.fingerprint),
            ("tokenizer", _tokenizer_hash(loaded), self.tokenizer),
        ):
            if now != then:
                raise ModelError(
                    f"{self.base}: its {part} changed since the run was made; give the old back, or make the run "
                    "again"
                )
        return loaded


def comparison(loaded: Loaded, adapter: str | Path) -> dict[str, Any]:
    """Say which base and adapter are being compared, and how they are run, for a manifest.

    Args:
        loaded: the base.
        adapter: PEFT folder.

    Returns:
        JSON values: ``base``, ``tokenizer``, ``adapter``, ``dtype``, ``attention``, ``sites``, ``weights``.
    """
    return {
        "base": base_record(loaded),
        "tokenizer": _tokenizer_hash(loaded),
        "adapter": {"path": str(adapter), "sha256": sha256_file(Path(adapter) / WEIGHTS)},
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "attention": loaded.model.config._attn_implementation,
        "sites": "block outputs, before the final norm",
        "weights": "raw",
    }


def base_record(loaded: Loaded) -> dict[str, Any]:
    """Say which base is being used, for a manifest."""
    return {"name": loaded.name, "revision": loaded.revision, "fingerprint": loaded.fingerprint}


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        inside = " (its page is a folder in it)" if (folder / "page" / path.name).is_file() else ""
        raise DataError(f"{folder}: holds no manifest.json{inside}; name the folder that has report.html")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON; make the run again") from error
    return record if isinstance(record, dict) else {}


def _require_same(path: Path, sha256: str, folder: Path) -> None:
    """Refuse a file that is not what it was when the run read it."""
    kind = AdapterError if path.name == WEIGHTS else DataError
    try:
        found = sha256_file(path)
    except OSError as error:
        raise kind(f"{path}: {folder} read it, but it is not there ({error.strerror}); {MOVED}") from error
    if found != sha256:
        raise kind(
            f"{path}: has changed since {folder} read it; give the old one back, or make the run again"
        )


def _tokenizer_hash(loaded: Loaded) -> str:
    backend = getattr(loaded.tokenizer, "backend_tokenizer", None)
    vocabulary = sorted(loaded.tokenizer.get_vocab().items())
    return sha256_text(json.dumps(vocabulary) if backend is None else backend.to_str())
