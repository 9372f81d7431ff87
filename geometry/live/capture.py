"""Texts become rows of the residual stream.

A loop over a corpus is three lines::

    for batch in token_batches(texts, loaded.tokenizer, max_length=loaded.max_length):
        with torch.inference_mode(), block_outputs(loaded.model, [0, 1]) as stream:
            loaded.model(**model_inputs(loaded.model, batch))
        rows = stream[1][batch.attention_mask.bool()]        # (tokens, d), padding dropped

Sites are block *outputs*, before the final norm. The host library's ``hidden_states[-1]`` is after it.
"""

from __future__ import annotations

import inspect
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from geometry.checks import DataError, LayerError
from geometry.live.anatomy import blocks, first_position, unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

EMBEDDING = -1
"""The layer number of the embedding output, which is the input of block 0."""

SINK_RATIO = 10.0
"""How many times the median norm of its text a token needs to be called a sink."""

_TOKENISED_AT_ONCE = 1024


@dataclass(frozen=True)
class Batch:
    """Texts of about the same length, padded on the right.

    Attributes:
        input_ids: (B, T) token ids; T is the length of the longest text in the batch.
        attention_mask: (B, T), 1 at tokens and 0 at padding.
        position_ids: (B, T), counted from 0 in every row.
        text_index: (B,), which of the texts each row is.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    text_index: Tensor

    @property
    def n_tokens(self) -> int:
        """Tokens in it, padding not counted."""
        return int(self.attention_mask.sum())


@dataclass(frozen=True)
class Shortened:
    """Texts that fit, and which of them were cut to fit.

    Attributes:
        texts: as many as were handed in, in the same order.
        cut: indices of those that lost their end.
    """

    texts: tuple[str, ...]
    cut: tuple[int, ...]


def token_batches(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    batch_tokens: int = 4096,
) -> Iterator[Batch]:
    """Tokenise texts and hand them out in batches of similar length, longest first.

    The order depends on the texts alone: by length, equal lengths in the order given. Longest first, so a
    batch that is too big for the memory fails at once. Special tokens are those that the tokenizer adds
    by itself. Padding on the right with positions from 0 leaves the rows of causal models exactly what
    they are alone; encoders need the attention mask for that, see :func:`model_inputs`.

    Args:
        texts: any number of them, at least one.
        tokenizer: of the model that will read them.
        max_length: most tokens a text may have, special ones included; ``Loaded.max_length`` at most.
        batch_tokens: most tokens of a batch, padding included; one text alone may have more.

    Returns:
        An iterator that yields every text exactly once. Texts are checked before it is returned.

    Raises:
        DataError: no text at all; one without a token; one longer than `max_length` (see
            :func:`shorten`).
    """
    ids = _token_ids(texts, tokenizer)
    least = tokenizer.num_special_tokens_to_add()
    for index, row in enumerate(ids):
        if len(row) <= least or not texts[index].strip():
            raise DataError(f"text {index} is empty: leave it out")
        if len(row) > max_length:
            raise DataError(f"text {index} has {len(row)} tokens, more than {max_length}: shorten() cuts it")
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    order = sorted(range(len(ids)), key=lambda index: (-len(ids[index]), index))
    return (_padded(ids, chosen, padding) for chosen in _packs(ids, order, batch_tokens))


def shorten(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> Shortened:
    """Cut the texts that are longer than a model can read, at the end of a token, and say which.

    Args:
        texts: any number of them, at least one.
        tokenizer: of the model that will read them; it must report where its tokens are in the text.
        max_length: most tokens a text may have, special ones included.

    Returns:
        Texts that have at most `max_length` tokens when they are tokenised again.

    Raises:
        DataError: no text at all, no room for a single token, or a tokenizer that reports no offsets.
    """
    room = max_length - tokenizer.num_special_tokens_to_add()
    if room < 1:
        raise DataError(f"max_length {max_length} leaves no room for text beside the special tokens")
    cut = [index for index, row in enumerate(_token_ids(texts, tokenizer)) if len(row) > max_length]
    if cut and not tokenizer.is_fast:
        raise DataError("this tokenizer does not say where its tokens are: cut the texts before")
    shorter = list(texts)
    for index in cut:
        shorter[index] = _prefix(texts[index], tokenizer, room)
    return Shortened(tuple(shorter), tuple(cut))


def model_inputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The arguments of a forward pass over a batch, on the model's device.

    Args:
        model: as for :func:`~geometry.live.anatomy.blocks`.
        batch: of this model's tokenizer.

    Returns:
        ``input_ids``, ``attention_mask`` and, if the model takes them, ``position_ids``, counted from
        where the model starts to count (RoBERTa: one after its padding index).
    """
    inner = unwrapped(model)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if "position_ids" in inspect.signature(inner.forward).parameters:
        inputs["position_ids"] = batch.position_ids + first_position(inner)
    return {name: tensor.to(inner.device) for name, tensor in inputs.items()}


