"""What a feature might be: the tokens at which it is most active, and those that it makes likelier."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from geometry.checks import ModelError
from geometry.live.anatomy import final_norm

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from finetune.feature_rows import Windows
    from geometry.live.dictionary import Dictionary
    from geometry.live.models import Loaded

EXAMPLES = 20
"""Examples that are kept of each feature."""

AROUND = 10
"""Tokens before an example that are kept with it."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Where each feature is most active, the strongest first; memory does not grow with tokens.

    Attributes:
        activation: (size, EXAMPLES); 0 where a feature was active less often.
        tokens: (size, EXAMPLES, 1 + AROUND) token ids, that of the example last; -1 before the text begins.
    """

    activation: Tensor
    tokens: Tensor


def top_examples(found: Iterable[Windows], dictionary: Dictionary, side: int) -> Examples:
    """Find the tokens at which each feature is most active.

    Args:
        found: windows, read.
        dictionary: of their stream.
        side: which of their sides to look at.

    Returns:
        The examples.
    """
    best = torch.zeros(dictionary.size, EXAMPLES)
    tokens = torch.full((dictionary.size, EXAMPLES, 1 + AROUND), -1)
    for windows in found:
        activations = dictionary.encode(windows.stream[side][windows.kept].float())
        padded = torch.nn.functional.pad(windows.ids, (AROUND, 0), value=-1)
        context = padded.unfold(1, 1 + AROUND, 1)[windows.kept]
        value, at = activations.topk(min(EXAMPLES, len(activations)), dim=0)
        joined = torch.cat([best, value.T], dim=1)
        best, order = joined.topk(EXAMPLES, dim=1)
        both = torch.cat([tokens, context[at.T]], dim=1)
        tokens = both.gather(1, order[:, :, None].expand(-1, -1, 1 + AROUND))
    return Examples(best, tokens)


def active_at(examples: Examples, loaded: Loaded, features: Sequence[int], most: int = 4) -> list[str]:
    """Name the tokens that stand most often among a feature's strongest examples, with how often."""
    found = []
    for feature in features:
        seen = examples.tokens[feature, examples.activation[feature] > 0, -1].tolist()
        counts = Counter(loaded.tokenizer.decode([token]).strip() or "␣" for token in seen)
        found.append(", ".join(f"{word} ×{n}" if n > 1 else word for word, n in counts.most_common(most)))
    return found


def promoted(dictionary: Dictionary, loaded: Loaded, features: Sequence[int], most: int = 4) -> list[str]:
    """Name the tokens whose logits a feature raises most, by the naive lens: gain of the final norm, unembedding.

    Raises:
        ModelError: the model has no unembedding or no final norm.
    """
    norm, head = final_norm(loaded.model), loaded.model.get_output_embeddings()
    if norm is None or head is None:
        raise ModelError(f"{loaded.name}: has no final norm and unembedding to read features with")
    with torch.inference_mode():
        written = dictionary.features[list(features)] * norm.weight.float().cpu()
        logits = written @ head.weight.float().cpu().T
        top = logits.topk(most, dim=-1).indices
    return [", ".join(loaded.tokenizer.decode([t]).strip() or "␣" for t in row) for row in top.tolist()]
