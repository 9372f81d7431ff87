"""Which heads look at the needle: attention from where the answer is written, read inside the forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from finetune.causal import evaluating
from finetune.needle_layout import token_ranges
from finetune.prompts import completion, token_spans
from geometry.focus import retrieval_score
from geometry.live.attention import AttentionProbe, Measure, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from finetune.needle_layout import Question

    Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NeedleAttention:
    """The attention of one prompt from its last token, which the answer's first token is predicted from.

    Arrays are (L, H), attention layers in the model's order.

    Attributes:
        mass: weight on the needles.
        log_odds: log(mass / rest), nats; minus infinity where a window hides the needles.
        value_mass: share of the needles in the sum of weights times value norms.
        signal: length of what the needles add to the head's output over that of the whole output, |o_R| / |o|.
        rivals: weight on rivals; None where there are none.
        sink: weight on the first tokens.
        entropy: over keys that are no sink, nats.
        retrieved: share of the answer's tokens before which a head looks most at the same token of the needle
            (the right answer is read, not written); None where the needle does not hold the answer's tokens.
        visible: (L,) keys that the row sees.
        needle_keys: (L,) those of the needles among them.
        rival_keys: (L,) those of rivals.
        layers: (L,) number of the block.
    """

    mass: Array
    log_odds: Array
    value_mass: Array
    signal: Array
    rivals: Array | None
    sink: Array
    entropy: Array
    retrieved: Array | None
    visible: Array
    needle_keys: Array
    rival_keys: Array | None
    layers: tuple[int, ...]


def needle_attention(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, question: Question
) -> NeedleAttention:
    """Read the attention of a prompt, followed by its right answer.

    Args:
        model: a causal language model of the attention interface, with or without an adapter.
        tokenizer: the model's own.
        question: a prompt with a needle in it.

    Returns:
        What the last token of the prompt looks at.

    Raises:
        DataError: a span does not survive tokenisation.
        ModelError: the model is off the attention interface.
    """
    asked, answer = token_spans(tokenizer, question.prompt, completion(question.answer))
    spans = token_ranges(
        tokenizer,
        question.prompt,
        {name: question.spans[name] for name in ("needle", "value", "rivals") if name in question.spans},
    )
    marked = {name: [list(spans[name])] for name in ("needle", "rivals") if name in spans}
    last = len(asked) - 1
    rows = Rows.at(range(last, last + len(answer)))
    ids = torch.tensor([asked + answer[:-1]], device=next(model.parameters()).device)
    measure = Measure(top=1, subsets=0, buckets=1, closer=True)
    with evaluating(model), AttentionProbe(model, rows=rows, spans=marked, measure=measure) as probe:
        model(input_ids=ids, use_cache=False)
    found = probe.answer()

    def at_last(name: str) -> Array:
        return found.stack(name)[:, 0, :, 0].astype(np.float64)

    rivals = "rivals" in marked
    return NeedleAttention(
        mass=at_last("needle.mass"),
        log_odds=at_last("needle.log_odds"),
        value_mass=at_last("needle.value_mass"),
        signal=np.stack([
            layer.closer.signal[0, :, 0, sorted(layer.groups).index("needle")] for layer in found.layers
        ]),
        rivals=at_last("rivals.mass") if rivals else None,
        sink=at_last("sink.mass"),
        entropy=at_last("sink.entropy_outside"),
        retrieved=_retrieved(found.stack("largest_key")[:, 0], asked, answer, spans.get("value", ())),
        visible=np.array([layer.visible[0, 0] for layer in found.layers], float),
        needle_keys=np.array([layer.groups["needle"].visible[0, 0] for layer in found.layers], float),
        rival_keys=(
            np.array([layer.groups["rivals"].visible[0, 0] for layer in found.layers], float)
            if rivals
            else None
        ),
        layers=tuple(layer.layer for layer in found.layers),
    )


def _retrieved(
    largest: NDArray[np.float32], asked: list[int], answer: list[int], values: tuple[tuple[int, int], ...]
) -> Array | None:
    """Score heads on the answer's last tokens that stand in the needle too; its first may be cut otherwise."""
    if len(values) != 1:
        return None
    first, end = values[0]
    same = 0
    while same < min(len(answer), end - first) and asked[end - 1 - same] == answer[-1 - same]:
        same += 1
    if not same:
        return None
    return retrieval_score(largest[..., len(answer) - same :], np.arange(end - same, end))
