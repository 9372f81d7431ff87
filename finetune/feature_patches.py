"""Features of a dictionary as patches: turned back to what the base has, scaled, or added."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from finetune.adapter import ADAPTER
from finetune.patched import Patch
from geometry.checks import LayerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from geometry.live.dictionary import Dictionary


def turn_back(dictionary: Dictionary, layer: int, features: Sequence[int]) -> Patch:
    """Give features of the adapted model the activations that the base has; what no feature tells stays adapted.

    Args:
        dictionary: of the stream after the block.
        layer: the block.
        features: which; none changes nothing.

    Returns:
        The patch: own + sum_i (a_i(base) - a_i(own)) f_i over the features.

    Raises:
        LayerError: a feature that the dictionary does not have.
    """
    chosen = _chosen(dictionary, features)

    def rewrite(own: Tensor, base: Tensor, _: Tensor) -> Tensor:
        gap = _activations(dictionary, base, chosen) - _activations(dictionary, own, chosen)
        return own + (gap @ dictionary.features[chosen]).to(own)

    return Patch({layer: rewrite}, ADAPTER)


def scale(
    dictionary: Dictionary, layer: int, features: Sequence[int], factor: float, *, blocks_of: str
) -> Patch:
    """Multiply features' activations: 0 takes them out, 1 changes nothing, more amplifies them.

    Args:
        dictionary: of the stream after the block.
        layer: the block.
        features: which.
        factor: what their activations are multiplied by; a feature that is not active stays so.
        blocks_of: the side, ``BASE`` or ``ADAPTER``.

    Returns:
        The patch: own + (factor - 1) sum_i a_i(own) f_i.

    Raises:
        LayerError: a feature that the dictionary does not have.
    """
    chosen = _chosen(dictionary, features)

    def rewrite(own: Tensor, _: Tensor, __: Tensor) -> Tensor:
        if factor == 1:
            return own
        told = (factor - 1.0) * _activations(dictionary, own, chosen) @ dictionary.features[chosen]
        return own + told.to(own)

    return Patch({layer: rewrite}, blocks_of)


def _chosen(dictionary: Dictionary, features: Sequence[int]) -> Tensor:
    for feature in features:
        if not 0 <= feature < dictionary.size:
            raise LayerError(f"no feature {feature}: this dictionary has 0 to {dictionary.size - 1}")
    return torch.tensor(list(features), dtype=torch.long)


def _activations(dictionary: Dictionary, stream: Tensor, chosen: Tensor) -> Tensor:
    """(B, T, chosen)."""
    flat = dictionary.encode(stream.reshape(-1, stream.shape[-1]).float())
    return flat[:, chosen].unflatten(0, stream.shape[:-1])
