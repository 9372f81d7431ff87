"""Models that are known by construction: their curves, floors and changes come out as they were put in."""

import json

import numpy as np
import pytest

from analyses import long_context_jobs, needle_run, report
from analyses.__main__ import run
from analyses.long_context_jobs import Told, ascending, cases
from analyses.needle_page import needle_claims, needle_sections
from analyses.needle_run import NeedleRequest, needle_facts
from finetune.asked import Reply
from finetune.needle_attention import NeedleAttention
from finetune.needle_layout import Place
from geometry.checks import DataError

LAYERS, HEADS = 2, 3


class Reader:
    """A model that finds a needle at the ends of a context alone, and one of whose heads looks at it."""

    def __init__(self, at=(0.0, 1.0), gain=0.0, slope=-1.0, near=0.0):
        self.at, self.gain, self.slope, self.near = at, gain, slope, near

    def reply(self, prompt, options, write):
        answer = options[0].split(" and ")[0]
        place = prompt.rpartition("\n\n")[0].find(f"is the {answer}.")
        depth = place / max(1, len(prompt.rpartition("\n\n")[0]))
        knows = place >= 0 and min(abs(depth - end) for end in self.at) < 0.2
        likelihoods = [-1.0 if (i == 0) == knows else -3.0 - i for i in range(len(options))]
        written = (options[0] if knows else "who knows") if write else ""
        return Reply(tuple(likelihoods), written, len(prompt) // 4)

    def attention(self, question):
        n = len(question.prompt) / 4
        noise = np.random.default_rng(len(question.prompt)).normal(0, 0.01, (LAYERS, HEADS))
        odds = 2.0 + self.slope * np.log(n - 10) + noise
        odds[1, 2] += self.gain
        odds -= self.near * np.log(n - question.spans["needle"][0][0] / 4)
        mass = 1 / (1 + np.exp(-odds))
        one = np.ones((LAYERS, HEADS))
        return NeedleAttention(
            mass,
            odds,
            mass,
            mass / 2,
            None,
            0.5 * one,
            one,
            one / 2,
            np.full(LAYERS, n),
            np.full(LAYERS, 10.0),
            None,
            (0, 1),
        )


@pytest.fixture
def simulated(monkeypatch):
    def ask(model, tokenizer, questions, *, write=0, progress=None):
        return [model.reply(prompt, options, write) for prompt, options in questions]

    monkeypatch.setattr(needle_run, "ask", ask)
    monkeypatch.setattr(
        needle_run, "needle_attention", lambda model, tokenizer, question: model.attention(question)
    )
    monkeypatch.setattr(needle_run, "context_length", lambda model: 600)


def asked(tokenizer, *models, prompts=8, **options):
    options = {"lengths": (1000, 2000), "depths": (0.0, 0.5, 1.0)} | options
    request = NeedleRequest(cases(Told("haystack", prompts=prompts)), **options)
    sides = zip(("base", "adapted"), models, strict=False)
    told = []
    facts = needle_facts(
        lambda: iter(sides), tokenizer, request, progress=lambda name, share: told.append(share)
    )
    assert max(told) == 1.0
    return facts


def test_a_model_that_reads_the_ends_alone_has_a_u_curve_above_its_floor(simulated, tiny_tokenizer):
    side = asked(tiny_tokenizer, Reader())["sides"]["base"]
    assert side["accuracy"]["value"] == [[1.0, 0.0, 1.0]] * 2
    assert side["blind"]["value"] == [0.0, 0.0]
    assert side["gain"]["value"] == pytest.approx([2 / 3, 2 / 3])
    assert side["ends"]["accuracy"]["primacy"]["value"] == [1.0, 1.0]
    assert side["ends"]["accuracy"]["recency"]["value"] == [1.0, 1.0]
    assert side["written"]["value"] == [[1.0, 0.0, 1.0]] * 2
    assert side["invalid"]["value"] == [[0.0, 1.0, 0.0]] * 2


@pytest.mark.parametrize("slope", [-1.0, 0.0])
def test_the_slope_of_log_odds_is_the_one_that_was_put_in(slope, simulated, tiny_tokenizer):
    found = asked(tiny_tokenizer, Reader(slope=slope))["sides"]["base"]["odds_slope"]
    assert np.allclose(found["value"], slope, atol=0.02)
    assert found["slower"] == (LAYERS * HEADS if slope == 0.0 else found["slower"])
    assert found["slower"] + found["faster"] <= LAYERS * HEADS


def test_a_head_that_prefers_what_is_near_dilutes_as_the_theory_says_at_a_fixed_distance(
    simulated, tiny_tokenizer
):
    facts = report.plain(asked(tiny_tokenizer, Reader(near=0.5)))
    slopes = facts["sides"]["base"]["odds_slope"]
    assert np.allclose(slopes["fixed"]["value"], -1.0, atol=0.05)
    assert slopes["by_depth"]["value"] == pytest.approx([-1.5, -1.5, -1.0], abs=0.05)
    assert np.max(slopes["mean"]["high"]) < -1.2
    assert any("at a fixed distance" in claim for claim in needle_claims(facts))
    first = asked(tiny_tokenizer, Reader(near=0.5), question=Place.first)["sides"]["base"]["odds_slope"]
    assert first["fixed"] is None, "the question before the context: no depth keeps the distance"


def test_weight_values_and_signal_stand_by_length(simulated, tiny_tokenizer):
    side = asked(tiny_tokenizer, Reader())["sides"]["base"]
    for name in ("mass", "lift", "value_mass", "signal"):
        assert len(side["by_length"][name]["value"]) == 2, name
    assert side["by_length"]["signal"]["value"] == pytest.approx([
        m / 2 for m in side["by_length"]["mass"]["value"]
    ])
    assert side["by_length"]["mass"]["value"][0] > side["by_length"]["mass"]["value"][1]


def test_the_head_that_an_adapter_changed_is_picked_and_no_other(simulated, tiny_tokenizer):
    change = asked(tiny_tokenizer, Reader(), Reader(gain=2.0))["change"]
    assert np.argwhere(change["mass"]["picked"]).tolist() == [[1, 2]]
    assert (change["mass"]["gaining"], change["mass"]["losing"]) == (1, 0)
    assert (change["sink"]["gaining"], change["sink"]["losing"]) == (0, 0)
    assert change["accuracy"]["value"] == 0.0
    assert change["accuracy"]["p"] == 1.0


def test_a_better_reader_gains_accuracy_with_the_least_p_that_eight_prompts_allow(simulated, tiny_tokenizer):
    change = asked(tiny_tokenizer, Reader(at=(0.0,)), Reader(at=(0.0, 0.5, 1.0)))["change"]
    assert change["accuracy"]["value"] == pytest.approx(2 / 3)
    assert change["accuracy"]["p"] == pytest.approx(2 / 2**8)


def test_one_length_or_few_depths_leave_out_what_they_cannot_tell(simulated, tiny_tokenizer):
    facts = asked(tiny_tokenizer, Reader(), lengths=(1000,), depths=(0.0, 1.0), write=0)
    side = facts["sides"]["base"]
    assert side["odds_slope"] is None
    assert "ends" not in side
    assert side["written"] is side["invalid"] is None
    assert facts["change"] is None
    titles = [section.title for section in needle_sections(report.plain(facts))]
    assert "What the model writes" not in titles
    assert needle_claims(report.plain(facts))


def test_contexts_of_so_many_pieces_have_so_many(simulated, tiny_tokenizer):
    facts = asked(tiny_tokenizer, Reader(), lengths=(10, 20), pieces=True)
    assert facts["pieces"] == [[10.0] * 3, [20.0] * 3]
    assert facts["unit"] == "pieces"
    with pytest.raises(DataError, match="there are 1 needles"):
        asked(tiny_tokenizer, Reader(), lengths=(0, 20), pieces=True)


@pytest.mark.parametrize("field", ["lengths", "depths"])
@pytest.mark.parametrize("values", [(), (2, 1), (1, 1)])
def test_lengths_and_depths_ascend(field, values, simulated, tiny_tokenizer):
    with pytest.raises(DataError, match=f"{field}: expected ascending"):
        asked(tiny_tokenizer, Reader(), **{field: values})


def test_no_prompt_is_refused(simulated, tiny_tokenizer):
    with pytest.raises(DataError, match="no prompt"):
        needle_facts(
            lambda: iter(()), tiny_tokenizer, NeedleRequest((), (1000,), (0.5,)), progress=lambda *_: None
        )


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (Told("kv", filler="neutral"), "every record is a rival"),
        (Told("haystack", filler="rival", text="x"), "leave --filler out"),
        (Told("haystack", data="x"), "is for --task kv or documents"),
        (Told("kv", needles=2, data="x"), "bring needle and filler along"),
    ],
)
def test_options_that_do_not_go_together_are_refused(told, message):
    with pytest.raises(DataError, match=message):
        cases(told)


