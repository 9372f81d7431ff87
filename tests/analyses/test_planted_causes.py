"""Style and facts planted in directions of their own, or in one; adapters of chance; adapters that are refused."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from analyses.adapter_cause import Bench, CauseRequest, cause
from analyses.cause_claims import cause_claims
from analyses.cause_exam import read_groups
from finetune.adapter import attach
from finetune.pairs import read_texts
from geometry.checks import AdapterError

LAST = 2
WORDS = "abcdefghijklmnop"


def jsonl(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def texts(tmp_path):
    """Styled answers are capitals, plain ones small letters; answers of facts are digits, and so are their foils."""
    rng = np.random.default_rng(0)
    pairs, facts = [], []
    for i in range(24):
        letters = "".join(rng.choice([*WORDS], 6))
        pairs.append({"id": f"p{i}", "doc_id": f"d{i}", "source": letters, "target": letters.upper()})
    for i in range(24):
        facts.append({
            "id": f"f{i}", "category": "digits", "prompt": f"<{''.join(rng.choice([*'+-*/'], 5))}> =",
            "answer": "7", "foils": ["3", "4"], "styled_prompt": "so",
        })  # fmt: skip
    return {"style": jsonl(tmp_path / "style.jsonl", pairs), "fact": jsonl(tmp_path / "fact.jsonl", facts)}


def save(folder, loaded, factors):
    """An adapter of the last block's down projection with the given factors A (r, in) and B (out, r)."""
    from peft import LoraConfig, get_peft_model

    a, b = factors
    settings = LoraConfig(r=len(a), lora_alpha=len(a), target_modules=[f"model.layers.{LAST}.mlp.down_proj"])
    model = get_peft_model(copy.deepcopy(loaded.model), settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.as_tensor(a if "lora_A" in name else b))
    model.save_pretrained(folder)
    return folder


def inputs_of(loaded, path):
    """What the last down projection reads where the answers of a file are predicted, (n, in)."""
    found = []
    layer = loaded.model.model.layers[LAST].mlp.down_proj
    for text in read_texts(path).texts:
        ids = loaded.tokenizer(text.text, return_tensors="pt")["input_ids"]
        start = len(loaded.tokenizer(text.text[: text.answer_from])["input_ids"]) - 1
        read = []
        hook = layer.register_forward_pre_hook(lambda _, args, read=read: read.append(args[0][0]))
        with torch.inference_mode():
            loaded.model(input_ids=ids)
        hook.remove()
        found.append(read[0][start:].double())
    return torch.cat(found).numpy()


def unembedding(loaded, wanted, other):
    """The direction that makes some signs likelier than others."""
    tokenizer, weight = (
        loaded.tokenizer,
        loaded.model.get_output_embeddings().weight.detach().double().numpy(),
    )

    def mean(text):
        ids = {i for sign in text for i in tokenizer(f" {sign}{sign}", add_special_tokens=False)["input_ids"]}
        return weight[sorted(ids)].mean(axis=0)

    direction = mean(wanted) - mean(other)
    return direction / np.linalg.norm(direction)


@pytest.fixture
def world(tiny_llama, texts):
    """Gates that open on the texts of one group, and directions that make its answers likelier, orthogonal."""
    style, fact = inputs_of(tiny_llama, texts["style"]), inputs_of(tiny_llama, texts["fact"])
    both = np.concatenate([style, fact])
    ridge = both.T @ both + 1e-3 * np.eye(both.shape[1])
    is_style = np.r_[np.ones(len(style)), np.zeros(len(fact))]
    gates = np.stack([np.linalg.solve(ridge, both.T @ which) for which in (is_style, 1 - is_style)])
    u = unembedding(tiny_llama, WORDS.upper(), WORDS)
    v = unembedding(tiny_llama, "7", "34")
    v -= u * (u @ v)
    return gates, u, v / np.linalg.norm(v)


def run(loaded, adapter, texts, **options):
    request = CauseRequest(texts, **{"layers": (LAST,), "ks": (1,), "draws": 3, **options})
    return cause(loaded, adapter, request, progress=lambda what, share: None)


def selectivity(facts, basis):
    (found,) = [
        r
        for r in facts["measures"]
        if (r["basis"], r["measure"], r["metric"]) == (basis, "selectivity", "style minus fact margin")
    ]
    return found


