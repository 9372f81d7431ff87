"""Which modules of an adapter make the style: switched off one by one, pruned to a few, beside chance.

The circuit is chosen on one half of the documents: modules are ordered by what integrated gradients attribute to
their gates, and in that order, the least first, each is removed for good when the rest still has the wanted share of
the effect (the greedy step of Conmy et al. 2023, with a threshold on what is left in place of one on each step).
Everything that is said of it is measured on the other half, beside random sets of as many modules.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from analyses.cause_exam import Exam, read_groups
from analyses.cause_measures import effect, necessity, share, sufficiency
from analyses.circuit_sets import pruned, random_sets, sizes_up_to, smallest_enough
from analyses.floors import with_null
from finetune.adapter import attach, require_active
from finetune.facts import read_facts
from finetune.gates import gate_gradient, gated_likelihoods, gated_modules
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from finetune.adapter import Attached
    from finetune.gates import Module
    from geometry.live.models import Loaded

    Array = NDArray[np.float64]
    Show = Callable[[str, float], None]

POINTS = 4
"""Gauss-Legendre points of an integrated gradient."""

DRAWN = 8
"""Most modules of the circuit between which interactions are measured."""

METRICS = ("style", "fact margin")


@dataclass(frozen=True)
class CircuitRequest:
    """What is asked.

    Attributes:
        texts: ``style`` -> JSONL of pairs, ``fact`` -> JSONL of cloze facts with foils.
        keep: share of the style effect that the circuit has to have on the half it is chosen on, in (0, 1).
        draws: random sets of each size, at least 2.
        seed: of the random sets and the intervals.
        others: further adapters of the same base, such as other seeds, whose circuits are put beside this one's.
    """

    texts: dict[str, Path]
    keep: float = 0.9
    draws: int = 8
    seed: int = 0
    others: tuple[Path, ...] = ()


def circuit(
    base: Loaded, adapter: str | Path, request: CircuitRequest, *, progress: Show = lambda what, done: None
) -> dict[str, Any]:
    """Find the modules and rank components that make an adapter's style.

    Args:
        base: the base model; borrowed and given back as it was.
        adapter: PEFT folder of plain LoRA on linear modules.
        request: texts, threshold and draws.
        progress: is called with what is being done and the share that is done.

    Returns:
        Facts, JSON-able: ``preflight``, ``groups``, ``effects``; ``modules``, each with its attributions and the
        shares that go without it and that it has alone; ``attribution``, how well it agrees with switching off;
        ``circuit``, the modules kept, what they have and what goes without them beside random sets of as many;
        ``interactions`` between them; ``curves`` over the number of modules and of rank components, with the
        random sets' range; ``stability`` beside other adapters.

    Raises:
        AdapterError: inactive, DoRA, or see :func:`finetune.adapter.attach`.
        DataError: texts that cannot be read, a threshold or draws out of range, or no sure effect on the style.
    """
    if not 0 < request.keep < 1 or request.draws < 2:
        raise DataError(
            f"keep {request.keep}, draws {request.draws}: give a share in (0, 1), and 2 or more draws"
        )
    rng = np.random.default_rng(request.seed)
    dealt = read_groups(request.texts, rng)
    measured = {fact.id for fact in dealt.exam.facts}
    other_facts = [f for f in read_facts(request.texts["fact"]).facts if f.id not in measured]
    chosen_on = Exam.of(dealt.fitted, other_facts, rng)
    with attach(base, adapter) as attached:
        require_active(attached)
        bench = Bench.of(attached, dealt.exam, chosen_on)
        if not bench.effects["style"]["sure"]:
            raise DataError(
                f"{adapter}: has no sure effect on the style, so there is nothing to find; see repgeo cause"
            )
        progress("differentiating by the gates", 0.0)
        attributed = bench.attributions()
        by_module = {metric: bench.summed(of) for metric, of in attributed.items()}
        progress("pruning", 0.05)
        kept, steps = bench.chosen(by_module["style"], request.keep)
        progress("switching modules off", 0.15)
        records = _module_records(bench, by_module)
        progress("measuring the circuit", 0.5)
        found = {
            "modules": records,
            "attribution": _agreement(bench, attributed, records),
            "circuit": _circuit(bench, kept, steps, request, rng),
            "interactions": _interactions(bench, kept, records),
        }
        progress("measuring random sets of modules", 0.6)
        found["curves"] = {
            "modules": _curve(bench, bench.order(by_module["style"]), bench.of_modules, request, rng)
        }
        progress("measuring random sets of rank components", 0.8)
        order = np.argsort(-attributed["style"], kind="stable")
        found["curves"]["components"] = _curve(bench, order, bench.of_components, request, rng)
        names = [module.name for module in bench.modules]
        preflight, effects = asdict(attached.preflight), bench.effects
    beside = []
    for number, folder in enumerate(request.others):
        progress(f"other adapter {number + 1}", 0.9)
        beside.append(_other(base, folder, (dealt.exam, chosen_on), request.keep, names))
    found["stability"] = _stability(by_module["style"], kept, beside, request.others)
    asked = {"keep": request.keep, "draws": request.draws}
    return {"preflight": preflight, "groups": dealt.sizes, "effects": effects, **asked, **found}


@dataclass(frozen=True, eq=False)
class Bench:
    """An attached adapter with gates, and the questions of both halves.

    Attributes:
        attached: the adapter.
        modules: its modules; K gates in all.
        exam: questions to measure with.
        chosen_on: questions of the other documents, to choose with.
        whole: metric -> (2, 1 + draws) of base and adapted model on ``exam``.
        own_half: (2,) style of base and adapted model on ``chosen_on``.
        effects: what the whole adapter does.
    """

    attached: Attached
    modules: tuple[Module, ...]
    exam: Exam
    chosen_on: Exam
    whole: dict[str, Array]
    own_half: Array
    effects: dict[str, Any]

    @classmethod
    def of(cls, attached: Attached, exam: Exam, chosen_on: Exam) -> Self:
        """Ask base and adapted model alone."""
        modules = gated_modules(attached)
        ends = np.stack([np.zeros(_count(modules)), np.ones(_count(modules))])
        whole = exam.means(gated_likelihoods(attached, ends, exam.questions))
        short = replace(chosen_on, facts=())
        own_half = short.means(gated_likelihoods(attached, ends, short.questions))["style"][:, 0]
        effects = {metric: effect(whole[metric]) for metric in METRICS}
        return cls(attached, modules, exam, chosen_on, whole, own_half, effects)

    def of_modules(self, sets: Sequence[Sequence[int]]) -> Array:
        """Gates (C, K) with the modules of each set on."""
        gates = np.zeros((len(sets), _count(self.modules)))
        for row, members in zip(gates, sets, strict=True):
            for i in members:
                row[self.modules[i].gates] = 1
        return gates

    def of_components(self, sets: Sequence[Sequence[int]]) -> Array:
        """Gates (C, K) with the rank components of each set on."""
        gates = np.zeros((len(sets), _count(self.modules)))
        for row, members in zip(gates, sets, strict=True):
            row[list(members)] = 1
        return gates

    def asked(self, gates: Array) -> dict[str, Array]:
        """Every metric of copies on the measured half, (C, 1 + draws)."""
        return self.exam.means(gated_likelihoods(self.attached, gates, self.exam.questions))

    def style(self, gates: Array) -> Array:
        """States (C, 3, 1 + draws) of base, adapted model and each copy: the style on the measured half."""
        short = replace(self.exam, facts=())
        found = short.means(gated_likelihoods(self.attached, gates, short.questions))["style"]
        return np.stack([np.stack([*self.whole["style"], one]) for one in found])

    def kept_share(self, gates: Array) -> float:
        """Share of the style effect that one copy has, on the half that the circuit is chosen on."""
        short = replace(self.chosen_on, facts=())
        found = short.means(gated_likelihoods(self.attached, gates, short.questions))["style"][0, 0]
        base, adapted = self.own_half
        return float((found - base) / (adapted - base))

    def attributions(self) -> dict[str, Array]:
        """Metric -> (K,) integrated gradient of its mean on the half that the circuit is chosen on.

        The path switches all gates on together; what is attributed adds up to the effect, up to quadrature
        (Sundararajan et al. 2017, eq. 1).
        """
        count, exam = _count(self.modules), self.chosen_on
        answers = gated_likelihoods(self.attached, np.ones(count), exam.questions)
        n = 2 * len(exam.pairs)
        signs = np.tile([1.0, -1.0], len(exam.pairs)) / len(exam.pairs)
        weights = {"style": (exam.questions[:n], signs / answers.tokens[:n])}
        weights["fact margin"] = (exam.questions[n:], _margin_weights(exam, answers.sums[0, n:]))
        points, parts = np.polynomial.legendre.leggauss(POINTS)
        found = {}
        for metric, (questions, weight) in weights.items():
            slopes = [
                gate_gradient(self.attached, np.full(count, (1 + p) / 2), questions, weight) for p in points
            ]
            found[metric] = parts / 2 @ np.array(slopes)
        return found

    def summed(self, components: Array) -> Array:
        """Add what components have up, module by module."""
        return np.array([components[module.gates].sum() for module in self.modules])

    def order(self, by_module: Array) -> NDArray[np.intp]:
        """Modules, the most attributed first."""
        return np.argsort(-by_module, kind="stable")

    def chosen(self, by_module: Array, keep: float) -> tuple[tuple[int, ...], list[dict[str, Any]]]:
        """Prune to the modules that still have a share of the effect."""
        return pruned(
            self.order(by_module)[::-1].tolist(), lambda some: self.kept_share(self.of_modules([some])), keep
        )


def _count(modules: Sequence[Module]) -> int:
    return modules[-1].first + modules[-1].rank


def _margin_weights(exam: Exam, sums: Array) -> Array:
    """Weights whose sum over the log-likelihoods is the mean margin, each fact against its likeliest foil."""
    weights, at = np.zeros(len(sums)), 0
    for fact in exam.facts:
        foils = slice(at + 1, at + 1 + len(fact.foils))
        weights[at] = 1 / len(exam.facts)
        weights[foils.start + int(np.argmax(sums[foils]))] = -1 / len(exam.facts)
        at = foils.stop
    return weights


def _module_records(bench: Bench, by_module: dict[str, Array]) -> list[dict[str, Any]]:
    everything = range(len(bench.modules))
    without = bench.asked(bench.of_modules([[j for j in everything if j != i] for i in everything]))
    alone = bench.asked(bench.of_modules([[i] for i in everything]))
    records = []
    for i, module in enumerate(bench.modules):
        record: dict[str, Any] = {"name": module.name, "layer": module.layer, "projection": module.projection}
        for metric in METRICS:
            sure = bench.effects[metric]["sure"]
            whole = bench.whole[metric]
            record[metric] = {
                "attribution": float(by_module[metric][i]),
                "knock-out": share(necessity, np.stack([*whole, without[metric][i]]), sure=sure),
                "knock-in": share(sufficiency, np.stack([*whole, alone[metric][i]]), sure=sure),
            }
        records.append(record)
    return records


def _agreement(
    bench: Bench, attributed: dict[str, Array], records: Sequence[dict[str, Any]]
) -> dict[str, float | int | None]:
    """Whether attributions add up, and how their order agrees with exact switching."""
    exact = [record["style"]["knock-out"]["value"] for record in records]
    told = [record["style"]["attribution"] for record in records]
    base, adapted = bench.own_half
    return {
        "points": POINTS,
        "sum": float(attributed["style"].sum()),
        "effect": float(adapted - base),
        "rank_correlation": _rank_correlation(told, exact),
    }


def _rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's; None for fewer than three modules, which always agree or disagree."""
    if len(one) < 3:
        return None
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def _circuit(
    bench: Bench,
    kept: tuple[int, ...],
    steps: list[dict[str, Any]],
    request: CircuitRequest,
    rng: np.random.Generator,
) -> dict[str, Any]:
    n = len(bench.modules)
    rest = [i for i in range(n) if i not in kept]
    drawn = random_sets(n, len(kept), 2 * request.draws, rng)
    others = [sorted(set(range(n)) - set(some)) for some in drawn]
    own = bench.asked(bench.of_modules([kept, rest]))
    found: dict[str, Any] = {
        "kept": list(kept),
        "names": [bench.modules[i].name for i in kept],
        "of": n,
        "chosen_share": bench.kept_share(bench.of_modules([kept])),
        "steps": steps,
    }
    for name, part_of, sets, copy in (
        ("sufficiency", sufficiency, drawn, 0),
        ("necessity", necessity, others, 1),
    ):
        chance = [float(part_of(states)[0]) for states in bench.style(bench.of_modules(sets))]
        states = np.stack([*bench.whole["style"], own["style"][copy]])
        value = share(part_of, states, sure=True)
        found[name] = value | with_null(value["value"], chance)
        margin = np.stack([*bench.whole["fact margin"], own["fact margin"][copy]])
        found[f"fact {name}"] = share(part_of, margin, sure=bench.effects["fact margin"]["sure"])
    return found


