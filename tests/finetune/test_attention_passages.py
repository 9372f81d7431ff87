"""Passages out of a corpus: whole documents first, and a shorter context is less of the same text."""

import numpy as np
import pytest
import torch

from finetune.attention_passages import Passage, passages, read_attention
from finetune.prompts import token_spans
from geometry.checks import DataError

DOCUMENTS = [f"The ship came home in the morning of day {i}. " * 8 for i in range(5)] + ["Short."] * 3


def test_a_passage_begins_where_a_document_begins_and_has_the_length_asked(tiny_tokenizer):
    found = passages(DOCUMENTS, tiny_tokenizer, 60, 3)
    assert [len(one.opening) + len(one.ids) for one in found] == [60] * 3
    assert [one.documents for one in found] == [1, 1, 1]
    for i, one in enumerate(found):
        assert list(one.ids) == token_spans(tiny_tokenizer, DOCUMENTS[i], "")[0][:60]


def test_short_documents_go_on_with_the_next_one(tiny_tokenizer):
    (one,) = passages(["Short."] * 40, tiny_tokenizer, 100, 1)
    assert one.documents > 5
    assert tiny_tokenizer.decode(one.ids).startswith("Short.\n\nShort.\n\nShort.")


def test_the_corpus_is_read_no_further_than_needed(tiny_tokenizer):
    def endless():
        yield from DOCUMENTS[:2]
        raise AssertionError("read on")

    assert len(passages(endless(), tiny_tokenizer, 60, 2)) == 2


def test_text_that_is_too_short_or_lengths_that_are_none_are_refused(tiny_tokenizer):
    with pytest.raises(DataError, match="the text is shorter than 5000 tokens"):
        passages(DOCUMENTS, tiny_tokenizer, 5000, 1)
    with pytest.raises(DataError, match="a passage needs 2 tokens"):
        passages(DOCUMENTS, tiny_tokenizer, 1, 1)


def test_a_shorter_context_ends_in_the_same_tokens():
    passage = Passage((9,), tuple(range(100, 120)), 1)
    assert passage.ending(21) == [9, *range(100, 120)]
    assert passage.ending(5) == [9, 116, 117, 118, 119]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_what_is_read_is_the_entropy_of_the_model_s_own_weights(architecture, fresh):
    loaded = fresh(architecture)
    (passage,) = passages(DOCUMENTS, loaded.tokenizer, 120, 1)
    answers = read_attention(loaded.model, passage, (64, 120), spaced=8)
    assert [answer.length for answer in answers] == [64, 120]
    loaded.model.set_attn_implementation("eager")
    for answer in answers:
        ids = torch.tensor([passage.ending(answer.length)])
        with torch.no_grad():
            weights = torch.stack(loaded.model(ids, output_attentions=True).attentions)[:, 0].double()
        entropy = -(weights * weights.clamp_min(1e-300).log()).sum(-1).numpy()
        np.testing.assert_allclose(
            answer.stack("entropy")[:, 0], entropy[:, :, answer.layers[0].rows], atol=2e-5
        )


def test_lengths_beyond_the_passage_or_the_position_table_are_refused(fresh):
    passage = Passage((), tuple(range(10, 210)), 1)
    with pytest.raises(DataError, match="the model has a table of 128 positions"):
        read_attention(fresh("gpt2").model, passage, (200,))
    with pytest.raises(DataError, match="the passage has 200 tokens"):
        read_attention(fresh("llama").model, passage, (201,))
