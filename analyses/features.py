"""Sparse dictionaries of a model's residual stream, and an adapter's change told in their features.

Dictionaries are trained on rows of the base, or of base and adapted model alike, so that neither is favoured. How
good they are is measured on documents that training did not read, beside codes that nobody trained. The change is
told on one half of the documents of each group of texts; what turning features back does is measured on the other.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.cause_exam import read_groups
from analyses.cause_measures import effect, necessity, share
from analyses.floors import with_null
from finetune.adapter import ADAPTER, BASE, attach, random_adapters, require_active
from finetune.dictionary_quality import (
    active_features,
    explained,
    explained_variance,
    recovered_loss,
    spliced_losses,
)
from finetune.dictionary_training import train_dictionaries
from finetune.feature_changes import carried_by, explained_change, feature_changes
from finetune.feature_labels import active_at, promoted, top_examples
from finetune.feature_patches import turn_back
from finetune.feature_rows import base_stream, sided_stream, training_rows, windows
from finetune.patched import ablate_diff
from finetune.patched_likelihoods import patched_likelihoods
from finetune.plain_codes import mean_code, principal_code, random_code
from finetune.score import bootstrap_draws
from finetune.sided_items import side_on
from geometry.checks import DataError, LayerError
from geometry.matching import best_matches, shaped_directions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from finetune.adapter import Attached
    from finetune.dictionary_quality import Explained
    from finetune.dictionary_training import Trained
    from finetune.feature_changes import Changes
    from finetune.feature_rows import Read, Windows
    from finetune.plain_codes import Code
    from geometry.live.dictionary import Dictionary, Recipe
    from geometry.live.models import Loaded

    Array = NDArray[np.float64]
    Show = Callable[[str, float], None]

SIDES = {BASE: "base", ADAPTER: "adapted"}

SAME = 0.9
"""Cosine from which two features count as the same."""

LISTED = 12
"""Features that a table lists at either end."""

SETS = (1, 4, 16, 64)
"""Features that are turned back together."""


@dataclass(frozen=True)
class FeaturesRequest:
    """What is asked.

    Attributes:
        corpora: what dictionaries are trained and measured on.
        layer: the block whose output they describe.
        recipe: how they are trained.
        seeds: starts, one dictionary each; at least 2, so that their agreement can be told.
        compared: ``style`` -> JSONL of pairs, ``fact`` -> JSONL of cloze facts with foils; needs an adapter, may be
            empty.
        length: tokens of a window.
        held_tokens: tokens of the held-out documents that quality is measured on, at most.
        n_random: random adapters, at least 2.
    """

    corpora: tuple[Path, ...]
    layer: int
    recipe: Recipe
    seeds: tuple[int, ...] = (0, 1)
    compared: dict[str, Path] = field(default_factory=dict)
    length: int = 256
    held_tokens: int = 16_000
    n_random: int = 5


@dataclass(frozen=True, eq=False)
class Found:
    """Facts, and the dictionaries that they are about."""

    facts: dict[str, Any]
    dictionaries: tuple[Dictionary, ...]


def features(
    base: Loaded,
    adapter: Path | None,
    request: FeaturesRequest,
    *,
    work: Path | None = None,
    progress: Show = lambda what, done: None,
) -> Found:
    """Train dictionaries, measure them, and tell an adapter's change in them.

    Args:
        base: the base model; borrowed and given back as it was.
        adapter: PEFT folder; None for the base alone.
        request: corpora, layer, recipe and groups.
        work: a folder for checkpoints of the training, see :func:`train_dictionaries`.
        progress: is called with what is being done and the share that is done.

    Returns:
        Facts, JSON-able: ``training``; ``quality`` of each side; ``loss`` recovered; ``stability`` over seeds; with
        an adapter and groups ``changes`` of each group, ``between`` them, ``causal``; and ``features``, those named
        anywhere, with labels. And the dictionaries, one a seed.

    Raises:
        AdapterError: inactive, or see :func:`finetune.adapter.attach`.
        DataError: texts that cannot be read, groups without an adapter, or fewer than 2 seeds.
        InputError: sae-lens is not installed.
        LayerError: a block that the model does not have.
    """
    if not 0 <= request.layer < base.n_layers:
        raise LayerError(f"no layer {request.layer}: this model has 0 to {base.n_layers - 1}")
    if len(set(request.seeds)) < 2 or request.n_random < 2:
        raise DataError(f"seeds {request.seeds}, {request.n_random} random adapters: give 2 or more of both")
    if request.compared and adapter is None:
        raise DataError("groups to compare need an adapter; name one, or leave the groups out")
    with ExitStack() as stack:
        attached = None if adapter is None else stack.enter_context(attach(base, adapter))
        if attached is not None:
            require_active(attached)
        study = _Study(base, attached, request)
        progress("training dictionaries", 0.0)
        trained = train_dictionaries(
            study.opened,
            request.recipe,
            request.seeds,
            work=work,
            tell=lambda done: progress("training dictionaries", 0.7 * done),
        )
        progress("measuring dictionaries", 0.7)
        facts = study.measured(trained)
        if attached is not None and request.compared:
            progress("telling the change", 0.85)
            facts |= study.told(attached, trained)
        progress("naming features", 0.97)
        facts["features"] = study.named(trained.dictionaries[0], facts)
    return Found(facts, trained.dictionaries)


class _Study:
    """One layer of one model, with or without an adapter."""

    def __init__(self, base: Loaded, attached: Attached | None, request: FeaturesRequest) -> None:
        self.base, self.attached, self.request = base, attached, request
        self.rng = np.random.default_rng(request.seeds[0])
        self.read: Read = base_stream(base, request.layer)
        self.sides = (BASE,)
        if attached is not None:
            self.sides = (BASE, ADAPTER)
            self.read = sided_stream(attached, request.layer, self.sides)

    def opened(self, skip: int) -> Iterator[Any]:
        """Chunks of rows to train on."""
        return training_rows(
            windows(self.base, self.request.corpora, self.read, length=self.request.length, skip=skip)
        )

    def held_out(self) -> Iterator[Windows]:
        """Windows to measure on."""
        found, tokens = False, 0
        for batch in windows(
            self.base, self.request.corpora, self.read, length=self.request.length, held_out=True
        ):
            found, tokens = True, tokens + int(batch.kept.sum())
            yield batch
            if tokens >= self.request.held_tokens:
                return
        if not found:
            raise DataError("the corpora have fewer than 20 documents, so none is held out; give more")

    def measured(self, trained: Trained) -> dict[str, Any]:
        """Quality, loss and stability."""
        request = self.request
        names = {f"seed {seed}": d for seed, d in zip(request.seeds, trained.dictionaries, strict=True)}
        codes = self._plain_codes(trained)
        sides = explained(self.held_out(), names, codes, trained.centre)
        quality = {SIDES[name]: self._quality(one) for name, one in zip(self.sides, sides, strict=True)}
        codes = {"mean": mean_code(trained.centre), **codes}
        first, loss = trained.dictionaries[0], {}
        ways = [lambda rows: first.decode(first.encode(rows)), *codes.values()]
        # read before a side is chosen, since reading chooses sides itself; the streams are not needed again
        held = [replace(batch, stream=batch.stream[:0]) for batch in self.held_out()]
        for name in self.sides:
            with ExitStack() as stack:
                if self.attached is not None:
                    stack.enter_context(side_on(self.attached, name))
                model = self.base.model if self.attached is None else self.attached.model
                losses, counts = spliced_losses(model, request.layer, ways, held)
            loss[SIDES[name]] = self._loss(losses, counts, list(codes))
        return {
            "layer": request.layer,
            "sides": [SIDES[name] for name in self.sides],
            "training": asdict(request.recipe) | {"passes": trained.passes, "seeds": list(request.seeds)},
            "length": request.length,
            "quality": quality,
            "loss": loss,
            "stability": _stability(trained, sides[0], self.rng),
        }

    def _plain_codes(self, trained: Trained) -> dict[str, Code]:
        """Codes that nobody trained, with as many numbers a row as a dictionary."""
        recipe = self.request.recipe
        drawn = shaped_directions(trained.covariance, recipe.size, self.rng)
        return {
            "random features": random_code(drawn, trained.centre, recipe.active),
            "principal directions": principal_code(trained.covariance, trained.centre, recipe.active),
        }

    def _quality(self, side: dict[str, Explained]) -> dict[str, Any]:
        found = {}
        for name, one in side.items():
            draws = bootstrap_draws(len(one.sums), self.rng)
            record = {"explained": _interval(explained_variance, one.sums, draws)}
            if one.fired is not None:
                density = one.fired / one.sums[:, 0].sum()
                record |= {
                    "active": _interval(active_features, one.sums, draws),
                    "never": float((one.fired == 0).mean()),
                    "often": float((density > 0.1).mean()),
                }
            found[name] = record
        documents, tokens = len(next(iter(side.values())).sums), next(iter(side.values())).sums[:, 0].sum()
        return {"codes": found, "documents": documents, "tokens": int(tokens)}

    def _loss(self, losses: Array, counts: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
        draws = bootstrap_draws(len(losses), self.rng)
        columns = {"dictionary": 1} | {name: 2 + i for i, name in enumerate(names)}
        return {
            "whole": float(losses[:, 0].sum() / counts.sum()),
            "codes": {
                name: {
                    "loss": float(losses[:, at].sum() / counts.sum()),
                    "recovered": _interval(recovered_loss, losses[:, [0, at, columns["mean"]]], draws),
                }
                for name, at in columns.items()
            },
        }

    def told(self, attached: Attached, trained: Trained) -> dict[str, Any]:
        """The change of every group in features, and what turning features back does."""
        request, first = self.request, trained.dictionaries[0]
        dealt = read_groups(request.compared, self.rng)
        randoms = random_adapters(attached, request.n_random, self.rng)
        others = self._plain_codes(trained)
        changes = {
            group: feature_changes(
                attached, first, request.layer, texts, names=(BASE, ADAPTER, *randoms), others=others
            )
            for group, texts in dealt.fit.items()
        }
        causal = self._causal(attached, first, changes["style"], dealt.exam)
        return {
            "groups": dealt.sizes,
            "changes": {group: self._change(one) for group, one in changes.items()},
            "between": _between(changes),
            "causal": causal,
        }

    def _change(self, one: Changes) -> dict[str, Any]:
        draws = bootstrap_draws(one.size.shape[1], self.rng)
        own, *others = explained_change(one.size, one.missed)
        drawn = [explained_change(one.size[:1, d], one.missed[:1, d])[0] for d in draws]
        low, high = np.percentile(drawn, [2.5, 97.5])
        carried = [carried_by(energy) for energy in one.energy]
        farthest = [float(np.abs(mean).max()) for mean in one.mean]
        order = np.argsort(one.mean[0])
        ends = [*order[::-1][:LISTED], *order[:LISTED]]
        return {
            "tokens": one.n,
            "explained": {"low": float(low), "high": float(high)}
            | with_null(float(own), [float(x) for x in others]),
            "explained_by": {
                name: float(explained_change(one.size, missed)[0]) for name, missed in one.missed_by.items()
            },
            "carried_by": with_null(carried[0], carried[1:]),
            "farthest": with_null(farthest[0], farthest[1:]),
            "listed": [self._listed(one, int(i)) for i in ends],
        }

    @staticmethod
    def _listed(one: Changes, i: int) -> dict[str, Any]:
        own, *others = (float(mean[i]) for mean in one.mean)
        return {
            "feature": i,
            "change": with_null(own, others),
            "base_density": float(one.fired[0, i] / one.n),
            "adapted_density": float(one.fired[1, i] / one.n),
        }

    def _causal(
        self, attached: Attached, dictionary: Dictionary, change: Changes, exam: Any
    ) -> dict[str, Any]:
        """Turn the features that the style's change moves most back to what the base has."""
        energy = change.energy[0]
        order = np.argsort(-energy)
        moved = np.flatnonzero(energy > 0)
        sizes = [*(k for k in SETS if k < len(moved)), len(moved)]
        sets = [order[:k] for k in sizes]
        for k in sizes[:-1]:
            sets += [self.rng.choice(moved, k, replace=False) for _ in range(self.request.n_random)]
        patches = [turn_back(dictionary, self.request.layer, [int(i) for i in some]) for some in sets]
        patches.append(ablate_diff({self.request.layer: np.eye(self.base.width)}))
        metrics = exam.means(patched_likelihoods(attached, exam.questions, patches))
        whole = {metric: effect(metrics[metric]) for metric in ("style", "fact margin")}
        records = []
        for at, k in enumerate(sizes):
            record: dict[str, Any] = {"features": int(k)}
            for metric, states in metrics.items():
                if metric not in whole:
                    continue
                sure = whole[metric]["sure"]
                value = share(necessity, np.stack([*states[:2], states[2 + at]]), sure=sure)
                if sure and k < len(moved):
                    start = 2 + len(sizes) + at * self.request.n_random
                    chance = [
                        float(necessity(np.stack([*states[:2], states[start + i]]))[0])
                        for i in range(self.request.n_random)
                    ]
                    value |= with_null(value["value"], chance)
                record[metric] = value
            records.append(record)
        ceiling = {
            metric: share(necessity, np.stack([*metrics[metric][:2], metrics[metric][-1]]), sure=one["sure"])
            for metric, one in whole.items()
        }
        return {"effects": whole, "moved": len(moved), "turned_back": records, "whole_change": ceiling}

    def named(self, dictionary: Dictionary, facts: dict[str, Any]) -> list[dict[str, Any]]:
        """Label the features that a table lists; without a change, the most frequent ones."""
        listed = {one["feature"] for group in facts.get("changes", {}).values() for one in group["listed"]}
        examples = top_examples(self.held_out(), dictionary, len(self.sides) - 1)
        if not listed:
            listed = set(np.argsort(-examples.activation[:, -1].numpy())[: 2 * LISTED].tolist())
        chosen = sorted(listed)
        words = active_at(examples, self.base, chosen)
        raised = promoted(dictionary, self.base, chosen)
        return [
            {"feature": i, "active_at": at, "promotes": up}
            for i, at, up in zip(chosen, words, raised, strict=True)
        ]


