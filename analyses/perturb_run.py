"""Does the geometry of a concept follow its corpus? Edit the corpus, count again, embed again, and look.

Two calendars are held against each edited corpus: the true order of the items, and another that is exactly as
symmetric and has other neighbours. What is asked of M* among the items and of their rows in the spectral embedding
is which of the two the nearness of items follows, given the other. Intervals leave out one block of documents at a
time; controls change as much text in a way that says nothing of either order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.perturb_counts import counted_in_blocks, vocabulary_of, whole_of, without_block
from analyses.perturb_edits import EDITS, Setting
from analyses.perturb_models import ModelEye, ModelPlan
from geometry.block_resampling import jackknife_halfwidth
from geometry.checks import DataError, ShapeError
from geometry.circles import fourier_profile
from geometry.cloud_scores import nearness
from geometry.corpora import documents
from geometry.corpus_edits import Members
from geometry.embedding import spectral_embedding
from geometry.kernel_edits import moved, other_calendar
from geometry.layouts import pairs_of
from geometry.mode_match import principal_coordinates
from geometry.rsa import partial_rsa
from geometry.symmetry import symmetry_fraction
from geometry.targets import SymmetricTarget, m_star, m_star_target, ratio
from geometry.weightings import linear
from geometry.words import cased

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from analyses.concepts import Concept
    from geometry.cooccurrence import Cooccurrence

    Array = NDArray[np.float64]
    Show = Callable[[str, float], None]
    Scores = dict[str, float]

TOLERANCE = 1e-4
"""Relative accuracy of eigenvalues; scores change in the fifth digit below it."""

SHARES = ("symmetry", "first true", "first other")
"""Scores that are shares of a whole."""

MODEL_WORDS = 2000
"""Largest vocabulary of a language model; its other words are one."""


@dataclass(frozen=True)
class PerturbRequest:
    """What is tried.

    Attributes:
        corpora: files or folders of documents.
        concept: whose order is edited.
        edits: names in :data:`analyses.perturb_edits.EDITS`.
        vocabulary: words that are counted and embedded.
        dimensions: of the embedding.
        window: longest distance that is counted, with linear weights.
        blocks: of documents, one left out at a time for the intervals; 1 gives no intervals.
        controls: draws of each control.
        seed: of all chance.
        field: key or column that holds the text.
        models: language models that are trained on every corpus, each from a seed of its own; of a control, on
            its first draw only.
    """

    corpora: tuple[Path, ...]
    concept: Concept
    edits: tuple[str, ...]
    vocabulary: int = 5000
    dimensions: int = 50
    window: int = 16
    blocks: int = 8
    controls: int = 2
    seed: int = 0
    field: str = "text"
    models: int = 0

    def __post_init__(self) -> None:
        if unknown := [name for name in self.edits if name not in EDITS]:
            raise DataError(f"edit {unknown[0]!r}: expected one of {', '.join(EDITS)}")
        if not self.edits or min(self.blocks, self.controls) < 1:
            raise DataError("perturb: name an edit, and ask for at least one block and one control")
        other_calendar(self.concept.layout)  # refuse here what has none

    @property
    def names(self) -> tuple[str, ...]:
        """The items as they are counted."""
        return tuple(" ".join(item.split()) for item in self.concept.items)


def measure(request: PerturbRequest, *, show: Show = lambda what, share: None) -> dict[str, Any]:
    """Edit, count, embed and score.

    Args:
        request: what is tried.
        show: is told what is done and the share of it.

    Returns:
        JSON values: ``items``, ``order`` (of the other calendar), ``variants`` in order, the unedited corpus
        first, each with ``name``, ``edit``, ``kind`` (``corpus``, ``matrix``, ``edit``, ``control``), ``draw``,
        ``tokens``, ``seen`` (occurrences of members), ``m_star`` (n, n), ``plane`` (n, 2), ``kernel`` (mean M* by
        lag), ``scores`` (name -> value, low, high, and change, change_low, change_high from the unedited corpus)
        and, if asked for, ``models`` (:meth:`analyses.perturb_models.ModelEye.look`); ``edits`` (name -> about,
        control, notes).

    Raises:
        InputError: a corpus that cannot be read, an item that is not in it, or an edit that it does not allow.
    """
    setting = Setting(lambda: _texts(request), Members(request.names), request.concept.layout)
    show("reading the vocabulary", 0.0)
    words = vocabulary_of(setting.corpus(), request.vocabulary, request.names, cased)
    runs, notes = _planned(request, setting)
    eye, trained = _Eye(request, words), _model_eye(request, words, setting.members)
    variants = []
    for at, (run, make) in enumerate(runs):
        show(run.name, at / len(runs))
        # the same chance again, so that the models read the corpus that was counted
        again = [request.seed, at]
        blocks = 1 if run.kind == "control" else request.blocks
        variants.append(eye.look(run, make(np.random.default_rng(again)), blocks))
        if trained and run.draw == 0:
            variants[-1]["models"] = trained.look(make(np.random.default_rng(again)))
        if at == 0:
            variants.append(eye.look_zeroed())
    return {
        "items": list(request.concept.items),
        "concept": request.concept.name,
        "layout": request.concept.layout.kind,
        "order": other_calendar(request.concept.layout).tolist(),
        "vocabulary": len(words),
        "dimensions": min(request.dimensions, len(words) - 1),
        "blocks": request.blocks,
        "variants": variants,
        "edits": {
            name: {"about": EDITS[name].about, "control": EDITS[name].control, **notes[name]}
            for name in request.edits
        },
    }


def scores_of(m: Array, cloud: Array, layout: Any, order: NDArray[np.int64]) -> Scores:
    """Which calendar do statistics and geometry follow?

    Args:
        m: M* among the items, (n, n).
        cloud: rows of the items, (n, d).
        layout: where they lie.
        order: of the other calendar.

    Returns:
        ``m_star true``, ``m_star other``, ``cloud true``, ``cloud other``: partial Spearman correlation of
        likeness with nearness in one calendar given the other; ``m_star lean`` and ``cloud lean``, the first
        minus the second: above 0 where the true calendar is followed, below it where the other is; ``symmetry``
        of M*; and round a cycle ``first true`` and ``first other``, shares of the first harmonic in each. A score
        is 0 where all pairs are alike.
    """
    true = -layout.distance
    other = moved(true, order)
    near = nearness(cloud)
    found = {
        "m_star true": _or_none_left(lambda: partial_rsa(m, true, [other])),
        "m_star other": _or_none_left(lambda: partial_rsa(m, other, [true])),
        "cloud true": _or_none_left(lambda: partial_rsa(near, true, [other])),
        "cloud other": _or_none_left(lambda: partial_rsa(near, other, [true])),
        "symmetry": _or_none_left(lambda: symmetry_fraction(m, layout).value),
    }
    found |= {f"{side} lean": found[f"{side} true"] - found[f"{side} other"] for side in ("m_star", "cloud")}
    if layout.kind == "cycle":
        found["first true"] = fourier_profile(cloud).first
        found["first other"] = fourier_profile(cloud[np.argsort(order)]).first
    return found


def _or_none_left(score: Callable[[], float]) -> float:
    """A score, or 0 where an edit left nothing that varies."""
    try:
        return score()
    except ShapeError:
        return 0.0


@dataclass(frozen=True)
class _Run:
    name: str
    edit: str
    kind: str
    draw: int


def _texts(request: PerturbRequest) -> Iterator[str]:
    for path in request.corpora:
        yield from documents(path, field=request.field)


def _model_eye(request: PerturbRequest, words: tuple[str, ...], members: Members) -> ModelEye | None:
    if not request.models:
        return None
    from finetune.word_model import WordPlan

    layout, order = request.concept.layout, other_calendar(request.concept.layout)
    plan = ModelPlan(WordPlan(), tuple(range(request.models)), words[:MODEL_WORDS])
    # no M* is asked for: that of nearness itself stands in its place, and is left out
    return ModelEye(plan, members, lambda cloud: _of_cloud(scores_of(-layout.distance, cloud, layout, order)))


def _of_cloud(scores: Scores) -> Scores:
    return {name: value for name, value in scores.items() if name.startswith(("cloud", "first"))}


def _planned(request: PerturbRequest, setting: Setting) -> tuple[list[tuple[_Run, Callable]], dict[str, Any]]:
    runs: list[tuple[_Run, Callable]] = [
        (_Run("the corpus as it is", "", "corpus", 0), lambda _: setting.corpus())
    ]
    notes: dict[str, Any] = {}
    for name in request.edits:
        ready = EDITS[name].prepare(setting)
        notes[name] = dict(ready.notes)
        runs.append((_Run(name, name, "edit", 0), ready.edited))
        for control, make in ready.controls.items():
            runs += [(_Run(control, name, "control", draw), make) for draw in range(request.controls)]
    return runs, notes


class _Eye:
    """Counts and scores texts in the same way each time, and remembers what the unedited corpus gave."""

    def __init__(self, request: PerturbRequest, words: Sequence[str]) -> None:
        self.request, self.words = request, words
        self.order = other_calendar(request.concept.layout)
        self.before: tuple[Scores, list[Scores]] | None = None
        self.unedited: Cooccurrence | None = None

    def look(self, run: _Run, texts: Iterable[str], blocks: int) -> dict[str, Any]:
        how = (cased, linear(self.request.window))
        parts = counted_in_blocks(texts, self.words, how, members=self.request.names, blocks=blocks)
        whole = whole_of(parts)
        m, cloud = self._statistics(whole), self._cloud(m_star_target(whole))
        value = self._scores(m, cloud)
        left_out = []
        for part in parts if blocks > 1 else ():
            rest = without_block(whole, part)
            left_out.append(self._scores(self._statistics(rest), self._cloud(m_star_target(rest))))
        if self.before is None:
            self.before, self.unedited = (value, left_out), whole
        return self._record(run, m, cloud, value, left_out) | {
            "tokens": whole.tokens,
            "seen": whole.unigrams[whole.of(self.request.names)].tolist(),
        }

    def look_zeroed(self) -> dict[str, Any]:
        """The unedited corpus with M* of its members' own block set to 0 in the matrix."""
        whole = self.unedited
        target = m_star_target(whole)
        own = whole.of(self.request.names)
        upper = target.upper.tolil(copy=True)
        for i in own:
            for j in own[own >= i]:
                upper[i, j] = -target.constant
        zeroed = SymmetricTarget(upper.tocsr(), target.constant)
        m, cloud = self._statistics(whole), self._cloud(zeroed)
        run = _Run("own block of M* set to chance", "", "matrix", 0)
        record = self._record(run, m, cloud, self._scores(m, cloud), [])
        for name in [key for key in record["scores"] if not key.startswith(("cloud", "first"))]:
            del record["scores"][name]
        zero = np.zeros_like(m)
        return record | {
            "m_star": zero.tolist(),
            "kernel": [0.0] * len(record["kernel"]),
            "tokens": whole.tokens,
            "seen": whole.unigrams[own].tolist(),
        }

    def _statistics(self, stats: Cooccurrence) -> Array:
        return m_star(ratio(stats, self.request.names))

    def _cloud(self, target: SymmetricTarget) -> Array:
        d = min(self.request.dimensions, len(self.words) - 1)
        rng = np.random.default_rng(self.request.seed)
        embedding = spectral_embedding(target, d, rng, tolerance=TOLERANCE)
        return embedding.rows[: len(self.request.names)]

    def _scores(self, m: Array, cloud: Array) -> Scores:
        return scores_of(m, cloud, self.request.concept.layout, self.order)

    def _record(
        self, run: _Run, m: Array, cloud: Array, value: Scores, left_out: list[Scores]
    ) -> dict[str, Any]:
        lags = pairs_of(self.request.concept.layout.lags)
        before, before_left_out = self.before
        return {
            "name": run.name,
            "edit": run.edit,
            "kind": run.kind,
            "draw": run.draw,
            "m_star": m.tolist(),
            "kernel": (np.bincount(lags, weights=pairs_of(m)) / np.bincount(lags)).tolist(),
            "plane": principal_coordinates(cloud)[:, :2].tolist(),
            "scores": {
                name: _inside(name, _with_interval(value[name], [one[name] for one in left_out], ""))
                | _with_interval(
                    value[name] - before[name],
                    [one[name] - old[name] for one, old in zip(left_out, before_left_out, strict=False)],
                    "change",
                )
                for name in value
            },
        }


def _inside(name: str, record: Mapping[str, float | None]) -> Mapping[str, float | None]:
    """The interval of a share ends at 1, as the share does."""
    if name not in SHARES or record["high"] is None:
        return record
    return {**record, "high": min(record["high"], 1.0)}


def _with_interval(value: float, left_out: Sequence[float], name: str) -> Mapping[str, float | None]:
    """A value with its 95 % jackknife interval over blocks; without blocks the ends are None."""
    head, low, high = (name or "value", *(f"{name}_{end}".lstrip("_") for end in ("low", "high")))
    n = len(left_out)
    if n < 2:
        return {head: value, low: None, high: None}
    half = jackknife_halfwidth(left_out)
    return {head: value, low: value - half, high: value + half}
