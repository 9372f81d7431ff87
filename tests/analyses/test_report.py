"""A report is its numbers: what is written reads back, and the page can be made again from it alone."""

import base64
import hashlib
import html.parser
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from safetensors.numpy import load_file

from analyses import plots
from analyses.page import slug
from analyses.report import FigureSpec, Report, Section, TableSpec, plain, read, redraw, write
from geometry.checks import DataError, InputError

NASTY = '<script>alert("&amp;")</script> `a<b`'
LAYERS = {
    "layers": [0, 1],
    "series": [{"name": NASTY, "values": np.array([0.25, np.nan])}],
    "null": {"low": 0.0, "high": np.float32(0.5)},
    "y_label": "size",
}


@pytest.fixture
def report():
    table = TableSpec(
        NASTY,
        ("token", "size", "n"),
        ((NASTY, {"value": 0.5, "low": 0.4, "high": 0.6, "n": 12, "p": 0.25}, 3), ("x", float("inf"), None)),
    )
    sections = (
        Section("Size", (NASTY,), (FigureSpec("size", "by_layer", NASTY, LAYERS),), (table,)),
        Section(NASTY, ("Second.",), (FigureSpec("size-again", "by_layer", "Again.", LAYERS),)),
    )
    manifest = {"command_line": f"repgeo diff --texts '{NASTY}'", "time": "now", "libraries": {"torch": "2"}}
    return Report("diff", NASTY, (NASTY, "Second claim."), sections, {"nan": float("nan")}, manifest)


