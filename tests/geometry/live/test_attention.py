"""The probe: what it reads is what a whole matrix says, and the model is what it was."""

import copy
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers as hf
from safetensors import safe_open
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache

from geometry.checks import DataError, InputError, LayerError, ModelError
from geometry.dispersion import chain_rule, distance_edges, row_sums, spread
from geometry.live.attention import AttentionProbe, EagerAttentionProbe, Measure, Rows, save, stored_layers
from geometry.live.attention_calls import attention_calls
from geometry.live.attention_sums import Sums

T = 150
SMALL = Measure(tile=(96, 64), closer=True)
SIZES = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.2,
}  # fmt: skip


def made(config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return hf.AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def llama():
    return made(hf.LlamaConfig(**SIZES))


@pytest.fixture(scope="module")
def windowed():
    return made(hf.MistralConfig(**SIZES, sliding_window=50))


@pytest.fixture(scope="module")
def ids():
    return torch.randint(3, 96, (2, T), generator=torch.Generator().manual_seed(1))


def read(model, ids, **options):
    options = {"rows": Rows.every(), "measure": SMALL, **options}
    with torch.inference_mode(), AttentionProbe(model, **options) as probe:
        model(ids, use_cache=False)
    return probe.answer()


def logits_of(model, *args, **options):
    """Every call's whole logits, hidden keys at minus infinity: (B, H, Tq, Tk) each."""
    found = []

    def receive(call):
        rows = torch.arange(call.query.shape[2])
        items = []
        for item in range(call.query.shape[0]):
            s, seen = call.logits(item, slice(0, call.key.shape[1]), rows, 0, call.n_keys)
            items.append(s.masked_fill(~seen, -torch.inf).flatten(0, 1))
        found.append(torch.stack(items).double().numpy())

    with torch.inference_mode(), attention_calls(model, receive):
        model(*args, use_cache=False, **options)
    return found


def weights_of(s):
    p = np.exp(s - s.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def entropy_of(p):
    p = p / np.maximum(p.sum(-1, keepdims=True), 1e-300)
    return -(p * np.log(np.maximum(p, 1e-300))).sum(-1)


@pytest.mark.parametrize("kind", ["llama", "windowed"])
def test_every_number_is_what_the_whole_matrix_says(request, kind, ids):
    model = request.getfixturevalue(kind)
    spans = {"needle": (30, 41), "own": [[(5, 9), (20, 22)], [(60, 61)]]}
    answer = read(model, ids, spans=spans)
    away = np.abs(np.arange(T)[:, None] - np.arange(T))
    for layer, s in zip(answer.layers, logits_of(model, ids), strict=True):
        p, oracle = weights_of(s), spread(row_sums(s))
        for name in ("log_z", "entropy", "sensitivity", "logit_mean", "logit_variance", "largest"):
            np.testing.assert_allclose(layer.values[name], getattr(oracle, name), atol=2e-5, err_msg=name)
        np.testing.assert_allclose(layer.values["participation"], oracle.participation, rtol=2e-5)
        assert (layer.values["largest_key"] == p.argmax(-1)).all()
        assert (layer.visible[:, None] == oracle.visible).all()
        np.testing.assert_allclose(layer.values["mean_distance"], (p * away).sum(-1), atol=1e-3)
        np.testing.assert_allclose(layer.top, -np.sort(-p, axis=-1)[..., :8], atol=5e-6)
        for i, low in enumerate(answer.distance_edges):
            high = [*answer.distance_edges, T][i + 1] if i + 1 < len(answer.distance_edges) else T
            mass = (p * ((away >= low) & (away < high))).sum(-1)
            np.testing.assert_allclose(layer.distances[..., i], mass, atol=5e-6)
        for i, low in enumerate(answer.position_edges):
            high = [*answer.position_edges, T][i + 1]
            np.testing.assert_allclose(layer.positions[..., i], p[..., low:high].sum(-1), atol=5e-6)
        marks = {"needle": [[(30, 41)]] * 2, "own": spans["own"], "sink": [[(0, 4)]] * 2}
        for name, marked in marks.items():
            check_group(layer.groups[name], marked, s, p)


def check_group(group, marked, s, p):
    for item, ranges in enumerate(marked):
        inside = np.zeros(T, bool)
        for first, last in ranges:
            inside[first:last] = True
        mass = p[item][..., inside].sum(-1)
        np.testing.assert_allclose(group.mass[item], mass, atol=5e-6)
        np.testing.assert_allclose(group.entropy[item], entropy_of(p[item][..., inside]), atol=2e-5)
        np.testing.assert_allclose(group.entropy_outside[item], entropy_of(p[item][..., ~inside]), atol=2e-5)
        assert (group.visible[item] == np.isfinite(s[item, 0][:, inside]).sum(-1)).all()
        rest = p[item][..., ~inside].sum(-1)
        some = (mass > 0) & (rest > 0)
        odds = np.log(mass[some]) - np.log(rest[some])
        np.testing.assert_allclose(group.log_odds[item][some], odds, atol=2e-5)
        assert np.isneginf(group.log_odds[item][mass == 0]).all()


def test_what_needs_whole_rows(llama, ids):
    for layer, s in zip(read(llama, ids).layers, logits_of(llama, ids), strict=True):
        p, found = weights_of(s), layer.closer
        seen = np.isfinite(s[:, 0]).sum(1)
        np.testing.assert_allclose(found.received, p.sum(2) / seen[:, None], atol=5e-6)
        assert (found.seen_by == seen).all()
        kept = np.cumsum(-np.sort(-p, axis=-1), axis=-1)
        fewest = (kept < 0.9 - 1e-6).sum(-1) + 1
        most = (kept < 0.9 + 1e-6).sum(-1) + 1
        assert ((found.nucleus >= fewest) & (found.nucleus <= most)).all()
        below = s.max(-1, keepdims=True) - s
        for i, gap in enumerate((1, 2, 4)):
            low, high = ((below <= gap + slack).sum(-1) for slack in (-1e-4, 1e-4))
            assert ((found.gaps[..., i] >= low) & (found.gaps[..., i] <= high)).all()
        np.testing.assert_allclose(found.block_map.sum(-1), 1, atol=1e-5)
        first = np.arange(T) * 32 // T == 3
        np.testing.assert_allclose(
            found.block_map[:, :, 3, 3], p[:, :, first][..., first].sum(-1).mean(-1), atol=1e-5
        )


def test_the_signal_of_a_group_is_its_part_of_the_output(llama, ids):
    calls = []
    with torch.inference_mode(), attention_calls(llama, calls.append):
        llama(ids, use_cache=False)
    layers = read(llama, ids, spans={"all": (0, T), "n": (30, 41)}).layers
    for layer, call, s in zip(layers, calls, logits_of(llama, ids), strict=True):
        p, v = weights_of(s), call.value.double().repeat_interleave(2, dim=1).numpy()
        whole, part = np.linalg.norm(p @ v, axis=-1), np.linalg.norm(p[..., 30:41] @ v[:, :, 30:41], axis=-1)
        assert sorted(layer.groups) == ["all", "n", "sink"]
        np.testing.assert_allclose(layer.closer.signal[..., 0], 1, atol=1e-5)
        np.testing.assert_allclose(layer.closer.signal[..., 1], part / whole, atol=1e-5, rtol=1e-4)
        assert (layer.closer.signal[:, :, :30, 1] == 0).all(), "rows before the span see nothing of it"


def test_masses_add_up_and_the_chain_rule_holds(llama, ids):
    for layer in read(llama, ids).layers:
        for parts in (layer.positions, layer.distances):
            np.testing.assert_allclose(parts.sum(-1), 1, atol=5e-6)
        sink = layer.groups["sink"]
        masses = np.stack([sink.mass, 1 - sink.mass.astype(float)], axis=-1)
        whole = chain_rule(masses, np.stack([sink.entropy, sink.entropy_outside], axis=-1))
        np.testing.assert_allclose(whole, layer.entropy, atol=5e-5)
        weighted = layer.groups["sink"].value_mass
        assert ((weighted >= 0) & (weighted <= 1 + 1e-6)).all()


def test_values_that_are_all_of_one_length_weigh_nothing_differently(ids):
    """With |v| constant the norm-weighted mass is the mass; a longer value draws more."""
    model = made(hf.LlamaConfig(**SIZES))
    calls = []
    with torch.inference_mode(), attention_calls(model, calls.append):
        model(ids, use_cache=False)
    norms = calls[0].value.norm(dim=-1).double().repeat_interleave(2, dim=1).numpy()
    p = weights_of(logits_of(model, ids)[0])
    found = read(model, ids, spans={"n": (30, 41)}).layers[0]
    weighted = p * norms[:, :, None]
    np.testing.assert_allclose(found.values["value_norm"], weighted.sum(-1), rtol=1e-5)
    share = weighted[..., 30:41].sum(-1) / weighted.sum(-1)
    np.testing.assert_allclose(found.groups["n"].value_mass, share, atol=5e-6)


def test_random_subsets_are_nested_halves_without_sinks(llama, ids):
    from geometry.live.attention_request import Plan

    answer = read(llama, ids, rng=np.random.default_rng(5))
    salt = int(np.random.default_rng(5).integers(1 << 62))
    plan = Plan.of(T, np.zeros(2, int), Rows.every(), {}, SMALL, salt)
    level = plan.levels(0, 0, T)
    assert (level[:4] == 0).all(), "sinks are in no subset"
    counts = [(level >= d).sum() for d in range(1, 5)]
    assert all(
        abs(n - 146 / 2**d) < 4 * np.sqrt(146 / 2**d) for d, n in zip(range(1, 5), counts, strict=True)
    )
    for layer, s in zip(answer.layers, logits_of(llama, ids), strict=True):
        p = weights_of(s)
        for d in range(1, 5):
            chosen = p[..., level >= d]
            np.testing.assert_allclose(layer.subset_entropy[..., d - 1], entropy_of(chosen), atol=5e-5)
            assert (layer.subset_visible[..., d - 1] == (np.cumsum(level >= d))[None]).all()
    assert (read(llama, ids).layers[0].subset_entropy != answer.layers[0].subset_entropy).any(), (
        "another draw"
    )


def test_the_model_computes_what_it_computes_with_sdpa_to_the_bit(llama, ids):
    with torch.inference_mode():
        plain = llama(ids, use_cache=False).logits
        with AttentionProbe(llama):
            probed = llama(ids, use_cache=False).logits
    assert torch.equal(plain, probed)


@pytest.mark.parametrize("probe", [AttentionProbe, EagerAttentionProbe])
@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_the_model_is_exactly_what_it_was(llama, ids, probe, fails):
    model = copy.deepcopy(llama)
    before = copy.deepcopy(model.config.to_dict()), copy.deepcopy(vars(model.config))
    weights = copy.deepcopy(model.state_dict())
    names = set(AttentionInterface._global_mapping), set(AttentionMaskInterface._global_mapping)

    def run():
        with torch.inference_mode(), probe(model):
            model(ids, use_cache=False)
            assert vars(model.config) != before[1]
            if fails:
                raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            run()
    else:
        run()
    assert (model.config.to_dict(), vars(model.config)) == before
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert (set(AttentionInterface._global_mapping), set(AttentionMaskInterface._global_mapping)) == names
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, llama(ids).logits)


@pytest.mark.parametrize("kind", ["llama", "windowed"])
def test_a_context_in_chunks_is_one_context(request, kind, ids):
    """The window's cache drops old keys, so keys stand elsewhere than they are stored."""
    model = request.getfixturevalue(kind)
    spans = {"needle": (30, 41)}
    whole = read(model, ids, spans=spans)
    cache = DynamicCache(config=model.config)
    options = {"rows": Rows.every(), "measure": SMALL, "spans": spans, "length": T}
    with torch.inference_mode(), AttentionProbe(model, **options) as probe:
        for part in ids.split(37, dim=1):
            model(part, past_key_values=cache, use_cache=True)
    joined = probe.answer()
    assert joined.length == T
    for a, b in zip(whole.layers, joined.layers, strict=True):
        arrays = b.arrays()
        for name, array in a.arrays().items():
            if name.endswith(("largest_key", "nucleus", "gaps")):
                assert (array == arrays[name]).mean() > 0.999, name
            else:
                np.testing.assert_allclose(
                    arrays[name], array, atol=1e-3 if "distance" in name else 1e-4, err_msg=name
                )


def test_generate_goes_on_with_the_same_answer(llama, ids):
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    with torch.inference_mode():
        plain = llama.generate(ids[:1], **options)
        with AttentionProbe(llama, rows=Rows.last(3)) as probe:
            written = llama.generate(ids[:1], **options)
    assert torch.equal(plain, written)
    answer = probe.answer()
    assert answer.layers[0].rows.tolist() == [T - 3, T - 2, T - 1, T, T + 1, T + 2, T + 3]
    assert answer.layers[0].visible[0].tolist() == [T - 2, T - 1, T, T + 1, T + 2, T + 3, T + 4]
    again = read(llama, written[:, :-1]).layers[1]
    np.testing.assert_allclose(answer.layers[1].entropy, again.entropy[:, :, -7:], atol=1e-4)


def test_packed_texts_do_not_see_each_other(llama, ids):
    positions = torch.cat([torch.arange(70), torch.arange(T - 70)])[None]
    with torch.inference_mode(), AttentionProbe(llama, rows=Rows.every(), measure=SMALL) as probe:
        llama(ids[:1], position_ids=positions, use_cache=False)
    packed = probe.answer().layers[1]
    assert packed.visible[0].tolist() == [*range(1, 71), *range(1, T - 69)]
    alone = read(llama, ids[:1, 70:]).layers[1]
    np.testing.assert_allclose(packed.entropy[:, :, 70:], alone.entropy, atol=1e-4)


def test_rows_that_see_nothing_are_zero(llama, ids):
    mask = torch.ones_like(ids)
    mask[0, :20] = 0
    with torch.inference_mode(), AttentionProbe(llama, rows=Rows.every(), measure=SMALL) as probe:
        llama(ids, attention_mask=mask, use_cache=False)
    for layer in probe.answer().layers:
        assert all(np.isfinite(a).all() for name, a in layer.arrays().items() if "log_odds" not in name)
        assert (layer.visible[0, :20] == 0).all()
        assert layer.visible[0, 20:].tolist() == list(range(1, T - 19))
        hidden = {name: a[0, :, :20] for name, a in layer.values.items()}
        assert (hidden.pop("largest_key") == -1).all()
        assert all((a == 0).all() for a in hidden.values())
        assert (layer.groups["sink"].visible[0, 23:] == 4).all(), "sinks are the first tokens after padding"


def test_a_mask_that_the_caller_made_is_obeyed(llama, ids):
    mask = torch.ones(T, T, dtype=torch.bool).tril() & (torch.arange(T) % 3 != 1)
    mask[:2, 0] = True
    added = torch.zeros(1, 1, T, T).masked_fill(~mask, torch.finfo(torch.float32).min)
    found = []
    for given in (mask[None, None], added):
        with torch.inference_mode(), AttentionProbe(llama, rows=Rows.every(), measure=SMALL) as probe:
            llama(ids, attention_mask=given.expand(2, 1, T, T), use_cache=False)
        found.append(probe.answer().layers[1])
    assert (found[0].visible == mask.sum(-1).numpy()).all()
    np.testing.assert_allclose(found[0].entropy, found[1].entropy, atol=1e-5)


def test_an_encoder_looks_ahead(tiny_folders):
    from geometry.live.models import load

    loaded = load(tiny_folders("bert"), device="cpu")
    ids = torch.randint(3, 90, (2, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 33:] = 0
    with torch.inference_mode(), AttentionProbe(loaded, rows=Rows.every(), measure=SMALL) as probe:
        loaded.model(ids, attention_mask=mask)
    answer = probe.answer()
    assert answer.about["model"] == loaded.name
    loaded.model.set_attn_implementation("eager")
    with torch.inference_mode():
        oracle = loaded.model(ids, attention_mask=mask, output_attentions=True).attentions
    away = np.abs(np.arange(40)[:, None] - np.arange(40))
    for layer, p in zip(answer.layers, oracle, strict=True):
        assert (layer.visible == mask.sum(-1, keepdim=True).numpy()).all()
        np.testing.assert_allclose(layer.entropy, entropy_of(p.double().numpy()), atol=1e-5)
        np.testing.assert_allclose(layer.values["mean_distance"], (p.numpy() * away).sum(-1), atol=1e-4)
        np.testing.assert_allclose(layer.distances[..., 0], p.diagonal(dim1=-2, dim2=-1).numpy(), atol=5e-6)
        np.testing.assert_allclose(layer.distances.sum(-1), 1, atol=5e-6)


def test_a_model_in_half_precision_has_statistics_in_full_precision(ids):
    model = made(hf.LlamaConfig(**SIZES)).bfloat16()
    with torch.inference_mode():
        plain = model(ids, use_cache=False).logits
    answer = read(model, ids)
    for layer, s in zip(answer.layers, logits_of(model, ids), strict=True):
        oracle = spread(row_sums(s))
        assert layer.entropy.dtype == np.float32
        np.testing.assert_allclose(layer.entropy, oracle.entropy, atol=2e-5)
        np.testing.assert_allclose(layer.values["log_z"], oracle.log_z, atol=2e-5)
    with torch.inference_mode(), AttentionProbe(model):
        assert torch.equal(model(ids, use_cache=False).logits, plain)


def test_layers_without_softmax_are_named(ids):
    kinds = ["linear_attention", "full_attention"]
    config = hf.Qwen3NextConfig(
        **SIZES, head_dim=8, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=16, layer_types=kinds,
        shared_expert_intermediate_size=16, linear_num_key_heads=2, linear_num_value_heads=2,
        linear_key_head_dim=8, linear_value_head_dim=8,
    )  # fmt: skip
    answer = read(made(config), ids)
    assert [layer.layer for layer in answer.layers] == [1]
    assert answer.skipped == {0: "no softmax attention in it (linear_attention)"}
    with pytest.raises(LayerError, match="no attention in layer 0: no softmax"):
        answer.layer(0)


def test_default_rows_are_early_and_late_and_marked(llama, ids):
    rows = (
        read(llama, ids, rows=Rows.log(20) | Rows.last(5) | Rows.spans("n"), spans={"n": (100, 103)})
        .layers[0]
        .rows
    )
    assert {0, 1, 2, 100, 101, 102, *range(T - 5, T)} <= set(rows.tolist())
    assert 20 <= len(rows) <= 28
    every, some = read(llama, ids).layers[1], read(llama, ids, rows=Rows.at([3, -1, 77])).layers[1]
    assert some.rows.tolist() == [3, 77, T - 1]
    np.testing.assert_allclose(some.entropy, every.entropy[:, :, [3, 77, T - 1]], atol=1e-5)
    np.testing.assert_allclose(some.distances, every.distances[:, :, [3, 77, T - 1]], atol=1e-5)


def test_what_is_saved_comes_back(llama, ids, tmp_path):
    answer = read(llama, ids, spans={"needle": (30, 41)})
    save(answer, tmp_path / "a")
    for a, b in zip(answer.layers, stored_layers(tmp_path / "a"), strict=True):
        assert a.facts() == b.facts()
        for name, array in a.arrays().items():
            np.testing.assert_array_equal(b.arrays()[name], array)
    table = pq.read_table(tmp_path / "a" / "rows.parquet")
    assert table.num_rows == 2 * 2 * 4 * T
    line = table.slice(4 * T * 2 + 2 * T + 7, 1).to_pylist()[0]  # layer 1, text 0, head 2, row 7
    assert (line["layer"], line["text"], line["head"], line["row"]) == (1, 0, 2, 7)
    assert line["entropy"] == answer.layer(1).entropy[0, 2, 7]
    assert line["needle.mass"] == answer.layer(1).groups["needle"].mass[0, 2, 7]
    assert b'"model": "LlamaForCausalLM"' in table.schema.metadata[b"repgeo"]
    assert answer.stack("needle.mass").shape == (2, 2, 4, T)


def test_rows_go_to_a_folder_layer_by_layer(llama, ids, tmp_path):
    with (
        torch.inference_mode(),
        AttentionProbe(llama, rows=Rows.every(), measure=SMALL, folder=tmp_path / "w") as probe,
    ):
        llama(ids, use_cache=False)
    with pytest.raises(DataError, match="stored_layers"):
        probe.answer()
    whole = read(llama, ids)
    for a, b in zip(whole.layers, stored_layers(tmp_path / "w"), strict=True):
        np.testing.assert_array_equal(a.entropy, b.entropy)
    save(whole, tmp_path / "s")
    for folder in ("w", "s"):
        for file in sorted((tmp_path / folder).glob("*.safetensors")):
            with safe_open(file, framework="numpy") as opened:
                facts = {key: json.loads(value) for key, value in opened.metadata().items()}
            assert facts["about"] == {"model": "LlamaForCausalLM", "adapter": None, "length": T}
            assert facts["layer"]["kind"] == "full_attention"


def test_several_contexts_have_an_answer_each(llama, ids):
    with torch.inference_mode(), AttentionProbe(llama) as probe:
        llama(ids, use_cache=False)
        llama(ids[:1, :40], use_cache=False)
    assert [answer.length for answer in probe.answers()] == [T, 40]
    with pytest.raises(DataError, match="2 contexts"):
        probe.answer()


def test_what_cannot_be_measured_is_refused_in_one_line(llama, ids, tmp_path):
    def refused(match, error=DataError, **options):
        with pytest.raises(error, match=match) as caught:
            read(llama, ids, **options)
        assert "\n" not in str(caught.value)

    refused("another name", spans={"sink": (0, 2)})
    refused("with a token in it", spans={"n": (5, 5)})
    refused("ends at 200", spans={"n": (5, 200)})
    refused("given for 3 texts", spans={"n": [[(1, 2)]] * 3})
    refused("too many", spans={"n": [[(2 * i, 2 * i + 1) for i in range(1500)]] * 2}, length=4000)
    refused("no span 'x'", rows=Rows.spans("x"))
    refused("no position 150", rows=Rows.at([T]))
    refused("none asked for", rows=Rows())
    refused("none of the chosen rows", rows=Rows.at([500]), length=600)
    for bad in ({"top": 0}, {"sink": -1}, {"tile": (0, 4)}):
        with pytest.raises(InputError, match=next(iter(bad))):
            Measure(**bad)
    with pytest.raises(DataError, match="run the model"):
        AttentionProbe(llama).answer()
    with pytest.raises(ModelError, match="training mode"), AttentionProbe(copy.deepcopy(llama).train()):
        pass
    with pytest.raises(DataError, match="no value 'focus'"):
        read(llama, ids).stack("focus")
    with pytest.raises(DataError, match="no attention-"):
        next(stored_layers(tmp_path))
    (tmp_path / "attention-000-00001.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a layer of attention"):
        next(stored_layers(tmp_path))


def test_models_without_weights_to_read_are_refused_by_the_eager_probe(ids):
    model = made(hf.MambaConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2, state_size=4))
    with pytest.raises(ModelError, match="no attention module"), EagerAttentionProbe(model):
        pass


def test_edges_of_distance_reach_the_whole_context(llama, ids):
    assert read(llama, ids).distance_edges.tolist() == distance_edges(T).tolist()


@pytest.mark.parametrize("kind", ["llama", "windowed"])
def test_compiled_sums_are_those_of_the_array_code_that_other_devices_run(request, kind, ids, monkeypatch):
    model = request.getfixturevalue(kind)
    compiled = read(model, ids, spans={"needle": (30, 41)})
    calls = []
    by_arrays = Sums._by_arrays

    def instead(self, s, _, tile):
        h = self._norms.shape[0]
        calls.append(tile)
        shape = (h, -1, len(tile.place), s.shape[-1])
        by_arrays(self, torch.from_numpy(s).view(shape), tile)

    monkeypatch.setattr(Sums, "_by_kernel", instead)
    arrays = read(model, ids, spans={"needle": (30, 41)})
    assert calls
    for a, b in zip(compiled.layers, arrays.layers, strict=True):
        for name, array in a.arrays().items():
            np.testing.assert_allclose(
                b.arrays()[name],
                array,
                atol=1e-3 if "mean_distance" in name else 2e-5,
                rtol=2e-5,
                err_msg=name,
            )


def test_nothing_but_the_rows(llama, ids):
    lean = read(llama, ids, measure=Measure(sink=0, top=1, subsets=0, buckets=1))
    for layer, whole in zip(lean.layers, read(llama, ids).layers, strict=True):
        assert not layer.groups
        assert layer.closer is None
        assert layer.subset_entropy.shape[-1] == 0
        np.testing.assert_allclose(layer.top[..., 0], layer.values["largest"], atol=1e-6)
        np.testing.assert_allclose(layer.entropy, whole.entropy, atol=2e-5)
