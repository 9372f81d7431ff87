import os
import signal
import subprocess
import sys
import textwrap

import pytest

from finetune import folders
from finetune.folders import replace_file, sha256_file, sha256_text, whole_folder, work_folder, write_whole
from geometry.checks import InputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def killed(code, *arguments):
    """Run ``code`` in a process that kills itself with SIGKILL at the word KILL."""
    program = textwrap.dedent(code).replace("KILL", "os.kill(os.getpid(), signal.SIGKILL)")
    head = "import os, signal, sys\nfrom pathlib import Path\nfrom finetune.folders import *\n"
    done = subprocess.run([sys.executable, "-c", head + program, *map(str, arguments)], timeout=400)
    assert done.returncode == -signal.SIGKILL


def test_a_folder_appears_whole(tmp_path):
    with whole_folder(tmp_path / "a" / "run") as folder:
        (folder / "report.json").write_text("{}")
        assert not (tmp_path / "a" / "run").exists()
    assert names(tmp_path / "a") == ["run"]
    assert names(tmp_path / "a" / "run") == ["report.json"]


def test_a_failure_leaves_what_was_there(tmp_path):
    with whole_folder(tmp_path / "run") as folder:
        (folder / "report.json").write_text("old")
    with pytest.raises(KeyError), whole_folder(tmp_path / "run") as folder:
        (folder / "report.json").write_text("new")
        raise KeyError
    assert names(tmp_path) == ["run"]
    assert (tmp_path / "run" / "report.json").read_text() == "old"


def test_a_rerun_replaces_the_whole_folder(tmp_path):
    for name in ("first", "second"):
        with whole_folder(tmp_path / "run") as folder:
            (folder / "report.json").write_text("{}")
            (folder / name).write_text(name)
    assert names(tmp_path / "run") == ["report.json", "second"]


def test_somebody_elses_folder_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds files of something else"), whole_folder(tmp_path):
        pass
    assert names(tmp_path) == ["thesis.tex"]
    with whole_folder(tmp_path, known_by=["thesis.tex"]) as folder:
        (folder / "ours").write_text("")
    assert names(tmp_path) == ["ours"]


def test_an_empty_folder_is_taken(tmp_path):
    with whole_folder(tmp_path / "run") as folder:
        (tmp_path / "run").mkdir()
        (folder / "x").write_text("")
    assert names(tmp_path / "run") == ["x"]


def test_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(InputError, match="is a file"), whole_folder(tmp_path / "run"):
        pass


@pytest.mark.parametrize("door", [whole_folder, lambda out: work_folder(out, {})])
def test_an_unwritable_place_is_refused_in_one_line(tmp_path, door):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written") as refusal, door(tmp_path / "file" / "run"):
        pass
    assert "\n" not in str(refusal.value)


def test_a_killed_run_leaves_no_folder_and_the_next_one_clears_up(tmp_path):
    killed(
        """
        with whole_folder(sys.argv[1]) as folder:
            (folder / "report.json").write_text("half")
            KILL
        """,
        tmp_path / "run",
    )
    assert not (tmp_path / "run").exists()
    assert len(names(tmp_path)) == 1
    with whole_folder(tmp_path / "run") as folder:
        (folder / "report.json").write_text("whole")
    assert names(tmp_path) == ["run"]


def test_a_run_killed_between_two_renames_gives_the_old_folder_back(tmp_path):
    with whole_folder(tmp_path / "run") as folder:
        (folder / "report.json").write_text("old")
    killed(
        """
        rename, count = Path.rename, []
        def dying(self, target):
            rename(self, target)
            KILL
        with whole_folder(sys.argv[1]) as folder:
            Path.rename = dying
        """,
        tmp_path / "run",
    )
    assert not (tmp_path / "run").exists()
    folders.clear_leftovers(tmp_path / "run")
    assert (tmp_path / "run" / "report.json").read_text() == "old"
    assert names(tmp_path) == ["run"]


def test_temporaries_of_the_living_are_left_alone(tmp_path):
    with whole_folder(tmp_path / "run") as outer:
        with whole_folder(tmp_path / "run") as inner:
            (inner / "report.json").write_text("inner")
        (outer / "report.json").write_text("outer")
    assert (tmp_path / "run" / "report.json").read_text() == "outer"


def test_names_with_wildcards_do_not_reach_their_neighbours(tmp_path):
    neighbour = tmp_path / ".run1.new-999999999-x"
    neighbour.mkdir()
    with whole_folder(tmp_path / "run[0-9]"):
        pass
    assert neighbour.exists()


def test_the_same_request_finds_its_work_again(tmp_path):
    for left in ([], ["checkpoint"]):
        with pytest.raises(KeyError), work_folder(tmp_path / "run", {"seed": 1}) as folder:
            assert [name for name in names(folder) if name != "request.json"] == left
            (folder / "checkpoint").write_text("")
            raise KeyError
    with work_folder(tmp_path / "run", {"seed": 2}) as folder:
        assert names(folder) == ["request.json"]
    assert names(tmp_path) == []


def test_work_that_was_half_cleared_when_killed_is_nobodys(tmp_path):
    with pytest.raises(KeyError), work_folder(tmp_path / "run", {"seed": 1}) as folder:
        (folder / "checkpoint").mkdir()
        raise KeyError
    killed(
        """
        import finetune.folders
        def dying(path):
            KILL
        finetune.folders._remove = dying
        with work_folder(sys.argv[1], {"seed": 2}):
            pass
        """,
        tmp_path / "run",
    )
    with work_folder(tmp_path / "run", {"seed": 1}) as folder:
        assert names(folder) == ["request.json"]


@pytest.mark.skipif(os.name == "nt", reason="no lock on Windows")
def test_two_runs_in_one_work_folder_are_refused(tmp_path):
    with work_folder(tmp_path / "run", {}) as folder:
        with pytest.raises(InputError, match="another run"), work_folder(tmp_path / "run", {}):
            pass
        assert folder.exists()


def test_a_work_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "run.partial").mkdir()
    with pytest.raises(InputError, match="move it away"), work_folder(tmp_path / "run", {}):
        pass


def test_files_are_written_whole(tmp_path):
    write_whole(tmp_path / "a.json", "é")
    assert (tmp_path / "a.json").read_bytes() == "é".encode()

    def failing(path):
        path.write_text("half")
        raise KeyError

    with pytest.raises(KeyError):
        replace_file(tmp_path / "a.json", failing)
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "é"
    assert names(tmp_path) == ["a.json"]
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / "a.json" / "b", "")


def test_hashes_are_those_of_sha256sum(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "abc") == sha256_text("abc") == known
