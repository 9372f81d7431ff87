"""Small corpora of made-up English, and a recipe that trains on them in seconds.

Fixtures:

- ``document``: makes a text of about as many characters, in lines of three sentences.
- ``corpus``: path and texts of a JSONL corpus of short documents and a few of several pieces.
- ``tiny_recipe``: makes a pretraining recipe of seconds; keyword arguments change its fields.
"""

import json

import numpy as np
import pytest

from finetune.pretrain_recipe import PretrainRecipe

WORDS = (
    "the a of and to in was he she it river house morning old king letter ship walked slowly wrote gave "
    "took found lost Monday January London Paris never again before after without many few great small"
).split()


def _sentence(rng):
    words = rng.choice(WORDS, rng.integers(6, 14))
    return " ".join([words[0].capitalize(), *words[1:]]) + "."


def _document(rng, characters):
    lines = []
    while sum(map(len, lines)) < characters:
        lines.append(" ".join(_sentence(rng) for _ in range(3)))
    return "\n".join(lines)


@pytest.fixture(scope="session")
def document():
    return _document


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    rng = np.random.default_rng(0)
    texts = [_document(rng, 700) for _ in range(150)] + [_document(rng, 20_000) for _ in range(2)]
    texts = [texts[i] for i in rng.permutation(len(texts))]
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path, texts


@pytest.fixture(scope="session")
def tiny_recipe():
    fields = {
        "width": 16,
        "layers": 1,
        "heads": 2,
        "kv_heads": 1,
        "mlp": 32,
        "vocabulary": 320,
        "context": 512,
        "tokens": 12 * 512,
        "stages": ((0.75, 256), (0.25, 512)),
        "batch_tokens": 512,
        "exercise_share": 0.25,
    }
    return lambda **changes: PretrainRecipe(**{**fields, **changes})
