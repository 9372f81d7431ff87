"""Write into the residual stream: an edit after a block, for as long as a context lasts.

::

    with edited_stream(model, {3: lambda stream: stream - project(stream, basis)}):
        logits = model(**inputs).logits        # block 4 and all later ones read the edited stream

What an edit may do is up to it; where it happens, that it is undone, and that no shape changes is ours.
Where many edits of one block are tried on the same texts, the blocks below need to run only once::

    with resumed_after(model, 3, edited):      # blocks 0 to 3 are skipped, block 4 reads ``edited``
        logits = model(**inputs).logits
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
        _require_block(layer, len(stack))
    with ExitStack() as hooks:
        for layer, edit in edits.items():
            hooks.callback(stack[layer].register_forward_hook(_writing(edit, layer)).remove)
        yield


@contextmanager
def resumed_after(model: nn.Module, layer: int, output: Any) -> Iterator[None]:
    """Enter a model in the middle: skip the blocks up to one, as if that one had answered as given.

    Args:
        model: as for :func:`geometry.live.anatomy.blocks`; it is as it was when the context ends, however it
            ends.
        layer: the last block that is skipped, 0 to L-1.
        output: its answer, in the form that the model's blocks have: the stream (B, T, d), or a tuple that
            begins with it. A forward pass inside must be over inputs of B rows and T tokens, without a cache.

    Yields:
        Nothing; run the model inside.

    Raises:
        LayerError: a block that the model does not have.
    """
    stack = blocks(model)
    _require_block(layer, len(stack))

    def given(*_: Any, **__: Any) -> Any:
        return output

    def untouched(stream: Tensor, *_: Any, **__: Any) -> Any:
        return (stream, *output[1:]) if isinstance(output, tuple) else stream

    with ExitStack() as restored:
        for i in range(layer + 1):
            stack[i].forward = given if i == layer else untouched
            restored.callback(delattr, stack[i], "forward")
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


def _require_block(layer: int, count: int) -> None:
    if layer not in range(count):
        raise LayerError(f"no layer {layer}: this model has 0 to {count - 1}")


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
