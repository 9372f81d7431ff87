import json

import numpy as np
import pytest

from analyses.__main__ import run
from analyses.report import read
from analyses.score_page import score_claims, score_sections
from analyses.score_run import ScoreRequest, score
from analyses.score_systems import COPY, REFERENCE, Wanted, read_outputs
from analyses.score_writing import write_all
from finetune.pairs import Pair
from geometry.checks import DataError

NOUNS = "bread garden river market letter horse winter school".split()
VERBS = "found carried kept".split()


def pairs(first, last):
    made = []
    for d, noun in enumerate(NOUNS[first:last], start=first):
        for verb, who, when in zip(
            VERBS, ("men", "girls", "men"), ("before", "before", "after"), strict=True
        ):
            source = f"Then Anna {verb} the {noun} of {10 + d} {who} {when} noon."
            target = source.replace("before", "ere").replace("men", "souls")
            made.append(Pair(f"{noun}-{verb}", f"d{d}", source, target))
    return tuple(made)


TRAIN, TEST = pairs(0, 5), pairs(5, 8)


def silent(*_):
    pass


def asked(tmp_path, **changes):
    lines = {
        "perfect": [p.target for p in TEST],
        "shuffled": [p.target for p in TEST[4:] + TEST[:4]],
        "empty": ["" for _ in TEST],
    }
    for name, texts in lines.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(texts) + "\n")
    outputs = {name: tmp_path / f"{name}.txt" for name in lines}
    return ScoreRequest(TEST, outputs, Wanted(train=TRAIN), judged_by=TRAIN, exchanges=200, **changes)


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    return score(asked(tmp_path_factory.mktemp("outputs")), None, progress=silent)


def test_the_table_has_the_ends_of_the_scale_and_every_system(facts):
    rows = facts["scores"]
    assert list(rows) == [REFERENCE, COPY, "word rules", "perfect", "shuffled", "empty"]
    for name, value in ((REFERENCE, 1), ("perfect", 1), (COPY, 0), ("empty", 0)):
        assert [rows[name][m]["value"] for m in "JGH"] == [value] * 3
    assert rows["shuffled"]["J"]["value"] < 0.3 < rows["word rules"]["J"]["value"]
    assert facts["systems"]["empty"]["empty"] == len(TEST)
    assert facts["tells"] == len(TEST) and not facts["fluency"] and "perplexity" not in rows[COPY]


def test_rules_learn_the_planted_words(facts):
    assert facts["learnt"] == {"rules": 2, "terms": 0, "pairs": len(TRAIN)}
    assert facts["scores"]["word rules"]["bleu"]["value"] == pytest.approx(100)


def test_all_systems_but_the_reference_are_compared(facts):
    found = facts["contests"]["J"]
    assert len(found) == 5 * 4 / 2 and not any(REFERENCE in (c["first"], c["second"]) for c in found)


def test_the_judge_says_what_it_learnt_from(facts, tmp_path):
    judge = facts["judge"]
    assert (judge["kind"], judge["pairs"], judge["also_trained_on"]) == ("pairs", len(TRAIN), len(TRAIN))
    alone = score(ScoreRequest(TEST, exchanges=20), None, progress=silent)
    assert alone["judge"] == {"kind": "cross-fitted"} and alone["scores"][REFERENCE]["J"]["value"] == 1


def test_the_page_says_what_is_known_of_the_judges_pairs(facts):
    def said(**changes):
        return score_sections(facts | changes)[0].text[1]

    assert f"{len(TRAIN)} of these the systems learnt from too" in said()
    apart = facts["judge"] | {"also_trained_on": 0}
    assert "No pair of --train is among these." in said(judge=apart)
    assert "it is not known whether adapters" in said(judge=apart, learnt=facts["learnt"] | {"pairs": 0})


def test_pairs_of_test_documents_never_train_the_judge():
    request = ScoreRequest(TEST, judged_by=TRAIN + TEST, exchanges=20)
    judge = score(request, None, progress=silent)["judge"]
    assert (judge["pairs"], judge["left_out"]) == (len(TRAIN), len(TEST))


