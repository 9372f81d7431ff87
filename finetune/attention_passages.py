"""Passages of one length out of a corpus, and what every head looks at in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from finetune.asked import position_limit
from finetune.causal import evaluating
from finetune.prompts import token_spans
from geometry.checks import DataError
from geometry.live.attention import AttentionProbe, Measure, Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from geometry.attention_rows import AttentionAnswer

LAST_ROWS = 32
"""Rows at the end of a passage that stand for its whole length."""


@dataclass(frozen=True)
class Passage:
    """Tokens of running text.

    Attributes:
        opening: what the tokenizer puts before a text; may be empty.
        ids: the text's own tokens.
        documents: how many documents they come from.
    """

    opening: tuple[int, ...]
    ids: tuple[int, ...]
    documents: int

    def ending(self, length: int) -> list[int]:
        """The last tokens, with the opening before them: ``length`` in all, so a shorter context is less of the same.

        Examples:
            >>> Passage((0,), (1, 2, 3, 4), 1).ending(3)
            [0, 3, 4]
        """
        return [*self.opening, *self.ids[len(self.ids) + len(self.opening) - length :]]


def passages(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerBase, length: int, most: int
) -> tuple[Passage, ...]:
    """Cut passages of a length, each from the start of a document.

    Args:
        documents: in order. A document that is too short goes on with the next one, after an empty line.
        tokenizer: of the model.
        length: tokens of each, the opening among them.
        most: how many passages; the corpus is read no further.

    Returns:
        As many as there are, at most ``most``.

    Raises:
        DataError: the length is below 2, or the corpus is shorter than one passage.
    """
    opening = tuple(token_spans(tokenizer, "", "")[0])
    if length < len(opening) + 2:
        raise DataError(f"length {length}: a passage needs {len(opening) + 2} tokens at least")
    found, text, joined = [], "", 0
    for document in documents:
        text, joined = f"{text}\n\n{document}" if text else document, joined + 1
        # a token is a character at least in nearly every tokenizer: short of that, tokens need not be counted
        if len(text) < length:
            continue
        ids = token_spans(tokenizer, text, "")[0][len(opening) :]
        if len(ids) + len(opening) >= length:
            found.append(Passage(opening, tuple(ids[: length - len(opening)]), joined))
            text, joined = "", 0
            if len(found) == most:
                return tuple(found)
    if not found:
        raise DataError(
            f"the text is shorter than {length} tokens; give more text, or ask for a shorter --length"
        )
    return tuple(found)


def read_attention(
    model: nn.Module, passage: Passage, lengths: Sequence[int], *, spaced: int = 96
) -> tuple[AttentionAnswer, ...]:
    """Read what every head looks at in the last tokens of a passage, at several lengths.

    Args:
        model: a causal language model of the attention interface, with or without an adapter.
        passage: long enough for every length.
        lengths: tokens of each context.
        spaced: rows spread logarithmically over the context, besides the last :data:`LAST_ROWS`.

    Returns:
        One answer a length.

    Raises:
        DataError: a length that the model's position table does not reach, or that is longer than the passage.
        ModelError: the model is off the attention interface.
    """
    limit = position_limit(model)
    whole = len(passage.opening) + len(passage.ids)
    answers = []
    for length in lengths:
        if limit is not None and length > limit:
            raise DataError(
                f"length {length}: the model has a table of {limit} positions; ask for a shorter one"
            )
        if not len(passage.opening) < length <= whole:
            raise DataError(f"length {length}: the passage has {whole} tokens; ask for as many at most")
        ids = torch.tensor([passage.ending(length)], device=next(model.parameters()).device)
        rows = Rows.log(spaced) | Rows.last(min(LAST_ROWS, length))
        with evaluating(model), AttentionProbe(model, rows=rows, measure=Measure(top=1, buckets=1)) as probe:
            model(input_ids=ids, use_cache=False)
        answers.append(probe.answer())
    return tuple(answers)
