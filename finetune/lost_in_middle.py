"""Files of "Lost in the Middle" (Liu et al. 2023, arXiv 2307.03172): key-value records, questions with passages.

The oracle file holds the one passage that answers each question; contexts of many documents are built from it
with the passages of other questions, none of which holds an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.needle_layout import Case, Filler, Piece
from finetune.needle_tasks import FOILS, records_case
from finetune.pairs import records
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np


@dataclass(frozen=True)
class OpenQuestion:
    """A question with the passage that answers it.

    Attributes:
        question: as it was asked.
        answers: right answers, the first of which is used as the option.
        title: of the passage.
        text: of the passage.
    """

    question: str
    answers: tuple[str, ...]
    title: str
    text: str

    @property
    def passage(self) -> str:
        """Title and text on one line, as a context shows them."""
        return f"(Title: {self.title}) {self.text}"

    def answered_in(self, passage: str) -> bool:
        """Whether one of the answers stands in a passage, in any case."""
        return any(answer.lower() in passage.lower() for answer in self.answers)


def read_key_values(path: str | Path, *, most: int | None = None) -> list[Case]:
    """Read key-value records: ``{"ordered_kv_records", "key", "value"}`` a line.

    Args:
        path: a ``.jsonl`` file, gzipped or not.
        most: read so many lines; None reads all.

    Returns:
        A case a line. Its filler is the other records in their order, so a context has at most as many
        records as the file gives; foils are the values of the first three of them.

    Raises:
        DataError: the file cannot be read, or a line lacks a key, or has its key not among its records.
    """
    found = []
    for place, record in _lines(path, most):
        pairs = record.get("ordered_kv_records")
        if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
            raise DataError(f'{place}: "ordered_kv_records" must be a list of pairs of texts')
        asked = (record.get("key"), record.get("value"))
        others = [(key, value) for key, value in pairs if (key, value) != asked]
        if len(others) != len(pairs) - 1:
            raise DataError(f'{place}: "key" and "value" must be one of the records')
        if len(others) < FOILS:
            raise DataError(f"{place}: has {len(pairs)} records, and {FOILS + 1} options need as many")
        found.append(records_case([asked], others, [value for _, value in others[:FOILS]]))
    return found


def read_open_questions(path: str | Path, *, most: int | None = None) -> list[OpenQuestion]:
    """Read questions with their passages: ``{"question", "answers", "ctxs": [{"title", "text", "isgold"}]}`` a line.

    Args:
        path: a ``.jsonl`` file, gzipped or not, such as ``nq-open-oracle.jsonl.gz``.
        most: read so many lines; None reads all.

    Returns:
        One a line, with the passage that is marked as gold.

    Raises:
        DataError: the file cannot be read, or a line lacks a key or a gold passage.
    """
    found = []
    for place, record in _lines(path, most):
        answers, passages = record.get("answers"), record.get("ctxs")
        if not isinstance(record.get("question"), str) or not _are_texts(answers):
            raise DataError(f'{place}: "question" must be a text and "answers" a list of texts')
        gold = [p for p in passages or () if isinstance(p, dict) and p.get("isgold")]
        if not gold or not _are_texts([gold[0].get("title"), gold[0].get("text")]):
            raise DataError(f'{place}: "ctxs" holds no passage with "isgold", "title" and "text"')
        found.append(OpenQuestion(record["question"], tuple(answers), gold[0]["title"], gold[0]["text"]))
    return found


def documents_case(questions: Sequence[OpenQuestion], asked: int, rng: np.random.Generator) -> Case:
    """Hide the passage of one question among those of others.

    Args:
        questions: what was read.
        asked: index of the question to ask.
        rng: draws the other passages.

    Returns:
        The case. No other passage holds an answer. Foils are first answers of the questions whose passages
        come first, so that they stand in the context.

    Raises:
        DataError: fewer than three other passages are without an answer.
    """
    one = questions[asked]
    order = (questions[i] for i in rng.permutation(len(questions)) if i != asked)
    others = [other for other in order if not one.answered_in(other.passage)]
    foils = list(dict.fromkeys(other.answers[0] for other in others if not _same(other.answers[0], one)))[
        :FOILS
    ]
    if len(foils) < FOILS:
        raise DataError(f'"{one.question[:40]}": needs {FOILS} other questions with other answers; read more')
    place = one.passage.lower().find(one.answers[0].lower())
    marks = {"value": ((place, place + len(one.answers[0])),)} if place >= 0 else {}
    return Case(
        needles=(Piece(one.passage, marks),),
        filler=Filler(Piece(other.passage, rival=True) for other in others),
        question=f"Question: {one.question}",
        lead="Answer:",
        answer=one.answers[0],
        foils=tuple(foils),
        head="Write a high-quality answer for the given question using only the provided search results.",
        joint="\n",
        numbered="Document [{}]",
    )


def _lines(path: str | Path, most: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    read = 0
    for number, record in records(path):
        if record is None:
            continue
        if most is not None and read >= most:
            return
        read += 1
        yield f"{path}, line {number}", record
    if not read:
        raise DataError(f"{path}: holds no record; give a file of Lost in the Middle")


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and _are_texts(pair)


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(v, str) and v for v in values)


def _same(answer: str, question: OpenQuestion) -> bool:
    return answer.lower() in {known.lower() for known in question.answers}
