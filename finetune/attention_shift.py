"""What an adapter does to attention: the base and the adapted model on the same tokens, row by row.

    with attach(loaded, folder) as attached:
        shift = attention_shift(attached, batch)
    shift[0].kl                                      # (B, H, R) nats, layer 0

Where peft can mix adapters in a batch, both sides are rows of one forward pass and every layer is compared
and let go before the next one runs. An adapter of values and outputs alone leaves the attention of layer 0
exactly what it was: all numbers there are 0.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch

from finetune.adapter import ADAPTER, BASE, forward_together
from finetune.attention_passages import LAST_ROWS
from geometry.dispersion import distance_edges
from geometry.live.anatomy import unwrapped
from geometry.live.attention_calls import attention_calls
from geometry.live.attention_pairs import LayerShift, shift_between
from geometry.live.attention_request import Rows
from geometry.live.capture import Batch, model_inputs

if TYPE_CHECKING:
    from finetune.adapter import Attached
    from finetune.attention_passages import Passage
    from geometry.live.attention_calls import Call


def attention_shift(
    attached: Attached, batch: Batch, *, rows: Rows | None = None, name: str = ADAPTER
) -> tuple[LayerShift, ...]:
    """Compare the attention of an adapted model with that of its base.

    Args:
        attached: the attached adapter.
        batch: texts, from token 0 on.
        rows: which queries; by default 256 spaced logarithmically and the last 64. Rows of padding are
            compared as well: ``visible`` and the batch's mask tell them.
        name: which adapter on the model; another than the attached one must be one that peft can mix.

    Returns:
        One for each attention module, in the order of the model.

    Raises:
        ModelError: the model does not dispatch through the attention interface.
        DataError: rows beyond the texts.
    """
    inputs = model_inputs(attached.model, batch)
    length = batch.input_ids.shape[1]
    chosen = (rows or Rows.log(256) | Rows.last(64)).chosen(length, {})
    edges = distance_edges(length)
    known = inspect.signature(unwrapped(attached.model).forward).parameters
    lean = {name: value for name, value in {"use_cache": False, "logits_to_keep": 1}.items() if name in known}
    found: list[LayerShift] = []
    if attached.mixes:

        def receive(call: Call) -> None:
            found.append(shift_between(call, call, chosen, edges, stacked=True))

        with torch.inference_mode(), attention_calls(attached.model, receive):
            forward_together(attached.model, inputs, (BASE, name), **lean)
        return tuple(found)
    assert name == ADAPTER, f"{name}: random adapters are made of LoRA alone"
    # modules trained whole cannot be mixed: queries and keys of the base are kept, linear in the tokens
    kept: dict[str, Call] = {}
    model = attached.model
    keeping = attention_calls(model, lambda call: kept.update({call.name: call}))
    with torch.inference_mode(), model.disable_adapter(), keeping:
        model(**inputs, **lean)

    def receive_adapted(call: Call) -> None:
        found.append(shift_between(kept.pop(call.name), call, chosen, edges, stacked=False))

    with torch.inference_mode(), attention_calls(model, receive_adapted):
        model(**inputs, **lean)
    return tuple(found)


def passage_shift(
    attached: Attached, passage: Passage, length: int, *, name: str = ADAPTER
) -> tuple[LayerShift, ...]:
    """Compare the attention of a passage's last rows, see :func:`attention_shift`.

    Args:
        attached: the attached adapter.
        passage: as long as the length at least.
        length: tokens of the context.
        name: which adapter on the model.

    Returns:
        One for each attention module; B is 1 and R is :data:`finetune.attention_passages.LAST_ROWS` at most.
    """
    ids = torch.tensor([passage.ending(length)])
    batch = Batch(ids, torch.ones_like(ids), torch.arange(length)[None], torch.zeros(1, dtype=torch.long))
    return attention_shift(attached, batch, rows=Rows.last(min(LAST_ROWS, length)), name=name)
