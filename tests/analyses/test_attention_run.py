"""Attention by position and length: simulated heads come out as what they are, and the page shows them."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from analyses import attention_run, report
from analyses.__main__ import run
from analyses.attention_page import attention_claims, attention_sections
from analyses.attention_run import attention_facts
from finetune.attention_passages import Passage
from geometry.attention_rows import AttentionAnswer, GroupAttention, LayerAttention
from geometry.checks import DataError
from geometry.dispersion import distance_edges
from geometry.live.attention import stored_layers
from geometry.live.attention_request import Rows
from tests.finetune.test_adapter import save_adapter

FOCUSED, EVEN = 8.0, 1.0


def layer(i, length, rng, window=None, shift=0.0):
    """Head 0 always looks at eight keys alike, head 1 at all of them."""
    rows = (Rows.log(96) | Rows.last(32)).chosen(length, {})
    seen = np.minimum(rows + 1, window or length) - 4
    n = np.maximum(seen, 1)
    entropy = (
        np.stack([np.log(np.minimum(n, FOCUSED)), np.log(n)])[None]
        + shift
        + rng.normal(0, 1e-3, (1, 2, len(n)))
    )
    halves = np.stack([n // 2, n // 4, n // 8], -1)
    share = halves / n[:, None]
    subset = np.stack([np.log(np.maximum(share * FOCUSED, 1)), np.log(np.maximum(halves, 1))])[None]
    nothing = np.zeros((1, 2, len(n)))
    sink = GroupAttention(nothing + 0.25, nothing, nothing, entropy, nothing, np.full((1, len(n)), 4))
    edges = distance_edges(length)
    return LayerAttention(
        f"layer{i}", i, "full_attention" if window is None else "sliding_attention", window, 1.0, None, rows,
        (seen + 4)[None], {"entropy": entropy}, {"sink": sink}, nothing[..., None],
        np.full((1, 2, len(n), len(edges)), 1 / len(edges)), nothing[..., None], subset, halves[None],
    )  # fmt: skip


@pytest.fixture
def simulated(monkeypatch):
    def read(model, passage, lengths):
        rng = np.random.default_rng(passage.documents)
        return tuple(
            AttentionAnswer(
                (layer(0, n, rng, shift=model), layer(1, n, rng, window=64)),
                n,
                distance_edges(n),
                np.zeros(1),
            )
            for n in lengths
        )

    monkeypatch.setattr(attention_run, "read_attention", read)
    monkeypatch.setattr(attention_run, "context_length", lambda model: 300)


def facts_of(*shifts, passages=8, lengths=(128, 512, 1024)):
    found = [Passage((), (1,) * 1024, i) for i in range(passages)]
    sides = zip(("base", "adapted"), shifts, strict=False)
    return report.plain(
        attention_facts(lambda: iter(sides), found, lengths, seed=0, progress=lambda *_: None)
    )


def test_a_focused_head_is_below_its_subsets_and_an_even_one_is_at_log_n(simulated):
    side = facts_of(0.0)["sides"]["base"]
    positions, null, lengths = (
        side[key][0]["value"] for key in ("across_positions", "null", "across_lengths")
    )
    assert positions == pytest.approx([0.0, 1.0], abs=0.01)
    assert lengths == pytest.approx([0.0, 1.0], abs=0.01)
    assert null == pytest.approx([1.0, 1.0], abs=0.02)
    assert side["excess"][0]["high"][0] < -0.9
    assert side["focus_map"]["values"][0][-1] > side["focus_map"]["values"][0][0]


def test_a_window_has_no_slope_and_says_so(simulated):
    facts = facts_of(0.0)
    side = facts["sides"]["base"]
    assert side["across_positions"][1] is side["null"][1] is side["across_lengths"][1] is None
    assert [one["window"] for one in facts["layers"]] == [None, 64]
    (figure,) = attention_sections(facts)[0].figures
    names = [[line["name"] for line in panel["lines"]] for panel in figure.data["panels"]]
    assert "log of the window" in names[1]
    assert "log of the window" not in names[0]
    assert figure.data["beyond"] == 300


def test_an_adapter_that_spreads_attention_is_seen_in_its_layer_alone(simulated):
    change = facts_of(0.0, 0.5)["change"]
    assert change["entropy"]["value"][0] == pytest.approx([0.5, 0.5], abs=0.01)
    assert change["entropy"]["picked"] == [[True, True], [False, False]]
    assert (change["entropy"]["gaining"], change["sink"]["gaining"], change["sink"]["losing"]) == (2, 0, 0)


def test_what_an_adapter_leaves_alone_is_not_called_changed(simulated):
    facts = facts_of(0.0, 0.0)
    assert not np.any(facts["change"]["entropy"]["picked"])
    assert "0 of 4 heads spread more" in attention_claims(facts)[-1]


def test_one_length_has_no_slope_over_lengths(simulated):
    facts = facts_of(0.0, lengths=(1024,))
    assert facts["sides"]["base"]["across_lengths"] == [None, None]
    assert attention_sections(facts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passages": 1}, "intervals take two"),
        ({"lengths": ()}, "expected ascending"),
        ({"lengths": (512, 256)}, "expected ascending"),
        ({"lengths": (64, 256)}, "ask for 128"),
    ],
)
def test_what_cannot_be_told_is_refused(options, message, simulated):
    with pytest.raises(DataError, match=message):
        facts_of(0.0, **options)


def test_the_command_writes_a_page(tiny_folder, tmp_path, capsys):
    text = tmp_path / "text.jsonl"
    line = "The ship came home in the morning with a cargo of oranges and salt, number {}. "
    text.write_text("".join(json.dumps({"text": line.format(i) * 12}) + "\n" for i in range(4)))
    out = tmp_path / "page"
    words = ["--model", str(tiny_folder), "--text", str(text), "--lengths", "200,400", "--prompts", "2"]
    assert run(["attention", *words, "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    read = report.read(out)
    assert read.facts["needle"]["lengths"] == [200, 400]
    assert {figure.plot for figure in read.figures} == {"heat", "curves", "by_layer"}


def test_the_page_of_an_adapter_says_how_far_each_head_moves(tiny_folder, tiny_llama, tmp_path):
    text = tmp_path / "text.jsonl"
    line = json.dumps({"text": "The ship came home in the morning with a cargo of oranges and salt. " * 12})
    text.write_text(f"{line}\n" * 4)
    folder = save_adapter(tmp_path / "adapter", tiny_llama, targets=["q_proj", "v_proj"])
    words = ["--model", str(tiny_folder), "--adapter", str(folder), "--text", str(text), "--length", "200"]
    out, rows = tmp_path / "page", tmp_path / "rows"
    words += ["--prompts", "2", "--random-adapters", "2", "--out", str(out), "--rows", str(rows)]
    assert run(["attention", *words]) == 0
    read = report.read(out)
    assert read.facts["moved"]["random"] == 2
    assert "How far the adapter moves each head" in [section.title for section in read.sections]
    assert any("Hellinger" in claim for claim in read.claims)
    kept = sorted(path.relative_to(rows).as_posix() for path in rows.glob("*/*"))
    assert kept == [f"{side}/{n:03d}-200" for side in ("adapted", "base") for n in (1, 2)]
    for side, name in (("base", None), ("adapted", str(folder))):
        table = pq.read_table(rows / side / "002-200" / "rows.parquet")
        about = json.loads(table.schema.metadata[b"repgeo"])
        assert (about["about"]["adapter"], about["about"]["passage"], about["length"]) == (name, 2, 200)
        assert [layer.kind for layer in stored_layers(rows / side / "002-200")] == ["full_attention"] * 3
    assert run(["attention", *words]) == 2, "rows of another run are not written over"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --length"),
        (["--length", "200", "--lengths", "200"], "give --length"),
        (["--lengths", "x"], "write numbers of tokens"),
        (["--length", "400"], "the text is shorter than 400 tokens"),
    ],
)
def test_lengths_that_cannot_be_are_one_line_and_exit_code_2(words, message, tiny_folder, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("A short text of a few words.")
    given = ["attention", "--model", str(tiny_folder), "--text", str(tmp_path / "text.txt"), *words]
    assert run([*given, "--out", str(tmp_path / "page")]) == 2
    assert message in capsys.readouterr().err
