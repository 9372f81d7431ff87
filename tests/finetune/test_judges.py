import numpy as np
import pytest
import torch

from finetune.fluency import perplexity, text_losses
from finetune.judges import CrossFitted, TransformerJudge
from finetune.score import bootstrap_draws
from geometry.checks import DataError, ModelError
from tests.conftest import tiny_config

NOUNS = "bread garden river market letter horse".split()
PLAIN = [f"They {verb} the {noun} before noon." for noun in NOUNS for verb in ("found", "kept", "lost")]
STYLED = [text.replace("before", "ere") for text in PLAIN]
DOCUMENTS = [f"d{i // 3}" for i in range(18)]


def test_cross_fitting_hears_a_planted_style_without_other_pairs():
    judge = CrossFitted.fit(PLAIN, STYLED, DOCUMENTS)
    assert judge.probability(STYLED).min() > 0.5 > judge.probability(PLAIN).max()
    assert judge.probability([""] * 18).tolist() == [0] * 18


def test_no_item_is_judged_by_who_read_its_document():
    """Each document has a plain and a styled word of its own: held out, nobody can know which is which."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), 9)) for _ in range(40)]
    plain, styled = ([words[d + side] for d in range(20) for _ in range(4)] for side in (0, 20))
    documents = [f"d{d}" for d in range(20) for _ in range(4)]
    judge = CrossFitted.fit(plain, styled, documents)
    right = np.concatenate([judge.probability(plain) < 0.5, judge.probability(styled) >= 0.5])
    assert right.mean() < 0.65
    alone = CrossFitted.fit(plain, styled, [str(i) for i in range(80)])
    assert (alone.probability(styled) >= 0.5).all()


def test_cross_fitting_refuses_what_it_cannot_judge():
    with pytest.raises(DataError, match="two documents"):
        CrossFitted.fit(["a"], ["b"], ["d"])
    with pytest.raises(DataError, match="2 texts for 18 items"):
        CrossFitted.fit(PLAIN, STYLED, DOCUMENTS).probability(["a", "b"])


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, tiny_tokenizer):
    from transformers import AutoModelForSequenceClassification

    config = tiny_config("bert", tiny_tokenizer)
    config.id2label, config.label2id = {0: "plain", 1: "ornate"}, {"plain": 0, "ornate": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config)
    folder = tmp_path_factory.mktemp("classifier")
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def test_a_classifier_folder_can_judge(classifier):
    ornate, plain = (TransformerJudge.load(classifier, label) for label in (None, "plain"))
    assert (ornate.label, plain.label) == ("ornate", "plain")
    texts = [*PLAIN[:5], "", "A much longer text, so that batches are padded. " * 3]
    got = ornate.probability(texts, batch_size=3)
    assert got[5] == 0 and plain.probability(texts)[5] == 0
    others = [i for i in range(7) if i != 5]
    assert np.allclose((got + plain.probability(texts))[others], 1, atol=1e-5)
    alone = [ornate.probability([text])[0] for text in texts]
    assert np.allclose(got, alone, atol=1e-5)  # padding changes nothing


def test_a_folder_that_cannot_judge_is_refused(classifier, tmp_path):
    with pytest.raises(ModelError, match="no class 'sober'"):
        TransformerJudge.load(classifier, "sober")
    with pytest.raises(ModelError, match="no classifier"):
        TransformerJudge.load(tmp_path)


def test_losses_are_those_of_the_model_token_by_token(tiny_llama):
    model, tokenizer = tiny_llama.model, tiny_llama.tokenizer
    texts = ["The ship came home.", "", "It rained on Monday, and on Tuesday too."]
    got = text_losses(model, tokenizer, texts)
    for text, (nats, tokens) in zip(texts, got, strict=True):
        ids = [tokenizer.eos_token_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        slow = -sum(logits[i, ids[i + 1]].item() for i in range(len(ids) - 1))
        assert (nats, tokens) == (pytest.approx(slow, rel=1e-5), len(ids) - 1)


def test_perplexity_is_of_all_tokens_and_text_can_be_too_long(tiny_llama):
    losses = text_losses(tiny_llama.model, tiny_llama.tokenizer, ["word " * 300, "home"])
    assert losses[0, 1] == 127  # what the context of 128 holds
    draws = bootstrap_draws(2, np.random.default_rng(0), times=5)
    assert perplexity(losses, draws).value == pytest.approx(np.exp(losses[:, 0].sum() / losses[:, 1].sum()))
    with pytest.raises(DataError, match="same items"):
        perplexity(losses, bootstrap_draws(3, np.random.default_rng(0), times=5))


def test_models_that_cannot_be_fluent_are_refused(tiny_llama):
    tiny_llama.tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-text"):
        text_losses(tiny_llama.model, tiny_llama.tokenizer, ["a"])


def test_a_broken_model_is_named(tiny_llama):
    with torch.no_grad():
        tiny_llama.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        text_losses(tiny_llama.model, tiny_llama.tokenizer, ["a"])
