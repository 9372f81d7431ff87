"""Switch the adapter's modules off in some blocks and leave them on in others.

A patch asks what a part of the change in the residual stream does; this asks which blocks' own modules make it.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from finetune.adapter import lora_layers
from geometry.checks import LayerError
from geometry.live.anatomy import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from peft.tuners.lora import LoraLayer
    from torch import Tensor

    from finetune.adapter import Attached


def modules_by_block(attached: Attached) -> dict[int | None, tuple[LoraLayer, ...]]:
    """List the adapted modules of each block.

    Args:
        attached: the attached adapter.

    Returns:
        Block -> its adapted modules, blocks without any left out. None stands for what lies outside the blocks,
        such as embeddings.
    """
    block_of = {id(m): i for i, block in enumerate(blocks(attached.model)) for m in block.modules()}
    found: dict[int | None, list[LoraLayer]] = {}
    for layer in lora_layers(attached.model).values():
        found.setdefault(block_of.get(id(layer)), []).append(layer)
    return {block: tuple(layers) for block, layers in found.items()}


@contextmanager
def without_modules(attached: Attached, layers: Collection[int | None]) -> Iterator[None]:
    """Switch the modules of some blocks off for as long as the context lasts.

    A switched-off module computes what the base's own does, whatever the variant (setting the scale of DoRA to 0
    would keep its magnitudes), and whatever is switched on and off by peft meanwhile.

    Args:
        attached: the attached adapter; all its modules are on again when the context ends, however it ends.
        layers: blocks, among those of :func:`modules_by_block`.

    Yields:
        Nothing; run ``attached.model`` inside.

    Raises:
        LayerError: a block without adapted modules.
    """
    modules = modules_by_block(attached)
    for layer in layers:
        if layer not in modules:
            raise LayerError(f"no adapted module in block {layer}: the adapter has some in {[*modules]}")
    with ExitStack() as restored:
        for module in (m for layer in layers for m in modules[layer]):
            module.forward = _as_base(module)
            restored.callback(delattr, module, "forward")
        yield


def _as_base(module: LoraLayer) -> Callable[..., Any]:
    def forward(x: Tensor, *args: Any, adapter_names: Any = None, **options: Any) -> Any:
        return module.base_layer(x, *args, **options)

    return forward
