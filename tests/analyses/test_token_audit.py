"""What splits and what is shared, with a tokenizer whose cuts are known."""

import pytest

from analyses.token_audit import audit_tokens
from geometry.checks import DataError
from geometry.nuisances import nuisance_matrices


class Digits:
    """Known words whole, digits one by one, all else unknown."""

    known = ("", "May", "June", *"0123456789", "<unk>")
    unk_token_id = len(known) - 1

    def encode(self, text, *, add_special_tokens):
        assert text.startswith(" ") and not add_special_tokens
        word = text[1:]
        cut = (
            [word]
            if word in self.known
            else list(word)
            if word.isdigit()
            else ["<unk>"] * bool(word.strip("_"))
        )
        return [self.known.index(piece) for piece in cut]

    def convert_ids_to_tokens(self, ids):
        return [self.known[i] for i in ids]


def test_splits_shared_pieces_and_ends():
    found = audit_tokens(Digits(), ["May", "1910", "1920", "1921", "Juni"])
    assert found.split == {"1910": tuple("1910"), "1920": tuple("1920"), "1921": tuple("1921")}
    assert found.shared["9"] == ("1910", "1920", "1921") and found.shared["2"] == ("1920", "1921")
    assert found.same_end == {"0": ("1910", "1920")}
    assert found.unknown == ("Juni",)
    matrices = nuisance_matrices(found.words, tokens=found.ids).matrices
    assert matrices["tokens"][1, 2] == 3 / 4 and matrices["token count"][0, 1] == 3


def test_words_that_no_token_writes_are_refused():
    with pytest.raises(DataError, match="at least one word"):
        audit_tokens(Digits(), [])
    with pytest.raises(DataError, match="'_' becomes no token"):
        audit_tokens(Digits(), ["May", "_"])
