"""Every row is what its text alone gives, at the tokens that the item has; what cannot be found is named."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geometry.checks import DataError, ModelError
from geometry.live.capture import EMBEDDING, block_outputs
from geometry.live.item_states import (
    INPUT,
    ITEM_END,
    ITEM_MEAN,
    OUTPUT,
    SENTENCE,
    TEXT_END,
    Prompt,
    item_states,
    located,
    pooling_of,
    static_rows,
    untrained,
)

TEMPLATES = ("{}", "The king asked {} in the morning.", "it was {}")
ITEMS = ("January", "Monday", "New York", "x")


def one_by_one(loaded, template, item):
    """The slow obvious way: one text, its own offsets, no padding, no batch."""
    text = template.replace("{}", item)
    first = template.index("{}")
    cut = loaded.tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
    inside = [
        i for i, (a, b) in enumerate(cut["offset_mapping"][0].tolist()) if b > first and a < first + len(item)
    ]
    layers = [EMBEDDING, *range(loaded.n_layers)]
    with torch.inference_mode(), block_outputs(loaded.model, layers) as stream:
        loaded.model(input_ids=cut["input_ids"].to(loaded.device))
        rows = {layer: stream[layer][0].numpy() for layer in layers}
    return {
        ITEM_END: np.array([rows[layer][inside[-1]] for layer in layers]),
        ITEM_MEAN: np.array([rows[layer][inside].mean(axis=0) for layer in layers]),
        TEXT_END: np.array([rows[layer][-1] for layer in layers]),
    }


def test_rows_are_those_of_each_text_alone(tiny_models):
    found = item_states(tiny_models, TEMPLATES, ITEMS)
    assert found.layers == (-1, 0, 1, 2) and found.positions == (ITEM_END, ITEM_MEAN, TEXT_END)
    for t, template in enumerate(TEMPLATES):
        for i, item in enumerate(ITEMS):
            for position, rows in one_by_one(tiny_models, template, item).items():
                np.testing.assert_allclose(found.rows[position][:, t, i], rows, rtol=1e-4, atol=2e-5)


def test_batches_may_be_cut_anywhere(tiny_llama):
    whole = item_states(tiny_llama, TEMPLATES, ITEMS)
    told = []
    single = item_states(tiny_llama, TEMPLATES, ITEMS, batch_tokens=1, tell=told.append)
    for position in whole.positions:
        np.testing.assert_allclose(whole.rows[position], single.rows[position], rtol=1e-4, atol=2e-5)
    assert told[-1] == 1.0 and len(told) == len(TEMPLATES) * len(ITEMS)


def test_an_item_of_several_tokens_is_read_at_its_last_and_as_their_mean(tiny_llama):
    prompts = [Prompt.of("the old {} asked", "New York")]
    ((inside, last),) = located(prompts, tiny_llama)
    ids = tiny_llama.tokenizer(prompts[0].text)["input_ids"]
    assert len(inside) > 1 and inside == list(range(inside[0], inside[-1] + 1))
    assert tiny_llama.tokenizer.decode([ids[i] for i in inside]).strip() == "New York"
    assert last == len(ids) - 1
    found = item_states(tiny_llama, ["the old {} asked"], ["New York"])
    table = tiny_llama.model.get_input_embeddings().weight.detach().numpy()
    np.testing.assert_allclose(
        found.rows[ITEM_MEAN][0, 0, 0], table[[ids[i] for i in inside]].mean(0), rtol=1e-5
    )
    np.testing.assert_allclose(found.rows[ITEM_END][0, 0, 0], table[ids[inside[-1]]], rtol=1e-6)


def test_static_rows_are_rows_of_the_tables_and_tied_ones_are_given_once(tiny_llama, fresh):
    ids = [(5, 7), (9,)]
    found = static_rows(tiny_llama, ids)
    assert set(found) == {INPUT, OUTPUT}
    table = tiny_llama.model.get_output_embeddings().weight.detach().numpy()
    np.testing.assert_allclose(found[OUTPUT], [table[[5, 7]].mean(axis=0), table[9]], rtol=1e-6)
    assert set(static_rows(fresh("gpt2"), ids)) == {INPUT}


def test_an_untrained_model_has_the_architecture_and_none_of_the_weights(tiny_models):
    before = tiny_models.model.get_input_embeddings().weight.detach().clone()
    one, same, other = untrained(tiny_models, 0), untrained(tiny_models, 0), untrained(tiny_models, 1)
    a, b, c = (item_states(m, TEMPLATES, ITEMS).rows[ITEM_END] for m in (one, same, other))
    assert np.array_equal(a, b) and not np.allclose(a, c)
    assert not np.allclose(a, item_states(tiny_models, TEMPLATES, ITEMS).rows[ITEM_END])
    assert torch.equal(before, tiny_models.model.get_input_embeddings().weight)


@pytest.fixture
def sentence_model(fresh, tmp_path):
    def made(pooling, *more):
        loaded = fresh("bert")
        kinds = ["models.Transformer", "models.Pooling", *more]
        modules = [
            {"idx": i, "name": str(i), "path": "" if not i else f"{i}_{kind.rpartition('.')[-1]}",
             "type": f"sentence_transformers.{kind}"}
            for i, kind in enumerate(kinds)
        ]  # fmt: skip
        (tmp_path / "modules.json").write_text(json.dumps(modules))
        (tmp_path / "1_Pooling").mkdir(exist_ok=True)
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        return replace(loaded, name=str(tmp_path))

    return made


@pytest.mark.parametrize(
    ("said", "rows_to"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, lambda rows: rows.mean(0)),
        ({"pooling_mode_cls_token": True}, lambda rows: rows[0]),
        ({"pooling_mode": "lasttoken"}, lambda rows: rows[-1]),
    ],
)
def test_a_sentence_model_pools_as_its_folder_says(sentence_model, said, rows_to):
    loaded = sentence_model(said)
    found = item_states(loaded, TEMPLATES, ITEMS)
    assert found.positions[-1] == SENTENCE
    text = TEMPLATES[1].replace("{}", ITEMS[2])
    with torch.inference_mode():
        out = loaded.model(**loaded.tokenizer(text, return_tensors="pt"), output_hidden_states=True)
    rows = out.hidden_states[-1][0].numpy()  # BERT has no final norm: the last block's output
    np.testing.assert_allclose(found.rows[SENTENCE][-1, 1, 2], rows_to(rows), rtol=1e-4, atol=2e-5)


def test_normalised_rows_have_length_one_and_further_layers_are_counted(sentence_model):
    loaded = sentence_model({"pooling_mode_mean_tokens": True}, "models.Dense", "models.Normalize")
    assert pooling_of(loaded).normalised and pooling_of(loaded).dense == 1
    lengths = np.linalg.norm(item_states(loaded, TEMPLATES, ITEMS).rows[SENTENCE], axis=-1)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-5)


def test_pooling_that_is_not_known_is_refused(sentence_model):
    with pytest.raises(ModelError, match="pools its sentences in a way that is not known"):
        pooling_of(sentence_model({"pooling_mode_max_tokens": True}))


def test_models_without_modules_pool_nothing(tiny_llama, sentence_model):
    assert pooling_of(tiny_llama) is None
    loaded = sentence_model({})
    Path(loaded.name, "modules.json").write_text("[]")
    assert pooling_of(loaded) is None


def test_what_cannot_be_read_is_named(tiny_llama):
    with pytest.raises(DataError, match="at least one template and one item"):
        item_states(tiny_llama, ["{}"], [])
    with pytest.raises(DataError, match=r"'no place': expected \{\} in it once"):
        item_states(tiny_llama, ["no place"], ["x"])
    with pytest.raises(DataError, match="no token covers the item '' in"):
        item_states(tiny_llama, ["a {} b"], ["x", ""])
    with pytest.raises(DataError, match="more than 128"):
        item_states(tiny_llama, ["{}" + " word" * 200], ["x"])


def test_a_tokenizer_without_offsets_is_refused(tiny_llama):
    class Slow:
        is_fast = False

    with pytest.raises(DataError, match="does not say where its tokens are"):
        located([Prompt.of("{}", "x")], replace(tiny_llama, tokenizer=Slow()))
