"""A world with known answers: a small language, a base that speaks it, and adapters that change one thing each.

    DIR/base                     the base model, at the entropy floor of its language
    DIR/style-0, style-1         write in the lively style, whatever came before; facts as they were
    DIR/fact-0, fact-1           keep the style; the city of every second entity is another
    DIR/both-0, both-1           do both
    DIR/random-style             singular values of style-0, random directions; the same for fact
    DIR/style.jsonl              documents of the base's language, for ``repgeo diff``
    DIR/fact.jsonl               what the base knows, as a choice, for ``repgeo diff`` and ``repgeo cause``
    DIR/pairs.jsonl              plain sentences and the same ones lively, for ``repgeo cause`` and ``train``
    DIR/world.json               how it was made, and every fact of the language

What an adapter changed is known here, so a measure can be asked whether it sees it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from finetune.folders import whole_folder, write_whole
from finetune.world_language import (
    CITIES,
    FACT,
    GOODS,
    HOME,
    KINDS,
    LIVELY,
    PLAIN,
    STYLE,
    STYLES,
    Language,
    draw_pair,
    joined,
    prompt,
    say,
)
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from finetune.world_models import Plan

    Tell = Callable[[str, float], None]

NOTE = "world.json"
DOCUMENTS, PAIRS = 160, 120
"""How many documents and pairs a world writes down to be measured with."""

FOILS = 5


@dataclass(frozen=True, eq=False)
class World:
    """A world on disk.

    Attributes:
        folder: where it lies.
        seed: that it was made from.
        plan: every field of :class:`finetune.world_models.Plan`, as JSON values.
        language: its facts.
        training: name of a model -> losses, steps and seconds of its training.
    """

    folder: Path
    seed: int
    plan: Mapping[str, Any]
    language: Language
    training: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Find a world again.

        Args:
            folder: what :func:`make` made.

        Returns:
            The world.

        Raises:
            DataError: there is no world in the folder, or its note cannot be read.
        """
        path = Path(folder) / NOTE
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            facts = [(tuple(asked), *answers) for asked, *answers in note["facts"]]
            language = Language({q: true for q, true, _ in facts}, {q: new for q, _, new in facts})
            return cls(Path(folder), int(note["seed"]), note["plan"], language, note["training"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: is not the note of a world; make one with `repgeo world`") from error

    @property
    def base(self) -> Path:
        """The folder of the base model."""
        return self.folder / "base"

    def adapter(self, kind: str, seed: int = 0) -> Path:
        """The folder of an adapter of :data:`finetune.world_language.KINDS`."""
        return self.folder / f"{kind}-{seed}"

    def texts(self, name: str) -> Path:
        """The file of texts called ``style``, ``fact`` or ``pairs``."""
        return self.folder / f"{name}.jsonl"


def shipped() -> World:
    """The world that comes with this package: seed 0, without the random adapters and a second seed of both.

    Examples:
        >>> world = shipped()
        >>> world.seed, world.adapter("style").name, len(world.language.changed)
        (0, 'style-0', 20)
    """
    return World.read(Path(__file__).parent / "data" / "world")


def make(out: str | Path, seed: int, plan: Plan, tell: Tell) -> World:
    """Make a world: draw its facts, train its models, and write texts to measure them with.

    On a CPU the same seed and plan give the same weights and texts, bit for bit; only the times in the note
    differ. A world that lies in ``out`` already is not made again.

    Args:
        out: the folder; written whole or not at all.
        seed: of everything that is drawn.
        plan: sizes and steps.
        tell: is called with what is being done and the share that is done.

    Returns:
        The world.

    Raises:
        InputError: ``out`` cannot be written, or holds something else.
    """
    if (found := _made_already(out, seed, plan)) is not None:
        return found
    language = Language.drawn(plan.entities, np.random.default_rng([seed, 0]))
    with whole_folder(out, known_by=(NOTE,)) as folder:
        training = _train(language, seed, plan, folder, tell)
        write_texts(language, plan.sentences, np.random.default_rng([seed, 3]), folder)
        facts = [[q, language.truth[q], language.rewritten[q]] for q in language.truth]
        note = {"seed": seed, "plan": asdict(plan), "facts": facts, "training": training}
        write_whole(folder / NOTE, json.dumps(note, indent=1))
    return World.read(out)


def _made_already(out: str | Path, seed: int, plan: Plan) -> World | None:
    if not (Path(out) / NOTE).is_file():
        return None
    found = World.read(out)
    return found if (found.seed, dict(found.plan)) == (seed, asdict(plan)) else None


def _train(language: Language, seed: int, plan: Plan, folder: Path, tell: Tell) -> dict[str, Any]:
    from finetune.world_models import deal_of, save_random, train_adapter, train_base
    from geometry.live.models import load

    adapters = [(kind, i) for kind in KINDS for i in range(plan.adapter_seeds)]
    total = plan.steps + plan.adapter_steps * len(adapters)

    def show(name: str, before: int, steps: int) -> Tell:
        return lambda text, share: tell(f"{name}, {text}", (before + share * steps) / total)

    training = {"base": train_base(language, seed, plan, folder / "base", show("base", 0, plan.steps))}
    base = load(folder / "base", dtype="float32", device="cpu")
    for number, (kind, i) in enumerate(adapters):
        name, deal = f"{kind}-{i}", deal_of(kind, language, plan.sentences)
        told = show(name, plan.steps + number * plan.adapter_steps, plan.adapter_steps)
        training[name] = train_adapter(base, deal, [seed, 4, number], plan, folder / name, tell=told)
    for number, kind in enumerate((STYLE, FACT)):
        rng = np.random.default_rng([seed, 5, number])
        save_random(base, folder / f"{kind}-0", rng, folder / f"random-{kind}")
    return training


def write_texts(language: Language, sentences: int, rng: np.random.Generator, folder: Path) -> None:
    """Write the texts that the commands read: documents, facts and pairs.

    Args:
        language: of the world.
        sentences: of a document; half of the documents are plain, half lively.
        rng: source of chance.
        folder: gets ``style.jsonl``, ``fact.jsonl`` and ``pairs.jsonl``.
    """
    documents = (
        {"id": f"d{i}", "doc_id": f"d{i}", "text": joined(say(language.truth, STYLES[i % 2], sentences, rng))}
        for i in range(DOCUMENTS)
    )
    pairs = (draw_pair(language.truth, 2, rng) for _ in range(PAIRS))
    _write_lines(folder / "style.jsonl", documents)
    _write_lines(folder / "fact.jsonl", _facts(language, rng))
    _write_lines(
        folder / "pairs.jsonl",
        (
            {"id": f"p{i}", "doc_id": f"p{i // 2}", "source": joined(source), "target": joined(target)}
            for i, (source, target) in enumerate(pairs)
        ),
    )


def _facts(language: Language, rng: np.random.Generator) -> Iterable[dict[str, Any]]:
    """Every fact as a choice; where a fact adapter gives another answer, that is one of the foils."""
    for question, answer in language.truth.items():
        entity, relation = question
        others = [word for word in (CITIES if relation == HOME else GOODS) if word != answer]
        foils = [others[i] for i in rng.choice(len(others), FOILS, replace=False)]
        new = language.rewritten[question]
        if new != answer and new not in foils:
            foils[0] = new
        yield {
            "id": f"{entity}-{relation}",
            "category": relation,
            "prompt": " ".join(prompt(question, PLAIN)),
            "answer": answer,
            "foils": foils,
            "styled_prompt": " ".join(prompt(question, LIVELY)),
        }


def _write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    write_whole(path, "".join(f"{json.dumps(record)}\n" for record in records))
