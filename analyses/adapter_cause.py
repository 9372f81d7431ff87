"""Which part of an adapter's change does something: taken out, kept alone, and put into the base.

Subspaces are fitted on one half of the documents, and what taking them out does is measured on the other.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from analyses.cause_bases import (
    CONTROLS,
    HAAR,
    OTHER,
    PCA,
    RANDOM,
    control_columns,
    fit,
    mean_energy,
    of_equal_energy,
    of_equal_size,
    own_columns,
)
from analyses.cause_claims import own_metrics
from analyses.cause_exam import GROUPS, METRICS, read_groups
from analyses.cause_farthest import farthest, shown_layer
from analyses.cause_measures import Trial, damage, effect, necessity, records, sufficiency
from analyses.cause_modules import module_records
from analyses.cause_written import written_facts
from finetune.adapter import attach, random_adapters
from finetune.patched import (
    ablate_diff,
    keep_mean,
    keep_only,
    remove_mean,
    steer,
    transplant,
    zero_project,
)
from finetune.patched_likelihoods import patched_likelihoods
from geometry.checks import AdapterError, DataError, LayerError
from geometry.nulls import haar_basis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

NEEDED = ("necessity", "zero-projection", "mean removed")
"""Measures that take something out; all others put something in."""

ACTS: dict[str, Act] = {
    "necessity": ablate_diff,
    "sufficiency": keep_only,
    "transplant": transplant,
    "zero-projection": zero_project,
}
"""Measure -> the patch that it takes. The transplant is a sufficiency too, with the base's blocks above; the
zero-projection is a necessity that does not spare the base's content, for comparison."""

CONTROLLED = {
    "necessity": CONTROLS,
    "sufficiency": (HAAR, PCA, RANDOM, OTHER),
    "transplant": (HAAR,),
    "zero-projection": (),
}
"""Measure -> the controls that it stands beside."""

DAMAGED = ("necessity", "sufficiency", "zero-projection")
"""Acts whose damage is looked at."""


@dataclass(frozen=True)
class CauseRequest:
    """What is asked of a causal test.

    Attributes:
        texts: ``style`` -> JSONL of pairs, ``fact`` -> JSONL of cloze facts with foils.
        layers: the blocks after which the stream is patched, each on its own; None for all.
        ks: dimensions of the subspaces.
        all_layers: also take the subspaces of every block from the first of ``layers`` on out at once.
        draws: how many of each random control, at least 2.
        seed: of the controls and of the intervals.
        write: how many held-out sources patched copies rewrite; 0 for none.
        training: pairs that the adapter was trained on, for the judge of what is written; None for the fit half.
        quotable: whether what was written may be kept; the licence of the texts may forbid it.
    """

    texts: Mapping[str, Path]
    layers: tuple[int, ...] | None
    ks: tuple[int, ...] = (1, 2, 4, 8, 16)
    all_layers: bool = False
    draws: int = 3
    seed: int = 0
    write: int = 0
    training: Path | None = None
    quotable: bool = True


