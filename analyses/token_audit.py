"""How a tokenizer cuts the words of a concept: what splits, and what the pieces share.

A year of four one-digit tokens ends in its last digit, so that the state of its last token may say no more than
that digit. Words are cut as they stand in a sentence, after a space.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Tokenizer(Protocol):
    """What is asked of a tokenizer; those of transformers have it."""

    def encode(self, text: str, *, add_special_tokens: bool) -> Sequence[int]:
        """Ids of the tokens of a text."""

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> Sequence[str]:
        """Tokens as they are written."""


@dataclass(frozen=True)
class TokenAudit:
    """The tokens of each word of a concept.

    Attributes:
        words: in latent order, n of them.
        ids: ids of each word's tokens, for :func:`geometry.nuisances.nuisance_matrices`.
        pieces: the same as written.
        unknown: words with a token that the tokenizer does not know.
    """

    words: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    pieces: tuple[tuple[str, ...], ...]
    unknown: tuple[str, ...]

    @property
    def split(self) -> dict[str, tuple[str, ...]]:
        """Words of more than one token, with their pieces."""
        return {word: cut for word, cut in zip(self.words, self.pieces, strict=True) if len(cut) > 1}

    @property
    def shared(self) -> dict[str, tuple[str, ...]]:
        """Tokens that more than one word has, with those words."""
        holders: dict[str, list[str]] = defaultdict(list)
        for word, cut in zip(self.words, self.pieces, strict=True):
            for piece in dict.fromkeys(cut):
                holders[piece].append(word)
        return {piece: tuple(found) for piece, found in holders.items() if len(found) > 1}

    @property
    def same_end(self) -> dict[str, tuple[str, ...]]:
        """Last tokens on which more than one word ends: their last states see the same input token."""
        holders: dict[str, list[str]] = defaultdict(list)
        for word, cut in zip(self.words, self.pieces, strict=True):
            holders[cut[-1]].append(word)
        return {piece: tuple(found) for piece, found in holders.items() if len(found) > 1}


def audit_tokens(tokenizer: Tokenizer, words: Sequence[str]) -> TokenAudit:
    """Cut every word as it stands in a sentence.

    Args:
        tokenizer: of the model.
        words: at least one, none empty.

    Returns:
        Ids and pieces of each.

    Raises:
        DataError: no word, or a word that becomes no token.
    """
    if not words:
        raise DataError("token audit: expected at least one word")
    ids = [
        tuple(int(id_) for id_ in tokenizer.encode(f" {word}", add_special_tokens=False)) for word in words
    ]
    if empty := [word for word, cut in zip(words, ids, strict=True) if not cut]:
        raise DataError(f"token audit: {empty[0]!r} becomes no token; this tokenizer cannot write it")
    unknown_id = getattr(tokenizer, "unk_token_id", None)
    return TokenAudit(
        words=tuple(words),
        ids=tuple(ids),
        pieces=tuple(tuple(tokenizer.convert_ids_to_tokens(list(cut))) for cut in ids),
        unknown=tuple(
            w for w, cut in zip(words, ids, strict=True) if unknown_id is not None and unknown_id in cut
        ),
    )
