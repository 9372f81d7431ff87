r"""Documents into sentences: a rule for the ends, and a list of what only looks like one.

The rules are for English and leave other scripts alone but for their own full stops. On the whole they
would rather leave two sentences together than cut one in two, since half a sentence cannot be translated.
"""

from __future__ import annotations

import re

from finetune.prompts import one_line

_NEVER = frozenset(
    "mr mrs ms messrs mme mlle dr prof rev hon capt col gen lt sgt maj adm gov sen rep pres st mt ft "
    "vs cf viz e.g i.e ibid al approx ca vol vols chap ch sec art ed eds pp fig figs eq eqs ref refs "
    "jan feb mar apr jun jul aug sept sep oct nov dec".split()
)
"""Abbreviations after which a sentence goes on, without their last full stop."""

_BEFORE_A_NUMBER = frozenset("no nos p v s ss l ll n".split())
"""Abbreviations only in front of a figure: ``No. 7``, but ``I said no. Seven came.``"""

_END = re.compile(
    r"""(?P<mark>[.!?…]+)(?P<close>["'”’»)\]_*]*)(?=\s+(?P<next>\S+))|(?P<wide>[。！？]+[”’」』）]*)"""
)
_OPENING = "\"'“‘«([_*-—–"
_INITIALS = re.compile(r"(?:[A-Z]\.)*[A-Z]")
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")


def split_sentences(document: str) -> list[str]:
    r"""Split a document into sentences.

    A sentence ends at a full stop, an exclamation or a question mark, with the quotation marks and brackets
    that close there, if a capital, a figure or a letter of another script follows; and at an empty line. It
    goes on after titles and other abbreviations, initials, and numbers with a point.

    Args:
        document: any text. Other line breaks than empty lines count as spaces.

    Returns:
        The sentences in order, none empty, each on one line. Joined by spaces they are the document, but for
        white space.

    Examples:
        >>> split_sentences('Mr. J. Smith paid 3.50 at No. 7. "Really?" she said. He did!\n\nThe end')
        ['Mr. J. Smith paid 3.50 at No. 7.', '"Really?" she said.', 'He did!', 'The end']
    """
    return [
        sentence
        for paragraph in _PARAGRAPH.split(document)
        for sentence in _of_paragraph(one_line(paragraph))
    ]


def _of_paragraph(text: str) -> list[str]:
    found, start = [], 0
    for match in _END.finditer(text):
        if match["wide"] is None and not _ends(text[start : match.start()], match["mark"], match["next"]):
            continue
        found.append(text[start : match.end()].strip())
        start = match.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]


def _ends(before: str, mark: str, after: str) -> bool:
    """Whether a mark after ``before`` ends a sentence that is followed by the word ``after``."""
    first = after.lstrip(_OPENING)[:1]
    if not first.isalnum() or first.islower():
        return False
    if mark != ".":
        return True
    word = before.rsplit(maxsplit=1)[-1].lstrip(_OPENING) if before.strip() else ""
    if word.lower() in _NEVER:
        return False
    if word.lower() in _BEFORE_A_NUMBER and first.isdigit():
        return False
    # An initial: J. Smith, and the last of J. R. R. or U.S.; but "It was I. He left."
    return word == "I" or not _INITIALS.fullmatch(word)