def cause(
    base: Loaded, adapter: str | Path, request: CauseRequest, *, progress: Callable[[str, float], None]
) -> dict[str, Any]:
    """Test which directions of an adapter's change make the style, and which the facts.

    Args:
        base: the base model; borrowed and given back as it was.
        adapter: PEFT adapter folder.
        request: texts, layers, dimensions and controls.
        progress: is called with what is being done and the share that is done.

    Returns:
        Facts, JSON-able: ``preflight``; ``groups`` with the sizes of both halves; ``effects``, what the whole
        adapter does to each metric; ``own_metric`` of each group; ``measures``, one record for each scope, layer,
        basis, dimension, measure and metric with its interval, its controls and their verdicts; ``farthest``,
        where these lie farthest from their controls, corrected for having looked at all layers and dimensions;
        ``shown``, the layer whose curves the page shows in full; ``damage``, what patches break; ``means``, the
        same as measures for one constant vector at the shown layer; ``modules``, the adapter's own modules block
        by block; ``written``, what patched copies write, None if nothing was to be written.

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
        needed = range(layers[0], base.n_layers) if request.all_layers else layers
        sites = _fitted(attached, dealt.fit, needed, request, rng)
        bench = Bench.of(attached, dealt.exam)
        found = _tried(bench, sites, layers, request, rng, progress)
        progress("switching modules off", 1.0)
        found["modules"] = list(module_records(attached, dealt.exam, bench.sure))
        own = found["own_metric"] = own_metrics(bench.effects)
        found["farthest"] = list(farthest(found["measures"], own))
        shown = found["shown"] = shown_layer(found["farthest"], layers)
        found["means"] = [
            {"basis": basis} | record
            for basis in GROUPS
            for record in bench.records(list(_mean_trials(sites[basis][shown], shown, request, rng)))
        ]
        found["written"] = written_facts(attached, sites, dealt, found, request) if request.write else None
        preflight = asdict(attached.preflight) | {"active": attached.preflight.active}
    tokens = {group: by_layer[layers[0]].stats.n for group, by_layer in sites.items()}
    return {
        "layers": list(layers),
        "ks": list(request.ks),
        "draws": request.draws,
        "width": base.width,
        "preflight": preflight,
        "groups": {group: size | {"fit_tokens": tokens[group]} for group, size in dealt.sizes.items()},
        "effects": bench.effects,
        **found,
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
        whole |= exam.damage(patched_likelihoods(attached, exam.readings, []))
        return cls(attached, exam, {metric: effect(states) for metric, states in whole.items()})

    @property
    def sure(self) -> set[str]:
        """The metrics on which the whole adapter has an effect that can be divided."""
        return {metric for metric in METRICS if self.effects[metric]["sure"]}

    def records(self, trials: Sequence[tuple[Trial, Patch]]) -> Iterator[dict[str, Any]]:
        """Run trials, and put every own one beside its controls, metric by metric."""
        likelihoods = patched_likelihoods(self.attached, self.exam.questions, [patch for _, patch in trials])
        found = self.exam.means(likelihoods)
        by_measure: dict[str, list[tuple[Trial, dict[str, np.ndarray]]]] = {}
        for i, (trial, _) in enumerate(trials):
            score = {metric: means[[0, 1, 2 + i]] for metric, means in found.items()}
            by_measure.setdefault(trial.measure, []).append((trial, score))
        for measure, tried in by_measure.items():
            part_of = necessity if measure in NEEDED else sufficiency
            yield from records(measure, part_of, tried, self.sure)

    def damage(self, trials: Sequence[tuple[Trial, Patch]]) -> Iterator[dict[str, Any]]:
        """Run trials, and see what they break."""
        patches = [patch for _, patch in trials]
        found = self.exam.damage(patched_likelihoods(self.attached, self.exam.readings, patches))
        for i, (trial, _) in enumerate(trials):
            yield from damage(trial, {metric: means[[0, 1, 2 + i]] for metric, means in found.items()})


def _tried(
    bench: Bench,
    sites: dict[str, dict[int, Site]],
    layers: Sequence[int],
    request: CauseRequest,
    rng: np.random.Generator,
    progress: Callable[[str, float], None],
) -> dict[str, list[dict[str, Any]]]:
    """Every trial at every layer, and at all of them together where that is asked for."""
    found: dict[str, list[dict[str, Any]]] = {"measures": [], "damage": []}
    scopes = [("one layer", layer, (layer,)) for layer in layers]
    if request.all_layers:
        scopes.append(("all layers", layers[0], tuple(sites[GROUPS[0]])))
    jobs = list(itertools.product(scopes, GROUPS))
    for number, ((scope, layer, here), basis) in enumerate(jobs):
        progress(f"layer {layer}, {basis} directions", number / len(jobs))
        near = {group: {i: sites[group][i] for i in here} for group in GROUPS}
        for k in request.ks:
            label = {"scope": scope, "layer": layer, "basis": basis, "k": k}
            # controls of equal energy are many and large: over several layers they stand at the largest k
            rules = {"equal k", "equal energy"} if len(layers) == 1 or k == max(request.ks) else {"equal k"}
            trials = list(_trials(near, basis, k, rng, rules=rules))
            if scope == "all layers":
                trials = [(trial, patch) for trial, patch in trials if trial.measure == "necessity"]
            found["measures"] += [label | record for record in bench.records(trials)]
            if scope == "one layer":
                looked_at = [t for t in trials if t[0].control in {None, HAAR} and t[0].measure in DAMAGED]
                found["damage"] += [label | record for record in bench.damage(looked_at)]
    return found


def _layers(request: CauseRequest, count: int) -> tuple[int, ...]:
    if request.layers is None:
        return tuple(range(count))
    if not request.layers:
        raise LayerError("no layer: name at least one")
    for layer in request.layers:
        if not 0 <= layer < count:
            raise LayerError(f"no layer {layer}: this model has 0 to {count - 1}")
    return tuple(sorted(set(request.layers)))


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
    layers: Iterable[int],
    request: CauseRequest,
    rng: np.random.Generator,
) -> dict[str, dict[int, Site]]:
    layers = tuple(layers)
    names = random_adapters(attached, request.draws, rng)
    width = attached.loaded.width
    haar = {layer: tuple(haar_basis(width, width, rng) for _ in names) for layer in layers}
    sites = {group: fit(attached, texts[group], haar, names) for group in GROUPS}
    for group, by_layer in sites.items():
        n, most = by_layer[layers[0]].stats.n, max(request.ks)
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
    sites: dict[str, dict[int, Site]], basis: str, k: int, rng: np.random.Generator, *, rules: set[str]
) -> Iterator[tuple[Trial, Patch]]:
    """The own subspace of one dimension under every act, each followed by its controls."""
    mine, others = sites[basis], sites[next(g for g in GROUPS if g != basis)]
    candidates: list[tuple[str | None, str, Columns]] = [(None, "own", own_columns(mine, k))]
    for name, draws in control_columns(mine, others, k, rng).items():
        for columns in draws:
            candidates.append((name, "equal k", of_equal_size(columns, k)))
            if "equal energy" in rules:
                candidates.append((name, "equal energy", of_equal_energy(columns, mine, k)))
    for (measure, act), (name, rule, columns) in itertools.product(ACTS.items(), candidates):
        if name is not None and name not in CONTROLLED[measure]:
            continue
        # energy is what an ablation removes; what is kept or put in is compared at equal k
        if rule != "equal energy" or measure == "necessity":
            size = round(float(np.mean([c.shape[1] for c in columns.values()])))
            yield Trial(measure, mean_energy(columns, mine), size, name, rule), act(columns)


def _mean_trials(
    site: Site, layer: int, request: CauseRequest, rng: np.random.Generator
) -> Iterator[tuple[Trial, Patch]]:
    """The mean difference, and random vectors of its length."""
    mean = site.stats.mean_diff
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
