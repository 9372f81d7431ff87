"""Questions that share a prompt read it once: rows in which several answers follow the same beginning.

A model that is asked for the likelihood of four answers after one prompt need not read the prompt four times. In a
packed row the answers stand behind each other; each sees the prompt and itself, and its positions go on from the
prompt's, so every token computes what it computes in a row of its own.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from finetune.prompts import IGNORED
from geometry.live.anatomy import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from finetune.causal import Row

    Group = tuple[list[int], list[tuple[int, list[int]]]]


@dataclass(frozen=True, eq=False)
class Packed:
    """A batch of questions, R rows of T tokens, and where their answers are predicted.

    Attributes:
        inputs: arguments of a forward pass: ``input_ids`` and, if rows are packed, ``position_ids``, (R, T), with
            an additive ``attention_mask`` (R, 1, T, T); else a mask (R, T).
        row, at: (N,) the row and the place that predict each answer token.
        target: (N,) the token that is to come there.
        question: (N,) the number of its question.
    """

    inputs: dict[str, Tensor]
    row: Tensor
    at: Tensor
    target: Tensor
    question: Tensor


def packed_batches(model: nn.Module, rows: Sequence[Row], pad: int, *, tokens: int) -> Iterator[Packed]:
    """Pack questions into batches, longest rows first.

    Rows are shared where the model takes positions and a mask of any shape, and its attention reaches as far as the
    longest question; elsewhere every question has a row of its own, which gives the same numbers for more work.

    Args:
        model: a causal language model, with or without an adapter.
        rows: ids and labels of each question, its prompt unlabelled, see :func:`finetune.facts.question_rows`.
        pad: id to fill short rows with.
        tokens: most tokens of a batch; one row alone may need more.

    Yields:
        Batches that cover every question once, on the model's device.
    """
    shared = _can_share(model, max(len(ids) for ids, _ in rows))
    groups: dict[object, Group] = {}
    for number, (ids, labels) in enumerate(rows):
        start = sum(label == IGNORED for label in labels)
        key = tuple(ids[:start]) if shared else number
        groups.setdefault(key, (ids[:start], []))[1].append((number, ids[start:]))
    order = sorted(groups.values(), key=_length, reverse=True)
    while order:
        size = max(1, tokens // _length(order[0]))
        part, order = order[:size], order[size:]
        yield _packed(part, pad, unwrapped(model), shared=shared)


def _can_share(model: nn.Module, longest: int) -> bool:
    bare = unwrapped(model)
    config = bare.config.get_text_config(decoder=True)
    reach = getattr(config, "sliding_window", None)
    takes_positions = "position_ids" in inspect.signature(bare.forward).parameters
    any_mask = bare.config._attn_implementation in {"sdpa", "eager"}
    return takes_positions and any_mask and (reach is None or longest <= reach)


def _length(group: Group) -> int:
    prompt, answers = group
    return len(prompt) + sum(len(answer) for _, answer in answers)


def _packed(groups: Sequence[Group], pad: int, model: nn.Module, *, shared: bool) -> Packed:
    shape = (len(groups), _length(groups[0]))
    ids, positions = torch.full(shape, pad), torch.zeros(shape, dtype=torch.long)
    branch = torch.full(shape, -1)  # 0 in the prompt, 1, 2, ... in the answers, -1 at padding
    scored: list[tuple[int, int, int, int]] = []
    for row, (prompt, answers) in enumerate(groups):
        end = len(prompt)
        ids[row, :end], positions[row, :end], branch[row, :end] = torch.tensor(prompt), torch.arange(end), 0
        for number, (question, answer) in enumerate(answers, start=1):
            place = slice(end, end + len(answer))
            ids[row, place] = torch.tensor(answer)
            positions[row, place] = torch.arange(len(prompt), len(prompt) + len(answer))
            branch[row, place] = number
            predicts = [len(prompt) - 1, *range(end, end + len(answer) - 1)]
            scored += [(row, at, token, question) for at, token in zip(predicts, answer, strict=True)]
            end += len(answer)
    device = model.device
    inputs = {"input_ids": ids, "attention_mask": (branch >= 0).long()}
    if shared:
        inputs |= {"position_ids": positions, "attention_mask": _mask(branch, model.dtype)}
    row, at, target, question = torch.tensor(scored, device=device).T
    return Packed({name: tensor.to(device) for name, tensor in inputs.items()}, row, at, target, question)


def _mask(branch: Tensor, dtype: torch.dtype) -> Tensor:
    """What each token sees: the prompt and its own answer up to itself; padding sees itself, or it would see NaN."""
    width = branch.shape[1]
    reads, read = branch[:, :, None], branch[:, None, :]
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    seen = causal & (read >= 0) & ((read == 0) | (read == reads)) | torch.eye(width, dtype=torch.bool)
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]