def _interval(function: Callable[[Array], float], table: Array, draws: NDArray[np.int32]) -> dict[str, float]:
    """A number of all documents, and its 95 % interval over draws of them."""
    low, high = np.percentile([function(table[drawn]) for drawn in draws], [2.5, 97.5])
    return {"value": function(table), "low": float(low), "high": float(high)}


def _stability(
    trained: Trained, side: dict[str, Explained], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """How many features of one start another start found too; features that never fire are left out."""
    alive = [one.fired > 0 for one in side.values() if one.fired is not None]
    sets = [np.asarray(d.features, np.float64)[on] for d, on in zip(trained.dictionaries, alive, strict=True)]
    found = []
    for i, ours in enumerate(sets):
        for j, theirs in enumerate(sets[:i]):
            own = best_matches(ours, theirs)
            chance = [
                best_matches(shaped_directions(trained.covariance, len(ours), rng), theirs) for _ in range(5)
            ]
            found.append({
                "seeds": [j, i],
                "features": len(ours),
                "mean": with_null(float(own.mean()), [float(c.mean()) for c in chance]),
                "same": with_null(float((own > SAME).mean()), [float((c > SAME).mean()) for c in chance]),
            })
    return found


def _between(changes: dict[str, Changes]) -> dict[str, Any]:
    """Do two groups move the same features? Cosine of their mean changes, and of their energies."""
    style, fact = changes["style"], changes["fact"]
    found = {}
    for name in ("mean", "energy"):
        one, other = getattr(style, name), getattr(fact, name)
        cosines = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
        found[name] = with_null(float(cosines[0]), [float(c) for c in cosines[1:]])
    return found
