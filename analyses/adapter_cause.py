"""Which part of an adapter's change does something: taken out, kept alone, and put into the base.

Subspaces are fitted on one half of the documents, and what taking them out does is measured on the other.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from analyses.cause_bases import (
    control_columns,
    fit,
    mean_energy,
    of_equal_energy,
    of_equal_size,
    own_columns,
)
from analyses.cause_exam import GROUPS, METRICS, read_groups
from analyses.cause_measures import Trial, effect, necessity, records, sufficiency
from finetune.adapter import attach, random_adapters
from finetune.patched import (
    ablate_diff,
    keep_mean,
    keep_only,
    patched_likelihoods,
    remove_mean,
    steer,
    transplant,
)
from geometry.checks import AdapterError, DataError, LayerError
from geometry.nulls import haar_basis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from analyses.cause_bases import Columns, Site
    from analyses.cause_exam import Exam
    from finetune.adapter import Attached
    from finetune.pairs import Text
    from finetune.patched import Patch
    from geometry.live.models import Loaded

    Act = Callable[[Columns], Patch]

ALPHAS = (1.0, 2.0)
"""How many mean differences are added to the base when it is steered."""

TOGETHER = 8
"""Patched copies in one forward pass, beside base and adapted model."""

ACTS: dict[str, Act] = {"necessity": ablate_diff, "sufficiency": keep_only, "transplant": transplant}
"""Measure -> the patch that it takes. The transplant is a sufficiency too, with the base's blocks above."""


@dataclass(frozen=True)
class CauseRequest:
    """What is asked of a causal test.

    Attributes:
        texts: ``style`` -> JSONL of pairs, ``fact`` -> JSONL of cloze facts with foils.
        layer: the block after which the stream is patched.
        ks: dimensions of the subspaces.
        all_layers: also take the subspaces of every block from ``layer`` on out at once.
        draws: how many of each random control, at least 2.
        seed: of the controls and of the intervals.
    """

    texts: dict[str, Path]
    layer: int
    ks: tuple[int, ...] = (1, 2, 4, 8, 16)
    all_layers: bool = False
    draws: int = 3
    seed: int = 0


def cause(
    base: Loaded, adapter: str | Path, request: CauseRequest, *, progress: Callable[[str, float], None]
) -> dict[str, Any]:
    """Test which directions of an adapter's change make the style, and which the facts.

    Args:
        base: the base model; borrowed and given back as it was.
        adapter: PEFT adapter folder.
        request: texts, layer, dimensions and controls.
        progress: is called with what is being done and the share that is done.

    Returns:
        Facts, JSON-able: ``preflight``; ``groups`` with the sizes of both halves; ``effects``, what the whole
        adapter does to each metric; ``measures``, one record for each scope, basis, dimension, measure and
        metric with its interval, its controls and their verdicts; ``means``, the same for one constant vector.

    Raises:
        AdapterError: see :func:`finetune.adapter.attach`; or the adapter changes nothing.
        LayerError: a layer that the model does not have.
        DataError: a group is missing or cannot be read, or k is too large for the model or the texts.
    """
    layers = _layers(request, base.n_layers)
    _require_dimensions(request, base.width)
    rng = np.random.default_rng(request.seed)
    dealt = read_groups(request.texts, rng)
    with attach(base, adapter) as attached:
        if not attached.preflight.active:
            raise AdapterError(
                f"{adapter}: is inactive, so there is no change to test; train it, or name another"
            )
        progress("fitting subspaces", 0.0)
        sites = _fitted(attached, dealt.fit, layers, request, rng)
        bench = Bench.of(attached, dealt.exam)
        measures = list(_measures(bench, sites, request, rng, progress))
        means = [
            {"basis": basis} | record
            for basis in GROUPS
            for record in bench.records(_mean_trials(sites[basis][request.layer], request, rng))
        ]
        preflight = asdict(attached.preflight) | {"active": attached.preflight.active}
    tokens = {group: by_layer[request.layer].stats.n for group, by_layer in sites.items()}
    return {
        "layer": request.layer,
        "layers": list(layers),
        "ks": list(request.ks),
        "draws": request.draws,
        "width": base.width,
        "preflight": preflight,
        "groups": {group: size | {"fit_tokens": tokens[group]} for group, size in dealt.sizes.items()},
        "effects": bench.effects,
        "measures": measures,
        "means": means,
    }


@dataclass(frozen=True, eq=False)
class Bench:
    """Where patched copies are asked: an attached adapter, an exam, and what the whole adapter does to it."""

    attached: Attached
    exam: Exam
    effects: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, attached: Attached, exam: Exam) -> Self:
        """Ask base and adapted model alone."""
        whole = exam.means(patched_likelihoods(attached, exam.questions, []))
        return cls(attached, exam, {metric: effect(whole[metric]) for metric in METRICS})

    def records(self, trials: Iterable[tuple[Trial, Patch]]) -> Iterator[dict[str, Any]]:
        """Run trials, and put every own one beside its controls, metric by metric."""
        by_measure: dict[str, list[tuple[Trial, dict[str, np.ndarray]]]] = {}
        # a few at a time: a basis may be as large as a weight of the model
        waiting = iter(trials)
        while part := list(itertools.islice(waiting, TOGETHER)):
            patches = [patch for _, patch in part]
            found = self.exam.means(patched_likelihoods(self.attached, self.exam.questions, patches))
            for i, (trial, _) in enumerate(part):
                score = {metric: means[[0, 1, 2 + i]] for metric, means in found.items()}
                by_measure.setdefault(trial.measure, []).append((trial, score))
        sure = {metric for metric, found in self.effects.items() if found["sure"]}
        for measure, tried in by_measure.items():
            part_of = necessity if measure in {"necessity", "mean removed"} else sufficiency
            yield from records(measure, part_of, tried, sure)


