"""Pages do in a real browser what they promise: sort, fold, copy, tell their cells, ask the network for nothing."""

import csv
import io

import pytest

from analyses.report import FigureSpec, Report, Section, TableSpec, write
from tests.analyses.test_plots import DATA
from tests.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")

NASTY = "<img src=x onerror=alert(1)><script>document.title = 'taken'</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    figures = tuple(FigureSpec(kind.replace("_", "-"), kind, NASTY, data) for kind, data in DATA.items())
    rows = (
        ("b 10", {"value": 0.5, "low": 0.4, "high": 0.6}, 3),
        (NASTY, -2.0, None),
        ("b 9", 1e-5, 1),
        ("a", 7, 2),
    )
    table = TableSpec("A table.", ("name", "size", "n"), rows)
    sections = (Section("Figures", (NASTY,), figures), Section("Numbers", (), (), (table,)))
    out = tmp_path_factory.mktemp("page") / "run"
    write(Report("diff", NASTY, (NASTY,), sections, {}, {"command_line": "repgeo diff 'a b'"}), out)
    return out


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    try:
        browser = Browser(tmp_path_factory.mktemp("profile"))
    except (AssertionError, BrokenPipeError) as error:
        pytest.skip(f"chromium is here and does not start: {error}")
    with browser:
        yield browser


@pytest.fixture
def page(tab, folder):
    tab.open(folder / "report.html")
    return tab


def column(page, at):
    script = (
        f"[...document.querySelectorAll('#numbers tbody tr')].map(r => r.cells[{at}].firstChild.textContent)"
    )
    return page.run(script)


def test_opening_a_page_asks_for_nothing_and_says_nothing(page, folder):
    assert page.requests() == [(folder / "report.html").as_uri()]
    assert page.complaints() == []
    assert page.run("document.title").startswith("<img")


def test_what_stands_in_the_data_cannot_run_even_as_markup(page):
    """Were the escaping to fail, the page's own policy would still stop it."""
    page.run(f"document.querySelector('main').insertAdjacentHTML('beforeend', {NASTY!r})")
    page.run("new Promise(done => setTimeout(done, 200))")
    added = "s.textContent = `document.title = 'taken'`; document.body.append(s)"
    page.run(f"const s = document.createElement('script'); {added}")
    assert page.run("document.title") != "taken"
    assert any("Content Security Policy" in text for text in page.complaints())
    assert all(url.startswith("file:") for url in page.requests())


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_round(page):
    assert [name[:4] for name in column(page, 0)] == ["b 10", NASTY[:4], "b 9", "a"]
    page.click("#numbers th:nth-child(2) button")
    assert [name[:4] for name in column(page, 0)] == [NASTY[:4], "b 9", "b 10", "a"]
    page.click("#numbers th:nth-child(2) button")
    assert [name[:4] for name in column(page, 0)] == ["a", "b 10", "b 9", NASTY[:4]]
    assert (
        page.run("document.querySelector('#numbers th[aria-sort]').getAttribute('aria-sort')") == "descending"
    )
    page.click("#numbers th:nth-child(1) button")
    assert [name[:4] for name in column(page, 0)][-3:] == ["a", "b 9", "b 10"]  # as people count
    page.click("#numbers th:nth-child(3) button")
    assert column(page, 2)[:3] == ["1", "2", "3"]  # what is unknown comes last, whichever way
    page.click("#numbers th:nth-child(3) button")
    assert column(page, 2)[:3] == ["3", "2", "1"]


def test_sections_fold_and_a_link_opens_what_it_leads_to(page):
    is_open = "document.querySelector('#numbers').open"
    page.click("#numbers > summary")
    assert page.run(is_open) is False
    page.click("nav a[href='#numbers']")
    page.run("new Promise(done => setTimeout(done, 200))")
    assert page.run(is_open) is True


def test_printing_shows_what_was_folded(page):
    page.click("#numbers > summary")
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("document.querySelector('#numbers').open") is True
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("document.querySelector('#numbers').open") is False


def test_cells_of_heat_maps_tell_what_they_are(page):
    titles = "[...document.querySelectorAll('#figure-heat path > title')].map(t => t.textContent)"
    assert page.run(titles) == ["a, c: 0.100", "a, d: –", "b, c: 0.300", "b, d: 1.00"]


def test_every_figure_gives_its_numbers_as_a_file(page):
    links = page.run(
        "[...document.querySelectorAll('a.numbers')].map(a => [a.download, decodeURIComponent(a.href)])"
    )
    assert len(links) == len(DATA)
    for name, address in links:
        head, text = address.split(",", 1)
        assert name.endswith(".csv") and head == "data:text/csv;charset=utf-8"
        assert len(list(csv.reader(io.StringIO(text)))) > 1


def test_the_command_can_be_taken_along(page):
    page.click("button.copy")
    page.run("new Promise(done => setTimeout(done, 200))")
    taken = page.run("document.querySelector('button.copy').textContent")
    assert taken == "copied" or (
        taken == "marked" and page.run("getSelection().toString()") == "repgeo diff 'a b'"
    )


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_nothing_is_wider_than_the_window(tab, folder, width, tmp_path):
    tab.open(folder / "report.html", width=width)
    assert tab.run("document.documentElement.scrollWidth") <= width
    tab.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_everything_that_can_be_pressed_can_be_reached_by_keyboard(page):
    script = (
        "[...document.querySelectorAll('button, summary, a[href], .scroll')].every(e => e.tabIndex === 0)"
    )
    assert page.run(script)
