"""Every softmax attention of a forward pass, handed out as a :class:`Call`, with the model's output unchanged.

The way in is transformers' attention interface: for as long as :func:`attention_calls` lasts, an attention
function and a mask function are registered under a name of their own and the model dispatches to them. The
function returns what sdpa returns and then shows queries and keys to whoever asked. Models that do not
dispatch through the interface are refused.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from geometry.checks import ModelError
from geometry.live.anatomy import unwrapped
from geometry.live.attention_outputs import blockwise_output, dense_output
from geometry.live.attention_sight import (
    HIDDEN,
    NONE,
    SOME,
    GivenSight,
    LazySight,
    PlainSight,
    Sight,
    lazy_mask,
)
from geometry.live.quiet import quiet_transformers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NUMBER = itertools.count()


@dataclass(frozen=True)
class Call:
    """One attention of one layer: what it is computed from, nothing computed yet.

    Attributes:
        name: path of the attention module in the model.
        layer: its block, counted from 0.
        kind: ``full_attention``, ``sliding_attention``, ``chunked_attention`` or the model's own word.
        window: keys that a query of a windowed layer sees at most; None for full attention.
        query: (B, H, Tq, D), positions already in it.
        key: (B, Hkv, Tk, D).
        value: (B, Hkv, Tk, Dv).
        sight: which keys a query sees.
        scale: factor of the logits.
        softcap: c of c tanh(s / c), or None.
        sinks: (H,) learned logits of a key without a value, or None.
        bias: (B or 1, H or 1, Tq, Tk) added to the logits, or None.
    """

    name: str
    layer: int
    kind: str
    window: int | None
    query: Tensor = field(repr=False)
    key: Tensor = field(repr=False)
    value: Tensor = field(repr=False)
    sight: Sight = field(repr=False)
    scale: float
    softcap: float | None
    sinks: Tensor | None = field(repr=False)
    bias: Tensor | None = field(repr=False)

    @property
    def group(self) -> int:
        """Query heads that share a key head."""
        return self.query.shape[1] // self.key.shape[1]

    @property
    def n_keys(self) -> int:
        """Keys at hand, Tk."""
        return self.key.shape[2]

    def queries(self, item: int, heads: slice, rows: Tensor) -> Tensor:
        """(h, g * R, D) float32 queries of these key heads, scaled; ``rows`` are local indices."""
        first, last = heads.start * self.group, heads.stop * self.group
        start, stop = int(rows[0]), int(rows[-1]) + 1
        # neighbouring rows are a view; an index would first copy all queries
        mine = slice(start, stop) if stop - start == len(rows) else rows
        chosen = self.query[item, first:last, mine].float() * self.scale
        return chosen.reshape(heads.stop - heads.start, -1, chosen.shape[-1])

    def scores(self, queries: Tensor, item: int, heads: slice, start: int, stop: int) -> Tensor:
        """(h, g * R, K) logits of prepared queries on keys start to stop, before masks and biases."""
        keys = self.key[item, heads, start:stop].float()
        s = torch.bmm(queries, keys.transpose(1, 2))
        if self.softcap is not None:
            s.div_(self.softcap).tanh_().mul_(self.softcap)
        return s

    def part(self, item: int, heads: slice, rows: Tensor, start: int, stop: int) -> Part | None:
        """What masks and biases do to a tile; None if no row of it sees a key."""
        kind = self.sight.kind(rows, start, stop)
        if kind == NONE:
            return None
        seen = added = None
        if kind == SOME:
            seen = self._of(self.sight.seen(rows, start, stop), item, heads)
        if isinstance(self.sight, GivenSight):
            added = self._of(self.sight.added(rows, start, stop), item, heads)
        if self.bias is not None:
            bias = self._of(self.bias[:, :, rows, start:stop].float(), item, heads)
            added = bias if added is None else added + bias
        return Part(seen, added)

    def logits(self, item: int, heads: slice, rows: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Rows in one piece: (h, g, R, K) float32 logits, hidden keys far below, and (.., R, K) what is seen.

        Memory is that of the answer, so ask for few rows of a long context at a time.
        """
        s = self.scores(self.queries(item, heads, rows), item, heads, start, stop)
        s = s.unflatten(1, (self.group, len(rows)))
        seen = self._of(self.sight.seen(rows, start, stop), item, heads)
        part = self.part(item, heads, rows, start, stop)
        if part is not None and part.added is not None:
            s += part.added
        return s - HIDDEN * (~seen).float(), seen

    def _of(self, tensor: Tensor | None, item: int, heads: slice) -> Tensor | None:
        """The (h or 1, g or 1, R, K) part that concerns some key heads of one text."""
        if tensor is None:
            return None
        own = tensor[item if tensor.shape[0] > 1 else 0]
        if own.shape[0] == 1:
            return own[None]
        return own.unflatten(0, (-1, self.group))[heads]


@dataclass(frozen=True)
class Part:
    """What masks and biases do to a tile of logits.

    Attributes:
        seen: (h or 1, g or 1, R, K) booleans; None if every row sees every key.
        added: (h or 1, g or 1, R, K) biases; None if there are none.
    """

    seen: Tensor | None
    added: Tensor | None