def _measures(
    bench: Bench,
    sites: dict[str, dict[int, Site]],
    request: CauseRequest,
    rng: np.random.Generator,
    progress: Callable[[str, float], None],
) -> Iterator[dict[str, Any]]:
    everywhere = tuple(sites[GROUPS[0]])
    scopes = {"one layer": (request.layer,)} | ({"all layers": everywhere} if request.all_layers else {})
    jobs = list(itertools.product(scopes, GROUPS, request.ks))
    for number, (scope, basis, k) in enumerate(jobs, start=1):
        here = {group: {layer: sites[group][layer] for layer in scopes[scope]} for group in GROUPS}
        measures = ACTS if scope == "one layer" else {"necessity": ablate_diff}
        for record in bench.records(_trials(here, basis, k, rng, measures)):
            yield {"scope": scope, "basis": basis, "k": k} | record
        progress(f"patching, {basis} directions", number / len(jobs))


def _layers(request: CauseRequest, count: int) -> tuple[int, ...]:
    if not 0 <= request.layer < count:
        raise LayerError(f"no layer {request.layer}: this model has 0 to {count - 1}")
    return tuple(range(request.layer, count)) if request.all_layers else (request.layer,)


def _require_dimensions(request: CauseRequest, width: int) -> None:
    if request.draws < 2:
        raise DataError(f"{request.draws} draws: a control needs at least 2")
    if not request.ks:
        raise DataError("no k: name at least one dimension")
    for k in request.ks:
        if not 1 <= k <= width // 4:
            raise DataError(
                f"k = {k}: choose 1 to {width // 4}, a quarter of the model's width, since one control "
                "rotates inside the top 4k directions"
            )


def _fitted(
    attached: Attached,
    texts: Mapping[str, list[Text]],
    layers: tuple[int, ...],
    request: CauseRequest,
    rng: np.random.Generator,
) -> dict[str, dict[int, Site]]:
    names = random_adapters(attached, request.draws, rng)
    width = attached.loaded.width
    haar = {layer: tuple(haar_basis(width, width, rng) for _ in names) for layer in layers}
    sites = {group: fit(attached, texts[group], haar, names) for group in GROUPS}
    for group, by_layer in sites.items():
        n, most = by_layer[request.layer].stats.n, max(request.ks)
        if n < 4 * most:
            raise DataError(
                f"group '{group}': {n} tokens to fit on cannot carry the {4 * most} directions that k = {most} "
                "asks for; give more texts or lower --k"
            )
        for layer, site in by_layer.items():
            if not site.stats.mean_square_diff > 0:
                raise DataError(
                    f"layer {layer}: the adapter changes nothing there on {group} texts; choose a later layer"
                )
    return sites


def _trials(
    sites: dict[str, dict[int, Site]],
    basis: str,
    k: int,
    rng: np.random.Generator,
    acts: Mapping[str, Act],
) -> Iterator[tuple[Trial, Patch]]:
    """The own subspace of one dimension under every act, each followed by its controls."""
    mine, others = sites[basis], sites[next(g for g in GROUPS if g != basis)]
    candidates: list[tuple[str | None, str, Columns]] = [(None, "own", own_columns(mine, k))]
    for name, draws in control_columns(mine, others, k, rng).items():
        for columns in draws:
            candidates.append((name, "equal k", of_equal_size(columns, k)))
            candidates.append((name, "equal energy", of_equal_energy(columns, mine, k)))
    for (measure, act), (name, rule, columns) in itertools.product(acts.items(), candidates):
        # energy is what an ablation removes; what is kept or put in is compared at equal k
        if rule != "equal energy" or measure == "necessity":
            size = round(float(np.mean([c.shape[1] for c in columns.values()])))
            yield Trial(measure, mean_energy(columns, mine), size, name, rule), act(columns)


def _mean_trials(
    site: Site, request: CauseRequest, rng: np.random.Generator
) -> Iterator[tuple[Trial, Patch]]:
    """The mean difference, and random vectors of its length."""
    mean, layer = site.stats.mean_diff, request.layer
    length = float(np.linalg.norm(mean))
    vectors = [(None, "own", mean)]
    for _ in range(request.draws):
        direction = haar_basis(len(mean), 1, rng)[:, 0]
        vectors.append(("random vector", "equal length", length * direction))
    share = length**2 / site.stats.mean_square_diff
    for name, rule, vector in vectors:
        at = {layer: vector}
        patches = {"mean removed": remove_mean(at), "mean kept": keep_mean(at)}
        patches |= {f"steered by {alpha:g}": steer(at, alpha) for alpha in ALPHAS}
        for measure, patch in patches.items():
            yield Trial(measure, share, 1, name, rule), patch
