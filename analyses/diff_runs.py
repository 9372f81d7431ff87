"""Finished diffs, read back from their folders: where each adapter moved the stream, and how it was made.

Only manifest, report and arrays are read; neither the base nor the adapter has to be there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from analyses.compared import WEIGHTS
from analyses.report import read
from finetune.folders import sha256_file, sha256_text
from geometry.checks import DataError
from geometry.spectra import Spectrum

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Place = tuple[str, int]

ARRAYS = Path("arrays", "subspaces.safetensors")


@dataclass(frozen=True, eq=False)
class Moved:
    """What moved of one group of texts at one layer.

    Attributes:
        whole: leading directions of the adapter's E[d d^T].
        halves: the same of two halves of the documents.
        randoms: the same of each random adapter, in the order in which they were drawn.
        mean: mean shift, shape (d,).
        trace: E|d|^2.
    """

    whole: Spectrum
    halves: tuple[Spectrum, Spectrum]
    randoms: tuple[Spectrum, ...]
    mean: NDArray[np.float64]
    trace: float


@dataclass(frozen=True, eq=False)
class DiffRun:
    """A finished run of ``repgeo diff``.

    Attributes:
        name: for tables and figures.
        folder: of the run.
        base: fingerprint of the base's weights.
        base_name: the base as it was asked for.
        adapter: folder of the adapter, as the run was given it.
        k: dimension of its subspaces.
        texts: group -> SHA-256 of its file.
        moved: (group, layer) -> what moved there.
        recipe: hash of everything that made the adapter but the seed; None where it left no note, see
            :func:`_recipe`.
        seed: of the training, where it is known.
        facts: of its report.
    """

    name: str
    folder: Path
    base: str
    base_name: str
    adapter: Path
    k: int
    texts: dict[str, str]
    moved: dict[Place, Moved]
    recipe: str | None
    seed: int | None
    facts: dict[str, Any]

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return len(next(iter(self.moved.values())).mean)

    @property
    def diff_facts(self) -> dict[str, Any]:
        """Facts of the diff itself; those of a style run are one part of its page."""
        return self.facts.get("diff", self.facts)

    @classmethod
    def read(cls, name: str, folder: Path) -> Self:
        """Read a run.

        Args:
            name: what it will be called.
            folder: what holds its manifest.json.

        Returns:
            The run.

        Raises:
            DataError: no run of a diff, one without arrays, or arrays that are damaged or incomplete.
        """
        facts = dict(read(folder).facts)
        try:
            record = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            files, base, adapter = record["files"], record["base"], record["adapter"]
            groups = record.get("groups") or {name: name for name in files}
            k = int(record["k"]) if "k" in record else int(facts["diff"]["k"])
            texts = {group: str(files[used]["sha256"]) for group, used in groups.items()}
            recipe, seed = _recipe(Path(adapter["path"]), adapter["sha256"])
            known = cls(
                name, folder, str(base["fingerprint"]), str(base["name"]), Path(adapter["path"]), k, texts, {},
                recipe, seed, facts,
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{folder}: its manifest is not that of a diff; name folders that `repgeo diff` made"
            ) from error
        known.moved.update(_moved(folder))
        return known


def _recipe(adapter: Path, sha256: str) -> tuple[str | None, int | None]:
    """What made an adapter but for the seed, from the note that our training leaves, and the seed.

    Two adapters with one such hash differ in nothing but their seed: same base, data, recipe and versions.
    """
    try:
        if sha256_file(adapter / WEIGHTS) != sha256:
            return None, None
        note = json.loads((adapter / "training.json").read_text(encoding="utf-8"))
        recipe = dict(note["recipe"])
        seed = int(recipe.pop("seed"))
        same = {
            "recipe": recipe,
            **{key: note["request"][key] for key in ("base", "data", "dtype", "versions")},
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
    return sha256_text(json.dumps(same, sort_keys=True)), seed


def _moved(folder: Path) -> dict[Place, Moved]:
    path = folder / ARRAYS
    if not path.is_file():
        raise DataError(
            f"{folder}: holds no {ARRAYS}: its adapter is inactive, or an older version made it; run `repgeo diff` "
            "again"
        )
    try:
        arrays = load_file(path)
        places = {(key.split(".")[0], int(key.split(".")[1])) for key in arrays}
        return {place: _one(arrays, *place) for place in sorted(places)}
    except (SafetensorError, OSError, KeyError, ValueError, IndexError) as error:
        raise DataError(f"{path}: is damaged or incomplete ({error}); run `repgeo diff` again") from error


def _one(arrays: Mapping[str, NDArray], group: str, layer: int) -> Moved:
    def side(name: str) -> Spectrum:
        values, vectors = (
            arrays[f"{group}.{layer}.{name}.{part}"].astype(np.float64) for part in ("values", "vectors")
        )
        return Spectrum(values, vectors)

    randoms = 0
    while f"{group}.{layer}.random{randoms}.values" in arrays:
        randoms += 1
    return Moved(
        side("whole"),
        (side("half0"), side("half1")),
        tuple(side(f"random{i}") for i in range(randoms)),
        arrays[f"{group}.{layer}.mean"].astype(np.float64),
        float(arrays[f"{group}.{layer}.trace"][0]),
    )
