"""Attention of models that compute it in their own code: from the weights, one layer at a time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from geometry.checks import ModelError
from geometry.live.anatomy import blocks, unwrapped
from geometry.live.attention_calls import Call, block_number, model_configs, require_eval
from geometry.live.attention_sight import HIDDEN, GivenSight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class WeightsCall(Call):
    """A call whose logits are the logarithms of finished weights, (B, H, Tq, Tk)."""

    @classmethod
    def of(cls, name: str, weights: Tensor) -> WeightsCall:
        """Dress up weights as a call; the value vectors are not known, so their norms are NaN.

        Args:
            name: path of the module.
            weights: (B, H, Tq, Tk), rows add to 1; a weight of 0 is a key that is not seen.

        Returns:
            What :func:`geometry.live.attention_tiles.read_rows` takes.
        """
        _, _, n_queries, n_keys = weights.shape
        query, key = weights[..., :1], weights[:, :, 0, :, None]
        sight = GivenSight(weights > 0, max(n_keys - n_queries, 0))
        value = torch.full((1, 1, 1, 1), torch.nan).expand(*key.shape[:2], n_keys, 1)
        call = cls(
            name, block_number(None, name), "full_attention", None, query, key, value.to(key.device), sight,
            1.0, None, None, None,
        )  # fmt: skip
        object.__setattr__(call, "_weights", weights)
        return call

    def queries(self, item: int, heads: slice, rows: Tensor) -> Tensor:
        """(h, R, Tk) logarithms of the weights."""
        chosen = self._weights[item, heads].index_select(1, rows).float()
        return chosen.log_().clamp_min_(-HIDDEN)

    def scores(self, queries: Tensor, item: int, heads: slice, start: int, stop: int) -> Tensor:
        """(h, R, K) of them, a copy."""
        return queries[..., start:stop].clone()


@contextlib.contextmanager
def eager_calls(model: nn.Module, receive: Callable[[Call], None]) -> Iterator[None]:
    """Show the attention weights of every layer to a function, and drop them before the next layer runs.

    Args:
        model: in eval mode, with attention modules that return (output, weights) when they are asked to.
            It is borrowed: afterwards, also after an exception, its hooks and configuration are what they were.
        receive: is called once for each attention.

    Yields:
        Nothing.

    Raises:
        ModelError: training mode; no attention module in the blocks; while the model runs, one that returns
            no weights.
    """
    inner = unwrapped(model)
    require_eval(model)
    names = {id(module): name for name, module in inner.named_modules()}
    before = [(config, config._attn_implementation_internal) for config in model_configs(inner)]

    def leave(module: nn.Module, _: Any, output: Any) -> Any:
        weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if not isinstance(weights, Tensor) or weights.ndim != 4:
            raise ModelError(
                f"{type(module).__name__}: returns no attention weights, so nothing can be measured"
            )
        with torch.no_grad():
            receive(WeightsCall.of(names[id(module)], weights.detach()))
        return (output[0], None, *output[2:])

    with contextlib.ExitStack() as hooks:
        for module in _attentions(inner):
            ask = _ask if "output_attentions" in module.forward.__code__.co_varnames else None
            if ask is not None:
                hooks.callback(module.register_forward_pre_hook(ask, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        try:
            for config, _ in before:
                config._attn_implementation_internal = "eager"
            yield
        finally:
            for config, value in before:
                config._attn_implementation_internal = value


def _ask(
    _: nn.Module, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, {**options, "output_attentions": True}


def _attentions(model: nn.Module) -> list[nn.Module]:
    """The innermost attention module of every block that has one."""
    found = []
    for block in blocks(model):
        named = [m for m in block.modules() if "Attention" in type(m).__name__]
        found += [
            m for m in named if not any(other is not m and other in set(m.modules()) for other in named)
        ]
    if not found:
        raise ModelError(f"{type(model).__name__}: no attention module in its blocks")
    return found
