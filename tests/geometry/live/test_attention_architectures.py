"""The probe on many architectures, from configurations alone: what eager computes is the oracle."""

import numpy as np
import pytest
import torch
import transformers as hf

from geometry.checks import ModelError
from geometry.live.attention import AttentionProbe, EagerAttentionProbe, Rows

SIZES = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT2 = {
    "vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MIXED = ["sliding_attention", "full_attention"]
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LATENT = {
    "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1,
}  # fmt: skip

CONFIGS = {
    "llama": lambda: hf.LlamaConfig(**GROUPED),
    "llama_yarn": lambda: hf.LlamaConfig(
        **GROUPED,
        rope_parameters={
            "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16
        },
    ),
    "mistral": lambda: hf.MistralConfig(**GROUPED, sliding_window=9),
    "mixtral": lambda: hf.MixtralConfig(**GROUPED, num_local_experts=4, sliding_window=9),
    "ministral": lambda: hf.MinistralConfig(**GROUPED, head_dim=8, sliding_window=9, layer_types=MIXED),
    "qwen2": lambda: hf.Qwen2Config(**GROUPED),
    "qwen2_windows": lambda: hf.Qwen2Config(
        **GROUPED, use_sliding_window=True, sliding_window=9, max_window_layers=1
    ),
    "qwen2_moe": lambda: hf.Qwen2MoeConfig(**GROUPED, **EXPERTS, shared_expert_intermediate_size=16),
    "qwen3": lambda: hf.Qwen3Config(**GROUPED, head_dim=8),
    "qwen3_moe": lambda: hf.Qwen3MoeConfig(**GROUPED, **EXPERTS, head_dim=8),
    "gemma": lambda: hf.GemmaConfig(**GROUPED, head_dim=8),
    "gemma2": lambda: hf.Gemma2Config(
        **GROUPED, head_dim=8, query_pre_attn_scalar=8, sliding_window=9, attn_logit_softcapping=2.0
    ),
    "gemma3": lambda: hf.Gemma3TextConfig(
        **GROUPED, head_dim=8, query_pre_attn_scalar=8, sliding_window=9, layer_types=MIXED
    ),
    "phi": lambda: hf.PhiConfig(**SIZES),
    "phi3": lambda: hf.Phi3Config(**GROUPED, sliding_window=9),
    "neox": lambda: hf.GPTNeoXConfig(**SIZES),
    "gpt2": lambda: hf.GPT2Config(**GPT2, scale_attn_by_inverse_layer_idx=True),
    "bigcode": lambda: hf.GPTBigCodeConfig(**GPT2, multi_query=True),
    "opt": lambda: hf.OPTConfig(
        vocab_size=96, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, word_embed_proj_dim=32, pad_token_id=0,
    ),
    "cohere": lambda: hf.CohereConfig(**GROUPED, use_qk_norm=True),
    "cohere2": lambda: hf.Cohere2Config(**GROUPED, sliding_window=9, layer_types=MIXED),
    "olmo": lambda: hf.OlmoConfig(**GROUPED),
    "olmo2": lambda: hf.Olmo2Config(**GROUPED),
    "olmo3": lambda: hf.Olmo3Config(**GROUPED, sliding_window=9, layer_types=MIXED),
    "stablelm": lambda: hf.StableLmConfig(**GROUPED),
    "starcoder2": lambda: hf.Starcoder2Config(**GROUPED, sliding_window=9),
    "granite": lambda: hf.GraniteConfig(**GROUPED, attention_multiplier=0.2),
    "smollm3": lambda: hf.SmolLM3Config(**GROUPED),
    "glm": lambda: hf.GlmConfig(**GROUPED, head_dim=8),
    "glm4": lambda: hf.Glm4Config(**GROUPED, head_dim=8),
    "gpt_oss": lambda: hf.GptOssConfig(
        **GROUPED, head_dim=8, sliding_window=9, num_local_experts=4, num_experts_per_tok=2, layer_types=MIXED
    ),
    "deepseek_v3": lambda: hf.DeepseekV3Config(**SIZES, num_key_value_heads=4, **LATENT),
    "nemotron": lambda: hf.NemotronConfig(**GROUPED),
    "persimmon": lambda: hf.PersimmonConfig(**SIZES),
    "biogpt": lambda: hf.BioGptConfig(**SIZES),
    "exaone4": lambda: hf.Exaone4Config(**GROUPED, sliding_window=9, layer_types=MIXED),
    "llama4": lambda: hf.Llama4TextConfig(
        **GROUPED, head_dim=8, intermediate_size_mlp=48, num_local_experts=2, attention_chunk_size=9,
        layer_types=["chunked_attention", "full_attention"],
    ),
}  # fmt: skip

OFF = {
    "falcon": lambda: hf.FalconConfig(
        vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4
    ),
    "bloom": lambda: hf.BloomConfig(
        vocab_size=96, hidden_size=32, n_layer=2, n_head=4, pad_token_id=0
    ),
    "mpt": lambda: hf.MptConfig(vocab_size=96, d_model=32, n_layers=2, n_heads=4, max_seq_len=64),
    "gptj": lambda: hf.GPTJConfig(**GPT2, rotary_dim=4),
    "gpt_neo": lambda: hf.GPTNeoConfig(
        vocab_size=96, hidden_size=32, num_layers=2, num_heads=4, max_position_embeddings=64, window_size=9,
        attention_types=[[["global", "local"], 1]],
    ),
    "codegen": lambda: hf.CodeGenConfig(**GPT2, rotary_dim=4),
}  # fmt: skip


def made(config, spread=0.02):
    """Random weights; a larger spread makes sharp attention."""
    config.initializer_range = config.init_std = spread
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if name.endswith("sinks"):
                torch.nn.init.normal_(parameter)
    return model.eval()


def texts(padded):
    ids = torch.randint(3, 96, (2, 24), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    if padded:
        mask[0, :7] = 0
        ids[0, :7] = 0
    return {"input_ids": ids, "attention_mask": mask}


def entropy_of(weights):
    """Of the real keys of each row: a learned sink takes a share that eager's weights leave out."""
    p = weights.double() / weights.double().sum(-1, keepdim=True)
    return -(p * p.clamp_min(1e-300).log()).sum(-1).numpy()


def eager(model, batch):
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    output = model(**batch, output_attentions=True, use_cache=False)
    model.set_attn_implementation(before)
    return output


@torch.inference_mode()
def agree(model, batch, logits_within, entropy_within):
    with AttentionProbe(model, rows=Rows.every()) as probe:
        logits = model(**batch, use_cache=False).logits
    oracle = eager(model, batch)
    real = batch["attention_mask"].bool().numpy()
    assert np.abs((logits - oracle.logits).numpy()[real]).max() < logits_within
    answer = probe.answer()
    assert [layer.layer for layer in answer.layers] == [0, 1]
    for layer, weights in zip(answer.layers, oracle.attentions, strict=True):
        rows = np.broadcast_to(real[:, None], layer.shape)
        assert np.abs(layer.entropy - entropy_of(weights))[rows].max() < entropy_within
        assert np.abs(layer.distances.sum(-1) - 1)[rows].max() < 5e-6
        seen = (weights > 0).sum(-1).numpy()
        assert (layer.visible[:, None] == seen)[rows].all()
        learned = 1 - weights.sum(-1).numpy()
        assert np.abs(layer.values["learned_sink"] - learned)[rows].max() < 1e-5


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_agrees_with_its_own_eager_attention(name, padded):
    agree(made(CONFIGS[name]()), texts(padded), 1e-6, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_and_so_it_does_where_attention_is_sharp(name):
    agree(made(CONFIGS[name](), spread=0.2), texts(padded=True), 1e-5, 1e-4)


@pytest.mark.parametrize("name", OFF)
@torch.inference_mode()
def test_models_off_the_interface_are_refused_or_read_from_their_weights(name):
    model, batch = made(OFF[name](), spread=0.2), texts(padded=True)
    with pytest.raises(ModelError, match="EagerAttentionProbe"), AttentionProbe(model):
        pass
    real = batch["attention_mask"].bool().numpy()
    before = model.config._attn_implementation
    plain = model(**batch, use_cache=False).logits
    with EagerAttentionProbe(model, rows=Rows.every()) as probe:
        logits = model(**batch, use_cache=False).logits
    assert model.config._attn_implementation == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert np.abs((logits - plain).numpy()[real]).max() < 5e-6
    model.config._attn_implementation_internal = "eager"
    oracle = model(**batch, output_attentions=True, use_cache=False).attentions
    for layer, weights in zip(probe.answer().layers, oracle, strict=True):
        rows = np.broadcast_to(real[:, None], layer.shape)
        assert np.abs(layer.entropy - entropy_of(weights))[rows].max() < 1e-5
        assert np.isnan(layer.values["value_norm"][rows]).all()
