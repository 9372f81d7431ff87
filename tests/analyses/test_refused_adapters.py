"""An adapter that cannot be compared is refused in one line that says why.

``cause`` and ``compare`` start from runs of ``diff``, so that no such adapter reaches them.
"""

from __future__ import annotations

import json

import pytest

from analyses.__main__ import run
from tests.finetune.test_adapter import save_adapter

TEXTS = ("the ship came home", "on Monday the king asked", "she wrote three letters", "he is glad to see you")


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    rows = [{"id": str(i), "doc_id": f"d{i}", "text": f"{TEXTS[i % 4]} {i}"} for i in range(16)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def inactive(folder, loaded):
    return save_adapter(folder, loaded, strength=0.0)


def pissa(folder, loaded):
    return save_adapter(folder, loaded, init_lora_weights="pissa")


def of_another_base(folder, loaded):
    save_adapter(folder, loaded)
    (folder / "training.json").write_text(
        json.dumps({"base": {"name": "elsewhere", "fingerprint": "0" * 64}})
    )
    return folder


BAD = {inactive: "inactive", pissa: "pissa", of_another_base: "elsewhere"}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_diff_and_weights_refuse_it(tmp_path, tiny_llama, tiny_folder, texts, capsys, make):
    adapter = make(tmp_path / "adapter", tiny_llama)
    common = ["--base", str(tiny_folder), "--adapter", str(adapter), "--out", str(tmp_path / "out")]
    commands = (["diff", *common, "--texts", f"style={texts}", "--k", "2", "--quick"], ["weights", *common])
    for command in commands:
        assert run(command) == 2, command[0]
        out, err = capsys.readouterr()
        assert out == ""
        assert BAD[make] in err.splitlines()[-1], command[0]
        assert not (tmp_path / "out").exists()
