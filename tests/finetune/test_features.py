"""Features as patches, changes in features, and quality, with a dictionary that rebuilds every row exactly.

Its features are the unit vectors of both signs, so that theorems hold to rounding: all features turned back give the
base, the change is told whole, nothing is lost by reading through it. Training it needs sae-lens and is tested in
tests/geometry/live/test_dictionary.py.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from finetune.adapter import ADAPTER, BASE, attach
from finetune.dictionary_quality import explained, explained_variance, recovered_loss, spliced_losses
from finetune.feature_changes import carried_by, explained_change, feature_changes
from finetune.feature_labels import active_at, promoted, top_examples
from finetune.feature_patches import scale, turn_back
from finetune.feature_rows import HELD_OUT, base_stream, sided_stream, training_rows, windows
from finetune.pairs import Text
from finetune.patched_likelihoods import patched_likelihoods
from finetune.plain_codes import mean_code, principal_code, random_code
from geometry.checks import DataError, LayerError, ModelError
from geometry.live.capture import block_outputs

LAYER = 1
QUESTIONS = [("On Monday", "the old king asked"), ("The ship came home in the", "morning"), ("a", "b")]
TEXTS = [
    Text("a", "d1", "The ship came home in the morning with salt."),
    Text("b", "d2", "On Monday the old king asked his daughter.", 9),
    Text("c", "d2", "She wrote three letters to London before summer."),
]


class Signs:
    """2 d features, plus and minus every unit vector; encoding is exact."""

    def __init__(self, width):
        self.features = torch.cat([torch.eye(width), -torch.eye(width)])
        self.size = 2 * width

    def encode(self, rows):
        return (rows @ self.features.T).relu()

    def decode(self, activations):
        return activations @ self.features


@pytest.fixture
def attached(tiny_llama, tiny_adapter):
    with attach(tiny_llama, tiny_adapter) as found:
        yield found


@pytest.fixture
def corpus(tmp_path):
    words = "ship king morning letter salt London summer daughter weather cargo".split()
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, 40)) for _ in range(2 * HELD_OUT)]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_all_features_turned_back_after_the_last_block_give_the_base(attached):
    signs = Signs(32)
    last = turn_back(signs, 2, range(64))
    none = turn_back(signs, 2, [])
    found = patched_likelihoods(attached, QUESTIONS, [last, none])
    base, adapted, turned, kept = found.sums
    assert turned == pytest.approx(base, abs=1e-4)
    assert kept.tolist() == adapted.tolist()
    assert abs(adapted - base).max() > 0.1


def test_factor_one_changes_nothing_and_factor_zero_of_all_features_empties_the_stream(attached):
    signs, found = Signs(32), {}
    one, rows = scale(signs, LAYER, range(64), 1.0, blocks_of=BASE), torch.randn(2, 3, 32)
    assert torch.equal(one.rewrites[LAYER](rows, rows, rows), rows)
    for factor in (0.0, 2.0):
        patch = scale(signs, LAYER, range(64), factor, blocks_of=BASE)
        found[factor] = patch.rewrites[LAYER](rows, rows, rows)
    assert torch.allclose(found[0.0], torch.zeros_like(rows), atol=1e-6)
    assert torch.allclose(found[2.0], 2 * rows, atol=1e-6)
    same = patched_likelihoods(attached, QUESTIONS, [one]).sums
    assert same[2].tolist() == same[0].tolist()


def test_suppressing_a_feature_that_is_not_active_changes_nothing():
    rows = torch.randn(1, 4, 32)
    rows[..., 5] = rows[..., 5].abs()
    patch = scale(Signs(32), LAYER, [32 + 5], 0.0, blocks_of=ADAPTER)
    assert torch.equal(patch.rewrites[LAYER](rows, rows, rows), rows)


def test_a_feature_that_there_is_not_is_refused():
    with pytest.raises(LayerError, match="no feature 64"):
        turn_back(Signs(32), LAYER, [64])


def test_an_exact_dictionary_tells_the_whole_change(attached):
    codes = {"mean": mean_code(np.zeros(32)), "all": lambda rows: rows}
    found = feature_changes(attached, Signs(32), LAYER, TEXTS, names=(BASE, ADAPTER, BASE), others=codes)
    assert explained_change(found.size[:1], found.missed[:1]) == pytest.approx([1.0], abs=1e-9)
    assert found.size[1].tolist() == [0.0, 0.0]
    assert explained_change(found.size[:1], found.missed_by["mean"][:1]) == pytest.approx([0.0])
    assert explained_change(found.size[:1], found.missed_by["all"][:1]) == pytest.approx([1.0])
    # the change of a feature less that of its opposite is the mean difference itself
    assert found.mean[1].tolist() == [0.0] * 64
    assert found.size[0].sum() > 0
    assert found.n > 10


def test_changes_agree_with_plain_loops(attached):
    found = feature_changes(attached, Signs(32), LAYER, TEXTS[:1], names=(BASE, ADAPTER), others={})
    ids = attached.loaded.tokenizer(TEXTS[0].text, return_tensors="pt")["input_ids"]
    sides = []
    for off in (True, False):
        with torch.inference_mode(), block_outputs(attached.model, [LAYER]) as kept:
            if off:
                with attached.model.disable_adapter():
                    attached.model(input_ids=ids)
            else:
                attached.model(input_ids=ids)
            sides.append(kept[LAYER][0, 1:].clone())
    risen = (sides[1].relu() - sides[0].relu()).double().sum(dim=0)
    assert found.risen[0, :32] == pytest.approx(risen.numpy(), abs=1e-3)
    assert found.fired[0, :32].tolist() == (sides[0] > 0).sum(dim=0).tolist()


def test_texts_of_sinks_alone_are_refused(attached):
    with pytest.raises(DataError, match="beside attention sinks"):
        feature_changes(attached, Signs(32), LAYER, [Text("a", "d", "a")], names=(BASE, ADAPTER), others={})


def test_few_features_carry_a_change_of_few():
    assert carried_by(np.array([3.0, 3.0, 3.0, 0.0])) == pytest.approx(3.0)


def test_windows_cover_training_documents_and_leave_the_held_out_ones(tiny_llama, corpus):
    read = base_stream(tiny_llama, LAYER)
    found = list(windows(tiny_llama, [corpus], read, length=32))
    numbers = {int(n) for batch in found for n in batch.document}
    held = list(windows(tiny_llama, [corpus], read, length=32, held_out=True))
    assert {int(n) for batch in held for n in batch.document} == {HELD_OUT - 1, 2 * HELD_OUT - 1}
    assert numbers == set(range(2 * HELD_OUT)) - {HELD_OUT - 1, 2 * HELD_OUT - 1}
    skipped = list(windows(tiny_llama, [corpus], read, length=32, skip=1))
    assert len(found) > 1
    assert torch.equal(skipped[0].ids, found[1].ids)
    rows = torch.cat(list(training_rows(iter(held))))
    # the first token of every window is a sink
    assert len(rows) == sum(int(batch.batch.attention_mask[:, 1:].sum()) for batch in held)


def test_sides_are_base_and_adapter(attached, corpus):
    both = sided_stream(attached, LAYER, (BASE, ADAPTER))
    (found, *_) = windows(attached.loaded, [corpus], both, length=32, held_out=True)
    with attached.model.disable_adapter():
        (base, *_) = windows(
            attached.loaded, [corpus], base_stream(attached.loaded, LAYER), length=32, held_out=True
        )
    assert torch.equal(found.stream[0], base.stream[0])
    assert not torch.allclose(found.stream[1], found.stream[0], atol=1e-3)


@pytest.mark.parametrize("length", [8, 4096])
def test_windows_that_do_not_fit_are_refused(tiny_llama, corpus, length):
    tiny_llama.tokenizer.model_max_length = 128
    with pytest.raises(DataError, match="windows of"):
        next(
            windows(tiny_llama, [corpus], base_stream(tiny_llama, LAYER), length=length if length > 8 else 4)
        )


def test_quality_of_codes_that_are_known(tiny_llama, corpus):
    held = list(windows(tiny_llama, [corpus], base_stream(tiny_llama, LAYER), length=32, held_out=True))
    rows = torch.cat(list(training_rows(iter(held)))).double().numpy()
    centre, covariance = rows.mean(axis=0), np.cov(rows.T)
    codes = {
        "mean": mean_code(centre),
        "four": principal_code(covariance, centre, 4),
        "random": random_code(np.eye(32), centre, 4),
    }
    (side,) = explained(held, {"signs": Signs(32)}, codes, centre)
    values = np.sort(np.linalg.eigvalsh(covariance))[::-1]
    assert explained_variance(side["signs"].sums) == pytest.approx(1.0, abs=1e-6)
    assert explained_variance(side["mean"].sums) == pytest.approx(0.0, abs=1e-6)
    assert explained_variance(side["four"].sums) == pytest.approx(values[:4].sum() / values.sum(), abs=1e-4)
    assert 0 < explained_variance(side["random"].sums) < explained_variance(side["four"].sums)
    assert side["signs"].sums[:, 3].sum() == pytest.approx((rows != 0).sum())
    assert side["signs"].fired.sum() == side["signs"].sums[:, 3].sum()


def test_a_code_that_rebuilds_everything_costs_nothing_and_hooks_are_gone(tiny_llama, corpus):
    held = list(windows(tiny_llama, [corpus], base_stream(tiny_llama, LAYER), length=32, held_out=True))
    signs = Signs(32)
    codes = [lambda rows: signs.decode(signs.encode(rows)), mean_code(np.zeros(32))]
    losses, counts = spliced_losses(tiny_llama.model, LAYER, codes, held)
    assert losses[:, 1] == pytest.approx(losses[:, 0], rel=1e-5)
    assert recovered_loss(losses) == pytest.approx(1.0, abs=1e-3)
    assert counts.sum() == sum(int(batch.batch.attention_mask[:, 1:].sum()) for batch in held)
    assert not any(module._forward_hooks for module in tiny_llama.model.modules())


def test_labels_are_the_tokens_of_the_strongest_examples(tiny_llama, corpus):
    held = list(windows(tiny_llama, [corpus], base_stream(tiny_llama, LAYER), length=32, held_out=True))
    signs = Signs(32)
    whole, parts = top_examples(held, signs, 0), top_examples(reversed(held), signs, 0)
    assert torch.equal(whole.activation, parts.activation)
    rows = torch.cat(list(training_rows(iter(held))))
    ids = torch.cat([batch.ids[batch.kept] for batch in held])
    assert whole.activation[3, 0] == rows[:, 3].max()
    assert whole.tokens[3, 0, -1] == ids[rows[:, 3].argmax()]
    assert len(active_at(whole, tiny_llama, [3, 5])) == 2


def test_promoted_tokens_are_those_of_the_lens(tiny_llama, monkeypatch):
    (found,) = promoted(Signs(32), tiny_llama, [7], most=1)
    model = tiny_llama.model
    direct = model.lm_head.weight[:, 7] * model.model.norm.weight[7]
    assert found == (tiny_llama.tokenizer.decode([int(direct.argmax())]).strip() or "␣")
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    with pytest.raises(ModelError, match="unembedding"):
        promoted(Signs(32), tiny_llama, [7])
