import copy
import json

import pytest

from finetune.model_card import card, write_model_card
from finetune.pretrain_recipe import PretrainRecipe
from geometry.checks import DataError

MADE = {
    "request": {
        "recipe": PretrainRecipe().model_dump(mode="json"),
        "corpora": [["wiki.jsonl.gz", "0123456789abcdef" * 4], ["novels.txt", "f" * 64]],
        "engine": "apertium/spanish",
    },
    "digest": PretrainRecipe().digest,
    "parameters": 6_524_160,
    "machine": "2 CPU threads",
    "tokens": 14_983_168,
    "seconds": 4753.3,
    "held_out_loss": 3.97174,
    "held_out_tokens": 60_000,
    "held_out": "whole documents",
    "split_words": {"Ahmedabad": ["ĠAhmed", "abad"]},
    "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
    "log": [
        {"step": i, "loss": 9.0 - i / 10, "tokens": 8192 * i, "seconds": float(i)}
        | ({"held_out": 8.5 - i / 10} if i % 2 == 0 else {})
        for i in range(1, 61)
    ],
}
MEASURED = {
    "validation": {
        "characters": 1_120_192,
        "tokens": 314_293,
        "window": 1024,
        "nats_per_token": 4.78674,
        "perplexity": 119.91,
        "bits_per_character": 1.93757,
        "unigram_nats_per_token": 6.35734,
    },
    "copying": {
        "n": 200,
        "exact": {"value": 0.843, "low": 0.775, "high": 0.912},
        "bleu": {"value": 96.25, "low": 94.27, "high": 98.04},
        "bleu_signature": "nrefs:1",
        "bleu_of_another": 0.32,
    },
    "copies": [{"source": "It rained.", "answer": "It rained."}],
    "samples": [{"prompt": "Once upon a time", "text": ", a king\n# had {no} ```fence``` | and <b>"}],
    "validation_name": "WikiText-2",
}


def changed(**changes):
    return {**copy.deepcopy(MADE), **changes}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pretraining.json").write_text(json.dumps(MADE))
    return tmp_path


@pytest.mark.parametrize(
    "said",
    [
        "6,524,160 parameters",
        "6 of width 256, 4 heads (2 for keys and values), MLP of 704",
        "| 1,024 tokens |",
        "14,983,168",
        "1 h 19 min on 2 CPU threads",
        "| loss on 60,000 tokens of held-out documents | 3.972 nats a token |",
        "| loss on WikiText-2 | 4.787 nats a token | 6.357 from the frequencies",
        "| perplexity on WikiText-2 | 119.9 | 576.7 |",
        "| bits a character on WikiText-2 | 1.938 |",
        "windows of 1,024 tokens without overlap",
        "| exact copies of 200 held-out sentences | 84.3% [77.5%, 91.2%] |",
        "| BLEU of these copies | 96.2 [94.3, 98.0] | 0.3 for answering with another sentence |",
        "Those that split all the same (1): Ahmedabad (`ĠAhmed abad`).",
        "`wiki.jsonl.gz` (0123456789ab), `novels.txt` (ffffffffffff)",
        "88% at length 256, 6% at length 512, 6% at length 1,024; 8,192 a step",
        "apertium/spanish",
        "`e1cac1a30d12`",
        "Held out were whole documents.",
        "    It rained.\n    -> It rained.",
    ],
)
def test_every_number_is_said(said):
    assert said in card(MADE, MEASURED)


def test_the_hub_reads_the_top():
    _, metadata, body = card(MADE, MEASURED).split("---\n", 2)
    assert metadata == "library_name: transformers\npipeline_tag: text-generation\n"
    assert body.startswith("\n# ")


def test_what_a_model_writes_is_no_markdown():
    text = card(MADE, MEASURED)
    assert "    [Once upon a time], a king\n    # had {no} ```fence``` | and <b>\n" in text
    assert "\n# had" not in text


def test_the_curve_is_thinned_but_keeps_its_ends():
    def curve(made):
        return (
            card(made, MEASURED)
            .split("held-out documents |\n|---|---|---|---|\n")[1]
            .split("\n\n")[0]
            .splitlines()
        )

    rows = curve(MADE)
    assert len(rows) == 12
    assert rows[0] == "| 2 | 16,384 | 8.800 | 8.300 |"
    assert rows[-1] == "| 60 | 491,520 | 3.000 | 2.500 |"
    assert curve(changed(log=MADE["log"][1:2])) == rows[:1]


def test_nothing_splits_and_no_engine():
    request = {**MADE["request"], "engine": None}
    text = card(changed(split_words={}, request=request), MEASURED)
    assert "None of them splits." in text
    assert "15% of the rows: copying and repairing |" in text


def test_a_card_is_a_function_of_its_numbers():
    made, measured = copy.deepcopy(MADE), copy.deepcopy(MEASURED)
    assert card(made, measured) == card(MADE, MEASURED)
    assert (made, measured) == (MADE, MEASURED)


def test_numbers_and_card_are_written_together(folder):
    measured = {name: value for name, value in MEASURED.items() if name != "validation_name"}
    write_model_card(folder, measured, validation_name="WikiText-2")
    made = json.loads((folder / "pretraining.json").read_text())
    assert made == {**MADE, "measured": MEASURED}
    assert (folder / "README.md").read_text() == card(made, made["measured"])
    write_model_card(folder, measured, validation_name="another text")
    assert "loss on another text" in (folder / "README.md").read_text()
    assert {path.name for path in folder.iterdir()} == {"README.md", "pretraining.json"}


@pytest.mark.parametrize("note", [None, "not json", "[]", "{}", '{"request": {}}'])
def test_other_folders_are_refused(tmp_path, note):
    if note is not None:
        (tmp_path / "pretraining.json").write_text(note)
    with pytest.raises(
        DataError, match=r"is not the note of a pretrained model; name such a folder"
    ) as caught:
        write_model_card(tmp_path, MEASURED, validation_name="x")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "README.md").exists()
