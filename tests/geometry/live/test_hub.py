from pathlib import Path

import pytest

from geometry.checks import DataError
from geometry.live.hub import corpus_path


def test_a_path_is_a_path():
    assert corpus_path("some/corpus.txt") == Path("some/corpus.txt")


@pytest.mark.parametrize(
    ("name", "folder", "pattern"),
    [
        ("hf:wikimedia/wikipedia/20231101.en", "20231101.en", "20231101.en/*.parquet"),
        ("hf:someone/texts", "", "*.jsonl.gz"),
    ],
)
def test_a_name_is_fetched_from_the_hub(monkeypatch, tmp_path, name, folder, pattern):
    asked = {}

    def fetch(repo, **options):
        asked.update(options, repo=repo)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert corpus_path(name) == tmp_path / folder
    assert asked["repo"] == "/".join(name.removeprefix("hf:").split("/")[:2])
    assert asked["repo_type"] == "dataset"
    assert pattern in asked["allow_patterns"]


def test_what_cannot_be_fetched_is_told():
    """Offline, as all tests are."""
    with pytest.raises(DataError, match="hf:nobody/nothing-of-this-name: cannot be fetched"):
        corpus_path("hf:nobody/nothing-of-this-name")
    for name in ("hf:", "hf:owner", "hf:owner/"):
        with pytest.raises(DataError, match="expected hf:OWNER/NAME"):
            corpus_path(name)
