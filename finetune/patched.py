"""What would the model write if only a part of the adapter's change were there, or all but a part?

Base and adapted model read the same tokens as rows of one batch. Beside them run further copies, each with a
patch: at chosen blocks a part of the difference d = h_adapted - h_base is taken out of its residual stream, or
nothing but that part is put in. The content that the base has at the site is never touched.

=============== ============================== ====================== ==========================================
patch           the stream after the block     blocks above belong to asks
=============== ============================== ====================== ==========================================
`ablate_diff`   own - P (own - base)           the adapted model      is this part needed?
`zero_project`  own - P own                    the adapted model      the same, with the base's content gone too
`keep_only`     base + P (own - base)          the adapted model      is it enough, for the rest of the adapter?
`transplant`    own + P (adapted - own)        the base               is it enough, for the base alone?
`remove_mean`   own - m                        the adapted model      is one constant vector needed?
`keep_mean`     base + m                       the adapted model      is it enough?
`steer`         own + a m                      the base               does it steer the base?
=============== ============================== ====================== ==========================================

P = U U^T for a basis U of the block; "own" is the state of the patched copy itself, which at the first patched
block is still that of the model whose blocks it runs through. Patches act at all token positions. `zero_project` is
what ablations of a single model do, and there for comparison only.

Two ways to run them give the same numbers. :func:`patched_logits` has every copy as rows of one batch beside base
and adapted model. :func:`patched_likelihoods` runs these two once, keeps their streams at the patched blocks for
as long as a batch lasts, and enters the model above the first patch for each copy, which is what many patches of
the same block on the same texts need.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from finetune.adapter import ADAPTER, BASE, forward_together
from finetune.causal import evaluating, padding_id, right_padded
from finetune.facts import question_rows
from finetune.prompts import IGNORED
from geometry.checks import AdapterError, LayerError, ModelError, ShapeError, rows
from geometry.live.anatomy import blocks
from geometry.live.intervene import edited_stream, project, resumed_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from finetune.adapter import Attached

    Rewrite = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Patch:
    """A copy of the model with something written into its residual stream.

    Attributes:
        rewrites: block -> function of own, base and adapted state, each (B, T, d), to the new own state.
        blocks_of: whose blocks the copy runs through, ``BASE`` or ``ADAPTER``.
    """

    rewrites: Mapping[int, Rewrite]
    blocks_of: str


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


def ablate_diff(bases: Mapping[int, ArrayLike]) -> Patch:
    """Take a part of the change out of the adapted model.

    Args:
        bases: block -> orthonormal columns (d, k).

    Returns:
        The patch. At a single block with a basis of everything it gives the base's state there.

    Raises:
        ShapeError: a basis is not (d, k) with orthonormal columns.
    """

    def without(u: Tensor) -> Rewrite:
        return lambda own, base, _: own.double() - _part(own, base, u)

    return Patch({layer: without(u) for layer, u in _bases(bases).items()}, ADAPTER)


def zero_project(bases: Mapping[int, ArrayLike]) -> Patch:
    """Take a subspace out of the adapted model altogether, what the base has in it too.

    Args:
        bases: block -> orthonormal columns (d, k).

    Returns:
        The patch.

    Raises:
        ShapeError: a basis is not (d, k) with orthonormal columns.
    """

    def without(u: Tensor) -> Rewrite:
        return lambda own, _, __: own.double() - _part(own, torch.zeros_like(own), u)

    return Patch({layer: without(u) for layer, u in _bases(bases).items()}, ADAPTER)


def keep_only(bases: Mapping[int, ArrayLike]) -> Patch:
    """Keep nothing of the change but a part, with the adapted model's blocks above.

    Args:
        bases: block -> orthonormal columns (d, k).

    Returns:
        The patch. With a basis of everything it changes nothing.

    Raises:
        ShapeError: a basis is not (d, k) with orthonormal columns.
    """

    def nothing_but(u: Tensor) -> Rewrite:
        return lambda own, base, _: base.double() + _part(own, base, u)

    return Patch({layer: nothing_but(u) for layer, u in _bases(bases).items()}, ADAPTER)


def transplant(bases: Mapping[int, ArrayLike]) -> Patch:
    """Put a part of the change into the base, with the base's own blocks above.

    Args:
        bases: block -> orthonormal columns (d, k).

    Returns:
        The patch.

    Raises:
        ShapeError: a basis is not (d, k) with orthonormal columns.
    """

    def with_part(u: Tensor) -> Rewrite:
        return lambda own, _, adapted: own.double() + _part(adapted, own, u)

    return Patch({layer: with_part(u) for layer, u in _bases(bases).items()}, BASE)


def remove_mean(means: Mapping[int, ArrayLike]) -> Patch:
    """Take one constant vector (d,) a block out of the adapted model."""
    return Patch({layer: _adding(-m) for layer, m in _vectors(means).items()}, ADAPTER)


def keep_mean(means: Mapping[int, ArrayLike]) -> Patch:
    """Keep nothing of the change but one constant vector (d,) a block, with the adapted blocks above."""

    def nothing_but(mean: Tensor) -> Rewrite:
        return lambda _, base, __: base + _fitting(mean, base)

    return Patch({layer: nothing_but(m) for layer, m in _vectors(means).items()}, ADAPTER)


def steer(means: Mapping[int, ArrayLike], alpha: float) -> Patch:
    """Add ``alpha`` times one constant vector (d,) a block to the base, with its own blocks above."""
    return Patch({layer: _adding(alpha * m) for layer, m in _vectors(means).items()}, BASE)


def patched_logits(attached: Attached, batch: dict[str, Tensor], patches: Sequence[Patch]) -> Tensor:
    """Run texts through the base, the adapted model and patched copies in one forward pass.

    Args:
        attached: the attached adapter; the hooks are gone afterwards, also after an exception.
        batch: tensors of B rows: input_ids and attention_mask, padded on the right.
        patches: V of them; none gives base and adapted model alone.

    Returns:
        Logits (2 + V, B, T, vocabulary): base, adapted, then the patches in order.

    Raises:
        AdapterError: whole modules were trained, which cannot be mixed in a batch.
        LayerError: a block that the model does not have.
        ShapeError: a basis or mean of another width than the model's.
    """
    require_mixing(attached)
    names = (BASE, ADAPTER, *(patch.blocks_of for patch in patches))
    layers = sorted({layer for patch in patches for layer in patch.rewrites})
    edits = {layer: edit_of(patches, layer) for layer in layers}
    with edited_stream(attached.model, edits):
        out = forward_together(attached.model, batch, names)
    return out.logits.unflatten(0, (len(names), -1))


def patched_likelihoods(
    attached: Attached,
    questions: Sequence[tuple[str, str]],
    patches: Sequence[Patch],
    *,
    batch_tokens: int = 4096,
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
    asked = question_rows(attached.model, attached.loaded.tokenizer, questions)
    found = np.zeros((2, 2 + len(patches), len(asked)))
    order = sorted(range(len(asked)), key=lambda i: len(asked[i][0]), reverse=True)
    padding = padding_id(attached.loaded.tokenizer)
    with evaluating(attached.model):
        while order:
            size = max(1, batch_tokens // (min(_TOGETHER, 2 + len(patches)) * len(asked[order[0]][0])))
            chosen, order = order[:size], order[size:]
            batch = right_padded([asked[i] for i in chosen], padding, device=attached.loaded.device)
            found[:, :, chosen] = _Asked.of(attached, batch, patches).answered(
                attached, patches, batch_tokens
            )
    if not np.isfinite(found).all():
        raise ModelError("a log-likelihood is not finite; check the model and the adapter for NaN")
    tokens = np.array([sum(label != IGNORED for label in labels) for _, labels in asked])
    return Likelihoods(*found, tokens)


_TOGETHER = 8
"""Patched copies that a forward pass should have room for: fewer make it narrow, more make it padded."""


@dataclass(frozen=True, eq=False)
class _Asked:
    """One batch of questions, and what base and adapted model make of it.

    Attributes:
        inputs: input_ids and attention_mask, (B, T).
        labels: (B, T - 1) next tokens, unscored ones negative.
        streams: block -> (base, adapted) stream after it, (B, T, d); the touched blocks alone.
        form: what the blocks return beside the stream; None where they return the stream alone.
        logs: (2, N, vocabulary) log-probabilities at the N scored positions.
        likely: (N, vocabulary) probabilities of the base there.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    streams: dict[int, tuple[Tensor, Tensor]]
    form: tuple[Any, ...] | None
    logs: Tensor
    likely: Tensor

    @classmethod
    def of(cls, attached: Attached, batch: dict[str, Tensor], patches: Sequence[Patch]) -> Self:
        labels = batch.pop("labels")[:, 1:]
        layers = sorted({layer for patch in patches for layer in patch.rewrites})
        sides, logs = [], []
        for name in (BASE, ADAPTER):
            with _as(attached, name), _block_answers(attached, layers) as answers:
                logs.append(_scored(attached, batch, labels))
            sides.append(dict(answers))
        streams = {layer: tuple(_stream(side[layer]) for side in sides) for layer in layers}
        first = sides[0][layers[0]] if layers else None
        form = first[1:] if isinstance(first, tuple) else None
        return cls(batch, labels, streams, form, torch.cat(logs), logs[0][0].exp())

    def answered(self, attached: Attached, patches: Sequence[Patch], most: int) -> NDArray[np.float64]:
        """Log-likelihoods and divergences of every copy, (2, 2 + V, B)."""
        size = max(1, most // self.inputs["input_ids"].numel())
        found = np.zeros((2, 2 + len(patches), len(self.labels)))
        found[:, :2] = self._sums(self.logs)
        alike: dict[tuple[int, str], list[int]] = {}
        for i, patch in enumerate(patches):
            alike.setdefault((min(patch.rewrites), patch.blocks_of), []).append(i)
        for (layer, name), members in alike.items():
            for start in range(0, len(members), size):
                some = members[start : start + size]
                logs = self._resumed(attached, [patches[i] for i in some], layer, name)
                found[:, [2 + i for i in some]] = self._sums(logs)
        return found

    def _resumed(self, attached: Attached, patches: Sequence[Patch], layer: int, name: str) -> Tensor:
        """Run copies that are alike up to a block from there on."""
        own = self.streams[layer][(BASE, ADAPTER).index(name)]
        start = torch.cat([self._rewritten(patch, layer, own) for patch in patches])
        output = start if self.form is None else (start, *self.form)
        above = sorted({i for patch in patches for i in patch.rewrites if i > layer})
        edits = {i: self._edit(patches, i) for i in above}
        inputs = {key: value.repeat(len(patches), 1) for key, value in self.inputs.items()}
        model = attached.model
        with _as(attached, name), resumed_after(model, layer, output), edited_stream(model, edits):
            return _scored(attached, inputs, self.labels)

    def _edit(self, patches: Sequence[Patch], layer: int) -> Callable[[Tensor], Tensor]:
        def edit(stream: Tensor) -> Tensor:
            copies = stream.unflatten(0, (len(patches), -1))
            return torch.cat([
                self._rewritten(p, layer, own) if layer in p.rewrites else own
                for p, own in zip(patches, copies, strict=True)
            ])

        return edit

    def _rewritten(self, patch: Patch, layer: int, own: Tensor) -> Tensor:
        return patch.rewrites[layer](own, *self.streams[layer]).to(own.dtype)

    def _sums(self, logs: Tensor) -> NDArray[np.float64]:
        """Summed over the scored positions of each text, (2, copies, B)."""
        scored = self.labels != IGNORED
        picked = self.labels[scored][None, :, None].expand(len(logs), -1, 1)
        likely = logs.gather(-1, picked)[..., 0]
        divergence = torch.stack([torch.linalg.vecdot(self.likely, self.logs[0] - one) for one in logs])
        both = torch.stack([likely, divergence]).double()
        sums = both.new_zeros((2, len(logs), len(self.labels)))
        return sums.index_add(2, scored.nonzero()[:, 0], both).cpu().numpy()


def _scored(attached: Attached, inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
    """Log-probabilities of all tokens at the scored positions of every copy, (copies, N, vocabulary)."""
    scored = labels != IGNORED
    copies = len(inputs["input_ids"]) // len(labels)

    def choose(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # the head is as dear as two blocks, and most positions are not asked for
        stream, *rest = args
        return (stream.unflatten(0, (copies, -1))[:, :, :-1][:, scored], *rest)

    hook = attached.model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        logits = attached.model(**inputs, use_cache=False).logits
    finally:
        hook.remove()
    return logits.float().log_softmax(dim=-1)


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


def edit_of(patches: Sequence[Patch], layer: int) -> Callable[[Tensor], Tensor]:
    """Make the edit of a whole stacked batch at one block: every copy's own rewrite, or none.

    Args:
        patches: V of them.
        layer: the block.

    Returns:
        A function of the stream of base, adapted model and copies, ((2 + V) * B, T, d), for
        :func:`geometry.live.intervene.edited_stream`.
    """

    def edit(stream: Tensor) -> Tensor:
        base, adapted, *copies = stream.unflatten(0, (2 + len(patches), -1))
        written = [
            patch.rewrites[layer](own, base, adapted).to(own.dtype) if layer in patch.rewrites else own
            for patch, own in zip(patches, copies, strict=True)
        ]
        return torch.cat([base, adapted, *written])

    return edit


def _adding(vector: Tensor) -> Rewrite:
    return lambda own, _, __: own + _fitting(vector, own)


def _part(a: Tensor, b: Tensor, basis: Tensor) -> Tensor:
    """P (a - b), in float64: float32 would round the difference of nearly equal states."""
    _require_width(basis, a)
    return project(a.double() - b.double(), basis)


def _fitting(mean: Tensor, stream: Tensor) -> Tensor:
    _require_width(mean, stream)
    return mean.to(stream)


def _require_width(part: Tensor, stream: Tensor) -> None:
    if len(part) != stream.shape[-1]:
        raise ShapeError(
            f"patch: made for a width of {len(part)}, but the model's is {stream.shape[-1]}; measure it anew"
        )


def _bases(bases: Mapping[int, ArrayLike]) -> dict[int, Tensor]:
    found = {}
    for layer, basis in bases.items():
        u = rows(basis, f"basis of layer {layer}")
        if np.abs(u.T @ u - np.eye(u.shape[1])).max(initial=0.0) > 1e-6:
            raise ShapeError(f"basis of layer {layer}: its columns are not orthonormal; see orthonormal()")
        # eigenvectors often come with their order reversed, which torch cannot view
        found[layer] = torch.from_numpy(u.copy() if min(u.strides, default=0) < 0 else u)
    return found


def _vectors(means: Mapping[int, ArrayLike]) -> dict[int, Tensor]:
    return {
        layer: torch.from_numpy(rows([mean], f"mean of layer {layer}")[0].copy())
        for layer, mean in means.items()
    }


def require_mixing(attached: Attached) -> None:
    """Refuse an adapter that peft cannot run beside its base as rows of one batch."""
    if not attached.mixes:
        raise AdapterError(
            f"{attached.folder}: trained whole modules or tokens, so base and adapter cannot be rows of one "
            "batch; train without modules_to_save and trainable_token_indices"
        )
