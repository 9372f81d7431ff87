"""How likely answers are under patched copies: many patches of the same blocks, on the same questions.

Base and adapted model read a batch once, and their streams at the patched blocks are kept for as long as the batch
lasts. Each copy then enters the model above its first patch, so what lies below is never run again, and the head
is asked at the places that predict an answer alone.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from finetune.adapter import ADAPTER, BASE
from finetune.causal import evaluating, padding_id
from finetune.facts import question_rows
from finetune.packed import packed_batches
from finetune.prompts import IGNORED
from geometry.checks import LayerError, ModelError
from geometry.live.anatomy import blocks
from geometry.live.intervene import edited_stream, resumed_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from finetune.adapter import Attached
    from finetune.packed import Packed
    from finetune.patched import Patch

_TOGETHER = 8
"""Patched copies that a forward pass should have room for: fewer make it narrow, more make it padded."""


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """Log-likelihoods of answers under the base, the adapted model and patched copies.

    Attributes:
        sums: (2 + V, n) nats, summed over the tokens of each answer; the base's row first, then the adapted
            model's, then one for each patch.
        divergences: (2 + V, n) nats, KL(base || copy) of the next token, summed over the positions that predict
            the tokens of each answer; 0 for the base.
        tokens: (n,) tokens of each answer.
    """

    sums: NDArray[np.float64]
    divergences: NDArray[np.float64]
    tokens: NDArray[np.int64]


def patched_likelihoods(
    attached: Attached,
    questions: Sequence[tuple[str, str]],
    patches: Sequence[Patch],
    *,
    batch_tokens: int = 2048,
) -> Likelihoods:
    """Ask base, adapted model and patched copies how likely answers are, teacher-forced.

    Args:
        attached: the attached adapter.
        questions: (prompt, answer) texts; a space is put between the two.
        patches: V of them.
        batch_tokens: most tokens of a forward pass, all copies together; one text alone may need more.

    Returns:
        The likelihoods, questions in order.

    Raises:
        DataError: a question is longer than the model's context.
        LayerError: a block that the model does not have.
        ModelError: not a causal language model, or a log-likelihood is not finite.
        ShapeError: a basis or mean of another width than the model's.
    """
    model, tokenizer = attached.model, attached.loaded.tokenizer
    asked = question_rows(model, tokenizer, questions)
    found = np.zeros((2, 2 + len(patches), len(asked)))
    room = max(1, batch_tokens // max(1, min(_TOGETHER, len(patches))))
    with evaluating(model):
        for batch in packed_batches(model, asked, padding_id(tokenizer), tokens=room):
            for copies, sums in _Read.of(attached, batch, patches).answered(attached, patches, batch_tokens):
                np.add.at(found, np.ix_([0, 1], copies, batch.question.cpu().numpy()), sums)
    if not np.isfinite(found).all():
        raise ModelError("a log-likelihood is not finite; check the model and the adapter for NaN")
    tokens = np.array([sum(label != IGNORED for label in labels) for _, labels in asked])
    return Likelihoods(*found, tokens)


@dataclass(frozen=True, eq=False)
class _Read:
    """What base and adapted model make of one batch.

    Attributes:
        batch: R rows of T tokens, and the N places that predict answers.
        streams: block -> (base, adapted) stream after it, (R, T, d); the patched blocks alone.
        form: what the blocks return beside the stream; None where they return the stream alone.
        logits: (2, N, vocabulary).
        likely: (N, vocabulary) probabilities of the base.
    """

    batch: Packed
    streams: dict[int, tuple[Tensor, Tensor]]
    form: tuple[Any, ...] | None
    logits: Tensor
    likely: Tensor

    @classmethod
    def of(cls, attached: Attached, batch: Packed, patches: Sequence[Patch]) -> Self:
        layers = sorted({layer for patch in patches for layer in patch.rewrites})
        sides, logits = [], []
        for name in (BASE, ADAPTER):
            with _as(attached, name), _block_answers(attached, layers) as answers:
                logits.append(asked_logits(attached, batch, 1))
            sides.append(dict(answers))
        streams = {layer: tuple(_stream(side[layer]) for side in sides) for layer in layers}
        first = sides[0][layers[0]] if layers else None
        form = first[1:] if isinstance(first, tuple) else None
        return cls(batch, streams, form, torch.cat(logits), logits[0][0].softmax(dim=-1))

    def answered(
        self, attached: Attached, patches: Sequence[Patch], most: int
    ) -> Iterator[tuple[list[int], NDArray[np.float64]]]:
        """Copies, and their log-likelihoods and divergences at each place, (2, copies, N)."""
        yield [0, 1], self._told(self.logits)
        size = max(1, most // self.batch.inputs["input_ids"].numel())
        alike: dict[tuple[int, str], list[int]] = {}
        for i, patch in enumerate(patches):
            alike.setdefault((min(patch.rewrites), patch.blocks_of), []).append(i)
        for (layer, name), members in alike.items():
            for start in range(0, len(members), size):
                some = members[start : start + size]
                logits = self._resumed(attached, [patches[i] for i in some], layer, name)
                yield [2 + i for i in some], self._told(logits)

    def _resumed(self, attached: Attached, patches: Sequence[Patch], layer: int, name: str) -> Tensor:
        """Run copies that are alike up to a block from there on."""
        own = self.streams[layer][(BASE, ADAPTER).index(name)]
        start = torch.cat([self._rewritten(patch, layer, own) for patch in patches])
        output = start if self.form is None else (start, *self.form)
        above = sorted({i for patch in patches for i in patch.rewrites if i > layer})
        edits = {i: self._edit(patches, i) for i in above}
        model = attached.model
        with _as(attached, name), resumed_after(model, layer, output), edited_stream(model, edits):
            return asked_logits(attached, self.batch, len(patches))

    def _edit(self, patches: Sequence[Patch], layer: int) -> Callable[[Tensor], Tensor]:
        def edit(stream: Tensor) -> Tensor:
            copies = stream.unflatten(0, (len(patches), -1))
            return torch.cat([
                self._rewritten(patch, layer, own) if layer in patch.rewrites else own
                for patch, own in zip(patches, copies, strict=True)
            ])

        return edit

    def _rewritten(self, patch: Patch, layer: int, own: Tensor) -> Tensor:
        return patch.rewrites[layer](own, *self.streams[layer]).to(own.dtype)

    def _told(self, logits: Tensor) -> NDArray[np.float64]:
        """Log-likelihood of each target and divergence from the base, in few passes over the vocabulary."""
        target = self.batch.target[None, :, None].expand(len(logits), -1, 1)
        total = logits.logsumexp(dim=-1)
        likely = logits.gather(-1, target)[..., 0] - total
        # sum p (log p - log q) with log q = logits - total
        crossed = total - torch.linalg.vecdot(self.likely, logits)
        own = self.logits[0].logsumexp(dim=-1) - torch.linalg.vecdot(self.likely, self.logits[0])
        return torch.stack([likely, crossed - own]).double().cpu().numpy()


def asked_logits(attached: Attached, batch: Packed, copies: int) -> Tensor:
    """Run a batch through copies of a model and ask the head at the places that predict answers alone.

    Args:
        attached: the attached adapter; copies differ by what hooks do to their rows.
        batch: R rows and the N places that predict answers.
        copies: the batch is repeated as often, row blocks in order.

    Returns:
        Logits (copies, N, vocabulary), float32.
    """

    def choose(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # the head is as dear as two blocks, and most places are not asked for
        stream, *rest = args
        return (stream.unflatten(0, (copies, -1))[:, batch.row, batch.at], *rest)

    inputs = {name: tensor.repeat(copies, *[1] * (tensor.ndim - 1)) for name, tensor in batch.inputs.items()}
    hook = attached.model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        logits = attached.model(**inputs, use_cache=False).logits
    finally:
        hook.remove()
    return logits.float()


@contextmanager
def _as(attached: Attached, name: str) -> Iterator[None]:
    """Run the model as one of the two sides."""
    with attached.model.disable_adapter() if name == BASE else nullcontext():
        yield


@contextmanager
def _block_answers(attached: Attached, layers: Sequence[int]) -> Iterator[dict[int, Any]]:
    """Keep what chosen blocks answer, in their own form."""
    stack = blocks(attached.model)
    answers: dict[int, Any] = {}
    with ExitStack() as hooks:
        for layer in layers:
            if layer not in range(len(stack)):
                raise LayerError(f"no layer {layer}: this model has 0 to {len(stack) - 1}")

            def leave(_: Any, __: Any, output: Any, layer: int = layer) -> None:
                answers[layer] = output

            hooks.callback(stack[layer].register_forward_hook(leave).remove)
        yield answers


def _stream(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
