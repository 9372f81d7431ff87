"""Planted features are found; a killed training goes on bit for bit; what is saved is what sae-lens reads.

Needs the extra ``sae``; without it only the refusals are tested.
"""

from importlib.util import find_spec

import pytest
import torch

from finetune.dictionary_training import train_dictionaries
from geometry.checks import DataError, InputError
from geometry.live.dictionary import KINDS, Dictionary, Recipe, Training, first_rows, train

needs_sae = pytest.mark.skipif(
    find_spec("sae_lens") is None, reason="needs sae-lens: pip install 'repgeo[sae]'"
)
WIDTH, TRUE = 32, 48
FEATURES = torch.nn.functional.normalize(
    torch.randn(TRUE, WIDTH, generator=torch.Generator().manual_seed(0)), dim=-1
)


def planted(first, n=40, rows=2048):
    """Chunks of rows that are each a sum of about three of 48 features in 32 dimensions, and a constant."""
    for number in range(first, n):
        chance = torch.Generator().manual_seed(number)
        on = torch.rand(rows, TRUE, generator=chance) < 3 / TRUE
        yield (on * (0.5 + torch.rand(rows, TRUE, generator=chance))) @ FEATURES + 0.3


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "dense"}, "no dictionaries of kind"),
        ({"active": 64}, "fewer than there are"),
        ({"rows": 5}, "more"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(change, words):
    with pytest.raises(DataError, match=words):
        Recipe(**{"kind": "topk", "size": 64, "active": 3, "rows": 10_000} | change)


@pytest.mark.skipif(find_spec("sae_lens") is not None, reason="sae-lens is there")
def test_without_sae_lens_one_line_says_how_to_get_it(tmp_path):
    with pytest.raises(InputError, match="pip install 'repgeo\\[sae\\]'"):
        Training(Recipe("topk", 64, 3, 10_000), WIDTH, [0], torch.ones(4, WIDTH))


def test_a_folder_without_a_dictionary_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no cfg\.json"):
        Dictionary.load(tmp_path)


@needs_sae
def test_a_damaged_dictionary_is_refused(tmp_path):
    (tmp_path / "cfg.json").write_text('{"architecture": "topk", "d_in": 4, "d_sae": 8, "k": 2}')
    with pytest.raises(DataError, match="cannot read it"):
        Dictionary.load(tmp_path)


@needs_sae
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_planted_features_are_found_and_saved(kind, tmp_path):
    recipe = Recipe(kind, 64, 3, 400_000, batch=512, lr=2e-3)
    found = train_dictionaries(planted, recipe, [0])
    (dictionary,) = found.dictionaries

    def share(one):
        return float(((one.features @ FEATURES.T).max(dim=0).values > 0.9).float().mean())

    assert share(found.untrained) < 0.1
    assert share(dictionary) > {"topk": 0.8, "batchtopk": 0.7, "jumprelu": 0.3, "matryoshka": 0.3}[kind]
    rows = next(planted(39))
    dictionary.save(tmp_path / "saved")
    again = Dictionary.load(tmp_path / "saved")
    activations = dictionary.encode(rows)
    assert torch.equal(again.encode(rows), activations)
    # in lengths of unit vectors, what is rebuilt is what sae-lens rebuilds
    assert torch.allclose(dictionary.decode(activations), dictionary.sae(rows), atol=1e-4)
    assert (activations >= 0).all()


@needs_sae
@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_a_killed_training_goes_on_bit_for_bit(kind, tmp_path):
    recipe = Recipe(kind, 64, 3, 40 * 256, batch=256)
    whole = train_dictionaries(planted, recipe, [0, 1])

    class Killed(Exception):
        pass

    def kill(done):
        if done > 0.6:
            raise Killed

    with pytest.raises(Killed):
        train_dictionaries(planted, recipe, [0, 1], work=tmp_path, every=7, tell=kill)
    read = []

    def counted(first):
        read.append(first)
        return planted(first)

    resumed = train_dictionaries(counted, recipe, [0, 1], work=tmp_path, every=7)
    for one, other in zip(whole.dictionaries, resumed.dictionaries, strict=True):
        assert torch.equal(one.features, other.features)
        rows = next(planted(39))
        assert torch.equal(one.encode(rows), other.encode(rows))
    assert (whole.centre == resumed.centre).all()
    assert not torch.equal(whole.dictionaries[0].features, whole.dictionaries[1].features)


@needs_sae
def test_training_leaves_the_global_chance_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    batches = iter([rows[:256] for rows in planted(0)])
    training = Training(Recipe("topk", 64, 3, 1024, batch=256), WIDTH, [0], first_rows(batches))
    train(training, batches)
    assert torch.equal(torch.rand(3), expected)
