"""What the counts of a corpus say of one concept: facts for a page, every number beside its null or its interval.

No model is read. M* (or PMI, where M* is saturated) over the items is asked whether it depends on nothing but
their distance, and on which function of it; labels are shuffled for the nulls and whole documents resampled for the
intervals. Where a whole vocabulary was counted, its spectral embedding is looked at as the states of a model are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.concepts import LEAST_ITEMS, counted, meeting
from analyses.floors import with_null
from analyses.symmetry_closeup import corpus_shares
from analyses.symmetry_embedding import embedding_facts, robustness_facts
from analyses.symmetry_held import held_against
from geometry.block_resampling import hull_interval
from geometry.checks import DataError, ShapeError
from geometry.circles import circle_fit
from geometry.cloud_scores import cloud_scores
from geometry.document_counts import pooled, resampled_ratios
from geometry.kernels import fit_kernels, width_interval
from geometry.label_nulls import frequency_matched, shuffled, shuffled_correlations, shuffled_fractions
from geometry.lattice import modes
from geometry.mode_match import mode_alignment, paired_shares, spectrum_match
from geometry.nulls import null_of
from geometry.symmetry import SATURATED, periodic_or_open, symmetry_fraction
from geometry.targets import describe, m_star, pmi, ratio
from geometry.verdict import judge
from geometry.words import cased, normal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from analyses.concepts import Concept, Excluded
    from analyses.symmetry_held import Held
    from geometry.cooccurrence import Cooccurrence
    from geometry.embedding import SpectralEmbedding
    from geometry.words import Letters

    Array = NDArray[np.float64]

M_STAR = "M*"
PMI = "PMI"

ALLOWED = 0.95
"""Share of the other items that an item may never have met: M* is bounded there. For PMI it is 0."""

RESAMPLES = 200
"""Corpora of resampled documents; half of them for items whose kernels take long to fit."""

MANY = 10_000
"""Pairs from which fewer shuffles and resamples are drawn where each of them costs a fit."""

NOT_COUNTED = "is none of the counted words"

OTHER_WORDS = 99
"""Sets of other words of the same frequencies."""


@dataclass(frozen=True)
class Counts:
    """A corpus, for any concept.

    Attributes:
        stats: counts of a vocabulary or of a list of words.
        letters: how the text was cut, :func:`geometry.words.cased` or :func:`~geometry.words.folded`.
        blocks: counts of disjoint parts of its documents, the concept's words among them; empty to give no
            intervals.
        embedding: spectral embedding of the whole vocabulary, if that was counted.
    """

    stats: Cooccurrence
    letters: Letters = cased
    blocks: tuple[Cooccurrence, ...] = ()
    embedding: SpectralEmbedding | None = None


@dataclass(frozen=True, eq=False)
class _Kept:
    """The items that are judged, and their counts.

    Attributes:
        concept: with the items that the corpus has.
        spellings: item -> the words that stand for it.
        excluded: the other items.
        stats: counts with one word an item.
        target: :data:`M_STAR` or :data:`PMI`.
    """

    concept: Concept
    spellings: dict[str, tuple[str, ...]]
    excluded: tuple[Excluded, ...]
    stats: Cooccurrence
    target: str

    @cached_property
    def ratio(self) -> Array:
        return ratio(self.stats, self.concept.items)

    def matrix(self, ratios: Array) -> Array:
        if self.target == M_STAR:
            return m_star(ratios)
        # words of a resample, or one beside itself, may never meet: half of what the rarest pair has
        met = ratios[ratios > 0]
        return pmi(np.maximum(ratios, met.min() / 2 if len(met) else 1.0))

    @cached_property
    def block(self) -> Array:
        return self.matrix(self.ratio)


def corpus_facts(
    corpus: Counts, concept: Concept, rng: np.random.Generator, *, at_least: int = 50
) -> dict[str, Any]:
    """Say what a corpus holds of one concept.

    Args:
        corpus: counts; words that are not in them are left out of the concept, with the reason.
        concept: all of it.
        rng: source of shuffles, resamples and folds.
        at_least: occurrences that an item needs.

    Returns:
        JSON values. A number with a null is ``{"value", "null": {mean, sd, low, high, n, p (two-sided),
        verdict}}``, with ``p`` (one-sided) beside it where large values are what is asked for, and ``low``,
        ``high`` of its 95 % interval where documents were resampled:

        - ``concept``, ``topology``, ``items`` (kept, latent order), ``counts`` (of each, spellings added),
          ``excluded`` ([{item, because}]), ``corpus`` ({tokens, words, window, weights}).
        - ``target`` ("M*", or "PMI" if the median of M* is above 1.9; M* = 2 tanh(PMI / 2)), ``block`` (of the
          target, (n, n)), ``report`` (of :func:`geometry.targets.describe`).
        - ``fits`` (kernels, the best first; the first has ``width_low``, ``width_high``), ``kernel`` (the one
          that is predicted with).
        - ``symmetric`` (share of the variation by lag, with ``chance``, ``chance_high``, ``adjusted``, ``lags``,
          ``pairs``), ``other_words`` (the same share of words of the same frequencies, where there are enough).
        - ``monotone`` (Spearman with nearness: RSA of corpus and layout), ``partial`` (the same given
          ``nuisances``: {taken_out, equal}), ``periodic`` ({periodic, open, seam}; cycles and lines).
        - ``profile`` (shares of harmonics of a cycle, or of components: ``corpus``, ``kernel``, ``flat``,
          ``null`` or None, ``match`` of corpus and kernel, with ``cosine``'s floor ``flat``).
        - ``scores`` of the principal coordinates of the target (``alignment`` with the kernel's, ``curve``: R^2
          once they are laid over it; round a cycle ``first`` and ``isotropy``),
          ``modes`` (alignment group by group), ``circle`` (cycles).
        - ``documents`` ({blocks, resamples} or None), ``verdict`` ({gates, shown, failed, sentence, power}).
        - ``embedding`` (:func:`analyses.symmetry_embedding.embedding_facts`, or None) and ``robustness``
          (:func:`~analyses.symmetry_embedding.robustness_facts`).
        - ``without_ambiguous``: all of this without the items that mean other things too, or None.

    Raises:
        DataError: fewer than 5 items occur often enough, a spelling that stands for two items, or counts in
            blocks that are not of these words.
    """
    kept = _kept(corpus, concept, at_least)
    facts = _facts(corpus, kept, rng)
    clear = [item for item in concept.items if item not in concept.ambiguous]
    if len(clear) == len(concept.items) or len(clear) < LEAST_ITEMS:
        return facts | {"without_ambiguous": None}
    again = _kept(corpus, concept.only(clear), at_least)
    return facts | {"without_ambiguous": _facts(corpus, again, rng)}


def _facts(corpus: Counts, kept: _Kept, rng: np.random.Generator) -> dict[str, Any]:
    layout, block = kept.concept.layout, kept.block
    fits = fit_kernels(block, layout, rng)
    held = held_against(kept.concept, block, kept.stats.unigrams.tolist(), fits, rng)
    nuisances = held.nuisances(())
    drawn = _resampled(corpus, kept, rng)
    verdict = judge(block, layout, nuisances.matrices, rng)
    pairs, report = kept.stats, describe(kept.stats, kept.concept.items)
    return {
        "concept": kept.concept.name,
        "topology": layout.kind,
        "items": list(kept.concept.items),
        "counts": pairs.unigrams.tolist(),
        "excluded": [asdict(one) for one in kept.excluded],
        "corpus": {
            "tokens": pairs.tokens,
            "words": len(corpus.stats.words),
            "window": pairs.weighting.window,
            "weights": pairs.weighting.name,
        },
        "target": kept.target,
        "block": _table(block),
        "report": asdict(report),
        "fits": [asdict(fit) for fit in fits],
        "kernel": held.kernel_record,
        "symmetric": _symmetric(block, held, drawn),
        "other_words": _other_words(corpus, kept, rng),
        "nuisances": {"taken_out": list(nuisances.matrices), "equal": list(nuisances.left_out)},
        "monotone": _correlation(block, held, []),
        "partial": _correlation(block, held, list(nuisances.matrices.values())),
        "periodic": _periodic(block, held),
        "profile": _profile(held),
        **_coordinates(held),
        "documents": None if drawn is None else {"blocks": len(corpus.blocks), "resamples": len(drawn)},
        "verdict": asdict(verdict)
        | {"shown": verdict.shown, "failed": list(verdict.failed), "sentence": verdict.sentence},
    } | _with_width(fits, layout, drawn) | {
        "embedding": embedding_facts(corpus.embedding, corpus.stats, kept.spellings, held, rng),
        "robustness": robustness_facts(corpus.stats, kept.spellings, held, rng),
    }  # fmt: skip


def _kept(corpus: Counts, concept: Concept, at_least: int) -> _Kept:
    """Find the words of the items, and leave out items that are rare or hardly meet others."""
    spellings = spellings_of(corpus, concept)
    together = pooled(corpus.stats, {item: found for item, found in spellings.items() if found})
    seen = dict(zip(together.words, together.unigrams.tolist(), strict=True))
    frequent, rare = counted(concept, seen, at_least=at_least)
    rare = tuple(one if spellings[one.item] else replace(one, because=NOT_COUNTED) for one in rare)
    met, apart = meeting(frequent, ratio(together, frequent.items), allowed=ALLOWED)
    target = M_STAR
    if np.median(m_star(ratio(together, met.items)[np.triu_indices(met.layout.n, 1)])) > SATURATED:
        met, more = meeting(met, ratio(together, met.items))
        target, apart = PMI, (*apart, *more)
    return _Kept(
        concept=met,
        spellings={item: spellings[item] for item in met.items},
        excluded=(*rare, *apart),
        stats=pooled(corpus.stats, {item: spellings[item] for item in met.items}),
        target=target,
    )


def spellings_of(corpus: Counts, concept: Concept) -> dict[str, tuple[str, ...]]:
    """Item -> those of its spellings that were counted, as counting writes them; empty if none was.

    Args:
        corpus: counts.
        concept: its items.
    """
    written = {item: (item, *concept.aliases.get(item, ())) for item in concept.items}
    names = {
        item: dict.fromkeys(normal(one, corpus.letters) for one in found) for item, found in written.items()
    }
    return {
        item: tuple(name for name in found if name in corpus.stats.numbers) for item, found in names.items()
    }


def _resampled(corpus: Counts, kept: _Kept, rng: np.random.Generator) -> list[Array] | None:
    """The target over resampled documents."""
    if not corpus.blocks:
        return None
    words = [word for found in kept.spellings.values() for word in found]
    if lacking := [word for word in words if word not in corpus.blocks[0].numbers]:
        raise DataError(
            f"{lacking[0]}: was not counted by block of documents; count again with a list for --block-words that "
            f"holds the {len(words)} words of {kept.concept.name}, or without --blocks"
        )
    blocks = [pooled(block, kept.spellings) for block in corpus.blocks]
    draws = RESAMPLES if kept.concept.layout.n**2 < 2 * MANY else RESAMPLES // 2
    return [kept.matrix(one) for one in resampled_ratios(blocks, draws, rng)]


def _symmetric(block: Array, held: Held, drawn: Sequence[Array] | None) -> dict[str, Any]:
    found = symmetry_fraction(block, held.layout)
    samples = shuffled_fractions(block, held.layout, held.orders[1:])
    facts = (asdict(found) | {"chance_high": found.chance_high, "adjusted": found.adjusted}) | one_sided(
        found.value, samples
    )
    if drawn is None:
        return facts
    values = np.array([symmetry_fraction(one, held.layout).value for one in drawn])
    reach = hull_interval(found.value, values, 0.0, 1.0)
    return facts | {"low": reach.low, "high": reach.high}


def _with_width(fits: Sequence[Any], layout: Any, drawn: Sequence[Array] | None) -> dict[str, Any]:
    """The fits, the first with the interval of its width."""
    facts = [asdict(fit) for fit in fits]
    if drawn is not None and fits[0].shape != "linear":
        low, high = width_interval(drawn, layout, fits[0].shape)
        mirrored = fits[0].width ** 2 / np.array([high, low])  # as in hull_interval, on a scale of logs
        facts[0] |= {"width_low": min(low, mirrored[0]), "width_high": max(high, mirrored[1])}
    return {"fits": facts}


def one_sided(value: float, samples: Sequence[float] | Array) -> dict[str, Any]:
    """A number beside its null, and the chance that shuffled labels reach as much.

    Args:
        value: the number, of which large values are asked for.
        samples: of shuffled labels, at least 2. Orders that tie with the true one count as reaching it.

    Examples:
        >>> one_sided(1.0, [0.0, 1.0, 0.5])["p"]
        0.5
    """
    samples = [float(one) for one in samples]
    return with_null(value, samples) | {"p": null_of(value - 1e-9, samples).p}


def _other_words(corpus: Counts, kept: _Kept, rng: np.random.Generator) -> dict[str, Any] | None:
    """The share by lag of as many other words of the same frequencies."""
    stats, layout = corpus.stats, kept.concept.layout
    members = stats.of([found[0] for found in kept.spellings.values()])
    own = stats.of([word for found in kept.spellings.values() for word in found])
    free = np.setdiff1d(np.flatnonzero(stats.unigrams), np.setdiff1d(own, members))
    if len(free) < 10 * len(members):
        return None
    logs, at = np.log(stats.unigrams[free]), np.searchsorted(free, members)
    words, found = np.array(stats.words, dtype=object), []
    for _ in range(OTHER_WORDS):
        chosen = words[free[frequency_matched(at, logs, rng)]].tolist()
        try:
            found.append(symmetry_fraction(kept.matrix(ratio(stats, chosen)), layout).value)
        except ShapeError:  # none of them ever met
            continue
    value = symmetry_fraction(kept.block, layout).value
    return one_sided(value, found) if len(found) >= OTHER_WORDS // 2 else None


def _correlation(block: Array, held: Held, nuisances: Sequence[Array]) -> dict[str, Any] | None:
    try:
        value, *samples = shuffled_correlations([block], held.layout, held.orders, nuisances)[:, 0].tolist()
    except ShapeError:  # nothing is left once the nuisances are taken out
        return None
    return one_sided(value, samples)


def _periodic(block: Array, held: Held) -> dict[str, Any] | None:
    if held.layout.kind not in {"cycle", "line"}:
        return None
    orders = held.orders[1 : 1 + (999 if held.layout.n**2 < MANY else 99)]
    found = asdict(periodic_or_open(block))
    drawn = [asdict(periodic_or_open(block[np.ix_(order, order)])) for order in orders]
    return {name: with_null(value, [one[name] for one in drawn]) for name, value in found.items()}


def _profile(held: Held) -> dict[str, Any]:
    """Shares of harmonics, or of components, of corpus and kernel."""
    block, layout = _filled(held), held.layout
    corpus = corpus_shares(block, held)
    kernel = corpus_shares(held.kernel(layout.distance), held)
    null, flat = None, np.full(len(corpus), 1 / len(corpus))
    if layout.kind == "cycle":
        flat = paired_shares(layout.n)
        drawn = np.array([corpus_shares(block[np.ix_(order, order)], held) for order in held.orders[1:]])
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        null = {"mean": drawn.mean(axis=0).tolist(), "low": low.tolist(), "high": high.tolist()}
    keep = (corpus > 1e-12) & (kernel > 1e-12)
    return {
        "corpus": corpus.tolist(),
        "kernel": kernel.tolist(),
        "flat": flat.tolist(),
        "null": null,
        "match": asdict(spectrum_match(corpus[keep], kernel[keep])) if keep.sum() >= 2 else None,
    }


def _coordinates(held: Held) -> dict[str, Any]:
    """Scores of the principal coordinates of the target, beside what the kernel predicts."""
    cloud = modes(_filled(held)).coordinates
    expected = replace(held.expected, dimensions=min(held.expected.dimensions, held.layout.n - 2))
    scores = cloud_scores(cloud, expected, held.orders)
    aligned = asdict(mode_alignment(cloud, held.expected.modes))
    return {
        "scores": {name: one_sided(float(v[0]), v[1:]) for name, v in scores.items()},
        "modes": {name: list(value[:10]) for name, value in aligned.items()},
        "circle": _circle(cloud, held),
    }


def _circle(cloud: Array, held: Held) -> dict[str, Any] | None:
    if held.layout.kind != "cycle":
        return None
    found = asdict(circle_fit(cloud))
    drawn = shuffled(lambda order: circle_fit(cloud[order]).order_error, held.orders[1:])
    return found | {"order_error": with_null(found["order_error"], drawn)}


def _filled(held: Held) -> Array:
    """The target with the kernel's value on the diagonal: how often a word is near itself is another matter."""
    filled = held.block.copy()
    np.fill_diagonal(filled, held.kernel(np.zeros(1))[0])
    return filled


def _table(matrix: Array) -> list[list[float | None]]:
    """Entries to four decimals, None where one is not finite."""
    return [[round(x, 4) if np.isfinite(x) else None for x in row] for row in matrix.tolist()]
