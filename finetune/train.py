"""Train a style adapter: pairs in, a standard PEFT folder out, the same one for the same request.

The folder is written whole or not at all. Checkpoints live beside it in ``<out>.partial``; a run that was
killed goes on from there when the same recipe, base and data come again, and starts anew otherwise.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from finetune.card import write_card
from finetune.causal import context_length, padding_id, require_causal, seeded
from finetune.folders import require_replaceable, sha256_file, whole_folder, work_folder, write_whole
from finetune.graft import grafted, save_adapter, save_start
from finetune.prompts import encode
from geometry.checks import DataError
from geometry.live.memory import keep_freed_memory
from geometry.live.quiet import quiet_transformers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from finetune.causal import Row
    from finetune.loop import Fit
    from finetune.pairs import Pair
    from finetune.progress import Progress
    from finetune.recipe import Recipe
    from geometry.live.models import Loaded

NOTE = "training.json"
"""The file in an adapter's folder that says how it was made."""

_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class TrainResult:
    """A trained adapter and how it came about; all losses in nats an answer token.

    Attributes:
        folder: the PEFT folder.
        loss_before: on the validation pairs, with the untrained adapter: the base model's own.
        loss_after: on the validation pairs, with the adapter that was kept.
        best_step: step whose weights were kept.
        steps: steps done when training stopped.
        train_losses: (step, mean training loss since the entry before).
        valid_losses: (step, validation loss), from step 0.
        n_train: pairs trained on.
        n_valid: pairs that the validation loss is of.
        too_long: ids of the pairs that were left out because prompt and answer did not fit.
        max_length: tokens that fitted.
        parameters: trained numbers.
        seconds: spent in training, over all processes that worked on it.
        resumed_from: step at which the last process took over; 0 if one process did it all.
        base: name, path, revision, fingerprint and number format of the base model.
        recipe: every field of the recipe.
        request: hashes of recipe, base and data, and versions: what decides the adapter.
        sha256: of the adapter's weights.
    """

    folder: Path
    loss_before: float
    loss_after: float
    best_step: int
    steps: int
    train_losses: tuple[tuple[int, float], ...]
    valid_losses: tuple[tuple[int, float], ...]
    n_train: int
    n_valid: int
    too_long: tuple[str, ...]
    max_length: int
    parameters: int
    seconds: float
    resumed_from: int
    base: dict[str, Any]
    recipe: dict[str, Any]
    request: dict[str, Any]
    sha256: str

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Read the result of an earlier run from its folder.

        Raises:
            DataError: the folder holds no readable training.json of ours.
        """
        note = Path(folder) / NOTE
        try:
            fields = json.loads(note.read_text(encoding="utf-8"))
            for curve in ("train_losses", "valid_losses"):
                fields[curve] = tuple((int(step), float(loss)) for step, loss in fields[curve])
            fields["too_long"] = tuple(fields["too_long"])
            return cls(folder=Path(folder), **fields)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{note}: is not the note of a training run; train the adapter again") from error

    def note(self) -> str:
        """Return the content of training.json."""
        fields = {name: value for name, value in vars(self).items() if name != "folder"}
        return json.dumps(fields, indent=1)


def train(
    loaded: Loaded,
    train_pairs: Sequence[Pair],
    valid_pairs: Sequence[Pair],
    out: str | Path,
    recipe: Recipe,
    *,
    resume: bool = True,
    examples: Callable[[Pair], Sequence[Pair]] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Train a LoRA adapter to rewrite sources as targets, and write it as a PEFT folder.

    The loss is of the answers alone. Training ends after ``recipe.epochs``, or when the validation loss
    has found no new low for ``recipe.patience`` evaluations; the weights of its lowest point are kept.
    On a CPU the same request gives the same adapter bit for bit with the same number of threads, also
    when it was killed and resumed. A request whose result lies in ``out`` already is not done again.

    Args:
        loaded: the base model; it is borrowed and comes back as it was. Load it in float32 on a CPU.
        train_pairs: to learn from.
        valid_pairs: to measure on; from other documents.
        out: the folder to write; a result of ours that is there is replaced.
        recipe: the numbers.
        resume: whether to use what an earlier run of the same request left. Without it, training starts
            anew; the adapter is the same.
        examples: takes a pair and returns solved ones, which its prompt shows first, such as
            :class:`finetune.shots.RandomShots`; those that do not fit are left out from the front. None
            shows none. They bear no loss.
        progress: is told how far it is, about ten times between evaluations; ``print`` will do, and None
            is silence.

    Returns:
        The result, as it also stands in ``training.json``.

    Raises:
        DataError: no pair is left that fits, to train or to validate.
        ModelError: not a causal model, no end-of-text token, or a loss that is not finite.
        AdapterError: the base carries an adapter already.
        InputError: ``out`` cannot be written, another run is writing it, or the recipe does not fit.
    """
    require_causal(loaded.model)
    require_replaceable(out)
    limit = min(recipe.max_length, context_length(loaded.model), loaded.max_length)
    shown = examples or (lambda pair: ())
    train_rows, long_train = _rows(loaded, train_pairs, limit, shown, "training")
    valid_rows, long_valid = _rows(loaded, valid_pairs, limit, shown, "validation")
    request = _request(loaded, recipe, train_rows, valid_rows)
    if resume and (done := _already_done(out, request)):
        return done
    if not resume:
        discard_work(out)
    if loaded.device.type == "cpu":
        keep_freed_memory()
    facts = {
        "n_train": len(train_rows),
        "n_valid": len(valid_rows),
        "too_long": long_train + long_valid,
        "max_length": limit,
        "base": _base(loaded),
        "recipe": recipe.model_dump(mode="json"),
        "request": request,
    }
    with quiet_transformers(), work_folder(out, request) as work:
        # transformers' Trainer takes seconds to load, and a refusal or a finished request needs none of it
        from finetune.loop import Task, run_loop

        task = Task(train_rows, valid_rows, padding_id(loaded.tokenizer))
        with seeded(recipe.seed), grafted(loaded.model, recipe) as model:
            save_start(model, work / "start")
            fit = run_loop(model, task, recipe, work, progress)
            facts["parameters"] = model.get_nb_trainable_parameters()[0]
            with whole_folder(out) as folder:
                save_adapter(model, recipe, work / "start", folder)
                facts["sha256"] = sha256_file(folder / _WEIGHTS)
                result = TrainResult(folder=Path(out), **facts, **_losses(fit))
                write_whole(folder / NOTE, result.note())
                write_card(folder, result)
                _keep_logs(work, folder)
    return result


