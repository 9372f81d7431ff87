"""What pip installs is whole: the wheel works without the repository, models, data and pages included."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what a wheel of this tree unpacks to, and the environment to run it in."""
    room = tmp_path_factory.mktemp("wheel")
    source, target = room / "source", room / "site"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in ("geometry", "finetune", "analyses"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "wheel", *offline, "--no-build-isolation", "-w", str(room), str(source)], check=True
    )
    (wheel,) = room.glob("*.whl")
    subprocess.run([*pip, "install", *offline, "--target", str(target), str(wheel)], check=True)
    return target, os.environ | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}


def run(installed, room, *command):
    return subprocess.run(
        [sys.executable, *command], cwd=room, env=installed[1], capture_output=True, text=True, timeout=300
    )


def test_the_packages_are_those_of_the_wheel_and_typed(installed, tmp_path):
    code = (
        "import geometry, finetune, analyses; print(geometry.__file__, finetune.__file__, analyses.__file__)"
    )
    found = run(installed, tmp_path, "-c", code).stdout.split()
    assert [Path(path).parents[1] for path in found] == [installed[0]] * 3
    assert all((Path(path).parent / "py.typed").is_file() for path in found)


def test_model_data_and_pages_come_along(installed, tmp_path):
    asked = run(installed, tmp_path, "-m", "analyses", "doctor", "--json")
    assert asked.returncode == 0, asked.stderr
    found = {one["name"]: one for one in json.loads(asked.stdout)}
    assert found["embedded model"]["works"]
    report = tmp_path / "run"
    code = (
        "import sys; from analyses.report import Report, write; from analyses.gallery import index;"
        "write(Report('diff', 'A run', ('Nothing.',)), sys.argv[1]); print(index(sys.argv[1]))"
    )
    assert run(installed, tmp_path, "-c", code, str(report)).stdout.strip() == str(report / "index.html")
    read = "import finetune, pathlib; from finetune.pairs import read_pairs;"
    data = "f = pathlib.Path(finetune.__file__).parent / 'data/ornate-test.jsonl'; print(len(read_pairs(f).pairs))"
    assert run(installed, tmp_path, "-c", read + data).stdout.strip() == "102"


def test_everything_that_git_keeps_of_a_package_is_in_the_wheel(installed):
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "geometry", "finetune", "analyses"],
        capture_output=True, text=True,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    kept = {path for path in listed.stdout.splitlines() if (ROOT / path).is_file()}
    missing = {path for path in kept if not (installed[0] / path).is_file()}
    assert missing == set()
