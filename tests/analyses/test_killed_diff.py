"""A diff that is killed leaves nothing that could be taken for a result, and the next one is whole."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
import time

import pytest
import torch

WORDS = "the ship came home in a morning with oranges and salt on monday old king asked his daughter".split()


@pytest.fixture
def command(tmp_path, tiny_llama, tiny_folder):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(copy.deepcopy(tiny_llama.model), LoraConfig(r=2, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    model.save_pretrained(tmp_path / "adapter")
    texts = tmp_path / "texts.jsonl"
    with texts.open("w") as file:
        for i in range(400):
            row = {
                "id": str(i),
                "text": " ".join(WORDS[(i * 7 + j * j) % len(WORDS)] for j in range(14)) + f" {i}",
            }
            file.write(json.dumps(row) + "\n")
    words = [sys.executable, "-m", "analyses", "diff", "--base", str(tiny_folder), "--adapter"]
    return [
        *words,
        str(tmp_path / "adapter"),
        "--texts",
        f"style={texts}",
        "--out",
        str(tmp_path / "run"),
        "--k",
        "2",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.3, 1.0])
def test_kill_9_leaves_nothing_and_a_rerun_is_whole(tmp_path, command, delay):
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "reading" in line:
                break
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    out = tmp_path / "run"
    assert not out.exists() or (out / "report.html").is_file()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{out / 'report.html'}\n"
    assert json.loads((out / "report.json").read_text())["command"] == "diff"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".run")] == []
