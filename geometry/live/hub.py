"""Data sets from the Hugging Face hub, as folders of files."""

from __future__ import annotations

from pathlib import Path

from geometry.checks import DataError
from geometry.corpora import SUFFIXES

PREFIX = "hf:"
"""What a corpus begins with that is a name on the hub and no path."""


def corpus_path(corpus: str) -> Path:
    """Find a corpus, fetching it if it is named on the hub.

    Args:
        corpus: a path; or ``hf:OWNER/NAME`` or ``hf:OWNER/NAME/FOLDER``, of which the text, JSON lines, parquet
            and Arrow files are fetched, or found where they were fetched before.

    Returns:
        The path, or the folder of the data set.

    Raises:
        DataError: a name of another form, or a data set that cannot be fetched.

    Examples:
        >>> corpus_path("texts/a.txt") == Path("texts/a.txt")
        True
    """
    if not corpus.startswith(PREFIX):
        return Path(corpus)
    owner, _, rest = corpus.removeprefix(PREFIX).partition("/")
    name, _, folder = rest.strip("/").partition("/")
    if not owner or not name:
        raise DataError(f"{corpus}: expected hf:OWNER/NAME or hf:OWNER/NAME/FOLDER")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [f"{folder}/*{suffix}" if folder else f"*{suffix}" for suffix in SUFFIXES]
    try:
        place = snapshot_download(f"{owner}/{name}", repo_type="dataset", allow_patterns=patterns)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise DataError(f"{corpus}: cannot be fetched; check the name and the network") from error
    return Path(place) / folder
