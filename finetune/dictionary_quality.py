"""How good a dictionary is: what it explains, how many features that takes, and what the model loses by it.

Everything is measured on documents that no step of the training read, and summed document by document, so that
intervals can be had by drawing documents anew. Memory grows with documents and features, not with tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from geometry.live.capture import model_inputs
from geometry.live.intervene import edited_stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from finetune.feature_rows import Windows
    from finetune.plain_codes import Code
    from geometry.live.dictionary import Dictionary

    Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Explained:
    """What a code makes of the held-out rows of one side.

    Attributes:
        sums: (documents, 4): rows, sum |h - m|^2, sum |h - h'|^2, and active features of all rows together.
        fired: (size,) rows at which each feature is active; None where a code has no features.
    """

    sums: Array
    fired: Array | None


class _Sums:
    def __init__(self) -> None:
        self.documents: dict[int, Array] = {}
        self.fired: Array | None = None

    def update(self, told: Tensor, document: Tensor, activations: Tensor | None) -> None:
        for number in document.unique().tolist():
            sums = told[document == number].sum(dim=0).numpy()
            self.documents[number] = self.documents.get(number, 0.0) + sums
        if activations is not None:
            fired = (activations > 0).double().sum(dim=0).numpy()
            self.fired = fired if self.fired is None else self.fired + fired

    def answer(self) -> Explained:
        return Explained(np.array([self.documents[n] for n in sorted(self.documents)]), self.fired)


def explained(
    found: Iterable[Windows],
    dictionaries: Mapping[str, Dictionary],
    codes: Mapping[str, Code],
    centre: Array,
) -> list[dict[str, Explained]]:
    """Let dictionaries and other codes rebuild held-out rows.

    Args:
        found: windows, read.
        dictionaries: name -> dictionary.
        codes: name -> rows (n, d) to rebuilt rows (n, d); they count no active features.
        centre: (d,) the m of :func:`explained_variance`.

    Returns:
        For each side, name -> what it explains.
    """
    m = torch.as_tensor(centre, dtype=torch.float32)
    sides: list[dict[str, _Sums]] = []
    for windows in found:
        document = windows.document[:, None].expand_as(windows.kept)[windows.kept]
        for side, stream in enumerate(windows.stream):
            if side == len(sides):
                sides.append({name: _Sums() for name in (*dictionaries, *codes)})
            rows = stream[windows.kept].float()
            for name, sums in sides[side].items():
                activations = dictionaries[name].encode(rows) if name in dictionaries else None
                rebuilt = codes[name](rows) if activations is None else dictionaries[name].decode(activations)
                sums.update(_told(rows, m, rebuilt, activations), document, activations)
    return [{name: sums.answer() for name, sums in side.items()} for side in sides]


def _told(rows: Tensor, centre: Tensor, rebuilt: Tensor, activations: Tensor | None) -> Tensor:
    active = torch.zeros(len(rows)) if activations is None else (activations > 0).sum(dim=-1)
    return torch.stack(
        [
            torch.ones(len(rows)),
            (rows - centre).square().sum(dim=-1),
            (rows - rebuilt).square().sum(dim=-1),
            active,
        ],
        dim=1,
    ).double()


def explained_variance(sums: Array) -> float:
    """1 - sum |h - h'|^2 / sum |h - m|^2, with m the mean of the rows that training began with.

    Args:
        sums: (documents, 4) of :class:`Explained`, or draws of its rows.

    Returns:
        At most 1; 0 says that the mean does as well.

    Examples:
        >>> explained_variance(np.array([[10.0, 4.0, 1.0, 30.0], [10.0, 4.0, 1.0, 50.0]]))
        0.75
    """
    _, spread, missed, _ = sums.sum(axis=0)
    return float(1.0 - missed / spread)


def active_features(sums: Array) -> float:
    """Mean number of active features, L0.

    Examples:
        >>> active_features(np.array([[10.0, 4.0, 1.0, 30.0], [10.0, 4.0, 1.0, 50.0]]))
        4.0
    """
    n, _, _, active = sums.sum(axis=0)
    return float(active / n)


def spliced_losses(
    model: nn.Module, layer: int, codes: Iterable[Code], found: Iterable[Windows]
) -> tuple[Array, NDArray[np.int64]]:
    """Let a model read with its stream after one block replaced by what a code makes of it.

    Args:
        model: a causal language model, in the state that is asked about.
        layer: the block.
        codes: functions of rows (n, d) to rows (n, d). Attention sinks and padding are left as they are.
        found: windows that were read before.

    Returns:
        (documents, 1 + codes) summed next-token losses in nats, the untouched model first, and (documents,) the
        number of predicted tokens.
    """
    codes = list(codes)
    losses: dict[int, Array] = {}
    counts: dict[int, int] = {}
    for windows in found:
        told = torch.stack([_losses(model, layer, code, windows) for code in (None, *codes)])
        predicted = windows.batch.attention_mask[:, 1:].sum(dim=1)
        for row, number in enumerate(windows.document.tolist()):
            losses[number] = losses.get(number, 0.0) + told[:, row].double().numpy()
            counts[number] = counts.get(number, 0) + int(predicted[row])
    order = sorted(losses)
    return np.array([losses[number] for number in order]), np.array([counts[number] for number in order])


def recovered_loss(losses: Array) -> float:
    """(L_mean - L_code) / (L_mean - L): share of what the stream is worth to the model that a code keeps.

    Args:
        losses: (documents, 3): the untouched model, the code, and the mean row at every token.

    Returns:
        At most 1 where the code does not help; 0 says that it is worth no more than the mean row.

    Examples:
        >>> recovered_loss(np.array([[1.0, 2.0, 6.0], [1.0, 1.0, 4.0]]))
        0.875
    """
    whole, code, mean = losses.sum(axis=0)
    return float((mean - code) / (mean - whole))


def _losses(model: nn.Module, layer: int, code: Code | None, windows: Windows) -> Tensor:
    """Next-token loss of each window, summed over its tokens, (B,)."""

    def replaced(stream: Tensor) -> Tensor:
        assert code is not None
        out = stream.clone()
        out[windows.kept] = code(stream[windows.kept].float().cpu()).to(out)
        return out

    with torch.inference_mode(), edited_stream(model, {} if code is None else {layer: replaced}):
        logits = model(**model_inputs(model, windows.batch), use_cache=False).logits[:, :-1].cpu()
    target = windows.ids[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), target, reduction="none")
    return (losses * windows.batch.attention_mask[:, 1:]).sum(dim=1)
