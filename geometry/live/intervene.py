"""Write into the residual stream: an edit after a block, for as long as a context lasts.

::

    with edited_stream(model, {3: lambda stream: stream - project(stream, basis)}):
        logits = model(**inputs).logits        # block 4 and all later ones read the edited stream

What an edit may do is up to it; where it happens, that it is undone, and that no shape changes is ours.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from geometry.checks import LayerError, ShapeError
from geometry.live.anatomy import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn

    Edit = Callable[[Tensor], Tensor]


@contextmanager
def edited_stream(model: nn.Module, edits: Mapping[int, Edit]) -> Iterator[None]:
    """Replace the residual stream after chosen blocks by an edit of it, at each forward pass.

    Args:
        model: as for :func:`geometry.live.anatomy.blocks`; nothing about it changes, and the hooks are gone
            when the context ends, however it ends.
        edits: block number, 0 to L-1 -> function from the block's output (B, T, d) to another tensor of that
            shape. It must not write into what it is given. Its answer may have any real dtype, such as the
            float64 of an exact projection, and enters the stream in the model's own.

    Yields:
        Nothing; run the model inside. Hooks that are added later, such as those of
        :func:`geometry.live.capture.block_outputs`, see the edited stream.

    Raises:
        LayerError: a block that the model does not have.
        ShapeError: during a forward pass, an edit that answers with another shape.
    """
    stack = blocks(model)
    for layer in edits:
        if layer not in range(len(stack)):
            raise LayerError(f"no layer {layer}: this model has 0 to {len(stack) - 1}")
    with ExitStack() as hooks:
        for layer, edit in edits.items():
            hooks.callback(stack[layer].register_forward_hook(_writing(edit, layer)).remove)
        yield


def project(rows: Tensor, basis: Tensor) -> Tensor:
    """The part of rows that lies in a subspace, U U^T x, in float64.

    Args:
        rows: (..., d).
        basis: orthonormal columns U, (d, k).

    Returns:
        (..., d) in float64, so that rows minus their projection onto everything is exactly 0.

    Examples:
        >>> import torch
        >>> project(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0], [0.0]]))
        tensor([[3., 0.]], dtype=torch.float64)
    """
    basis = basis.to(rows.device).double()
    return rows.double() @ basis @ basis.T


def _writing(edit: Edit, layer: int) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
    def write(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        # blocks of transformers 5 return a tensor, older and remote code a tuple that begins with it
        stream = output[0] if isinstance(output, tuple) else output
        edited = edit(stream)
        if edited.shape != stream.shape:
            raise ShapeError(
                f"edit of layer {layer}: expected {tuple(stream.shape)}, got {tuple(edited.shape)}; "
                "answer with a tensor of the shape that was given"
            )
        edited = edited.to(stream.dtype)
        return (edited, *output[1:]) if isinstance(output, tuple) else edited

    return write
