"""A finished run finds its base, adapter and texts again, and notices when one of them is another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from analyses.compared import Compared, comparison
from analyses.manifest import manifest
from geometry.checks import AdapterError, DataError, ModelError
from geometry.live.models import load


@pytest.fixture
def made(tmp_path, tiny_folder):
    """A base, an adapter, two files of texts and the manifest of a run over them."""
    base, adapter, run = tmp_path / "base", tmp_path / "adapter", tmp_path / "run"
    shutil.copytree(tiny_folder, base)
    adapter.mkdir()
    run.mkdir()
    save_file({}, adapter / "adapter_model.safetensors", {"made": "first"})
    files = {name: tmp_path / f"{name}.jsonl" for name in ("style", "fact")}
    for name, path in files.items():
        path.write_text(name)
    loaded = load(str(base), dtype="float32", device="cpu")
    note(run, manifest(files=files, **comparison(loaded, adapter)))
    return tmp_path


def note(run, record):
    (run / "manifest.json").write_text(json.dumps(record))


def recorded(run):
    return json.loads((run / "manifest.json").read_text())


def test_a_run_finds_again_what_it_compared(made):
    found = Compared.read(made / "run")
    assert found.base == str(made / "base")
    assert (found.dtype, found.adapter) == ("float32", made / "adapter")
    assert found.texts == {"style": made / "style.jsonl", "fact": made / "fact.jsonl"}
    assert found.training is None
    assert found.quotable
    assert found.load(device="cpu").fingerprint == found.fingerprint


def test_a_run_of_a_style_says_which_file_is_which_group(made):
    record = recorded(made / "run")
    record["files"] = {"test": record["files"]["style"], "train": record["files"]["fact"]}
    note(made / "run", record | {"groups": {"style": "test"}, "quotable": False})
    found = Compared.read(made / "run")
    assert found.texts == {"style": made / "style.jsonl"}
    assert found.training == made / "fact.jsonl"
    assert not found.quotable
    (made / "fact.jsonl").write_text("other")
    with pytest.raises(DataError, match=r"fact\.jsonl: has changed since"):
        Compared.read(made / "run")


def test_what_changed_or_went_is_refused(made):
    (made / "style.jsonl").write_text("other")
    with pytest.raises(DataError, match=r"style\.jsonl: has changed since .*run read it; give the old one"):
        Compared.read(made / "run")
    (made / "style.jsonl").unlink()
    with pytest.raises(DataError, match=r"style\.jsonl: .*is not there .*; was it moved\?"):
        Compared.read(made / "run")
    (made / "style.jsonl").write_text("style")
    save_file({}, made / "adapter" / "adapter_model.safetensors", {"made": "again"})
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors: has changed since"):
        Compared.read(made / "run")
    shutil.rmtree(made / "adapter")
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors: .*is not there"):
        Compared.read(made / "run")


def test_another_base_or_tokenizer_is_refused(made, tiny_folders):
    found = Compared.read(made / "run")
    shutil.rmtree(made / "base")
    with pytest.raises(ModelError, match="no such folder"):
        found.load(device="cpu")
    shutil.copytree(tiny_folders("qwen2"), made / "base")
    with pytest.raises(ModelError, match="its weights changed since the run was made"):
        found.load(device="cpu")
    shutil.rmtree(made / "base")
    shutil.copytree(tiny_folders("llama"), made / "base")
    tokenizer = made / "base" / "tokenizer.json"
    content = json.loads(tokenizer.read_text())
    content["model"]["merges"].pop()
    tokenizer.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="its tokenizer changed since the run was made"):
        found.load(device="cpu")


def test_a_relative_path_is_looked_for_from_here(made, monkeypatch):
    record = recorded(made / "run")
    for file in record["files"].values():
        file["path"] = Path(file["path"]).name
    note(made / "run", record)
    monkeypatch.chdir(made)
    assert Compared.read("run").texts["style"] == Path("style.jsonl")
    monkeypatch.chdir("/")
    with pytest.raises(DataError, match="relative ones from the current folder"):
        Compared.read(made / "run")


def test_a_folder_that_is_no_comparison_is_refused(made, tmp_path):
    with pytest.raises(DataError, match=r"holds no manifest\.json; name the folder that has report\.html"):
        Compared.read(made / "base")
    (made / "whole").mkdir()
    (made / "run").rename(made / "whole" / "page")
    with pytest.raises(DataError, match="its page is a folder in it"):
        Compared.read(made / "whole")
    page = made / "whole" / "page"
    for record in ({"files": {}}, {"base": None, "adapter": {}, "files": {}}, []):
        note(page, record)
        with pytest.raises(DataError, match="does not name a base, an adapter and texts"):
            Compared.read(page)
    (page / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        Compared.read(page)