def discard_work(out: str | Path) -> None:
    """Forget the checkpoints of an unfinished run for ``out``, so that the next one starts anew.

    Raises:
        InputError: another run is at work there, or ``<out>.partial`` is not ours.
    """
    with work_folder(out, {}):
        pass


def _rows(
    loaded: Loaded,
    pairs: Sequence[Pair],
    limit: int,
    examples: Callable[[Pair], Sequence[Pair]],
    purpose: str,
) -> tuple[list[Row], tuple[str, ...]]:
    rows, too_long = [], []
    for pair in pairs:
        solved = [(one.source, one.target) for one in examples(pair)]
        row = encode(loaded.tokenizer, pair.source, pair.target, solved)
        while len(row[0]) > limit and solved:
            solved = solved[1:]
            row = encode(loaded.tokenizer, pair.source, pair.target, solved)
        if len(row[0]) > limit:
            too_long.append(pair.id)
        else:
            rows.append(row)
    if not rows:
        reason = f"all {len(too_long)} are longer than {limit} tokens" if too_long else "none was given"
        raise DataError(f"no {purpose} pair to use: {reason}; give shorter pairs or raise max_length")
    return rows, tuple(too_long)


def _request(
    loaded: Loaded, recipe: Recipe, train_rows: Sequence[Row], valid_rows: Sequence[Row]
) -> dict[str, Any]:
    data = json.dumps([train_rows, valid_rows]).encode()
    return {
        "recipe": recipe.digest,
        "base": loaded.fingerprint,
        "data": hashlib.sha256(data).hexdigest(),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "device": loaded.device.type,
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")},
    }


def _already_done(out: str | Path, request: dict[str, Any]) -> TrainResult | None:
    try:
        done = TrainResult.read(out)
    except DataError:
        return None
    weights = Path(out) / _WEIGHTS
    whole = done.request == request and weights.is_file() and sha256_file(weights) == done.sha256
    return done if whole else None


def _base(loaded: Loaded) -> dict[str, Any]:
    return {
        "name": loaded.name,
        "path": loaded.model.name_or_path,
        "revision": loaded.revision,
        "fingerprint": loaded.fingerprint,
        "dtype": str(loaded.dtype).removeprefix("torch."),
    }


def _losses(fit: Fit) -> dict[str, Any]:
    return {
        "loss_before": fit.valid_losses[0][1],
        "loss_after": dict(fit.valid_losses)[fit.best_step],
        "best_step": fit.best_step,
        "steps": fit.steps,
        "train_losses": fit.train_losses,
        "valid_losses": fit.valid_losses,
        "seconds": fit.seconds,
        "resumed_from": fit.resumed_from,
    }


def _keep_logs(work: Path, folder: Path) -> None:
    """Trackers that write files put them beside the checkpoints, which are about to go."""
    if (work / "runs").is_dir():
        shutil.copytree(work / "runs", folder / "runs")