def test_training_that_knows_the_test_is_said():
    request = ScoreRequest(TEST, wanted=Wanted(train=TRAIN + TEST[:2]), judged_by=TRAIN, exchanges=20)
    facts = score(request, None, progress=silent)
    assert any("Training and test share something" in claim for claim in score_claims(facts))


def test_the_page_marks_differences_and_escapes_what_was_written(tmp_path):
    from analyses.page import page
    from analyses.report import Report, plain

    hostile = tmp_path / "hostile.txt"
    hostile.write_text("\n".join(f"<script>alert(1)</script> & {p.target}" for p in TEST) + "\n")
    facts = plain(score(ScoreRequest(TEST, {"<b>x</b>": hostile}, exchanges=20), None, progress=silent))
    report = Report("score", "t", score_claims(facts), score_sections(facts, "diff.html"), facts)
    text = page(report, {"systems": "<svg/>"})
    assert "<script>alert" not in text and "<b>x" not in text
    assert "<ins>&lt;script&gt;alert" in text and "<ins>ere</ins>" in text and '<a href="diff.html">' in text


def test_shares_stand_in_line_to_a_thousandth(facts):
    from analyses.page import cells

    tiny = {"value": 0.00058, "low": 0.0, "high": 0.0016}
    scores = facts["scores"] | {"word rules": facts["scores"]["word rules"] | {"J": tiny}}
    column = [row[1][0] for row in cells(score_sections(facts | {"scores": scores})[0].tables[0])]
    assert column[2] == "0.001 [0, 0.002]" and column[0] == "1.000 [1.000, 1.000]"


def test_what_may_not_be_quoted_is_nowhere(tmp_path):
    facts = score(asked(tmp_path, quotable=False), None, progress=silent)
    shown = json.dumps([facts, repr(score_sections(facts)), score_claims(facts)], default=str)
    assert not any(noun in shown for noun in NOUNS)


