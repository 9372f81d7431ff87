import hashlib
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyses.manifest import command_line, manifest, run_id

REQUESTS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=5)


@given(REQUESTS)
def test_an_id_is_twelve_digits_that_no_order_changes(request):
    name = run_id(request)
    assert len(name) == 12 and set(name) <= set("0123456789abcdef")
    assert run_id(dict(reversed(request.items()))) == name


@given(REQUESTS, REQUESTS)
def test_ids_differ_where_requests_differ(one, other):
    assert (run_id(one) == run_id(other)) == (one == other)


def test_an_id_does_not_depend_on_the_process():
    code = "from analyses.manifest import run_id; print(run_id({'b': [1, 'é'], 'a': None}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == run_id({"a": None, "b": [1, "é"]})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_cannot_hold_are_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run_id({"x": value})


def test_places_are_refused_since_only_contents_identify_a_run(tmp_path):
    with pytest.raises(TypeError):
        run_id({"texts": tmp_path})


def test_files_are_recorded_with_the_hash_of_their_bytes(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b"abc")
    made = manifest(files={"style": path}, seed=3)
    assert made["files"] == {"style": {"path": str(path), "sha256": hashlib.sha256(b"abc").hexdigest()}}
    assert made["seed"] == 3


def test_a_missing_file_is_not_passed_over(tmp_path):
    with pytest.raises(FileNotFoundError):
        manifest(files={"style": tmp_path / "none"})


def test_everything_in_it_is_json():
    made = manifest(layers=[0, 3])
    assert json.loads(json.dumps(made)) == made


def test_inputs_cannot_hide_what_was_measured():
    assert manifest(repgeo="0.0")["repgeo"] != "0.0"


def test_versions_are_read_without_importing_anything():
    code = (
        "import sys; from analyses.manifest import manifest; made = manifest();"
        "assert made['libraries']['torch'] and made['threads'] is None;"
        "print(sorted({'torch', 'transformers', 'peft', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_library_that_is_missing_is_recorded_as_missing(monkeypatch):
    monkeypatch.setattr("analyses.manifest.LIBRARIES", ("no-such-library",))
    assert manifest()["libraries"] == {"no-such-library": None}


def test_threads_are_those_of_torch():
    import torch

    assert manifest()["threads"] == torch.get_num_threads()


def test_the_command_can_be_pasted_into_a_shell():
    import shlex

    arguments = ["transfer", "it's cold; $HOME", "--base", "a b"]
    assert shlex.split(command_line(["/venv/bin/repgeo", *arguments])) == ["repgeo", *arguments]
    assert command_line(["train.py", "--x"]) == "train.py --x"
