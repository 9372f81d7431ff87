"""What would the model write if only a part of the adapter's change were there, or all but a part?

Base and adapted model read the same tokens as rows of one batch. Beside them run further copies, each with a
patch: at chosen blocks a part of the difference d = h_adapted - h_base is taken out of its residual stream, or
nothing but that part is put in. The content that the base has at the site is never touched.

=============== ============================== ====================== ==========================================
patch           the stream after the block     blocks above belong to asks
=============== ============================== ====================== ==========================================
`ablate_diff`   own - P (own - base)           the adapted model      is this part needed?
`keep_only`     base + P (own - base)          the adapted model      is it enough, for the rest of the adapter?
`transplant`    own + P (adapted - own)        the base               is it enough, for the base alone?
`remove_mean`   own - m                        the adapted model      is one constant vector needed?
`keep_mean`     base + m                       the adapted model      is it enough?
`steer`         own + a m                      the base               does it steer the base?
=============== ============================== ====================== ==========================================

P = U U^T for a basis U of the block; "own" is the state of the patched copy itself, which at the first patched
block is still that of the model whose blocks it runs through. Patches act at all token positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from finetune.adapter import ADAPTER, BASE, forward_together
from finetune.causal import evaluating, padding_id, right_padded
from finetune.facts import question_rows
from finetune.prompts import IGNORED
from geometry.checks import AdapterError, ModelError, ShapeError, rows
from geometry.live.intervene import edited_stream, project

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
        tokens: (n,) tokens of each answer.
    """

    sums: NDArray[np.float64]
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
    _require_mixing(attached)
    names = (BASE, ADAPTER, *(patch.blocks_of for patch in patches))
    layers = sorted({layer for patch in patches for layer in patch.rewrites})
    edits = {layer: _edit(patches, layer) for layer in layers}
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
        AdapterError: see :func:`patched_logits`.
        DataError: a question is longer than the model's context.
        LayerError: a block that the model does not have.
        ModelError: not a causal language model, or a log-likelihood is not finite.
        ShapeError: a basis or mean of another width than the model's.
    """
    asked = question_rows(attached.model, attached.loaded.tokenizer, questions)
    copies = 2 + len(patches)
    sums = np.zeros((copies, len(asked)))
    order = sorted(range(len(asked)), key=lambda i: len(asked[i][0]), reverse=True)
    padding = padding_id(attached.loaded.tokenizer)
    with evaluating(attached.model):
        while order:
            size = max(1, batch_tokens // (copies * len(asked[order[0]][0])))
            chosen, order = order[:size], order[size:]
            batch = right_padded([asked[i] for i in chosen], padding, device=attached.loaded.device)
            labels = batch.pop("labels")
            sums[:, chosen] = _summed(patched_logits(attached, batch, patches), labels)
    if not np.isfinite(sums).all():
        raise ModelError("a log-likelihood is not finite; check the model and the adapter for NaN")
    tokens = np.array([sum(label != IGNORED for label in labels) for _, labels in asked])
    return Likelihoods(sums, tokens)


def _summed(logits: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Log-probabilities of the labelled tokens, summed over each text, (copies, B)."""
    labels = labels[:, 1:]
    scored = labels != IGNORED
    chosen = logits[:, :, :-1][:, scored].float().log_softmax(dim=-1)
    picked = labels[scored][None, :, None].expand(len(logits), -1, 1)
    likely = chosen.gather(-1, picked)[..., 0].double()
    sums = likely.new_zeros((len(logits), len(labels)))
    return sums.index_add(1, scored.nonzero()[:, 0], likely).cpu().numpy()


def _edit(patches: Sequence[Patch], layer: int) -> Callable[[Tensor], Tensor]:
    """The edit of the whole stacked batch at one block: every copy's own rewrite, or none."""

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
        found[layer] = torch.from_numpy(u.copy())  # eigenvectors often come with their order reversed
    return found


def _vectors(means: Mapping[int, ArrayLike]) -> dict[int, Tensor]:
    return {
        layer: torch.from_numpy(rows([mean], f"mean of layer {layer}")[0].copy())
        for layer, mean in means.items()
    }


def _require_mixing(attached: Attached) -> None:
    if not attached.mixes:
        raise AdapterError(
            f"{attached.folder}: trained whole modules or tokens, so base and adapter cannot be rows of one "
            "batch; train without modules_to_save and trainable_token_indices"
        )