class Page(html.parser.HTMLParser):
    """Collects tags, attributes and text, and sees to it that what opens also closes."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def page(report, tmp_path):
    return Page(write(report, tmp_path / "run").read_text())


def test_json_reads_back_to_the_same_json(report):
    text = report.as_json()
    assert Report.from_json(text).as_json() == text
    assert json.loads(text)["facts"] == {"nan": None}
    assert "NaN" not in text and "Infinity" not in text


def test_json_does_not_depend_on_the_order_of_keys(report):
    from dataclasses import replace

    flipped = replace(report, manifest=dict(reversed(report.manifest.items())))
    assert flipped.as_json() == report.as_json()


def test_plain_refuses_what_has_no_place_in_json():
    with pytest.raises(TypeError, match="set has no place"):
        plain({"x": {1, 2}})


def test_a_run_holds_page_numbers_manifest_figures_and_arrays(report, tmp_path):
    rows = np.arange(6.0).reshape(2, 3).T
    page = write(report, tmp_path / "run", arrays={"layer-0": {"mean": rows}})
    assert page == tmp_path / "run" / "report.html"
    files = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*.*")}
    assert files == {
        "report.html", "report.json", "manifest.json", "arrays/layer-0.safetensors",
        "figures/size.svg", "figures/size.png", "figures/size-again.svg", "figures/size-again.png",
    }  # fmt: skip
    np.testing.assert_array_equal(load_file(tmp_path / "run/arrays/layer-0.safetensors")["mean"], rows)
    assert json.loads((tmp_path / "run/manifest.json").read_text()) == plain(dict(report.manifest))


def test_a_rerun_lands_on_itself(report, tmp_path):
    write(report, tmp_path / "run", arrays={"old": {"x": np.zeros(1)}})
    write(report, tmp_path / "run")
    assert not (tmp_path / "run" / "arrays").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_redrawing_gives_the_same_page_and_figures_byte_for_byte(report, tmp_path):
    folder = write(report, tmp_path / "run").parent
    drawn = [folder / "report.html", *(folder / "figures").iterdir()]
    before = {path: path.read_bytes() for path in drawn}
    for path in drawn:
        path.unlink()
    assert redraw(folder) == folder / "report.html"
    assert {path: path.read_bytes() for path in drawn} == before


def test_a_notebook_shows_the_very_page_in_a_frame_of_its_own(report, tmp_path):
    page = write(report, tmp_path / "run").read_text()
    frame = Page(read(tmp_path / "run")._repr_html_())
    assert frame.tags == ["iframe"]
    assert dict(frame.attributes)["srcdoc"] == page


def test_a_figure_can_be_drawn_again_by_its_name(report):
    assert plots.svg(report.plot("size-again")) == plots.svg(plots.draw("by_layer", LAYERS))
    with pytest.raises(DataError, match="'sise'; there are: size, size-again"):
        report.plot("sise")


def test_redrawing_needs_no_model(report, tmp_path):
    folder = write(report, tmp_path / "run").parent
    code = (
        "import sys; from analyses.report import redraw; redraw(sys.argv[1]);"
        "print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_page_shows_what_the_json_says_and_not_what_the_page_said(report, tmp_path):
    folder = write(report, tmp_path / "run").parent
    path = folder / "report.json"
    path.write_text(path.read_text().replace("Second claim.", "Mended claim."))
    assert "Mended claim." in redraw(folder).read_text()


def test_a_run_that_dies_while_drawing_leaves_nothing(report, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "png", lambda figure: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(report, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_figures_that_cannot_be_redrawn_leave_the_old_page(report, tmp_path):
    folder = write(report, tmp_path / "run").parent
    old = (folder / "report.html").read_bytes()
    path = folder / "report.json"
    path.write_text(path.read_text().replace('"layers"', '"lairs"'))
    with pytest.raises(DataError, match="by_layer"):
        redraw(folder)
    assert (folder / "report.html").read_bytes() == old


def test_nothing_of_the_data_becomes_markup(page):
    assert page.tags.count("script") == 1 and "b" not in page.tags
    assert page.open == []
    # title, heading, claim, section, caption, cell and the rest: all came through as text
    assert "".join(page.words).count('<script>alert("&amp;")</script>') >= 10


def test_the_page_needs_no_network_and_no_other_file(page):
    for name, value in page.attributes:
        if name in {"src", "srcset", "data", "action"} or name.startswith("on"):
            raise AssertionError(f"{name}={value}")
        if name in {"href", "xlink:href"}:
            assert value.startswith(("#", "data:text/csv;")) or value == "report.json"
        assert name.startswith("xmlns") or "//" not in (value or ""), (name, value)
    assert "@import" not in "".join(page.words)
    assert not re.search(r"url\((?!#)", "".join(page.words))


def test_the_page_s_policy_allows_its_own_script_and_no_other(report, tmp_path):
    text = write(report, tmp_path / "run").read_text()
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', text).group(1)
    script = re.search(r"<script>(.*?)</script>", text, flags=re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}';")


def test_ids_are_unique_and_every_link_of_the_page_arrives(page):
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {
        value[1:] for name, value in page.attributes if name in {"href", "xlink:href"} and value[0] == "#"
    }
    assert targets <= set(ids)
    labels = {value for name, value in page.attributes if name == "aria-labelledby"}
    assert labels <= set(ids)


def test_contents_list_every_section_after_the_findings(report, page):
    links = [value for name, value in page.attributes if name == "href" and value.startswith("#")]
    sections = [f"#{slug(section.title)}" for section in report.sections]
    assert links[: len(sections) + 2] == ["#findings", *sections, "#how-it-was-made"]


def test_every_figure_is_a_drawing_with_words_for_those_who_cannot_see_it(page):
    assert page.tags.count("svg") == 2
    described = [
        value for name, value in page.attributes if name == "aria-label" and value.startswith("Line chart")
    ]
    assert described == [f"Line chart, size: {NASTY} from 0.250 to 0.250."] * 2


def test_inlined_drawings_are_whole_xml(report, tmp_path):
    text = write(report, tmp_path / "run").read_text()
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(drawings) == 2
    for drawing in drawings:
        ET.fromstring(drawing)


def test_findings_stand_above_what_supports_them(page):
    words = [word.strip() for word in page.words]
    assert words.index("Second claim.") < words.index("Second.")


def test_tables_carry_interval_n_and_p_and_never_nan(page):
    words = [word.strip() for word in page.words]
    assert "0.500 [0.400, 0.600]" in words
    assert "n = 12, p = 0.25" in words
    assert not {"nan", "NaN", "inf", "None"} & set(words)


def test_the_command_and_manifest_are_on_the_page(report, page):
    words = "".join(page.words)
    assert report.manifest["command_line"] in words
    assert "libraries.torch" in words


def test_a_report_without_manifest_or_sections_still_makes_a_page(tmp_path):
    assert "Nothing." in write(Report("diff", "Empty", ("Nothing.",)), tmp_path / "run").read_text()


def luminance(colour):
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_read_on_their_ground(page, scheme):
    """WCAG 2: 4.5 to 1 for text, 3 to 1 for lines."""
    css = "".join(page.words)
    blocks = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", blocks[scheme]))
    for name in ("text", "soft", "link", "ink"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
        assert contrast(colours[name], colours["wash"]) >= 4.5, name
    for i in range(6):
        assert contrast(colours[f"series-{i}"], colours["paper"]) >= 3, i


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a report"),
        ("{}", "is not a report"),
        ('{"schema": 1, "sections": [{}]}', "is not a report"),
        ('{"schema": 1, "sections": [], "claims": [], "lies": 0}', "is not a report"),
        ('{"schema": 99, "sections": []}', "has schema 99, this version reads 1"),
    ],
)
def test_what_is_not_a_report_is_refused(text, message, tmp_path):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_a_folder_without_report_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no report"):
        redraw(tmp_path)


def test_a_place_that_holds_something_else_is_refused(report, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds files of something else"):
        write(report, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    "make",
    [
        lambda: FigureSpec("No file name", "by_layer", "", {}),
        lambda: FigureSpec("size", "pie", "", {}),
        lambda: TableSpec("", ("a", "b"), ((1,),)),
        lambda: Section("title", "one paragraph"),
        lambda: Report("diff", "title", "one claim"),
        lambda: Report("diff", "t", (), (Section("s", figures=(FigureSpec("a", "heat", "", {}),) * 2),)),
    ],
)
def test_reports_that_we_built_wrongly_fail_where_they_are_built(make):
    with pytest.raises(AssertionError):
        make()


def test_rows_of_numbers_stand_on_one_line_and_nothing_else_does():
    mixed = [0.123456789] * 500 + [
        "x"
    ]  # a careless pattern takes for ever to see that this is no row of numbers
    facts = {
        "matrix": [[1, None], [-2.5e-7, 3.0]],
        "mixed": mixed,
        "text": ["[\n 1\n ]"],
        "none": [],
        "deep": [[1, [2]]],
    }
    text = Report("diff", "t", ("c",), (), facts).as_json()
    assert "[1, null],\n" in text and "[-2.5e-07, 3.0]\n" in text
    assert json.loads(text)["facts"] == facts
    assert text.count("0.123456789,\n") == 500
