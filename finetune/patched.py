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

:func:`patched_logits` runs every copy as rows of one batch beside base and adapted model.
:func:`finetune.patched_likelihoods.patched_likelihoods` gives the same numbers faster for many patches of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from finetune.adapter import ADAPTER, BASE, forward_together
from geometry.checks import AdapterError, ShapeError, rows
from geometry.live.intervene import edited_stream, project

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike
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