@contextlib.contextmanager
def attention_calls(model: nn.Module, receive: Callable[[Call], None]) -> Iterator[None]:
    """Show every softmax attention of the model's forward passes to a function.

    Args:
        model: a transformers model in eval mode that dispatches through the attention interface, also
            inside a ``PeftModel``. It is borrowed: afterwards, also after an exception, its configuration
            and the registries of transformers are what they were.
        receive: is called once for each attention, in the order of the model, with tensors that are the
            model's own; it must not write into them. What it raises ends the forward pass.

    Yields:
        Nothing.

    Raises:
        ModelError: the model is in training mode, or computes its attention in its own way.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    inner = unwrapped(model)
    require_eval(model)
    names = {id(module): name for name, module in inner.named_modules()}
    own = f"repgeo-{next(_NUMBER)}"

    def attend(module: nn.Module, *args: Any, **options: Any) -> tuple[Tensor, None]:
        call, output = _attend(module, names.get(id(module), type(module).__name__), *args, **options)
        with torch.no_grad():
            receive(call)
        return output, None

    before = [(config, config._attn_implementation_internal) for config in model_configs(inner)]
    AttentionInterface.register(own, attend)
    AttentionMaskInterface.register(own, lazy_mask)
    try:
        _switch(inner, own)
        yield
    finally:
        for config, value in before:
            config._attn_implementation_internal = value
        AttentionInterface._global_mapping.pop(own, None)
        AttentionMaskInterface._global_mapping.pop(own, None)


def require_eval(model: nn.Module) -> None:
    """Refuse a model in training mode.

    Args:
        model: any.

    Raises:
        ModelError: it is in training mode, where dropout makes attention random.
    """
    if model.training:
        raise ModelError(f"{type(unwrapped(model)).__name__}: is in training mode; call .eval() first")


def model_configs(model: nn.Module) -> list[Any]:
    """Every configuration that says how some part of the model attends.

    Args:
        model: a transformers model.

    Returns:
        Configurations of the model, its submodels and their parts, each once.
    """
    from transformers import PreTrainedModel

    found = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}
    waiting = list(found.values())
    while waiting:
        config = waiting.pop()
        for key in config.sub_configs:
            inner = getattr(config, key, None)
            if inner is not None and id(inner) not in found:
                found[id(inner)] = inner
                waiting.append(inner)
    return list(found.values())


def _switch(model: Any, name: str) -> None:
    if model._can_set_attn_implementation():
        with quiet_transformers():
            model.set_attn_implementation(name)
    if model.config.get_text_config(decoder=True)._attn_implementation != name:
        raise ModelError(
            f"{type(model).__name__}: computes attention in its own code and not through transformers' attention "
            "interface; EagerAttentionProbe reads its weights one layer at a time"
        )


def _attend(
    module: nn.Module,
    name: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: LazySight | Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Call, Tensor]:
    """The call, and the output of the attention, (B, Tq, H, Dv)."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    call = _call(module, name, query, key, value, attention_mask, scaling, options)
    lazy = isinstance(attention_mask, LazySight)
    if call.softcap is not None or call.sinks is not None or (lazy and call.bias is not None):
        return call, dense_output(call)
    if lazy:
        return call, blockwise_output(call)
    options = {"dropout": dropout, "scaling": scaling, **options}
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return call, output


def _call(
    module: nn.Module,
    name: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: LazySight | Tensor | None,
    scaling: float | None,
    options: dict[str, Any],
) -> Call:
    layer = block_number(getattr(module, "layer_idx", None), name)
    window = options.get("sliding_window") or getattr(module, "sliding_window", None)
    if mask is None:
        key, value, sight = _plain(module, query, key, value, options.get("is_causal"))
    elif isinstance(mask, LazySight):
        sight = mask
    else:
        sight = GivenSight(mask, max(key.shape[2] - query.shape[2], 0))
    return Call(
        name, layer, _kind(module, layer, window), window, query.detach(), key.detach(), value.detach(), sight,
        query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        options.get("softcap"), options.get("s_aux"), options.get("position_bias"),
    )  # fmt: skip


def _plain(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, asked: bool | None
) -> tuple[Tensor, Tensor, PlainSight]:
    """What sdpa does without a mask: causal from the upper left, unless there is one query only."""
    n_queries, n_keys = query.shape[2], key.shape[2]
    causal = n_queries > 1 and (getattr(module, "is_causal", True) if asked is None else asked)
    if causal and n_keys > n_queries:
        # a static cache: the keys past the queries are not written yet
        key, value, n_keys = key[:, :, :n_queries], value[:, :, :n_queries], n_queries
    return key, value, PlainSight(causal, max(n_keys - n_queries, 0))


def block_number(stated: int | None, name: str) -> int:
    """Which block a module belongs to: by its own word, or by the first number in its path.

    Args:
        stated: what the module says, if it does.
        name: its path.

    Returns:
        The block, from 0.
    """
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    return int(stated) if stated is not None else numbers[0] if numbers else 0


def _kind(module: nn.Module, layer: int, window: int | None) -> str:
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    if kinds and layer < len(kinds):
        return kinds[layer]
    return "sliding_attention" if window else "full_attention"
