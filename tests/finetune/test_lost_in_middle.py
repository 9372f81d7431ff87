"""Files of Lost in the Middle: contexts of many documents from the passages of other questions."""

import json
from pathlib import Path

import numpy as np
import pytest

from finetune.lost_in_middle import documents_case, read_key_values, read_open_questions
from finetune.needle_layout import Arrangement, lay_out
from geometry.checks import DataError

REAL = Path(__file__).parents[3] / "shared" / "data" / "long_context"


def passage(title, text, gold=True):
    return {"title": title, "text": text, "hasanswer": gold, "isgold": gold}


def asked(i, answer):
    context = [passage("Other", "Nothing.", gold=False), passage(f"Title {i}", f"It was {answer}, they say.")]
    return {"question": f"who was it {i}", "answers": [answer, answer.upper()], "ctxs": context}


QUESTIONS = [asked(i, name) for i, name in enumerate(["Ann", "Bob", "Cid", "Dora", "Annabel"])]
KV = {
    "ordered_kv_records": [["k1", "v1"], ["k2", "v2"], ["k3", "v3"], ["k4", "v4"], ["k5", "v5"]],
    "key": "k2",
    "value": "v2",
}


def written(tmp_path, *records):
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_key_values_keep_their_records_and_their_order(tmp_path):
    (case,) = read_key_values(written(tmp_path, KV))
    question = lay_out(case, 4, Arrangement(0.25))
    body = question.prompt.partition("below.\n\n")[2].partition("\n\nKey")[0]
    assert json.loads(f"{{{body}}}") == dict(KV["ordered_kv_records"])
    assert list(json.loads(f"{{{body}}}")) == ["k1", "k2", "k3", "k4", "k5"]
    assert (question.answer, question.foils, question.rivals) == ("v2", ("v1", "v3", "v4"), 4)
    assert 'Key: "k2"' in question.prompt


def test_no_other_passage_of_a_context_holds_the_answer(tmp_path):
    questions = read_open_questions(written(tmp_path, *QUESTIONS))
    case = documents_case(questions, 0, np.random.default_rng(0))
    # "Annabel" has "Ann" in it, so that passage answers the first question by the letter
    assert {piece.text for piece in case.filler.take(3)} == {questions[i].passage for i in (1, 2, 3)}
    assert set(case.foils) == {"Bob", "Cid", "Dora"}
    question = lay_out(case, 3, Arrangement(0.0))
    ((a, b),) = question.spans["value"]
    assert question.prompt[a:b] == "Ann"
    assert "Document [1](Title: Title 0) It was Ann, they say.\nDocument [2](Title: " in question.prompt


def test_as_many_lines_are_read_as_are_asked_for(tmp_path):
    assert len(read_open_questions(written(tmp_path, *QUESTIONS), most=2)) == 2


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**KV, "ordered_kv_records": "x"}, "must be a list of pairs"),
        ({**KV, "ordered_kv_records": [["a"]]}, "must be a list of pairs"),
        ({**KV, "key": "absent"}, "must be one of the records"),
        ({**KV, "ordered_kv_records": KV["ordered_kv_records"][:3]}, "4 options need as many"),
    ],
)
def test_a_line_that_is_no_key_value_record_is_refused(record, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_key_values(written(tmp_path, record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": None}, '"question" must be a text'),
        ({"answers": []}, '"answers" a list of texts'),
        ({"ctxs": []}, "holds no passage"),
        ({"ctxs": [{"isgold": True, "title": "x"}]}, "holds no passage"),
    ],
)
def test_a_line_that_is_no_question_is_refused(change, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_open_questions(written(tmp_path, QUESTIONS[0] | change))


def test_too_few_questions_or_none_are_refused(tmp_path):
    with pytest.raises(DataError, match="needs 3 other questions"):
        documents_case(read_open_questions(written(tmp_path, *QUESTIONS[:3])), 0, np.random.default_rng(0))
    with pytest.raises(DataError, match="holds no record"):
        read_key_values(written(tmp_path))


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared data are not here")
def test_the_published_files_are_read_whole():
    assert len(read_key_values(REAL / "kv-retrieval-75_keys.jsonl.gz")) == 500
    questions = read_open_questions(REAL / "nq-open-oracle.jsonl.gz")
    assert len(questions) == 2655
    for size in (10, 20, 30):
        question = lay_out(documents_case(questions, 7, np.random.default_rng(0)), size - 1, Arrangement(0.5))
        assert question.pieces == size
        assert sum(questions[7].answered_in(question.prompt[a:b]) for a, b in question.spans["pieces"]) == 1
