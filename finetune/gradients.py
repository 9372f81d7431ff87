"""Which part of a change can touch behaviour: gradients of a metric beside the differences an adapter makes.

For each question the metric m is differentiated with respect to the residual stream after each block, at the base's
own states and on the base's own weights: one backward pass for all blocks, no parameter has a gradient. Beside it
stands d, what the adapter adds to the same states. To first order the adapter changes m by sum_t grad_t . d_t.

Both answers of a question share their prompt, and a causal model sees the same states there; their gradients are
added, and such a state is counted once.
"""

from __future__ import annotations

import hashlib
import inspect
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finetune.adapter import ADAPTER, BASE, forward_together
from finetune.causal import evaluating, padding_id, require_causal, right_padded
from finetune.prompts import IGNORED
from geometry.checks import AdapterError, DataError
from geometry.live.anatomy import unwrapped
from geometry.live.capture import block_outputs, sink_mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from finetune.adapter import Attached
    from finetune.contrasts import Contrast

    Array = NDArray[np.float64]

LOGITS = 2**25
"""Most logits of a forward pass, all sides counted; a single question may need more."""


@dataclass(frozen=True, eq=False)
class FirstOrder:
    """Gradients of a metric, and differences at the same states, for V sides beside the base and n questions.

    Moments are over states that can matter, attention sinks left out; effects are over all states.

    Attributes:
        states: layer -> number of states in the moments.
        gradient: layer -> (2, d, d) sums of grad grad^T over two halves of the documents.
        moved: layer -> (V, d, d) sums of d d^T.
        base: (n,) the metric of the base.
        change: (V, n) the true change of the metric.
        effect: layer -> (V, n) its change to first order, sum_t grad . d.
        along: layer -> (n, k) the part of the first side's effect that lies along each given direction u,
            sum_t (grad . u)(u . d).
    """

    states: dict[int, int]
    gradient: dict[int, Array]
    moved: dict[int, Array]
    base: Array
    change: Array
    effect: dict[int, Array]
    along: dict[int, Array]


def first_order(
    attached: Attached,
    contrasts: Sequence[Contrast],
    directions: Mapping[int, Array],
    *,
    names: Sequence[str] = (BASE, ADAPTER),
) -> FirstOrder:
    """Differentiate a metric at the base and put the adapter's differences beside it.

    Args:
        attached: the attached adapter; nothing of the model changes.
        contrasts: questions with two answers.
        directions: block -> orthonormal columns (d, k) to split the first side's effect along.
        names: the base, then the other sides.

    Returns:
        Moments of fixed size, and numbers for each question.

    Raises:
        AdapterError: whole modules were trained, which cannot be mixed in a batch.
        DataError: no question.
        LayerError: a block that the model does not have.
        ModelError: not a causal language model.
    """
    require_causal(attached.model)
    if not attached.mixes:
        raise AdapterError(
            f"{attached.folder}: trained whole modules or tokens, so base and adapter cannot be rows of one "
            "batch; train without modules_to_save and trainable_token_indices"
        )
    if not contrasts:
        raise DataError("gradients: no question to differentiate; give at least one")
    held = _Sums.of(attached.loaded.width, len(contrasts), len(names) - 1, directions)
    for chosen in _batches(attached, contrasts, len(names)):
        _take(attached, [contrasts[i] for i in chosen], chosen, directions, names, held)
    return held.answer()


@dataclass
class _Sums:
    """What grows while questions are read, in the shapes of :class:`FirstOrder`."""

    states: dict[int, int]
    gradient: dict[int, Array]
    moved: dict[int, Array]
    metric: Array
    effect: dict[int, Array]
    along: dict[int, Array]

    @classmethod
    def of(cls, d: int, n: int, sides: int, directions: Mapping[int, Array]) -> _Sums:
        return cls(
            states=dict.fromkeys(directions, 0),
            gradient={layer: np.zeros((2, d, d)) for layer in directions},
            moved={layer: np.zeros((sides, d, d)) for layer in directions},
            metric=np.zeros((1 + sides, n)),
            effect={layer: np.zeros((sides, n)) for layer in directions},
            along={layer: np.zeros((n, u.shape[1])) for layer, u in directions.items()},
        )

    def answer(self) -> FirstOrder:
        return FirstOrder(
            self.states,
            self.gradient,
            self.moved,
            self.metric[0],
            self.metric[1:] - self.metric[0],
            self.effect,
            self.along,
        )