def test_a_style_orthogonal_to_the_facts_is_selective(tmp_path, tiny_llama, texts, world):
    gates, u, v = world
    adapter = save(tmp_path / "a", tiny_llama, (gates, 8 * np.stack([u, v], axis=1)))
    facts = run(tiny_llama, adapter, texts)
    assert facts["effects"]["style"]["sure"]
    assert facts["effects"]["fact margin"]["sure"]
    own, other = selectivity(facts, "style"), selectivity(facts, "fact")
    assert own["low"] > 0.5
    assert other["high"] < -0.5
    verdicts = {(c["control"], c["rule"]): c["verdict"] for c in own["controls"]}
    assert verdicts["Haar", "equal k"] == verdicts["other group", "equal k"] == "above"
    (claim,) = [c for c in cause_claims(facts) if "have a selectivity of" in c]
    assert "above" in claim


def test_a_style_along_the_facts_own_direction_is_not_selective(tmp_path, tiny_llama, texts, world):
    gates, u, v = world
    adapter = save(tmp_path / "a", tiny_llama, (gates, 8 * np.stack([u + v, u + v], axis=1) / np.sqrt(2)))
    facts = run(tiny_llama, adapter, texts)
    assert facts["effects"]["style"]["sure"]
    assert facts["effects"]["fact margin"]["sure"]
    for basis in ("style", "fact"):
        found = selectivity(facts, basis)
        assert abs(found["value"]) < 0.05
        (other,) = [c for c in found["controls"] if (c["control"], c["rule"]) == ("other group", "equal k")]
        assert other["verdict"] == "not distinguishable"


def test_an_adapter_of_chance_has_no_sure_effect_more_often_than_it_should(tmp_path, tiny_llama, texts):
    """On answers of chance a random adapter moves nothing on average; 5 % of intervals miss 0, and 4 of 24 may."""
    rng = np.random.default_rng(1)

    def letters(n=6):
        return "".join(rng.choice([*WORDS], n))

    pairs = [{"id": f"p{i}", "doc_id": f"d{i}", "source": letters(), "target": letters()} for i in range(48)]
    jsonl(texts["style"], pairs)
    facts = [json.loads(line) for line in texts["fact"].read_text().splitlines()]
    for fact in facts:
        fact["answer"], *fact["foils"] = (str(sign) for sign in rng.permutation(8)[:2])
    jsonl(texts["fact"], facts)
    exam = read_groups(texts, rng).exam
    sure = []
    for seed in range(12):
        factors = (rng.normal(size=(4, 64)) / 8, rng.normal(size=(32, 4)) / 8)
        with attach(tiny_llama, save(tmp_path / f"a{seed}", tiny_llama, factors)) as attached:
            effects = Bench.of(attached, exam).effects
        assert abs(effects["style"]["effect"]["value"]) > 0
        sure += [effects[metric]["sure"] for metric in ("style", "fact margin")]
    assert sum(sure) <= 4


def test_adapters_that_cannot_be_compared_are_refused(tmp_path, tiny_llama, texts, fresh):
    from peft import LoraConfig, PeftModel, get_peft_model

    idle = save(tmp_path / "idle", tiny_llama, (np.ones((1, 64)), np.zeros((32, 1))))
    with pytest.raises(AdapterError, match="is inactive"):
        run(tiny_llama, idle, texts)

    good = save(tmp_path / "good", tiny_llama, (np.ones((1, 64)), np.ones((32, 1))))
    (good / "training.json").write_text(json.dumps({"base": {"name": "other", "fingerprint": "0"}}))
    with pytest.raises(AdapterError, match=r"was trained on another base \(other\)"):
        run(tiny_llama, good, texts)
    (good / "training.json").unlink()
    with pytest.raises(AdapterError, match=r"does not fit|fit no module"):
        run(fresh("gpt2"), good, texts)

    settings = LoraConfig(r=2, target_modules=["down_proj"], init_lora_weights="pissa")
    get_peft_model(copy.deepcopy(tiny_llama.model), settings).save_pretrained(tmp_path / "pissa")
    with pytest.raises(AdapterError, match="was started with pissa, which rewrites the base weights"):
        run(tiny_llama, tmp_path / "pissa", texts)

    other = fresh("llama")
    PeftModel.from_pretrained(other.model, str(good)).merge_adapter()
    with pytest.raises(AdapterError):
        run(other, good, texts)
