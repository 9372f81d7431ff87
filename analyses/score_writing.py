"""Every system writes: the copied input, rules, round trips, prompts without and with examples, adapters."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analyses.score_systems import COPY, REFERENCE, System, Written
from finetune.adapter import attach
from finetune.facts import fact_scores, read_facts
from finetune.fluency import text_losses
from finetune.folders import sha256_text, write_whole
from finetune.prompted import prompter_for, sketch_first, write_prompted
from finetune.retrieve import Bm25, Cosine, ExampleBank
from finetune.round_trips import TripStore, round_trips
from finetune.shots import RandomShots
from finetune.terms import Substitutions, TermBank
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from analyses.score_systems import Wanted
    from finetune.pairs import Pair
    from finetune.prompted import Prompter
    from geometry.live.models import Loaded


def write_all(
    test: Sequence[Pair],
    given: Mapping[str, tuple[str, ...]],
    wanted: Wanted,
    base: Loaded | None,
    progress: Callable[[str, float], None],
    *,
    keep: Path | None = None,
) -> Written:
    """Let every system answer every item.

    Args:
        test: the pairs.
        given: name -> texts of systems that answered elsewhere.
        wanted: what else is made.
        base: the base model; None leaves out everything that needs one.
        progress: is told what is done and the share.
        keep: folder for the answers of systems that are done, to go on from after a kill.

    Returns:
        The systems, and what the base and the adapters know.

    Raises:
        DataError: two systems of one name, adapters or facts without a base, or data that cannot be used.
        InputError: whatever attaching or translating refuses.
    """
    require_base(wanted, base)
    systems: dict[str, System] = {}

    def take(made: Iterator[System]) -> None:
        for system in made:
            if system.name in systems:
                raise DataError(
                    f"two systems are called '{system.name}'; give the one from outside another name"
                )
            systems[system.name] = system

    take(_without_model(test, given, wanted, progress))
    terms = TermBank.learnt(wanted.train) if wanted.train else TermBank(())
    losses, facts = {}, {}
    if base is not None:
        asked = read_facts(wanted.facts).facts if wanted.facts else ()
        trips = systems["round trip"].outputs if "round trip" in systems else None
        desk = _Desk(test, wanted, terms, trips, _bank(wanted), progress, keep)
        rounds = 1 + len(wanted.adapters)
        take(desk.prompted(base, done=0.0, share=1 / rounds))
        if asked:
            facts["base"] = fact_scores(base.model, base.tokenizer, asked)
        for turn, (name, folder) in enumerate(wanted.adapters.items(), start=1):
            with attach(base, folder) as attached:
                take(desk.adapted(attached.model, base, name, done=turn / rounds, share=1 / rounds))
                if asked:
                    facts[name] = fact_scores(attached.model, base.tokenizer, asked)
        progress("reading all texts with the base", 1.0)
        losses = {n: text_losses(base.model, base.tokenizer, s.outputs) for n, s in systems.items()}
    rules = len(Substitutions.learnt(wanted.train).terms) if wanted.train else 0
    return Written(systems, losses, facts, rules, len(terms.terms))


def require_base(wanted: Wanted, base: Loaded | None) -> None:
    """Refuse adapters and facts without their model.

    Raises:
        DataError: there is no base and something needs one.
    """
    if base is None and (wanted.adapters or wanted.facts):
        raise DataError("adapters and facts need the model that they are of: add --base MODEL")


def _without_model(
    test: Sequence[Pair],
    given: Mapping[str, tuple[str, ...]],
    wanted: Wanted,
    progress: Callable[[str, float], None],
) -> Iterator[System]:
    sources = tuple(pair.source for pair in test)
    yield System(REFERENCE, "the styled side of the test pairs", tuple(pair.target for pair in test))
    yield System(COPY, "the plain side, unchanged", sources)
    if wanted.train:
        rules = Substitutions.learnt(wanted.train)
        yield System(
            "word rules",
            f"{len(rules.terms)} words replaced, as most training pairs with them do",
            tuple(map(rules, sources)),
        )
    if wanted.engine is not None:
        progress("translating there and back", 0.0)
        began = time.perf_counter()
        trips = round_trips(sources, wanted.engine, TripStore.default())
        texts = tuple(trip.text or source for trip, source in zip(trips, sources, strict=True))
        yield System(
            "round trip", f"there and back by {wanted.engine.name}", texts, time.perf_counter() - began
        )
    for name, outputs in given.items():
        yield System(name, "given as a file", outputs)


def _bank(wanted: Wanted) -> ExampleBank | None:
    if not wanted.train:
        return None
    targets = [pair.target for pair in wanted.train]
    likeness = Cosine.of(targets, wanted.embedding) if wanted.embedding else Bm25.of(targets)
    return ExampleBank(wanted.train, likeness)


@dataclass(frozen=True, eq=False)
class _Desk:
    """Where models answer the items: what all their prompts are made of."""

    test: Sequence[Pair]
    wanted: Wanted
    terms: TermBank
    trips: tuple[str, ...] | None
    bank: ExampleBank | None
    progress: Callable[[str, float], None]
    keep: Path | None = None

    def prompted(self, base: Loaded, *, done: float, share: float) -> Iterator[System]:
        """The base model alone: asked, shown random examples, shown similar ones, told terms."""
        model, prompter = base.model, self._prompter(base.model, base)
        sources, k = [pair.source for pair in self.test], self.wanted.shots
        part = share / (4 if self.bank else 1)

        def made(name: str, how: str, write: Callable[[], list[str]], step: int) -> System:
            self.progress(name, done + step * part)
            return self._kept(System(name, how, (), model="base"), write)

        zero = made(
            "zero-shot prompt", "the base, asked without an example",
            lambda: write_prompted(model, prompter, sources), 0,
        )  # fmt: skip
        yield zero
        if self.bank is None:
            return
        draw = RandomShots(self.wanted.train, k, self.wanted.seed)
        yield made(
            "few-shot prompt", f"the base, shown {k} random pairs",
            lambda: write_prompted(model, prompter, sources, examples=[draw(pair) for pair in self.test]), 1,
        )  # fmt: skip
        similar = made(
            "few-shot prompt, similar pairs", f"the base, shown {k} pairs found by its first answer",
            lambda: self._sketched(model, prompter, sources, self.trips or zero.outputs), 2,
        )  # fmt: skip
        yield similar
        yield made(
            "few-shot prompt with terms", "the same, told the terms that the input has",
            lambda: write_prompted(
                model, prompter, sources, terms=self._terms(sources),
                examples=self.bank.nearest(self._or_sources(similar.outputs), k, own=self.test),
            ), 3,
        )  # fmt: skip

    def adapted(
        self, model: nn.Module, base: Loaded, name: str, *, done: float, share: float
    ) -> Iterator[System]:
        """One adapter: alone, after a round trip, told terms, and shown similar pairs."""
        prompter, sources = self._prompter(model, base), [pair.source for pair in self.test]
        steps = iter(range(4))

        def made(added: str, how: str, write: Callable[[], list[str]]) -> System:
            full = name + added
            self.progress(full, done + share * next(steps) / 4)
            return self._kept(System(full, how, (), model=name), write)

        alone = made(
            "", "the adapter, prompted as it was trained", lambda: write_prompted(model, prompter, sources)
        )
        yield alone
        if self.trips is not None:
            yield made(
                ", round trip first", "the adapter on the round trip",
                lambda: write_prompted(model, prompter, self.trips),
            )  # fmt: skip
        if self.bank is not None:
            yield made(
                ", terms", "the adapter, told the terms that the input has",
                lambda: write_prompted(model, prompter, sources, terms=self._terms(sources)),
            )  # fmt: skip
            yield made(
                ", similar pairs", f"the adapter, shown {self.wanted.shots} pairs found by its first answer",
                lambda: self._sketched(model, prompter, sources, self.trips or alone.outputs),
            )  # fmt: skip

    def _kept(self, blank: System, write: Callable[[], list[str]]) -> System:
        """Let a system write, or take what it wrote before the run was killed."""
        path = self.keep and self.keep / f"{sha256_text(blank.name)[:16]}.json"
        if path and path.is_file():
            made = json.loads(path.read_text(encoding="utf-8"))
        else:
            began = time.perf_counter()
            made = {"outputs": write(), "seconds": time.perf_counter() - began}
            if path:
                write_whole(path, json.dumps(made))
        return replace(blank, outputs=tuple(made["outputs"]), seconds=made["seconds"])

    def _prompter(self, model: nn.Module, base: Loaded) -> Prompter:
        wanted = self.wanted
        return prompter_for(model, base.tokenizer, wanted.template, style=wanted.style, room=wanted.room)

    def _terms(self, sources: Sequence[str]) -> list[tuple]:
        return [self.terms.occurring(source) for source in sources]

    def _sketched(
        self, model: nn.Module, prompter: Prompter, sources: Sequence[str], sketches: Sequence[str]
    ) -> list[str]:
        _, final = sketch_first(
            lambda texts, shown: write_prompted(model, prompter, texts, examples=shown),
            sources, self.bank, self.wanted.shots, sketches=self._or_sources(sketches), own=self.test,
        )  # fmt: skip
        return final

    def _or_sources(self, answers: Sequence[str]) -> list[str]:
        """An empty answer is no sketch; the source is then."""
        return [answer or pair.source for answer, pair in zip(answers, self.test, strict=True)]
