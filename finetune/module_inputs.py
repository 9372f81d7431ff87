"""What modules of a base read on texts: moments along a few directions, in one pass that keeps no rows."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geometry.checks import DataError, ModelError
from geometry.functional import Inputs
from geometry.live.capture import model_inputs, sink_mask, token_batches
from geometry.moments import Moments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from geometry.live.models import Loaded


def module_inputs(
    loaded: Loaded,
    bases: Mapping[str, NDArray[np.float64]],
    texts: Sequence[str],
    *,
    progress: Callable[[float], None],
    batch_tokens: int = 2048,
) -> dict[str, Inputs]:
    """Accumulate what modules of a base read, along given directions.

    All tokens of the texts count but attention sinks: the first of each text, and those whose input to the
    module is more than ten times as long as is usual in its text.

    Args:
        loaded: the base; borrowed, and unchanged afterwards.
        bases: name of a module -> orthonormal directions of its input, shape (in, m). The input of an
            embedding are the unit vectors of the vocabulary.
        texts: what to read, at least one.
        progress: is called with the share that is done.
        batch_tokens: most tokens of a batch.

    Returns:
        Name of the module -> moments of its input. The memory is that of the bases and of an (m, m) matrix
        for each module, whatever the number of texts.

    Raises:
        DataError: a text that is empty or too long, or texts that have nothing but sinks.
        ModelError: a module that does not read one row for each token, such as an expert.
    """
    readers = {name: _Reader(name, torch.from_numpy(basis)) for name, basis in bases.items()}
    modules = {name: loaded.model.get_submodule(name) for name in bases}
    # without the head, whose logits are large, unless an adapter changes the head itself
    inner = loaded.model.base_model
    run = inner if set(inner.modules()).issuperset(modules.values()) else loaded.model
    lean = {"use_cache": False} if "use_cache" in inspect.signature(run.forward).parameters else {}
    mask = torch.empty(0)

    def reading(reader: _Reader) -> Callable[..., None]:
        def read(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            reader.update(args[0] if args else next(iter(options.values())), mask)

        return read

    done = 0
    with ExitStack() as hooks:
        for name, module in modules.items():
            handle = module.register_forward_pre_hook(reading(readers[name]), with_kwargs=True)
            hooks.callback(handle.remove)
        for batch in token_batches(
            texts, loaded.tokenizer, max_length=loaded.max_length, batch_tokens=batch_tokens
        ):
            mask = batch.attention_mask.bool()
            with torch.inference_mode():
                run(**model_inputs(loaded.model, batch), **lean)
            done += len(batch.text_index)
            progress(done / len(texts))
    return {name: reader.answer() for name, reader in readers.items()}


@dataclass
class _Reader:
    """Moments of the input of one module."""

    name: str
    basis: Tensor
    squares: float = 0.0
    moments: Moments = field(init=False)

    def __post_init__(self) -> None:
        self.moments = Moments(self.basis.shape[1])

    def update(self, x: Tensor, mask: Tensor) -> None:
        """Take in the inputs at real tokens: (B, T, in), or (B, T) token ids of an embedding."""
        ids = not x.is_floating_point()
        if x.shape[:2] != mask.shape or x.ndim != (2 if ids else 3):
            raise ModelError(
                f"{self.name} reads {tuple(x.shape)}, not a row for each of {tuple(mask.shape)} tokens; "
                "leave out --texts, what it does on data cannot be told"
            )
        x = x.detach().cpu()
        norms = torch.ones(mask.shape) if ids else x.float().norm(dim=-1)
        kept = mask & ~sink_mask(norms, mask)
        if ids:
            self.squares += int(kept.sum())
            self.moments.update(self.basis[x[kept]].numpy())
        else:
            chosen = x[kept].double()
            self.squares += float(chosen.square().sum())
            self.moments.update((chosen @ self.basis).numpy())

    def answer(self) -> Inputs:
        n = int(self.moments.state()["n"])
        if n == 0:
            raise DataError(
                f"{self.name} has read no token that is not an attention sink; give longer texts, or an adapter "
                "of modules that run"
            )
        stats = self.moments.answer()
        second = stats.cov + np.outer(stats.mean, stats.mean)
        return Inputs(n, self.basis.numpy(), second, self.squares / n)