def _interactions(
    bench: Bench, kept: tuple[int, ...], records: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What two modules of the circuit have together beyond what each has, with the rest of the circuit on."""
    most = sorted(kept, key=lambda i: -records[i]["style"]["knock-out"]["value"])[:DRAWN]
    sets = [kept] + [[j for j in kept if j != i] for i in most]
    pairs = [(a, b) for n, a in enumerate(most) for b in most[n + 1 :]]
    if not pairs:
        return []
    sets += [[j for j in kept if j not in pair] for pair in pairs]
    states = bench.style(bench.of_modules(sets))
    shares = np.array([sufficiency(one) for one in states])
    one_off = dict(zip(most, shares[1 : 1 + len(most)], strict=True))
    found = []
    for (a, b), both_off in zip(pairs, shares[1 + len(most) :], strict=True):
        drawn = shares[0] - one_off[a] - one_off[b] + both_off
        low, high = np.percentile(drawn[1:], [2.5, 97.5])
        found.append({"one": a, "other": b, "value": float(drawn[0]), "low": float(low), "high": float(high)})
    return found


def _curve(
    bench: Bench,
    order: NDArray[np.intp],
    gates: Callable[[Sequence[Sequence[int]]], Array],
    request: CircuitRequest,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Share of the effect of the first members of an order, beside random sets of as many."""
    n = len(order)
    sizes = sizes_up_to(n)
    own = [share(sufficiency, one, sure=True) for one in bench.style(gates([order[:k] for k in sizes]))]
    chance = []
    for k in sizes[:-1]:
        states = bench.style(gates(random_sets(n, k, request.draws, rng)))
        chance.append([float(sufficiency(one)[0]) for one in states])
    enough = smallest_enough(n, lambda k: bench.kept_share(gates([order[:k]])), request.keep)
    at = bench.style(gates([order[:enough]]))[0]
    drawn = bench.style(gates(random_sets(n, enough, request.draws, rng)))
    value = share(sufficiency, at, sure=True)
    return {
        "of": n,
        "sizes": sizes,
        "shares": own,
        "random": chance,
        "enough": enough,
        "enough_share": value | with_null(value["value"], [float(sufficiency(one)[0]) for one in drawn]),
        "random_enough": next(
            (k for k, values in zip(sizes, chance, strict=False) if np.mean(values) >= request.keep), n
        ),
    }


def _other(
    base: Loaded, folder: Path, exams: tuple[Exam, Exam], keep: float, names: Sequence[str]
) -> tuple[Array, tuple[int, ...]]:
    """Attribution and circuit of another adapter with the same modules."""
    with attach(base, folder) as attached:
        require_active(attached)
        bench = Bench.of(attached, *exams)
        if [module.name for module in bench.modules] != list(names):
            raise DataError(f"{folder}: adapts other modules; compare adapters of one recipe")
        by_module = bench.summed(bench.attributions()["style"])
        return by_module, bench.chosen(by_module, keep)[0]


def _stability(
    own: Array,
    kept: tuple[int, ...],
    beside: Sequence[tuple[Array, tuple[int, ...]]],
    folders: Sequence[Path],
) -> list[dict[str, Any]]:
    return [
        {
            "adapter": str(folder),
            "modules": len(theirs),
            "kept": list(theirs),
            "shared": len(set(kept) & set(theirs)),
            "shared_by_chance": len(kept) * len(theirs) / len(own),
            "rank_correlation": _rank_correlation(own.tolist(), attribution.tolist()),
        }
        for (attribution, theirs), folder in zip(beside, folders, strict=True)
    ]
