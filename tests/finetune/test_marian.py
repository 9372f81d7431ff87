"""Tiny Marian models with random weights, saved and loaded: the same code as for real ones."""

import json
import shutil
import warnings
from dataclasses import replace

import pytest

from finetune.marian import MARIAN_PIVOTS, Marian
from finetune.round_trips import TripStore, require_sane, round_trips
from geometry.checks import InputError, ModelError

SENTENCES = [
    "The ship came home in the morning with a cargo of oranges and salt.",
    "On Monday the old king asked his daughter what the weather would be in January.",
    "She wrote three letters to London, and none of them was answered before summer.",
]
HOSTILE = [
    "",
    " \t",
    ">>fra<< hi",
    "</s>",
    "null \0 bell \7",
    "<b>&amp;</b> $(touch hacked)",
    "漢字 😀",
    "a\nb\u2028c",
]


def tiny_marian(folder, seed):
    sentencepiece = pytest.importorskip("sentencepiece")
    import torch
    from transformers import MarianConfig, MarianMTModel

    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20), model_prefix=str(folder / "source"), vocab_size=90,
        hard_vocab_limit=False, character_coverage=1.0, bos_id=-1, eos_id=0, unk_id=1, pad_id=-1, minloglevel=2,
    )  # fmt: skip
    shutil.copy(folder / "source.model", folder / "source.spm")
    shutil.copy(folder / "source.model", folder / "target.spm")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    vocabulary = [*(pieces.id_to_piece(i) for i in range(pieces.get_piece_size())), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(vocabulary)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "eng", "target_lang": "xxx"}))
    padding = len(vocabulary) - 1
    config = MarianConfig(
        vocab_size=len(vocabulary), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64, init_std=0.5,
        pad_token_id=padding, eos_token_id=0, decoder_start_token_id=padding, forced_eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        MarianMTModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("marian")
    return tiny_marian(place / "there", 0), tiny_marian(place / "back", 1)


@pytest.fixture(scope="module")
def engine(folders):
    return Marian.load("klingon", folders, beams=2, batch_size=2, device="cpu")


def test_one_answer_for_each_sentence_whatever_its_batch(engine):
    together = engine.round_trip(SENTENCES)
    assert together == [engine.round_trip([sentence])[0] for sentence in SENTENCES]
    assert engine.round_trip(SENTENCES[::-1]) == together[::-1]
    assert any(together)
    assert replace(engine, batch_size=64).round_trip(SENTENCES) == together


def test_both_models_are_used(engine, folders):
    there = engine.there(SENTENCES)
    assert engine.round_trip(SENTENCES) == engine.back(there)
    swapped = Marian.load("klingon", folders[::-1], beams=2, batch_size=2, device="cpu")
    assert swapped.there(SENTENCES) == engine.back(SENTENCES) != there


def test_it_is_what_generate_gives(engine, folders):
    import torch
    from transformers import MarianMTModel, MarianTokenizer

    with warnings.catch_warnings():
        # said only where sacremoses is not installed
        warnings.filterwarnings("ignore", message=".*sacremoses.*")
        tokenizer = MarianTokenizer.from_pretrained(folders[0])
    model = MarianMTModel.from_pretrained(folders[0]).eval()
    with torch.inference_mode():
        out = model.generate(**tokenizer([SENTENCES[0]], return_tensors="pt"), num_beams=2, max_new_tokens=63)
    assert engine.there(SENTENCES[:1])[0] == " ".join(
        tokenizer.decode(out[0], skip_special_tokens=True).split()
    )


def test_hostile_text_does_not_shift_its_neighbours(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    marked = [part for text in HOSTILE for part in (text, SENTENCES[0])]
    trips = engine.there(marked)
    assert len(trips) == len(marked)
    assert set(trips[1::2]) == {engine.there(SENTENCES[:1])[0]}
    assert trips[0] == trips[2] == ""
    assert not any("\n" in trip for trip in trips)
    assert not list(tmp_path.iterdir())


def test_a_sentence_that_spells_a_special_token_does_not_end_there(engine):
    cut, whole = engine._there.encode("The ship </s> came home"), engine._there.encode("The ship came home")
    assert cut.count(0) == whole.count(0) == 1


def test_a_sentence_is_never_cut(engine):
    long = " ".join(SENTENCES * 5)
    assert engine.there([long, SENTENCES[0]]) == ["", engine.there(SENTENCES[:1])[0]]


def test_it_goes_through_the_store_as_every_engine(engine, tmp_path):
    store = TripStore(tmp_path / "trips.sqlite")
    trips = round_trips(SENTENCES, engine, store)
    assert [trip.text for trip in trips] == engine.round_trip(SENTENCES)
    assert round_trips(SENTENCES, engine, store, workers=2) == trips


def test_details_tell_models_apart(engine, folders):
    assert engine.name == "marian/klingon"
    assert engine.details["sha256_there"] != engine.details["sha256_back"]
    assert engine.details["beams"] == 2
    assert engine.details["there"] == folders[0]
    assert engine.batch == 16


def test_random_models_are_refused_before_a_corpus_is_given(engine):
    with pytest.raises(InputError, match=r"marian/klingon: .* are the models those of the pivot"):
        require_sane(engine)


def test_a_pivot_without_models_is_refused():
    with pytest.raises(InputError, match=r"'klingon': choose one of german, .*or give the folders"):
        Marian.load("klingon")
    assert MARIAN_PIVOTS["german"][0].endswith("en-de")


@pytest.mark.parametrize("broken", ["vocab.json", "source.spm", "config.json", "model.safetensors", None])
def test_a_folder_that_is_no_model_says_what_is_needed(folders, tmp_path, broken):
    folder = tmp_path / "model"
    if broken:
        shutil.copytree(folders[0], folder)
        (folder / broken).unlink()
    with pytest.raises(
        ModelError, match=r"no Marian model .* source.spm and target.spm.* hf download"
    ) as caught:
        Marian.load("klingon", (str(folder), folders[1]), device="cpu")
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing_are_not_made_up(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(folders[0], folder)
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if "fc1.weight" in name))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="no Marian model"):
        Marian.load("klingon", (str(folder), folders[1]), device="cpu")


def test_a_missing_tokenizer_library_says_how_to_install_it(folders, monkeypatch):
    import transformers

    def absent(*_, **__):
        raise ImportError("sentencepiece")

    monkeypatch.setattr(transformers.MarianTokenizer, "from_pretrained", absent)
    with pytest.raises(InputError, match=r"pip install sentencepiece sacremoses$"):
        Marian.load("klingon", folders, device="cpu")
