"""The systems of one table: what is asked for, what is had, and texts that were written elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from finetune.pairs import records
from finetune.templates import Template
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from finetune.content import Embedding
    from finetune.facts import FactScore
    from finetune.neutralise import Translator
    from finetune.pairs import Pair

REFERENCE, COPY = "written by a person", "copy the input"
"""The ends of every scale: what is reached at best, and what is had for nothing."""


@dataclass(frozen=True)
class System:
    """What wrote a text for every item.

    Attributes:
        name: for the table.
        how: in a sentence.
        outputs: one for each item; may be empty texts.
        seconds: that writing took; None where the texts were given.
        model: ``base`` or the name of an adapter, of a system that is a model; None for others.
    """

    name: str
    how: str
    outputs: tuple[str, ...]
    seconds: float | None = None
    model: str | None = None


@dataclass(frozen=True)
class Wanted:
    """Which systems are made, beside those that were given.

    Attributes:
        train: pairs to learn rules, terms and examples from; none leaves these systems out.
        adapters: name -> PEFT folder.
        engine: of round trips; None leaves them out.
        shots: solved pairs in a prompt of examples.
        room: tokens of the longest answer.
        template: of the prompts.
        style: what the style is called in them.
        facts: cloze facts that base and adapters are asked; None asks none.
        embedding: finds examples by the cosine of embeddings; None by BM25.
        seed: of random examples.
    """

    train: tuple[Pair, ...] = ()
    adapters: Mapping[str, Path] = field(default_factory=dict)
    engine: Translator | None = None
    shots: int = 5
    room: int = 128
    template: Template = field(default_factory=lambda: Template.named("plain"))
    style: str = "the style"
    facts: Path | None = None
    embedding: Embedding | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Written:
    """The systems and what only a model can say of them.

    Attributes:
        systems: name -> system, the reference and the copied input first.
        losses: of each system's texts under the base, see :func:`finetune.fluency.text_losses`; empty without
            a base.
        facts: ``base`` and each adapter -> what it knows; empty where none were asked.
        rules: word substitutions of the rule baseline.
        terms: in the bank.
    """

    systems: dict[str, System]
    losses: dict[str, NDArray[np.float64]]
    facts: dict[str, tuple[FactScore, ...]]
    rules: int = 0
    terms: int = 0


def read_outputs(path: Path, test: Sequence[Pair]) -> tuple[str, ...]:
    """Read what a system wrote: a line for each pair in order, or JSONL of ``{"id", "text"}`` in any order.

    Args:
        path: of the file; one that ends in .jsonl or .jsonl.gz is read as JSONL.
        test: the pairs.

    Returns:
        One text for each pair; an empty line is an empty answer.

    Raises:
        DataError: the file cannot be read, or does not answer every pair exactly once.
    """
    if ".jsonl" in path.name:
        found: dict[str, str] = {}
        for number, record in records(path):
            if record is None:
                continue
            identity, text = str(record.get("id")), record.get("text", record.get("output"))
            if not isinstance(text, str) or identity in found:
                raise DataError(f'{path}, line {number}: needs an "id" that is new and a "text"')
            found[identity] = text
        if missing := [pair.id for pair in test if pair.id not in found]:
            raise DataError(f"{path}: has no answer to pair {missing[0]}; answer every pair of the test")
        return tuple(found[pair.id] for pair in test)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as UTF-8 text; give the lines that a system wrote"
        ) from error
    lines = content.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if len(lines) != len(test):
        raise DataError(f"{path}: has {len(lines)} lines for {len(test)} pairs; write one for each, in order")
    return tuple(lines)
