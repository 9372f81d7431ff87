"""Sparse dictionaries of activations, through sae-lens: trained on a stream of rows, saved and loaded in its format.

A dictionary writes a row h of the residual stream as a sum of a few of its features, h ~ b + sum_i a_i(h) f_i, with
a_i >= 0. Everything that trains is sae-lens's own (`SAETrainer` and its architectures); what is here feeds it,
several dictionaries side by side on the same rows, and lets it go on where it was killed. sae-lens is an extra,
``pip install repgeo[sae]``, and is imported inside functions.
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from geometry.checks import DataError, InputError
from geometry.live.quiet import quiet_transformers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

KINDS = ("topk", "batchtopk", "jumprelu", "matryoshka")
"""Architectures that can be trained."""

FEATURE_WINDOW = 500
"""Steps without firing after which training counts a feature as dead, and revives it."""

_FIRST = 8
"""Batches that the scale and the starting bias are taken from."""


@dataclass(frozen=True)
class Recipe:
    """How a dictionary is trained.

    Attributes:
        kind: one of :data:`KINDS`.
        size: features.
        active: features that are active at once: exactly (topk) or on average (the others).
        rows: activations to train on.
        batch: rows of a step.
        lr: learning rate of Adam; falls to 0 in the last fifth.
    """

    kind: str
    size: int
    active: int
    rows: int
    batch: int = 1024
    lr: float = 1e-3

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"no dictionaries of kind {self.kind!r}; take one of {', '.join(KINDS)}")
        if not 0 < self.active < self.size:
            raise DataError(
                f"{self.active} of {self.size} features active: give 1 or more, and fewer than there are"
            )
        if self.rows < 4 * self.batch:
            raise DataError(f"{self.rows} rows are less than four steps of {self.batch}; train on more")

    @property
    def steps(self) -> int:
        """Steps of the training."""
        return self.rows // self.batch


class Dictionary:
    """A trained dictionary, as sae-lens saves it.

    Args:
        sae: an ``sae_lens.SAE``.
    """

    def __init__(self, sae: Any) -> None:
        self.sae = sae.eval().requires_grad_(False)

    @property
    def size(self) -> int:
        """Number of features."""
        return self.sae.cfg.d_sae

    @property
    def width(self) -> int:
        """Coordinates of a row."""
        return self.sae.cfg.d_in

    @property
    def features(self) -> Tensor:
        """(size, width) unit vectors, what each feature writes."""
        return torch.nn.functional.normalize(self.sae.W_dec.detach(), dim=-1)

    def encode(self, rows: Tensor) -> Tensor:
        """Activations (n, size) of rows (n, width), in lengths: a_i f_i with f_i of :attr:`features` is written."""
        norms = self.sae.W_dec.norm(dim=-1)
        # where the decoder counts as normalised already, activations are lengths as they are
        rescaled = getattr(self.sae.cfg, "rescale_acts_by_decoder_norm", False)
        return self.sae.encode(rows.to(self.sae.W_dec)) * (1.0 if rescaled else norms)

    def decode(self, activations: Tensor) -> Tensor:
        """Rows (n, width) of activations (n, size) that :meth:`encode` gave."""
        return activations @ self.features + self.sae.b_dec

    def save(self, folder: str | Path) -> None:
        """Write sae-lens's ``cfg.json`` and ``sae_weights.safetensors``."""
        self.sae.save_model(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what :meth:`save` or sae-lens wrote.

        Args:
            folder: with ``cfg.json`` and ``sae_weights.safetensors``.

        Returns:
            The dictionary.

        Raises:
            DataError: no such folder, or sae-lens cannot read it.
            InputError: sae-lens is not installed.
        """
        place = Path(folder)
        if not (place / "cfg.json").is_file():
            raise DataError(
                f"{folder}: holds no cfg.json; name the folder of a dictionary in sae-lens's format"
            )
        try:
            return cls(_sae_lens().SAE.load_from_disk(place, device="cpu"))
        except (KeyError, ValueError, RuntimeError, OSError) as error:
            raise DataError(f"{folder}: sae-lens cannot read it ({str(error).splitlines()[0]})") from error


class Training:
    """Dictionaries of one recipe, trained side by side on the same rows from different starts.

    Args:
        recipe: how.
        width: coordinates of a row.
        seeds: one dictionary for each.
        first: (n, width) rows that tell the scale, and the mean at which biases start.

    Raises:
        InputError: sae-lens is not installed.
    """

    def __init__(self, recipe: Recipe, width: int, seeds: Sequence[int], first: Tensor) -> None:
        lens = _sae_lens()
        self.recipe = recipe
        scale = width**0.5 / float(first.norm(dim=-1).mean())
        self.trainers = []
        for seed in seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                sae = _new(lens, recipe, width)
            sae.b_dec.data = first.float().mean(dim=0) * scale
            trainer = lens.SAETrainer(_pace(recipe), sae, data_provider=None)
            trainer.activation_scaler.scaling_factor = scale
            self.trainers.append(trainer)

    @property
    def steps(self) -> int:
        """Steps that are done."""
        return self.trainers[0].n_training_steps

    def untrained(self) -> Dictionary:
        """The first dictionary as it is, before or in the middle of training."""
        return _finished(_sae_lens(), self.trainers[0])

    def step(self, rows: Tensor) -> None:
        """Train every dictionary on a batch (n, width)."""
        for trainer in self.trainers:
            trainer.maybe_reset_sparsity()
            trainer.step(rows.float())
            trainer.n_training_steps += 1

    def save(self, folder: Path) -> None:
        """Keep everything that :meth:`restore` needs."""
        shutil.rmtree(folder, ignore_errors=True)
        for number, trainer in enumerate(self.trainers):
            trainer.save_checkpoint(str(number), base_path=folder)

    def restore(self, folder: Path) -> None:
        """Go on where :meth:`save` was called."""
        for number, trainer in enumerate(self.trainers):
            trainer.sae.load_weights_from_checkpoint(folder / str(number))
            trainer.load_trainer_state(folder / str(number))

    def finished(self) -> list[Dictionary]:
        """The dictionaries as they are now, for rows as the model has them."""
        return [_finished(_sae_lens(), trainer) for trainer in self.trainers]


def first_rows(batches: Iterator[Tensor]) -> Tensor:
    """Take the rows that :class:`Training` starts from off a stream of batches."""
    return torch.cat([next(batches) for _ in range(_FIRST)])


def train(
    training: Training, batches: Iterator[Tensor], each: Callable[[int], None] = lambda step: None
) -> None:
    """Train until the recipe's rows are read.

    Args:
        training: begun, or restored.
        batches: rows (batch, width); those of the steps that are done are not among them.
        each: is called with the number of steps done after each.
    """
    while training.steps < training.recipe.steps:
        training.step(next(batches))
        each(training.steps)


def _new(lens: Any, recipe: Recipe, width: int) -> Any:
    """An untrained dictionary of sae-lens; matryoshka levels are eighths, quarters, halves and all."""
    own: dict[str, Any] = {"k": recipe.active}
    match recipe.kind:
        case "topk":
            config, kind = lens.TopKTrainingSAEConfig, lens.TopKTrainingSAE
        case "batchtopk":
            config, kind = lens.BatchTopKTrainingSAEConfig, lens.BatchTopKTrainingSAE
        case "matryoshka":
            config, kind = lens.MatryoshkaBatchTopKTrainingSAEConfig, lens.MatryoshkaBatchTopKTrainingSAE
            own["matryoshka_widths"] = sorted({max(1, recipe.size // part) for part in (8, 4, 2, 1)})
        case _:
            config, kind = lens.JumpReLUTrainingSAEConfig, lens.JumpReLUTrainingSAE
            own = {
                "jumprelu_sparsity_loss_mode": "quadratic",
                "target_l0": float(recipe.active),
                "jumprelu_init_threshold": 0.5,
                "jumprelu_bandwidth": 0.5,
                # without a gradient to the encoder no planted feature was found, with it two in five
                "jumprelu_ste_to_input": True,
                "l0_coefficient": 0.3,
                "l0_warm_up_steps": recipe.steps // 4,
                "pre_act_loss_coefficient": 3e-6,
            }
    return kind(
        config(d_in=width, d_sae=recipe.size, normalize_activations="expected_average_only_in", **own)
    )


def _pace(recipe: Recipe) -> Any:
    from sae_lens.config import SAETrainerConfig

    return SAETrainerConfig(
        total_training_samples=recipe.rows,
        train_batch_size_samples=recipe.batch,
        lr=recipe.lr,
        lr_end=recipe.lr / 10,
        lr_warm_up_steps=recipe.steps // 20,
        lr_decay_steps=recipe.steps // 5,
        dead_feature_window=min(FEATURE_WINDOW, max(1, recipe.steps // 4)),
        n_checkpoints=0,
    )


def _finished(lens: Any, trainer: Any) -> Dictionary:
    """A copy for rows as the model has them, in the form in which sae-lens would save it."""
    import tempfile
    from copy import deepcopy

    sae = deepcopy(trainer.sae)
    sae.fold_activation_norm_scaling_factor(trainer.activation_scaler.scaling_factor)
    with tempfile.TemporaryDirectory() as folder:
        sae.save_inference_model(folder)
        return Dictionary(lens.SAE.load_from_disk(folder, device="cpu"))


def _sae_lens() -> Any:
    """The library, or a word on how to get it."""
    try:
        with warnings.catch_warnings(), quiet_transformers():
            # it imports names that transformer_lens 3 has deprecated
            warnings.simplefilter("ignore")
            import sae_lens
    except ImportError as error:
        raise InputError(
            "dictionaries need sae-lens, which needs transformer_lens below 4: pip install 'repgeo[sae]' in an "
            "environment of its own"
        ) from error
    return sae_lens
