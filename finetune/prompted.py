"""Rewriting with prompts that differ from text to text: examples found for it, terms that it has, sketch first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.causal import context_length
from finetune.pairs import Pair
from finetune.prompts import encode_rendered
from finetune.retrieve import Bm25, ExampleBank
from finetune.templates import Template
from finetune.terms import TermBank
from finetune.transfer import write_answers
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from finetune.terms import Term
    from finetune.transfer import Sampling

    Write = Callable[[Sequence[str], Sequence[Sequence[Pair]]], list[str]]
    """Rewrites texts, each with its examples."""


@dataclass(frozen=True, eq=False)
class Prompter:
    """Writes the prompts of texts as tokens, with as many examples as the context holds.

    Attributes:
        tokenizer: of the model that will answer.
        template: of the prompts.
        limit: positions of the model.
        style: what the style is called in the prompt.
        room: positions that are kept for the answer, wherever leaving out examples can make them.
    """

    tokenizer: PreTrainedTokenizerBase
    template: Template
    limit: int
    style: str = ""
    room: int = 128

    def __call__(self, source: str, examples: Sequence[Pair] = (), terms: Sequence[Term] = ()) -> list[int]:
        """Write the prompt of one text.

        Args:
            source: the text.
            examples: solved pairs, the most useful last; the first ones are left out where the prompt would
                not fit.
            terms: what to be reminded of.

        Returns:
            Token ids, fewer than ``limit``.

        Raises:
            DataError: the text is empty, or fills the context without any example.
            ModelError: the tokenizer has no end-of-text token.
        """
        if not source.strip():
            raise DataError("an empty text cannot be rewritten; leave it out")
        told = [(term.source, term.target) for term in terms]
        for first in range(len(examples) + 1):
            solved = [(pair.source, pair.target) for pair in examples[first:]]
            ids = encode_rendered(
                self.tokenizer, self.template.render(source, solved, told, style=self.style)
            )
            if len(ids) + self.room <= self.limit:
                return ids
        if len(ids) >= self.limit:
            raise DataError(
                f'"{source[:40]}...": its prompt has {len(ids)} tokens and the model\'s context {self.limit}; '
                "shorten it"
            )
        return ids


def write_prompted(
    model: nn.Module,
    prompter: Prompter,
    sources: Sequence[str],
    *,
    examples: Sequence[Sequence[Pair]] | None = None,
    terms: Sequence[Sequence[Term]] | None = None,
    batch_size: int = 48,
    sample: Sampling | None = None,
) -> list[str]:
    """Rewrite texts, each with examples and terms of its own.

    Args:
        model: a causal language model, with or without an adapter; it comes back as it was.
        prompter: writes the prompts.
        sources: what to rewrite.
        examples: solved pairs of each text; None shows none.
        terms: of each text; None tells none.
        batch_size: texts in one forward pass.
        sample: how to draw; None takes the most probable token each time.

    Returns:
        One answer for each text, in order, on one line.

    Raises:
        DataError: not one list of examples or terms for each text, or a text that cannot be asked.
        ModelError: not a causal language model, or its tokenizer has no end-of-text token.
    """
    shown = [()] * len(sources) if examples is None else examples
    told = [()] * len(sources) if terms is None else terms
    if not len(sources) == len(shown) == len(told):
        raise DataError(
            f"{len(sources)} texts, {len(shown)} lists of examples and {len(told)} of terms: give one for each"
        )
    prompts = [prompter(*asked) for asked in zip(sources, shown, told, strict=True)]
    return write_answers(
        model, prompter.tokenizer, prompts, max_new_tokens=prompter.room, batch_size=batch_size, sample=sample
    )


def prompter_for(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    *,
    style: str = "",
    room: int = 128,
) -> Prompter:
    """Make the prompter of a model: its context is the limit."""
    return Prompter(tokenizer, template, context_length(model), style, room)


def sketch_first(
    write: Write,
    sources: Sequence[str],
    bank: ExampleBank,
    k: int,
    *,
    sketches: Sequence[str] | None = None,
    own: Sequence[Pair] | None = None,
) -> tuple[list[str], list[str]]:
    """Rewrite twice: the first answers are what examples of the second are searched with.

    The bank is searched by styled sides, and a text that is still to be rewritten has none. A sketch of it
    serves at first, then the first answer, which is nearer to the style (Liu & Koehn, arXiv 2602.15013).

    Args:
        write: rewrites texts with examples, such as :func:`write_prompted` of one model.
        sources: what to rewrite.
        bank: of solved pairs.
        k: examples for each text.
        sketches: what the first search goes by, such as another system's answers; None takes the texts.
        own: the pair of each text, so that it is never its own example.

    Returns:
        The first answers and the second. Where the first is empty, the second search goes by the sketch.
    """
    by = list(sources if sketches is None else sketches)
    drafts = write(sources, bank.nearest(by, k, own=own))
    by = [draft or sketch for draft, sketch in zip(drafts, by, strict=True)]
    return drafts, write(sources, bank.nearest(by, k, own=own))


def rewriter(pairs: Sequence[Pair], k: int, *, terms: bool = False) -> Callable[..., list[str]]:
    """Make a function that rewrites with examples found among pairs, sketch first, and perhaps with terms.

    Args:
        pairs: solved; a text that is one of their sources is never shown its own.
        k: examples of each prompt; 0 shows none and writes once.
        terms: whether prompts tell the terms of their text, learnt from the pairs.

    Returns:
        A function that takes what :func:`finetune.transfer.transfer` takes, and returns what it returns.
    """
    bank = ExampleBank(pairs, Bm25.of([pair.target for pair in pairs]))
    known = TermBank.learnt(pairs) if terms else TermBank(())

    def rewrite(
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        *,
        max_new_tokens: int = 128,
        batch_size: int = 16,
        sample: Sampling | None = None,
    ) -> list[str]:
        prompter = prompter_for(model, tokenizer, Template.named("plain"), room=max_new_tokens)
        told = [known.occurring(text) for text in texts]

        def write(sources: Sequence[str], shown: Sequence[Sequence[Pair]]) -> list[str]:
            return write_prompted(
                model, prompter, sources, examples=shown, terms=told, batch_size=batch_size, sample=sample
            )

        if not k:
            return write(texts, [()] * len(texts))
        own = [Pair(f"text {i}", "", text, "") for i, text in enumerate(texts)]
        return sketch_first(write, texts, bank, k, own=own)[1]

    return rewrite
