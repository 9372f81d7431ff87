"""The index leads to every finished run, and to nothing else."""

import json
import re

import pytest

from analyses.gallery import index
from analyses.report import FigureSpec, Report, Section, write
from geometry.checks import DataError, InputError

NASTY = "<script>alert(1)</script>"
DATA = {"groups": ["a"], "series": [{"name": "n", "values": [1.0]}], "y_label": "n"}
FIGURE = FigureSpec("size", "bars", "Sizes.", DATA)


def run(folder, title, time, figures=(FIGURE,)):
    sections = (Section("Size", (), figures),)
    return write(Report("diff", title, (f"{title} moved.", "Second."), sections, {}, {"time": time}), folder)


def test_every_run_has_its_claim_its_figure_and_a_link_that_arrives_the_newest_first(tmp_path):
    run(tmp_path / "old run", "Old", "2026-01-01 00:00:00 UTC")
    run(tmp_path / "deep" / "new", NASTY, "2026-02-01 00:00:00 UTC")
    run(tmp_path / "bare", "Bare", "2025-01-01 00:00:00 UTC", ())
    run(tmp_path / "other.partial", "Half written", "2026-03-01 00:00:00 UTC")
    run(tmp_path / ".trash" / "gone", "Thrown away", "2026-03-01 00:00:00 UTC")
    page = index(tmp_path)
    text = page.read_text()
    assert page == tmp_path / "index.html"
    assert re.findall("<strong>(.*?)</strong>", text) == ["deep/new", "old run", "bare"]
    links = re.findall(r'<h2><a href="(.*?)">', text)
    assert links == ["deep/new/report.html", "old%20run/report.html", "bare/report.html"]
    assert all((tmp_path / link.replace("%20", " ")).is_file() for link in links)
    assert NASTY not in text and "&lt;script&gt;alert(1)&lt;/script&gt; moved." in text
    assert text.count("<svg") == 2
    ids = re.findall(r'\bid="(.*?)"', text)
    assert len(ids) == len(set(ids)) > 0  # two figures of one name on one page


def test_an_index_made_twice_is_the_same_and_is_no_run_itself(tmp_path):
    run(tmp_path / "one", "One", "2026-01-01 00:00:00 UTC")
    first = index(tmp_path).read_bytes()
    assert index(tmp_path).read_bytes() == first


def test_what_holds_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no run"):
        index(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        index(tmp_path / "nowhere")


def test_a_run_without_its_page_or_its_numbers_leaves_the_old_index(tmp_path):
    page = run(tmp_path / "one", "One", "2026-01-01 00:00:00 UTC")
    before = index(tmp_path).read_bytes()
    numbers = page.with_name("report.json")
    whole = numbers.read_text()
    numbers.write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        index(tmp_path)
    content = json.loads(whole)
    content["sections"][0]["figures"][0]["data"] = {}
    numbers.write_text(json.dumps(content))
    with pytest.raises(InputError):
        index(tmp_path)
    numbers.write_text(whole)
    page.unlink()
    with pytest.raises(DataError, match="repgeo redraw"):
        index(tmp_path)
    assert (tmp_path / "index.html").read_bytes() == before