def _batches(attached: Attached, contrasts: Sequence[Contrast], sides: int) -> Iterator[list[int]]:
    """Indices of questions of about one length, as many as a forward pass may hold."""
    most = LOGITS // (sides * unwrapped(attached.model).get_input_embeddings().weight.shape[0])
    lengths = [len(c.prompt) + max(len(c.better), len(c.worse)) for c in contrasts]
    order = sorted(range(len(contrasts)), key=lambda i: lengths[i], reverse=True)
    while order:
        size = max(1, most // (2 * lengths[order[0]]))
        yield order[:size]
        order = order[size:]


def _take(
    attached: Attached,
    questions: Sequence[Contrast],
    places: list[int],
    directions: Mapping[int, Array],
    names: Sequence[str],
    held: _Sums,
) -> None:
    """Read a batch of B questions, two rows each, the better answers' rows first."""
    rows = [
        (q.prompt, a) for answers in ("better", "worse") for q in questions for a in (getattr(q, answers),)
    ]
    encoded = [([*asked, *said], [IGNORED] * len(asked) + list(said)) for asked, said in rows]
    batch = right_padded(encoded, padding_id(attached.loaded.tokenizer), device=attached.loaded.device)
    labels = batch.pop("labels")
    signed = [q.weight_better for q in questions] + [-q.weight_worse for q in questions]
    weights = torch.tensor(signed, device=labels.device)
    shown = _last_logits(attached, labels)
    gradients, base = _differentiated(attached, batch | shown, labels, weights, list(directions))
    counts = _counted(batch["attention_mask"], [len(q.prompt) for q in questions])
    with evaluating(attached.model), block_outputs(attached.model, directions) as kept:
        logits = forward_together(attached.model, batch, names, **shown).logits.unflatten(0, (len(names), -1))
        streams = {layer: kept[layer].unflatten(0, (len(names), -1)) for layer in directions}
    metrics = torch.stack([_metric(side, labels, weights) for side in logits]).unflatten(1, (2, -1)).sum(1)
    held.metric[:, places] = metrics.double().cpu().numpy()
    held.metric[0, places] = base.unflatten(0, (2, -1)).sum(0).double().cpu().numpy()
    half = torch.tensor([_half_of(q.doc_id) for q in questions] * 2)
    for layer, u in directions.items():
        stream = streams[layer]
        moved = (stream[1:].double() - stream[:1].double()).cpu()
        grad = gradients[layer].double().cpu()
        held.effect[layer][:, places] = _by_question((grad * moved).sum(-1))
        axes = torch.from_numpy(np.ascontiguousarray(u))
        held.along[layer][places] = _by_question(((grad @ axes) * (moved[0] @ axes)).movedim(-1, 0)).T
        sinks = sink_mask(stream[0].float().norm(dim=-1), batch["attention_mask"]).cpu()
        _add_moments(held, layer, _once(grad, counts), moved, counts & ~sinks, half)


def _differentiated(
    attached: Attached, batch: dict[str, Any], labels: Tensor, weights: Tensor, layers: Sequence[int]
) -> tuple[dict[int, Tensor], Tensor]:
    """Gradients of the summed metric after each block of the base, and each row's part of the metric."""
    model = attached.model
    with (
        model.disable_adapter(),
        _recorded(unwrapped(model)),
        block_outputs(model, layers) as kept,
        torch.enable_grad(),
    ):
        found = _metric(model(**batch, use_cache=False).logits, labels, weights)
        gradients = torch.autograd.grad(found.sum(), [kept[layer] for layer in layers])
    return dict(zip(layers, gradients, strict=True)), found.detach()


def _last_logits(attached: Attached, labels: Tensor) -> dict[str, int]:
    """Leave out the logits before the first answer of a batch, where the model can."""
    if "logits_to_keep" not in inspect.signature(unwrapped(attached.model).forward).parameters:
        return {}
    first = int((labels != IGNORED).any(0).nonzero()[0])
    return {"logits_to_keep": labels.shape[1] - first + 1}


@contextmanager
def _recorded(model: nn.Module) -> Iterator[None]:
    """Let gradients flow from the embeddings on, whether or not a parameter wants one."""
    hook = model.get_input_embeddings().register_forward_hook(lambda _, __, out: out.requires_grad_())
    try:
        yield
    finally:
        hook.remove()


def _metric(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted log-likelihood of the labelled tokens of each row, (B,); logits may lack what comes before them."""
    following = labels[:, -logits.shape[1] :][:, 1:]
    scored = following != IGNORED
    likely = logits[:, :-1][scored].float().log_softmax(-1)
    likely = likely.gather(-1, following[scored][:, None])[:, 0]
    return weights * likely.new_zeros(len(labels)).index_add(0, scored.nonzero()[:, 0], likely)


def _counted(real: Tensor, prompts: Sequence[int]) -> Tensor:
    """(2B, T) the states that count once each and can matter: no padding, no last token, no prompt twice."""
    real = real.bool().cpu()
    position = torch.arange(real.shape[1])
    matter = position < real.sum(1, keepdim=True) - 1
    repeated = position < torch.tensor(prompts)[:, None]
    matter[len(prompts) :] &= ~repeated
    return matter


def _once(grad: Tensor, counts: Tensor) -> Tensor:
    """Move what the second row of a question has at the shared prompt to the first row."""
    better, worse = grad.chunk(2)
    shared = ~counts.chunk(2)[1][..., None]
    return torch.cat([better + worse * shared, worse * ~shared])


def _by_question(rows: Tensor) -> Array:
    """Sum (..., 2B, T) over positions and over both rows of each question: (..., B)."""
    return rows.sum(-1).unflatten(-1, (2, -1)).sum(-2).numpy()


def _add_moments(held: _Sums, layer: int, grad: Tensor, moved: Tensor, counts: Tensor, half: Tensor) -> None:
    held.states[layer] += int(counts.sum())
    for part in range(2):
        chosen = grad[counts & (half == part)[:, None]].numpy()
        held.gradient[layer][part] += chosen.T @ chosen
    for side, rows in enumerate(moved):
        chosen = rows[counts].numpy()
        held.moved[layer][side] += chosen.T @ chosen


def _half_of(document: str) -> int:
    return hashlib.sha256(document.encode()).digest()[0] & 1