def test_files_with_fewer_records_than_prompts_are_refused(tmp_path):
    pairs = [[f"k{i}", f"v{i}"] for i in range(6)]
    (tmp_path / "kv.jsonl").write_text(json.dumps({"ordered_kv_records": pairs, "key": "k1", "value": "v1"}))
    with pytest.raises(DataError, match="holds 1 records"):
        cases(Told("kv", prompts=2, data=tmp_path / "kv.jsonl"))
    questions = [
        {
            "question": f"q{i}",
            "answers": [f"name{i}"],
            "ctxs": [{"title": "t", "text": f"name{i}", "isgold": True}],
        }
        for i in range(5)
    ]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    with pytest.raises(DataError, match="holds 5 questions"):
        cases(Told("documents", prompts=6, data=tmp_path / "qa.jsonl"))
    assert len(cases(Told("documents", prompts=4, data=tmp_path / "qa.jsonl"))) == 4
    assert len(cases(Told("kv", prompts=1, data=tmp_path / "kv.jsonl"))) == 1


def test_numbers_that_are_none_are_refused():
    with pytest.raises(DataError, match="--depths 0,x"):
        ascending("0,x", "--depths", float)


def test_the_command_writes_a_page_that_can_be_drawn_again(tiny_folder, tmp_path, capsys):
    out = tmp_path / "page"
    words = ["--model", str(tiny_folder), "--task", "haystack", "--filler", "rival", "--lengths", "500,900"]
    assert (
        run(["needle", *words, "--prompts", "2", "--depths", "0,0.5,1", "--write", "2", "--out", str(out)])
        == 0
    )
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    read = report.read(out)
    assert read.facts["sides"][tiny_folder.name]["rival_margin"] is not None
    assert {figure.plot for figure in read.figures} == {"heat", "curves"}
    report.redraw(out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lengths", "500", "--pieces", "5"], "one of them"),
        ([], "one of them"),
        (["--lengths", "30"], "needles and question alone take"),
        (["--lengths", "500", "--spacing", "2"], "spacing: expected a share"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_exit_code_2(words, message, tiny_folder, tmp_path, capsys):
    given = [
        "needle",
        "--model",
        str(tiny_folder),
        "--task",
        "haystack",
        "--out",
        str(tmp_path / "p"),
        *words,
    ]
    assert run(given) == 2
    assert message in capsys.readouterr().err


def test_sides_are_the_base_alone_without_an_adapter(tiny_llama):
    ((name, model),) = long_context_jobs.sides(tiny_llama, None)
    assert model is tiny_llama.model
    assert name
