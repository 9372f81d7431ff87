"""Judges of style that hold out what they judge, and a judge that somebody else trained.

A judge takes one text for each item, in the order of the items, and returns the probability of the style;
:class:`finetune.style.StyleClassifier` is the one for which there are training pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import torch

from finetune.causal import evaluating
from finetune.style import new_pipeline
from geometry.checks import DataError, ModelError
from geometry.live.quiet import quiet_transformers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_FOLDS = 5
_LONGEST = 512


class Judge(Protocol):
    """Tells styled texts from plain ones."""

    def probability(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability that each text is styled, shape (n,); 0 for an empty one."""
        ...


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """A judge for test pairs without training pairs: an item is judged by one that never read its document.

    The documents are dealt into folds; the judge of a fold is trained on the pairs of all others. It needs no
    other data, and is weaker than one that has more to learn from.

    Attributes:
        folds: the fold of each item, shape (n,).
    """

    folds: NDArray[np.int64] = field(repr=False)
    _judges: tuple[Pipeline, ...] = field(repr=False)

    @classmethod
    def fit(cls, neutral_texts: Sequence[str], styled_texts: Sequence[str], groups: Sequence[str]) -> Self:
        """Train one judge for each fold of documents.

        Args:
            neutral_texts: plain texts of the items.
            styled_texts: the same contents in the style.
            groups: the document of each item.

        Returns:
            The judges.

        Raises:
            DataError: the lists differ in length, or there are fewer than two documents.
        """
        from sklearn.model_selection import GroupKFold

        if not len(neutral_texts) == len(styled_texts) == len(groups) or len(set(groups)) < 2:
            raise DataError("the judge of style needs pairs of at least two documents, one document each")
        folds, judges = np.zeros(len(groups), dtype=np.int64), []
        splits = GroupKFold(min(_FOLDS, len(set(groups)))).split(groups, groups=groups)
        for fold, (learnt, held) in enumerate(splits):
            folds[held] = fold
            texts = [side[i] for side in (neutral_texts, styled_texts) for i in learnt]
            judges.append(new_pipeline().fit(texts, np.repeat([0, 1], len(learnt))))
        return cls(folds, tuple(judges))

    def probability(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability that each item's text is styled, shape (n,).

        Raises:
            DataError: not one text for each item.
        """
        if len(texts) != len(self.folds):
            raise DataError(f"{len(texts)} texts for {len(self.folds)} items: judge all items of a system")
        found = np.zeros(len(texts))
        for fold, judge in enumerate(self._judges):
            items = np.flatnonzero((self.folds == fold) & [bool(text.strip()) for text in texts])
            if len(items):
                found[items] = judge.predict_proba([texts[i] for i in items])[:, 1]
        return found


@dataclass(frozen=True, eq=False)
class TransformerJudge:
    """A sequence classifier that somebody trained on other text of the style.

    Attributes:
        name: folder or hub name.
        label: the name of the class that is the style.
    """

    name: str
    label: str
    _class: int = field(repr=False)
    _model: PreTrainedModel = field(repr=False)
    _tokenizer: PreTrainedTokenizerBase = field(repr=False)

    @classmethod
    def load(cls, name_or_folder: str | Path, label: str | None = None, *, device: str = "cpu") -> Self:
        """Load a classifier.

        Args:
            name_or_folder: of a model that ``AutoModelForSequenceClassification`` knows.
            label: the class that is the style; None takes the last one.
            device: where it runs.

        Returns:
            The judge.

        Raises:
            ModelError: it cannot be loaded, or has no such class.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(name_or_folder)
                model = AutoModelForSequenceClassification.from_pretrained(name_or_folder).eval().to(device)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise ModelError(
                f"{name_or_folder}: no classifier can be loaded from it; give its folder"
            ) from error
        labels = {name: i for i, name in model.config.id2label.items()}
        chosen = label or max(labels, key=lambda name: labels[name])
        if chosen not in labels or len(labels) < 2:
            raise ModelError(
                f"{name_or_folder}: has no class '{chosen}' beside others; it has {', '.join(labels)}"
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
        return cls(str(name_or_folder), chosen, labels[chosen], model, tokenizer)

    def probability(self, texts: Sequence[str], *, batch_size: int = 32) -> NDArray[np.float64]:
        """Return the probability of the style's class for each text, shape (n,)."""
        found = np.zeros(len(texts))
        written = sorted((i for i, t in enumerate(texts) if t.strip()), key=lambda i: len(texts[i]))
        self._tokenizer.padding_side = "right"
        with evaluating(self._model):
            for start in range(0, len(written), batch_size):
                items = written[start : start + batch_size]
                given = self._tokenizer(
                    [texts[i] for i in items], padding=True, truncation=True, return_tensors="pt",
                    max_length=min(_LONGEST, self._tokenizer.model_max_length), split_special_tokens=True,
                )  # fmt: skip
                kept = {k: v.to(self._model.device) for k, v in given.items() if k != "token_type_ids"}
                logits = self._model(**kept).logits.float()
                found[items] = torch.softmax(logits, -1)[:, self._class].double().cpu().numpy()
        return found
