"""The page of PAPerBench: both readings beside their floors."""

import json

import pytest

from analyses import report
from analyses.__main__ import run
from finetune.paper_bench import KINDS


def test_invented_persons_become_a_page(tiny_folder, tmp_path, capsys):
    out = tmp_path / "page"
    words = ["--model", str(tiny_folder), "--lengths", "1500", "--prompts", "2", "--sparse", "--decoys", "2"]
    assert run(["privacy", *words, "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    read = report.read(out)
    ((group,),) = read.facts["sides"].values()
    assert set(group["scores"]) == {"personalization", "privacy"}
    assert group["scores"]["privacy"]["chance"]["value"] == pytest.approx(0.2)
    assert sum(n for row in group["confusion"].values() for n in row.values()) == 2 * 13
    assert sum(group["traps"].values()) == pytest.approx(1.0)
    report.redraw(out)


def test_a_file_is_read_in_place_of_inventing(tiny_folder, tmp_path, capsys):
    asked = [{"question": "how many", "options": {"A": "1", "B": "2"}, "answer": "B", "pii_type": KINDS[0]}]
    lines = [json.dumps({"id": i, "context": f"text {i}", "pii_count_mcq": asked}) for i in range(3)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    out = tmp_path / "page"
    words = ["--model", str(tiny_folder), "--data", str(tmp_path / "data.jsonl"), "--out", str(out)]
    assert run(["privacy", *words]) == 0
    assert report.read(out).facts["instances"] == [3]
    assert run(["privacy", "--model", str(tiny_folder), "--lengths", "100", "--out", str(out)]) == 2
    assert "ask for a longer one" in capsys.readouterr().err