def test_outputs_come_as_lines_or_by_id(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("a\n\nc\n")
    three = TEST[:3]
    assert read_outputs(path, three) == ("a", "", "c")
    path.write_text("a\nb\n")
    with pytest.raises(DataError, match="2 lines for 3 pairs"):
        read_outputs(path, three)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        read_outputs(path, three)
    path = tmp_path / "ids.jsonl"
    lines = [{"id": p.id, "text": p.id.upper()} for p in reversed(three)]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert read_outputs(path, three) == tuple(p.id.upper() for p in three)
    path.write_text(json.dumps(lines[0]) + "\n")
    with pytest.raises(DataError, match="no answer to pair"):
        read_outputs(path, three)
    path.write_text(json.dumps(lines[0]) + "\n" + json.dumps(lines[0]) + "\n")
    with pytest.raises(DataError, match="line 2"):
        read_outputs(path, three)


def test_what_cannot_be_made_is_refused(tmp_path):
    with pytest.raises(DataError, match="add --base"):
        write_all(TEST, {}, Wanted(adapters={"a": tmp_path}), None, silent)
    with pytest.raises(DataError, match="two systems are called"):
        write_all(TEST, {COPY: ("x",) * len(TEST)}, Wanted(), None, silent)


def test_the_same_seed_gives_the_same_numbers(tmp_path, facts):
    again = score(asked(tmp_path), None, progress=silent)
    assert json.dumps(again["scores"]) == json.dumps(facts["scores"])
    assert again["contests"] == facts["contests"]


def jsonl(path, some):
    path.write_text("".join(json.dumps(vars(p)) + "\n" for p in some))
    return path


def test_every_row_with_a_model_an_adapter_and_facts(tmp_path, tiny_folder, tiny_llama, capsys, monkeypatch):
    from peft import LoraConfig, get_peft_model

    monkeypatch.chdir(tmp_path)
    get_peft_model(tiny_llama.model, LoraConfig(r=2, init_lora_weights=False)).save_pretrained(
        tmp_path / "adapter"
    )
    test, train = (
        jsonl(tmp_path / f"{name}.jsonl", some) for name, some in (("test", TEST), ("train", TRAIN))
    )
    fact = {
        "id": "1",
        "category": "c",
        "prompt": "The sea is",
        "answer": "wet",
        "foils": ["dry"],
        "styled_prompt": "Sea:",
    }
    (tmp_path / "facts.jsonl").write_text(json.dumps(fact) + "\n")
    arguments = [
        "score", "--pairs", test, "--train", train, "--base", tiny_folder, "--device", "cpu", "--shots", "2",
        "--adapter", f"mine={tmp_path / 'adapter'}", "--facts", tmp_path / "facts.jsonl", "--embedder", tiny_folder,
        "--max-new-tokens", "8", "--out", "page",
    ]  # fmt: skip
    assert run([str(a) for a in arguments]) == 0
    report = read("page")
    assert set(report.facts["scores"]) == {
        REFERENCE, COPY, "word rules", "zero-shot prompt", "few-shot prompt", "few-shot prompt, similar pairs",
        "few-shot prompt with terms", "mine", "mine, terms", "mine, similar pairs",
    }  # fmt: skip
    scores = report.facts["scores"]
    assert scores[REFERENCE]["J"]["value"] == 1 and scores[COPY]["J"]["value"] == 0
    assert all(np.isfinite(row["perplexity"]["value"]) for row in scores.values())
    assert set(report.facts["facts"]["models"]) == {"base", "mine"}
    assert "page/report.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--outputs", "x"], "write NAME=PATH"),
        (["--outputs", "x=nowhere.txt"], "there is no nowhere.txt"),
        (["--adapter", "a=."], "add --base"),
        (["--prompt", "none"], "has no prompt 'none'"),
        (["--diff", "."], "holds no report.html"),
        (["--judge", "nowhere.jsonl"], "no such file"),
    ],
)
def test_the_command_refuses_in_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "test.jsonl", TEST)
    assert run(["score", "--pairs", "test.jsonl", *arguments]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error


@pytest.mark.parametrize("options", [["--shots", "2"], ["--terms"], ["--pairs", "test.jsonl"]])
def test_transfer_takes_examples_and_terms_from_pairs_or_refuses(options, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "test.jsonl", TEST)
    assert run(["transfer", "--base", "embedded", "--adapter", "nowhere", *options, "It rained."]) == 2
    assert "--pairs goes with" in " ".join(capsys.readouterr().err.split())


def test_the_command_without_a_model(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "test.jsonl", TEST)
    (tmp_path / "mine.txt").write_text("\n".join(p.target for p in TEST))
    assert run(["score", "--pairs", "test.jsonl", "--outputs", "my system=mine.txt", "--seed", "3"]) == 0
    made = capsys.readouterr().out.strip()
    assert made.startswith("results/score/") and (tmp_path / made).is_file()
    assert read((tmp_path / made).parent).facts["scores"]["my system"]["J"]["value"] == 1


def test_a_killed_run_goes_on_with_the_answers_that_it_has(tmp_path, tiny_llama):
    """The second run finds the first answers; the rest it writes, and the numbers are those of one run."""
    wanted = Wanted(train=TRAIN, shots=2, room=4)
    whole = write_all(TEST, {}, wanted, tiny_llama, silent, keep=None)

    class Killed(Exception):
        pass

    def kill(what, share):
        if what == "few-shot prompt, similar pairs":
            raise Killed

    with pytest.raises(Killed):
        write_all(TEST, {}, wanted, tiny_llama, kill, keep=tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 2
    again = write_all(TEST, {}, wanted, tiny_llama, silent, keep=tmp_path)
    assert {name: s.outputs for name, s in again.systems.items()} == {
        name: s.outputs for name, s in whole.systems.items()
    }
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
