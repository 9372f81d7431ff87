"""The prompt: one text format for pretraining, training and rewriting.

A rewriting task is written as ``Input: ...`` and ``Output:`` on two lines; what the model has to add is
a space, the rewritten text, and the end-of-text token. Worked examples come first, separated by empty
lines. Whoever trains on this format and whoever generates with it import it from here, so the two can
never drift apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from geometry.checks import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that bears no loss (the convention of torch's cross-entropy)."""


def one_line(text: str) -> str:
    r"""Fold every run of white space, newlines among it, to one space, and trim the ends.

    A newline inside a text would end its field of the prompt.

    Examples:
        >>> one_line("  It rained\n all day. ")
        'It rained all day.'
    """
    return " ".join(text.split())


def completion(target: str) -> str:
    """Return what follows the prompt, without the end-of-text token: a space and the text on one line.

    Examples:
        >>> completion("It did rain.")
        ' It did rain.'
    """
    return f" {one_line(target)}"


def render(source: str, examples: Sequence[tuple[str, str]] = ()) -> str:
    r"""Write the prompt that asks for a rewriting of ``source``.

    Args:
        source: the text to rewrite; folded to one line.
        examples: (source, target) texts of solved tasks, which are shown first, in this order.

    Returns:
        The prompt, which ends in ``Output:`` without a space (the space belongs to the completion, as
        byte-level tokenizers join it to the word).

    Examples:
        >>> render("It rained.")
        'Input: It rained.\nOutput:'
        >>> render("It rained.", [("Go.", "Depart!")])
        'Input: Go.\nOutput: Depart!\n\nInput: It rained.\nOutput:'
    """
    solved = "".join(f"Input: {one_line(s)}\nOutput:{completion(t)}\n\n" for s, t in examples)
    return f"{solved}Input: {one_line(source)}\nOutput:"


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, source: str, examples: Sequence[tuple[str, str]] = ()
) -> list[int]:
    """Tokenise the prompt for ``source``: the ids after which the model writes its answer.

    Args:
        tokenizer: any tokenizer with an end-of-text token.
        source: the text to rewrite.
        examples: as for :func:`render`.

    Returns:
        Token ids. A beginning-of-text token leads only where the tokenizer adds one by default.

    Raises:
        ModelError: the tokenizer has no end-of-text token.
    """
    return encode_rendered(tokenizer, render(source, examples))


def encode_rendered(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Tokenise a prompt that is already written, such as one of :class:`finetune.templates.Template`.

    Args:
        tokenizer: any tokenizer with an end-of-text token.
        prompt: ends where the answer begins, without white space.

    Returns:
        Token ids. A beginning-of-text token leads only where the tokenizer adds one by default.

    Raises:
        ModelError: the tokenizer has no end-of-text token.
    """
    _require_end(tokenizer)
    return _open_ids(tokenizer, prompt)


def encode(
    tokenizer: PreTrainedTokenizerBase, source: str, target: str, examples: Sequence[tuple[str, str]] = ()
) -> tuple[list[int], list[int]]:
    """Tokenise one task with its answer for completion-only training.

    The prompt's ids are exactly those of :func:`encode_prompt`, so training and rewriting see the same
    tokens also where a tokenizer would join the prompt's last token with the answer's first.

    Args:
        tokenizer: any tokenizer with an end-of-text token.
        source: the text to rewrite.
        target: the text that the model has to write.
        examples: as for :func:`render`.

    Returns:
        ids and labels, two lists of one length. Labels equal the ids over the answer and the closing
        end-of-text token, and :data:`IGNORED` over the prompt; they are not shifted.

    Raises:
        ModelError: the tokenizer has no end-of-text token.
    """
    _require_end(tokenizer)
    prompt_ids, answer_ids = token_spans(tokenizer, render(source, examples), completion(target))
    answer_ids = [*answer_ids, tokenizer.eos_token_id]
    return prompt_ids + answer_ids, [IGNORED] * len(prompt_ids) + answer_ids


def token_spans(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """Tokenise a text and its continuation so that the text's ids do not depend on the continuation.

    Args:
        tokenizer: any tokenizer.
        prompt: the text that is given.
        answer: what follows it, its leading space included.

    Returns:
        The ids of ``prompt``, with the tokenizer's own opening tokens but without closing ones, and the
        ids of ``answer``: those that it has in the whole text where these begin with the prompt's, and
        those that it has alone where a token would reach across the border.
    """
    prompt_ids, whole_ids = _open_ids(tokenizer, prompt), _open_ids(tokenizer, prompt + answer)
    if whole_ids[: len(prompt_ids)] == prompt_ids:
        return prompt_ids, whole_ids[len(prompt_ids) :]
    return prompt_ids, _ids(tokenizer, answer, add_special_tokens=False)


def _require_end(tokenizer: PreTrainedTokenizerBase) -> None:
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the tokenizer has no end-of-text token, so an answer could never end; set tokenizer.eos_token"
        )


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, *, add_special_tokens: bool) -> list[int]:
    # A text that spells "<|endoftext|>" must not be able to end the task.
    # Length is ours to judge, so the tokenizer need not warn of it.
    return tokenizer(
        text,
        add_special_tokens=add_special_tokens,
        split_special_tokens=True,
        return_attention_mask=False,
        verbose=False,
    )["input_ids"]


def _open_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokenise with the tokenizer's own opening tokens, but with none of its closing ones."""
    plain = _ids(tokenizer, text, add_special_tokens=False)
    ids = _ids(tokenizer, text, add_special_tokens=True)
    for opening in range(len(ids) - len(plain), 0, -1):
        if ids[opening : opening + len(plain)] == plain:
            return ids[: opening + len(plain)]
    return plain
