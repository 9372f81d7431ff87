import numpy as np
import pytest
import torch

from finetune.content import cosines
from finetune.embedder import Embedder
from geometry.checks import ModelError

TEXTS = ["The ship came home.", "a", "On Monday the old king asked his daughter what it was.", "She wrote."]


@pytest.fixture(scope="module", params=["llama", "bert"])
def embedder(request, tiny_folders):
    return Embedder.load(tiny_folders(request.param))


def test_rows_are_means_of_states_and_do_not_depend_on_the_batch(embedder):
    rows = embedder(TEXTS)
    assert rows.shape == (4, 32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    for batch_size in (1, 2, 32):
        np.testing.assert_allclose(embedder(TEXTS, batch_size=batch_size), rows, atol=1e-5)
    ids = embedder._tokenizer([TEXTS[0]], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        mean = embedder._model(input_ids=ids).last_hidden_state[0].mean(0).numpy()
    np.testing.assert_allclose(rows[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_cosines_are_one_for_the_same_text(embedder):
    np.testing.assert_allclose(cosines(embedder, TEXTS, TEXTS), 1, atol=1e-6)
    assert (cosines(embedder, TEXTS, TEXTS[::-1]) < 1 - 1e-4).all()


def test_an_empty_text_has_no_direction(tiny_folders):
    rows = Embedder.load(tiny_folders("llama"))(["", *TEXTS[:1]])
    assert not rows[0].any()
    assert rows[1].any()
    assert not Embedder.load(tiny_folders("llama"))([""]).any()


def test_no_model_there(tmp_path):
    with pytest.raises(ModelError, match="no embedding model can be loaded"):
        Embedder.load(tmp_path)
