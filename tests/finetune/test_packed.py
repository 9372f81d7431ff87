"""Answers that share a prompt read it once, and nobody sees what is not theirs."""

from __future__ import annotations

import torch

from finetune.packed import packed_batches
from finetune.prompts import IGNORED

ROWS = [
    ([5, 6, 7], [IGNORED, IGNORED, 7]),
    ([9, 8, 3, 2], [IGNORED, 8, 3, 2]),
    ([5, 6, 4, 3], [IGNORED, IGNORED, 4, 3]),
]


def test_a_packed_row_is_a_prompt_with_its_answers_behind_each_other(tiny_llama):
    (batch,) = packed_batches(tiny_llama.model, ROWS, 1, tokens=100)
    assert batch.inputs["input_ids"].tolist() == [[5, 6, 7, 4, 3], [9, 8, 3, 2, 1]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 2, 3], [0, 1, 2, 3, 0]]
    predictions = zip(*(t.tolist() for t in (batch.question, batch.row, batch.at, batch.target)), strict=True)
    assert sorted(predictions) == [
        (0, 0, 1, 7), (1, 1, 0, 8), (1, 1, 1, 3), (1, 1, 2, 2), (2, 0, 1, 4), (2, 0, 3, 3),
    ]  # fmt: skip
    seen = batch.inputs["attention_mask"][:, 0] == 0
    assert seen[0].int().tolist() == [
        [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1],
    ]  # fmt: skip
    assert seen[1, 4].int().tolist() == [1, 0, 0, 0, 1] or not seen[1, :4, 4].any()


def test_small_batches_hold_every_question_once(tiny_llama):
    batches = list(packed_batches(tiny_llama.model, ROWS, 1, tokens=1))
    assert [len(b.inputs["input_ids"]) for b in batches] == [1, 1]
    assert sorted(torch.cat([b.question for b in batches]).unique().tolist()) == [0, 1, 2]


def test_where_attention_does_not_reach_every_question_has_its_own_row(tiny_llama):
    tiny_llama.model.config.sliding_window = 4
    (batch,) = packed_batches(tiny_llama.model, ROWS, 1, tokens=100)
    assert "position_ids" in batch.inputs
    tiny_llama.model.config.sliding_window = 3
    (batch,) = packed_batches(tiny_llama.model, ROWS, 1, tokens=100)
    assert set(batch.inputs) == {"input_ids", "attention_mask"}
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch.target.tolist() == [8, 3, 2, 4, 3, 7]
