"""Neural round trips: two Marian models, one into the pivot language and one back, through ``generate``."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from geometry.checks import InputError, ModelError
from geometry.live.models import fingerprint
from geometry.live.quiet import quiet_transformers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import MarianMTModel, MarianTokenizer

_OPUS = "Helsinki-NLP/opus-mt-{}-{}"
MARIAN_PIVOTS = {
    name: (_OPUS.format("en", code), _OPUS.format(code, "en"))
    for name, code in {
        "german": "de", "french": "fr", "spanish": "es", "russian": "ru", "chinese": "zh", "italian": "it",
        "dutch": "nl", "swedish": "sv", "finnish": "fi", "arabic": "ar",
    }.items()
}  # fmt: skip
"""Pivot -> hub names of the models there and back (Tiedemann & Thottingal 2020)."""

ROOM = 1.5
"""Tokens that an answer may have, for each token of the longest sentence of its batch."""


@dataclass(frozen=True, eq=False)
class _Direction:
    """One model and its tokenizer."""

    model: MarianMTModel = field(repr=False)
    tokenizer: MarianTokenizer = field(repr=False)
    name: str

    @classmethod
    def load(cls, name: str, device: str | None) -> Self:
        from transformers import MarianMTModel, MarianTokenizer

        local = Path(name).is_dir()
        if local and not (Path(name) / "config.json").is_file():
            raise _no_model(name)
        try:
            with quiet_transformers(), warnings.catch_warnings():
                # sacremoses is optional: its state is written down in the details
                warnings.filterwarnings("ignore", message=".*sacremoses.*")
                tokenizer = MarianTokenizer.from_pretrained(name, local_files_only=local)
                model, info = MarianMTModel.from_pretrained(
                    name, local_files_only=local, output_loading_info=True
                )
        except ImportError as error:
            raise InputError(
                "Marian's tokenizer needs sentencepiece: pip install sentencepiece sacremoses"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise _no_model(name) from error
        if info["missing_keys"]:
            raise _no_model(name)
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model.eval().to(place), tokenizer, name)

    def encode(self, sentence: str) -> list[int]:
        # A sentence that spells "</s>" must not be able to end itself, nor ">>fra<<" to choose a language.
        return self.tokenizer([sentence], split_special_tokens=True)["input_ids"][0]

    @property
    def longest(self) -> int:
        return self.model.config.max_position_embeddings

    def translate(self, sentences: list[list[int]], beams: int) -> list[str]:
        """Translate sentences of about one length in one forward pass after the other."""
        width = max(map(len, sentences))
        padding = self.tokenizer.pad_token_id
        ids = torch.tensor([row + [padding] * (width - len(row)) for row in sentences])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in sentences])
        room = min(int(ROOM * width) + 8, self.longest - 1)
        with torch.inference_mode(), quiet_transformers():
            out = self.model.generate(
                input_ids=ids.to(self.model.device), attention_mask=mask.to(self.model.device),
                num_beams=beams, do_sample=False, max_new_tokens=room, max_length=None,
            )  # fmt: skip
        return [" ".join(text.split()) for text in self.tokenizer.batch_decode(out, skip_special_tokens=True)]


@dataclass(frozen=True, eq=False)
class Marian:
    """Two Marian models (Junczys-Dowmunt et al. 2018), English to a pivot language and back.

    Attributes:
        pivot: name of the pivot language.
        beams: of the beam search; 1 is greedy.
        batch_size: sentences in one forward pass.
    """

    pivot: str
    beams: int
    batch_size: int
    _there: _Direction = field(repr=False)
    _back: _Direction = field(repr=False)

    @classmethod
    def load(
        cls,
        pivot: str,
        folders: tuple[str, str] | None = None,
        *,
        beams: int = 4,
        batch_size: int = 32,
        device: str | None = None,
    ) -> Self:
        """Load both models.

        Args:
            pivot: name of the pivot language.
            folders: folders or hub names of the models there and back; None takes those of
                ``MARIAN_PIVOTS``, which must be on this machine already or within reach.
            beams: of the beam search.
            batch_size: sentences in one forward pass.
            device: such as ``cpu`` or ``cuda:1``; None takes the first CUDA device, or else the CPU.

        Returns:
            The engine.

        Raises:
            InputError: an unknown pivot without folders, or sentencepiece is not installed.
            ModelError: a model cannot be loaded.
        """
        if folders is None and pivot not in MARIAN_PIVOTS:
            raise InputError(
                f"pivot '{pivot}': choose one of {', '.join(MARIAN_PIVOTS)}, or give the folders of two models"
            )
        there, back = folders or MARIAN_PIVOTS[pivot]
        return cls(pivot, beams, batch_size, _Direction.load(there, device), _Direction.load(back, device))

    @property
    def name(self) -> str:
        """The engine and its pivot, for provenance."""
        return f"marian/{self.pivot}"

    @property
    def batch(self) -> int:
        """Sentences that are best handed over at a time: they are sorted by length, so that little is padded."""
        return 8 * self.batch_size

    @cached_property
    def details(self) -> dict[str, Any]:
        """Models with their hashes, the search, and versions; ``sacremoses`` None: punctuation is left as it is."""
        return {
            "there": self._there.name,
            "back": self._back.name,
            "sha256_there": fingerprint(self._there.model),
            "sha256_back": fingerprint(self._back.model),
            "beams": self.beams,
            "batch_size": self.batch_size,
            **{library: _version(library) for library in ("transformers", "sentencepiece", "sacremoses")},
        }

    def round_trip(self, sentences: Sequence[str]) -> list[str]:
        """Translate each sentence there and back; see :meth:`there`."""
        return self.back(self.there(sentences))

    def there(self, sentences: Sequence[str]) -> list[str]:
        """Translate English into the pivot language.

        Args:
            sentences: any text.

        Returns:
            One for each, in order, on one line. It is empty for one that is blank, or longer than the model
            has positions: a sentence is never cut.
        """
        return self._translate(self._there, sentences)

    def back(self, sentences: Sequence[str]) -> list[str]:
        """Translate the pivot language into English; see :meth:`there`."""
        return self._translate(self._back, sentences)

    def _translate(self, direction: _Direction, sentences: Sequence[str]) -> list[str]:
        encoded = {i: direction.encode(s) for i, s in enumerate(sentences) if s.strip()}
        order = sorted(
            (i for i in encoded if len(encoded[i]) <= direction.longest), key=lambda i: len(encoded[i])
        )
        answers = [""] * len(sentences)
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            for i, text in zip(
                chosen, direction.translate([encoded[i] for i in chosen], self.beams), strict=True
            ):
                answers[i] = text
        return answers


def _no_model(name: str) -> ModelError:
    return ModelError(
        f"{name}: no Marian model can be loaded from it; give a folder with config, weights, vocab.json, source.spm "
        "and target.spm, or fetch the name first where there is a network: hf download NAME"
    )


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
