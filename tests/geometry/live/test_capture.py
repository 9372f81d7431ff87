"""Capture against the host library's own hidden states, and batches against each text alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import transformers

from geometry.checks import DataError, LayerError
from geometry.live.anatomy import blocks, final_norm
from geometry.live.capture import (
    EMBEDDING,
    Batch,
    block_outputs,
    model_inputs,
    shorten,
    sink_mask,
    token_batches,
)
from geometry.live.models import Loaded

TEXTS = [
    "The ship came home.",
    "On Monday the old king asked his daughter what the weather would be in January, and she did not know.",
    "x",
    "She wrote three letters to London, and none of them was answered.",
    "The ship came back.",
    "naïve café — 東京 🙂",
]


def batches(texts, loaded, **options):
    return list(token_batches(texts, loaded.tokenizer, max_length=loaded.max_length, **options))


def capture(loaded, batch, layers, **options):
    with torch.no_grad(), block_outputs(loaded.model, layers) as stream:
        output = loaded.model(**model_inputs(loaded.model, batch), **options)
    return stream, output


# ---- block outputs


def test_block_outputs_are_the_hidden_states_of_the_host_library(tiny_models):
    loaded = tiny_models
    for batch in batches(TEXTS, loaded, batch_tokens=64):
        stream, output = capture(loaded, batch, range(-1, 3), output_hidden_states=True)
        hidden = output.hidden_states
        real = batch.attention_mask.bool()
        assert set(stream) == {-1, 0, 1, 2}
        for layer in (-1, 0, 1):
            torch.testing.assert_close(stream[layer], hidden[layer + 1], rtol=0, atol=0)
        norm = final_norm(loaded.model)
        last = stream[2] if norm is None else norm(stream[2])
        torch.testing.assert_close(last[real], hidden[-1][real], rtol=0, atol=0)
        if norm is not None:
            assert (stream[2] - hidden[-1])[real].abs().max() > 0.1


STRANGERS = {
    # each keeps blocks, norms or positions in a way of its own
    "OPT": {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "Falcon": {},
    "Mpt": {"d_model": 16, "n_layers": 2, "n_heads": 2},
    "Bloom": {"n_layer": 2, "n_head": 2},
    "Mixtral": {"num_key_value_heads": 1, "num_local_experts": 2},
    "Olmo2": {},
    "XLMRoberta": {},
    "DistilBert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "ModernBert": {"cls_token_id": 0, "sep_token_id": 0, "bos_token_id": 0, "eos_token_id": 0},
    "MPNet": {},
}


@pytest.mark.parametrize("family", STRANGERS)
def test_families_that_no_line_of_ours_names(family, tiny_tokenizer):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    shared = {"vocab_size": 320, "max_position_embeddings": 130, "pad_token_id": 1, **sizes}
    config = getattr(transformers, f"{family}Config")(**(shared | STRANGERS[family]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config).eval()
    loaded = Loaded(model, tiny_tokenizer, family, None, "")
    assert (loaded.n_layers, loaded.width) == (2, 16)
    (batch,) = batches(TEXTS, loaded)
    stream, output = capture(loaded, batch, (-1, 0, 1), output_hidden_states=True)
    real = batch.attention_mask.bool()
    norm = final_norm(model) or torch.nn.Identity()
    for ours, theirs in zip((stream[-1], stream[0], norm(stream[1])), output.hidden_states, strict=True):
        torch.testing.assert_close(ours[real], theirs[real], rtol=0, atol=0)


def test_every_forward_pass_fills_it_anew(tiny_llama):
    first, second = batches(TEXTS, tiny_llama, batch_tokens=64)[:2]
    with torch.no_grad(), block_outputs(tiny_llama.model, [1]) as stream:
        assert stream == {}
        tiny_llama.model(**model_inputs(tiny_llama.model, first))
        before = stream[1]
        tiny_llama.model(**model_inputs(tiny_llama.model, second))
        assert stream[1] is not before
        assert stream[1].shape[:2] == second.input_ids.shape
    assert stream[1].shape[:2] == second.input_ids.shape


def test_a_forward_pass_that_breaks_off_leaves_no_rows_of_the_one_before(tiny_llama):
    (batch,) = batches(TEXTS, tiny_llama)
    inputs = model_inputs(tiny_llama.model, batch)

    def fail(*_):
        raise KeyboardInterrupt

    with torch.no_grad(), block_outputs(tiny_llama.model, [0, 2]) as stream:
        tiny_llama.model(**inputs)
        handle = blocks(tiny_llama.model)[1].register_forward_hook(fail)
        with pytest.raises(KeyboardInterrupt):
            tiny_llama.model(**inputs)
        handle.remove()
        assert set(stream) == {0}


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_are_removed_after_use_and_after_an_exception(tiny_models):
    before = hooks_of(tiny_models.model)
    with block_outputs(tiny_models.model, range(-1, 3)):
        assert hooks_of(tiny_models.model) == before + 4
    assert hooks_of(tiny_models.model) == before
    with pytest.raises(ZeroDivisionError), block_outputs(tiny_models.model, range(-1, 3)):
        raise ZeroDivisionError
    assert hooks_of(tiny_models.model) == before


def test_captures_may_be_nested(tiny_llama):
    (batch,) = batches(TEXTS, tiny_llama)
    with block_outputs(tiny_llama.model, [0, 1]) as outer:
        inner, _ = capture(tiny_llama, batch, [1])
    assert set(outer) == {0, 1}
    assert set(inner) == {1}
    assert torch.equal(outer[1].detach(), inner[1])


def test_only_what_was_asked_for_is_kept(tiny_llama):
    (batch,) = batches(TEXTS, tiny_llama)
    stream, _ = capture(tiny_llama, batch, np.array([2]))
    assert set(stream) == {2}
    stream, _ = capture(tiny_llama, batch, [])
    assert stream == {}


@pytest.mark.parametrize("layer", [3, -2, 1.5, "1"])
def test_an_unknown_layer_is_refused_with_the_range(tiny_llama, layer):
    with (
        pytest.raises(LayerError, match="this model has 0 to 2, and -1 for the embedding"),
        block_outputs(tiny_llama.model, [0, layer]),
    ):
        pass
    assert hooks_of(tiny_llama.model) == 0


def test_edits_made_by_earlier_hooks_are_seen_and_gradients_flow(tiny_llama):
    (batch,) = batches(TEXTS, tiny_llama)
    plain, _ = capture(tiny_llama, batch, [0])
    handle = blocks(tiny_llama.model)[0].register_forward_hook(lambda *args: args[-1] + 1.0)
    with block_outputs(tiny_llama.model, [0]) as stream:
        tiny_llama.model(**model_inputs(tiny_llama.model, batch))
    handle.remove()
    torch.testing.assert_close(stream[0].detach(), plain[0] + 1.0)
    assert stream[0].requires_grad


def test_a_block_that_returns_a_tuple_is_unwrapped(tiny_llama):
    (batch,) = batches(TEXTS, tiny_llama)
    plain, _ = capture(tiny_llama, batch, [2])
    handle = blocks(tiny_llama.model)[2].register_forward_hook(lambda *args: (args[-1], None))
    with torch.no_grad(), block_outputs(tiny_llama.model, [2]) as stream, pytest.raises(AttributeError):
        tiny_llama.model(**model_inputs(tiny_llama.model, batch))  # the host itself expects a tensor
    handle.remove()
    assert torch.equal(stream[2], plain[2])


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_one_forward_gives_the_rows_of_base_and_adapter(tiny_causal):
    from peft import LoraConfig, get_peft_model

    batch = batches(TEXTS, tiny_causal)[0]
    base, _ = capture(tiny_causal, batch, range(-1, 3))
    config = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(copy.deepcopy(tiny_causal.model), config).eval()
    inputs = {k: torch.cat([v, v]) for k, v in model_inputs(adapted, batch).items()}
    count = len(batch.input_ids)
    with torch.no_grad(), block_outputs(adapted, range(-1, 3)) as stream:
        adapted(**inputs, adapter_names=["__base__"] * count + ["default"] * count)
    for layer in range(-1, 3):
        torch.testing.assert_close(stream[layer][:count], base[layer], rtol=0, atol=2e-5)
    assert (stream[2][count:] - base[2]).abs().max() > 0.01


# ---- batches


def test_rows_do_not_depend_on_the_batch(tiny_models):
    loaded = tiny_models
    alone = {}
    for index, text in enumerate(TEXTS):
        (batch,) = batches([text], loaded)
        assert batch.attention_mask.all()
        with torch.no_grad(), block_outputs(loaded.model, range(-1, 3)) as stream:
            loaded.model(input_ids=batch.input_ids)
        alone[index] = {layer: rows[0] for layer, rows in stream.items()}
    seen = []
    for batch in batches(TEXTS, loaded, batch_tokens=100):
        stream, _ = capture(loaded, batch, range(-1, 3))
        for row, index in enumerate(batch.text_index.tolist()):
            seen.append(index)
            real = batch.attention_mask[row].bool()
            for layer, rows in alone[index].items():
                torch.testing.assert_close(stream[layer][row][real], rows, rtol=1e-5, atol=1e-5)
    assert sorted(seen) == list(range(len(TEXTS)))


def test_roberta_counts_positions_from_where_it_starts(tiny_tokenizer):
    config = transformers.RobertaConfig(
        vocab_size=320,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=130,
        pad_token_id=1,
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    model = transformers.RobertaModel(config, add_pooling_layer=False).eval()
    loaded = Loaded(model, tiny_tokenizer, "roberta", None, "")
    assert loaded.max_length == 128
    (batch,) = batches(TEXTS, loaded)
    _, output = capture(loaded, batch, [1])
    with torch.no_grad():
        by_itself = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    real = batch.attention_mask.bool()
    torch.testing.assert_close(output.last_hidden_state[real], by_itself.last_hidden_state[real])
    with torch.no_grad():
        from_zero = model(batch.input_ids, batch.attention_mask, position_ids=batch.position_ids)
    assert (output.last_hidden_state - from_zero.last_hidden_state)[real].abs().max() > 0.1


def test_a_model_without_positions_is_not_given_any():
    config = transformers.BloomConfig(vocab_size=8, hidden_size=8, n_layer=2, n_head=2)
    model = transformers.BloomForCausalLM(config)
    tokens = torch.zeros(1, 2, dtype=torch.long)
    batch = Batch(tokens, tokens + 1, tokens, torch.zeros(1))
    assert set(model_inputs(model, batch)) == {"input_ids", "attention_mask"}


def test_every_text_comes_once_longest_first_in_an_order_that_repeats(tiny_llama):
    texts = [TEXTS[index % 6] for index in range(50)]
    given, again = batches(texts, tiny_llama, batch_tokens=90), batches(texts, tiny_llama, batch_tokens=90)
    assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(given, again, strict=True))
    order = torch.cat([batch.text_index for batch in given]).tolist()
    lengths = [len(tiny_llama.tokenizer(texts[index])["input_ids"]) for index in order]
    assert sorted(order) == list(range(50))
    assert [(-length, index) for length, index in zip(lengths, order, strict=True)] == sorted(
        (-length, index) for length, index in zip(lengths, order, strict=True)
    )
    for batch in given:
        assert batch.input_ids.numel() <= 90 or len(batch.input_ids) == 1
        assert batch.n_tokens == batch.attention_mask.sum()
        for row, index in enumerate(batch.text_index.tolist()):
            real = batch.attention_mask[row].bool()
            assert batch.input_ids[row][real].tolist() == tiny_llama.tokenizer(texts[index])["input_ids"]
            assert batch.position_ids[row].tolist() == list(range(batch.input_ids.shape[1]))


def test_more_texts_than_are_tokenised_at_once(tiny_llama):
    given = batches(["x"] * 1500, tiny_llama)
    assert [len(batch.text_index) for batch in given] == [1500]


def test_a_tokenizer_without_padding_token(tiny_llama):
    tokenizer = copy.deepcopy(tiny_llama.tokenizer)
    tokenizer.pad_token = None
    (batch,) = token_batches(TEXTS, tokenizer, max_length=128)
    assert (batch.input_ids[batch.attention_mask == 0] == 0).all()


@pytest.mark.parametrize("texts", [[], (), "one text is not a list"])
@pytest.mark.parametrize("function", [token_batches, shorten])
def test_no_texts(tiny_llama, texts, function):
    with pytest.raises(DataError, match="a list of one text or more"):
        function(texts, tiny_llama.tokenizer, max_length=128)


@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_empty_text_is_refused_before_the_first_batch(tiny_llama, empty):
    with pytest.raises(DataError, match="text 1 is empty"):
        token_batches(["x", empty], tiny_llama.tokenizer, max_length=128)


def test_special_tokens_alone_make_a_text_empty(tiny_llama):
    tokenizer = with_specials(tiny_llama.tokenizer)
    with pytest.raises(DataError, match="text 0 is empty"):
        token_batches([""], tokenizer, max_length=128)


def test_a_text_longer_than_the_context_is_refused(tiny_llama):
    long = "word " * 200
    with pytest.raises(DataError, match=r"text 1 has \d+ tokens, more than 128: shorten\(\) cuts it"):
        token_batches(["x", long], tiny_llama.tokenizer, max_length=128)


# ---- shortening


def with_specials(tokenizer):
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    return tokenizer


@pytest.mark.parametrize("specials", [False, True])
@pytest.mark.parametrize("max_length", [6, 10, 128])
def test_shortened_texts_fit_and_are_beginnings(tiny_llama, specials, max_length):
    tokenizer = with_specials(tiny_llama.tokenizer) if specials else tiny_llama.tokenizer
    texts = [*TEXTS, "🙂🙂 naïve " * 60]
    result = shorten(texts, tokenizer, max_length=max_length)
    for index, (short, text) in enumerate(zip(result.texts, texts, strict=True)):
        before, after = (len(tokenizer(t, verbose=False)["input_ids"]) for t in (text, short))
        assert (index in result.cut) == (before > max_length) == (short != text)
        assert text.startswith(short)
        assert after <= max_length
    if max_length >= 10:
        assert sum(batch.n_tokens for batch in token_batches(result.texts, tokenizer, max_length=max_length))


def test_shortening_cuts_no_more_than_needed(tiny_llama):
    text = "The ship came home in the morning. " * 40
    (short,) = shorten([text], tiny_llama.tokenizer, max_length=50).texts
    assert len(tiny_llama.tokenizer(short)["input_ids"]) == 50


def test_no_room_for_text(tiny_llama):
    with pytest.raises(DataError, match="leaves no room"):
        shorten(["x"], with_specials(tiny_llama.tokenizer), max_length=2)


def test_a_first_character_of_many_tokens_cannot_be_halved(tiny_llama):
    with pytest.raises(DataError, match="no beginning of the text"):
        shorten(["🙂 smile"], tiny_llama.tokenizer, max_length=2)


def test_a_tokenizer_without_offsets_cannot_shorten(tmp_path):
    from transformers.models.byt5.tokenization_byt5 import ByT5Tokenizer

    assert shorten(["x"], ByT5Tokenizer(), max_length=5).cut == ()
    with pytest.raises(DataError, match="does not say where its tokens are"):
        shorten(["a longer text"], ByT5Tokenizer(), max_length=5)


# ---- sinks


def test_sinks_are_the_first_token_and_the_massive_ones():
    norms = torch.tensor([[1.0, 1.0, 2.0, 10.0, 31.0], [500.0, 1.0, 3.0, 1e9, 1e9]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    assert sink_mask(norms, mask).tolist() == [
        [True, False, False, False, True],
        [True, False, False, False, False],
    ]


def test_sinks_do_not_depend_on_padding_or_on_the_other_texts():
    generator = torch.Generator().manual_seed(0)
    norms = torch.rand(8, 12, generator=generator).exp()
    norms[:, 5] *= 30
    norms[3, 5] /= 30
    lengths = torch.arange(1, 9) + 4
    mask = torch.arange(12) < lengths[:, None]
    together = sink_mask(norms, mask)
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(together[row, :length], sink_mask(norms[row : row + 1, :length])[0])
        assert not together[row, length:].any()
    assert together[:, 5].tolist() == [False] + [True] * 2 + [False] + [True] * 4


def test_sinks_do_not_depend_on_the_scale_and_leave_the_norms_alone():
    norms = torch.tensor([[7.0, 1.0, 1.0, 100.0]])
    kept = norms.clone()
    assert torch.equal(sink_mask(norms), sink_mask(norms * 1e-6))
    assert torch.equal(norms, kept)


def test_a_text_of_one_token_is_all_sink():
    assert sink_mask(torch.tensor([[2.0]])).tolist() == [[True]]


def test_capturing_the_embedding_of_a_scaled_model_is_after_the_scale(fresh):
    loaded = fresh("gemma2")
    (batch,) = batches(TEXTS, loaded)
    stream, _ = capture(loaded, batch, [EMBEDDING])
    expected = loaded.model.model.embed_tokens.weight[batch.input_ids] * 32**0.5
    torch.testing.assert_close(stream[EMBEDDING], expected.detach(), rtol=1e-5, atol=1e-6)
