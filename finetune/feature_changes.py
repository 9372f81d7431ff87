"""What an adapter's change is in a dictionary: which features rise and fall, and how much of it no feature tells.

Base, adapter and random adapters read the same tokens. Each side's rows are encoded by themselves, and what is
compared is the codes: for one token the change d = h' - h is told by the features as sum_i (a_i(h') - a_i(h)) f_i.
A dictionary that describes both sides well need not describe their difference, which is small beside either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from finetune.paired import paired_batches
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from finetune.adapter import Attached
    from finetune.pairs import Text
    from finetune.plain_codes import Code
    from geometry.live.dictionary import Dictionary

    Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Changes:
    """Sums over the n tokens of one group of texts, for V sides beside the base and D documents.

    Attributes:
        n: tokens.
        risen: (V, size) activations less the base's, summed.
        energy: (V, size) the same squared, summed.
        fired: (1 + V, size) tokens at which each feature is active, the base first.
        size: (V, D) sum |d|^2.
        missed: (V, D) sum |d - told|^2.
        missed_by: code -> (V, D) the same for other codes.
    """

    n: int
    risen: Array
    energy: Array
    fired: Array
    size: Array
    missed: Array
    missed_by: dict[str, Array]

    @property
    def mean(self) -> Array:
        """(V, size) mean change of each feature's activation."""
        return self.risen / self.n


def feature_changes(
    attached: Attached,
    dictionary: Dictionary,
    layer: int,
    texts: Sequence[Text],
    *,
    names: Sequence[str],
    others: dict[str, Code],
) -> Changes:
    """Encode every side of the same tokens.

    Args:
        attached: the attached adapter.
        dictionary: of the stream after the block.
        layer: the block.
        texts: one group; where a text has an answer, the tokens that write it are read, see
            :func:`finetune.paired.paired_batches`. Attention sinks are left out.
        names: sides, the base first.
        others: further codes, rows (n, d) -> rebuilt rows (n, d), as floors.

    Returns:
        The sums.

    Raises:
        DataError: a text that is empty or too long, or no token to read.
        LayerError: a block that the model does not have.
    """
    number = {doc: i for i, doc in enumerate(dict.fromkeys(text.doc_id for text in texts))}
    document = torch.tensor([number[text.doc_id] for text in texts])
    beside = len(names) - 1
    sums = {
        key: np.zeros((beside, len(number))) for key in ("size", "missed", *(f"by {name}" for name in others))
    }
    risen, energy = (np.zeros((beside, dictionary.size)) for _ in range(2))
    fired, n = np.zeros((len(names), dictionary.size)), 0
    for batch in paired_batches(attached, texts, [layer], names=names):
        chosen = batch.chosen & ~batch.sinks(layer)
        rows = batch.stream[layer][:, chosen].float()
        own = document[batch.text_index][:, None].expand_as(chosen)[chosen]
        codes = torch.stack([dictionary.encode(side) for side in rows])
        moved, d = codes[1:] - codes[:1], (rows[1:] - rows[:1])
        missed = {"size": d, "missed": d - moved @ dictionary.features}
        for name, code in others.items():
            rebuilt = torch.stack([code(side) for side in rows])
            missed[f"by {name}"] = d - (rebuilt[1:] - rebuilt[:1])
        for key, rest in missed.items():
            np.add.at(sums[key].T, own.numpy(), rest.double().square().sum(dim=-1).T.numpy())
        risen += moved.double().sum(dim=1).numpy()
        energy += moved.double().square().sum(dim=1).numpy()
        fired += (codes > 0).sum(dim=1).numpy()
        n += rows.shape[1]
    if not n:
        raise DataError("no token to read beside attention sinks; give longer texts")
    missed_by = {name: sums[f"by {name}"] for name in others}
    return Changes(n, risen, energy, fired, sums["size"], sums["missed"], missed_by)


def explained_change(size: Array, missed: Array) -> Array:
    """1 - sum |d - told|^2 / sum |d|^2 for each side; negative where telling it is worse than silence.

    Args:
        size: (V, D) of :class:`Changes`, or draws of its documents.
        missed: the same.

    Examples:
        >>> explained_change(np.array([[4.0, 4.0]]), np.array([[1.0, 3.0]])).tolist()
        [0.5]
    """
    return 1.0 - missed.sum(axis=1) / size.sum(axis=1)


def carried_by(energy: Array) -> float:
    """Number of features that carry a change: the participation ratio (sum e)^2 / sum e^2 of their energies.

    Examples:
        >>> carried_by(np.array([1.0, 1.0, 0.0, 0.0]))
        2.0
    """
    return float(energy.sum() ** 2 / np.square(energy).sum())
