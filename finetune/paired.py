"""The same tokens through base, adapter and random adapters: rows to compare, batch by batch.

Nothing is kept from one batch to the next, so the memory of whoever consumes these rows decides how much
text can be read.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from finetune.adapter import ADAPTER, BASE, forward_together
from geometry.checks import DataError
from geometry.live.anatomy import unwrapped
from geometry.live.capture import block_outputs, model_inputs, sink_mask, token_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

    from finetune.adapter import Attached
    from finetune.pairs import Text


@dataclass(frozen=True)
class PairedBatch:
    """Rows of one batch at every chosen layer.

    Attributes:
        stream: layer -> (V, B, T, d) residual stream; sides in the order of the names asked for.
        ids: (B, T) token ids.
        chosen: (B, T), True where the token belongs to the answer (or to the text, if it has none).
        text_index: (B,) which text each row is.
        real: (B, T), False at padding.
    """

    stream: dict[int, torch.Tensor]
    ids: torch.Tensor
    chosen: torch.Tensor
    text_index: torch.Tensor
    real: torch.Tensor

    def sinks(self, layer: int) -> torch.Tensor:
        """(B, T) chosen tokens that are attention sinks of the base at this layer."""
        norms = self.stream[layer][0].float().norm(dim=-1)
        return sink_mask(norms, self.real) & self.chosen


def paired_batches(
    attached: Attached,
    texts: Sequence[Text],
    layers: Sequence[int],
    *,
    names: Sequence[str] = (BASE, ADAPTER),
    batch_tokens: int = 2048,
) -> Iterator[PairedBatch]:
    """Run texts through several sides of an attached adapter.

    Where a text has an answer, the chosen positions are those that predict its tokens: from the last
    token of the prompt on. That is where an adapter acts on what is written.

    Args:
        attached: the attached adapter.
        texts: what to read.
        layers: block outputs to keep, see :func:`geometry.live.capture.block_outputs`.
        names: sides, the base first.
        batch_tokens: most tokens of a batch, before it is repeated for each side.

    Yields:
        Batches in a fixed order that covers every text once.

    Raises:
        LayerError: a layer that the model does not have.
        DataError: a text that is empty, or longer than the model's context.
    """
    tokenizer = attached.loaded.tokenizer
    limit = attached.loaded.max_length
    _require_fit(texts, tokenizer, limit)
    starts = _answer_starts(texts, tokenizer)
    written = [text.text for text in texts]
    for batch in token_batches(written, tokenizer, max_length=limit, batch_tokens=batch_tokens):
        inputs = model_inputs(attached.model, batch)
        with torch.inference_mode(), block_outputs(attached.model, layers) as kept_outputs:
            stream = _all_sides(attached, inputs, names, kept_outputs)
        real = batch.attention_mask.bool()
        begin = torch.tensor([starts[i] for i in batch.text_index.tolist()])
        chosen = real & (torch.arange(real.shape[1]) >= begin[:, None])
        yield PairedBatch(stream, batch.input_ids, chosen, batch.text_index, real)


def _require_fit(texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase, limit: int) -> None:
    """Name the text that is too long; cutting it unasked would measure another text."""
    lengths = [len(ids) for ids in tokenizer([text.text for text in texts], verbose=False)["input_ids"]]
    for text, length in zip(texts, lengths, strict=True):
        if length > limit:
            raise DataError(
                f"text {text.id}: {length} tokens, but the context holds {limit}; cut it into shorter texts"
            )


def _all_sides(
    attached: Attached,
    inputs: dict[str, torch.Tensor],
    names: Sequence[str],
    kept: dict[int, torch.Tensor],
) -> dict[int, torch.Tensor]:
    """One forward for all sides, or one each where peft cannot mix them in a batch."""
    if attached.mixes:
        forward_together(attached.model, inputs, names, **_lean(attached))
        shape = (len(names), *inputs["input_ids"].shape)
        return {layer: rows.unflatten(0, shape[:2]).cpu() for layer, rows in kept.items()}
    sides = []
    for name in names:
        _one_side(attached, inputs, name)
        sides.append({layer: rows.cpu() for layer, rows in kept.items()})
    return {layer: torch.stack([side[layer] for side in sides]) for layer in sides[0]}


def _one_side(attached: Attached, inputs: dict[str, torch.Tensor], name: str) -> None:
    if name == BASE:
        with attached.model.disable_adapter():
            attached.model(**inputs, **_lean(attached))
        return
    attached.model.set_adapter(name)
    try:
        attached.model(**inputs, **_lean(attached))
    finally:
        attached.model.set_adapter(ADAPTER)


def _lean(attached: Attached) -> dict[str, Any]:
    """Leave out what nobody reads: caches, and the logits of all tokens but the last."""
    known = inspect.signature(unwrapped(attached.model).forward).parameters
    wanted = {"use_cache": False, "logits_to_keep": 1}
    return {name: value for name, value in wanted.items() if name in known}


def _answer_starts(texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Index of the token that predicts the first token of each answer; 0 without an answer."""
    prompts = [text.text[: text.answer_from] for text in texts]
    lengths = [len(ids) for ids in tokenizer([p or "." for p in prompts])["input_ids"]]
    return [length - 1 if prompt else 0 for prompt, length in zip(prompts, lengths, strict=True)]
