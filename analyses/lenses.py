"""Three readings of what a change says about the next token: naive lens, linearised lens, and the true change.

A lens at a middle layer reads a state that later layers will still rewrite. How far it can be trusted is not an
opinion: it is its rank correlation with the change of the logits that really happens at the same tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.floors import against_rest
from finetune.readings import read_out, readout
from geometry.agreement import rank_correlation
from geometry.checks import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from finetune.adapter import Attached
    from finetune.pairs import Text
    from finetune.readings import Readings, Readout

    Array = NDArray[np.float64]

SHOWN = 8
"""Promoted and demoted tokens that are kept."""


def lenses(
    attached: Attached, groups: Mapping[str, Sequence[Text]], layers: Sequence[int], names: Sequence[str]
) -> dict[str, Any]:
    """Read the mean change of each group at each layer in three ways.

    Args:
        attached: the attached adapter.
        groups: name -> its texts.
        layers: blocks.
        names: the base, the adapter and the random adapters.

    Returns:
        JSON-able. ``readout_gap``, see :class:`finetune.readings.Readout`; ``groups``: for each its ``tokens`` and
        the ``true`` change with its most promoted and demoted tokens; ``layers``: a record for each group and
        layer with rank correlations over the vocabulary with the true change, ``naive`` and ``linear`` (null: the
        same for random adapters, each with its own truth) and ``base_state`` (the mean base state in place of the
        change); ``size``, |linear| / |true|; and the tokens of both lenses. For a model without a readout that
        both sides share, only ``left_out``, the reason.

    Raises:
        DataError: a text that is empty, or longer than the model's context.
        LayerError: a layer that the model does not have.
    """
    try:
        out = readout(attached)
    except ModelError as error:
        return {"left_out": str(error)}
    decode = attached.loaded.tokenizer.decode
    found: dict[str, Any] = {"readout_gap": out.gap, "groups": {}, "layers": []}
    for group, texts in groups.items():
        read = read_out(attached, texts, layers, out.norm, names=names)
        true = out.logits(read.true)
        spread = float(np.sqrt(np.mean(true[0] ** 2)))
        found["groups"][group] = {"tokens": read.n, "spread": spread, "true": _extremes(true[0], decode)}
        for layer in layers:
            found["layers"].append({
                "group": group,
                "layer": layer,
                **_record(read, layer, out, true, decode),
            })
    return found


def _record(read: Readings, layer: int, out: Readout, true: Array, decode: Any) -> dict[str, Any]:
    naive, linear = out.logits(out.normed(read.moved[layer])), out.logits(read.linear[layer])
    base = out.logits(out.normed(read.base[layer]))
    sizes = [_length(x) / _length(y) if _length(y) else None for x, y in zip(linear, true, strict=True)]
    return {
        "naive": against_rest([rank_correlation(x, y) for x, y in zip(naive, true, strict=True)]),
        "linear": against_rest([rank_correlation(x, y) for x, y in zip(linear, true, strict=True)]),
        "base_state": against_rest([rank_correlation(base, y) for y in true]),
        "size": against_rest(sizes),
        "tokens": {"naive": _extremes(naive[0], decode), "linear": _extremes(linear[0], decode)},
    }


def _length(logits: Array) -> float:
    return float(np.linalg.norm(logits))


def _extremes(logits: Array, decode: Any) -> dict[str, list[dict[str, Any]]]:
    """The tokens at both ends, the farthest first."""
    order = np.argsort(logits)
    return {
        side: [{"token": decode([int(i)]), "logit": float(logits[i])} for i in chosen]
        for side, chosen in (("up", order[::-1][:SHOWN]), ("down", order[:SHOWN]))
    }