@contextmanager
def block_outputs(model: nn.Module, layers: Iterable[int]) -> Iterator[dict[int, Tensor]]:
    """Keep the residual stream after chosen blocks, anew at each forward pass.

    Args:
        model: as for :func:`~geometry.live.anatomy.blocks`; nothing about it changes, and the hooks are
            gone when the context ends, however it ends.
        layers: 0 to L-1 for the output of that block, :data:`EMBEDDING` (-1) for the input of block 0.

    Yields:
        layer -> tensor (B, T, d), in the model's dtype and device; empty before the first forward
        pass, and emptied when the next begins. The tensors are the model's own, with their graph if one
        is recorded, so do not write into them. Edits of the stream by hooks that were there before
        are in them; those of hooks added later are not.

    Raises:
        LayerError: a layer that the model does not have.
    """
    stack = blocks(model)
    wanted = _checked(layers, len(stack))
    kept: dict[int, Tensor] = {}

    def enter(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        kept.clear()
        if EMBEDDING in wanted:
            kept[EMBEDDING] = args[0] if args else options["hidden_states"]

    with ExitStack() as hooks:
        hooks.callback(stack[0].register_forward_pre_hook(enter, with_kwargs=True).remove)
        for layer in wanted - {EMBEDDING}:

            def leave(_: nn.Module, __: tuple[Any, ...], output: Any, layer: int = layer) -> None:
                kept[layer] = _stream(output)

            hooks.callback(stack[layer].register_forward_hook(leave).remove)
        yield kept


def sink_mask(norms: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Tell attention sinks from ordinary tokens.

    A sink is the first token of a text, or one whose norm is more than :data:`SINK_RATIO` times the
    median norm of its text at this layer (the massive activations of Sun et al. 2024, arXiv 2402.17762).
    The median is that of the text's own other tokens, so the answer does not depend on the batch.

    Args:
        norms: (B, T) Euclidean norms of the residual stream, one text per row from its first token on.
        attention_mask: (B, T), 0 at padding; None if there is none.

    Returns:
        (B, T) booleans, False at padding.

    Examples:
        >>> sink_mask(torch.tensor([[90.0, 1.0, 2.0, 1.0, 80.0], [3.0, 1.0, 1.0, 2.0, 1.0]]))
        tensor([[ True, False, False, False,  True],
                [ True, False, False, False, False]])
    """
    real = torch.ones_like(norms, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    others = norms.masked_fill(~real, torch.nan)
    others[:, 0] = torch.nan
    # a text of one token has no median; nothing is above NaN
    sinks = norms > SINK_RATIO * others.nanmedian(dim=1, keepdim=True).values
    sinks[:, 0] = True
    return sinks & real


def _stream(output: Any) -> Tensor:
    # blocks of transformers 5 return a tensor, older and remote code a tuple that begins with it
    return output[0] if isinstance(output, tuple) else output


def _checked(layers: Iterable[int], count: int) -> set[int]:
    wanted = set(layers)
    for layer in wanted:
        if layer not in range(EMBEDDING, count):
            raise LayerError(
                f"no layer {layer}: this model has 0 to {count - 1}, and {EMBEDDING} for the embedding output"
            )
    return wanted


def _token_ids(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    if isinstance(texts, str) or not len(texts):
        raise DataError("texts: expected a list of one text or more")
    ids: list[list[int]] = []
    for start in range(0, len(texts), _TOKENISED_AT_ONCE):
        part = list(texts[start : start + _TOKENISED_AT_ONCE])
        # verbose: the length is checked by whoever asked, in its own words
        ids += tokenizer(part, return_attention_mask=False, verbose=False)["input_ids"]
    return ids


def _packs(ids: list[list[int]], order: list[int], batch_tokens: int) -> Iterator[list[int]]:
    pack: list[int] = []
    for index in order:
        if pack and len(ids[pack[0]]) * (len(pack) + 1) > batch_tokens:
            yield pack
            pack = []
        pack.append(index)
    yield pack


def _padded(ids: list[list[int]], chosen: list[int], padding: int) -> Batch:
    lengths = torch.tensor([len(ids[index]) for index in chosen])
    positions = torch.arange(int(lengths.max())).expand(len(chosen), -1)
    mask = positions < lengths[:, None]
    input_ids = torch.full(positions.shape, padding)
    input_ids[mask] = torch.tensor([token for index in chosen for token in ids[index]])
    return Batch(input_ids, mask.long(), positions.contiguous(), torch.tensor(chosen))


def _prefix(text: str, tokenizer: PreTrainedTokenizerBase, room: int) -> str:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ends = [end for _, end in encoded["offset_mapping"]]
    for kept in range(room, 0, -1):
        shorter = text[: ends[kept - 1]]
        # the end of a text may be split into other tokens when it is no longer followed by the rest
        if len(tokenizer(shorter, add_special_tokens=False, verbose=False)["input_ids"]) <= room:
            return shorter
    raise DataError(f"no beginning of the text {text[:20]!r}... fits into {room} tokens")
