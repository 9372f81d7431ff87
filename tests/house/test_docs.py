"""Documents tell the truth: their Python runs, their commands and options exist, their links arrive."""

import re
from pathlib import Path

import pytest

from tests.house.test_commands import COMMANDS, flags

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
         ROOT / "results/README.md", ROOT / "benchmarks/README.md"]  # fmt: skip


def blocks(page):
    return re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_the_python_of_a_document_runs_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "document"}
    for number, block in enumerate(blocks(page)):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_of_documents_exist(page):
    for name, rest in re.findall(
        r"repgeo ([a-z]+)\b([^\n`]*(?:\\\n[^\n`]*)*)", page.read_text(encoding="utf-8")
    ):
        if name in COMMANDS:
            assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)) <= flags(name) | {"--help"}, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_documents_arrive(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
