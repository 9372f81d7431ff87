"""The doctor says what is there and what is not, and is not taken in by a name alone."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from analyses import doctor
from analyses.cli import app


@pytest.fixture(scope="module")
def findings():
    return {finding.name: finding for finding in doctor.examine()}


def test_what_the_tests_run_on_works(findings):
    assert all(finding.works for finding in findings.values() if finding.needed)
    assert findings["torch"].found.startswith("2.")
    assert findings["embedded model"].found.startswith("6,524,160 parameters")
    assert "cpu" in findings["devices"].found


def test_what_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor, "installed", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor, "_embedded", lambda: "not asked here")
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["torch"].found == "pip install torch" and found["torch"].needed
    assert "apt-get install apertium" in found["apertium, spanish"].found
    assert "pip install" in found["sacremoses"].found
    missing = [finding for finding in found.values() if not finding.works]
    assert {finding.needed for finding in missing} == {True, False}


@pytest.mark.parametrize(("works", "code"), [(True, 0), (False, 1)])
def test_the_exit_code_speaks_of_what_is_needed_alone(monkeypatch, works, code):
    found = [doctor.Finding("torch", works, True, "2"), doctor.Finding("apertium", False, False, "apt-get")]
    monkeypatch.setattr(doctor, "examine", lambda: found)
    plain = CliRunner().invoke(app, ["doctor"])
    assert plain.exit_code == code
    assert plain.output.splitlines()[1].split() == ["apertium", "missing", "apt-get"]
    asked = CliRunner().invoke(app, ["doctor", "--json"])
    assert [one["name"] for one in json.loads(asked.output)] == ["torch", "apertium"]
