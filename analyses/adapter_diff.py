"""What an adapter does to the residual stream, layer by layer, with the floor under every number.

One pass over the texts fills accumulators of fixed size: base, adapter and random adapters read the same
tokens in the same forward. A second pass finds the tokens that the top directions displace most.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.adapter import ADAPTER, BASE, attach, random_adapters
from finetune.paired import paired_batches
from finetune.pairs import read_texts
from geometry.checks import DataError, LayerError
from geometry.histogram import LogHistogram
from geometry.moments import PairedMoments
from geometry.nulls import haar_overlap, null_of
from geometry.spectra import effective_rank, rank_for_energy, spectrum
from geometry.subspaces import overlap, principal_angles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from finetune.adapter import Attached
    from finetune.paired import PairedBatch
    from finetune.pairs import Text
    from geometry.live.models import Loaded
    from geometry.moments import PairedStats

SHOWN_VALUES = 24
"""How many singular values of a spectrum are kept for the page."""


@dataclass(frozen=True)
class DiffRequest:
    """What is asked of a diff.

    Attributes:
        texts: name of a group -> JSONL file of its texts; the first two groups are compared.
        layers: block numbers; None for all.
        k: dimension of the subspaces that are compared.
        n_random: random adapters of the null.
        seed: of the random adapters and of the control tokens.
    """

    texts: dict[str, Path]
    layers: tuple[int, ...] | None = None
    k: int = 8
    n_random: int = 3
    seed: int = 0


@dataclass
class Tally:
    """Everything that is accumulated about one layer and one group of texts; fixed size.

    ``halves`` hold the adapter's moments over two halves of the documents, ``randoms`` those of each
    random adapter over all of them. Sizes are |d| / |h| of each token, attention sinks apart.
    """

    width: int
    n_random: int
    halves: list[PairedMoments] = field(init=False)
    randoms: list[PairedMoments] = field(init=False)
    sizes: list[LogHistogram] = field(init=False)
    sink_sizes: LogHistogram = field(init=False)

    def __post_init__(self) -> None:
        self.halves = [PairedMoments(self.width) for _ in range(2)]
        self.randoms = [PairedMoments(self.width) for _ in range(self.n_random)]
        self.sizes = [LogHistogram() for _ in range(1 + self.n_random)]
        self.sink_sizes = LogHistogram()

    def update(self, rows: np.ndarray, half: np.ndarray, sink: np.ndarray) -> None:
        """Take in rows (V, n, d) of base, adapter and random adapters at n tokens.

        Args:
            rows: residual stream of each side.
            half: (n,) 0 or 1, the half of the documents that each token belongs to.
            sink: (n,) True at attention sinks, which are tallied apart.
        """
        base = rows[0].astype(np.float64)
        norms = np.linalg.norm(base, axis=1)
        moved = [np.linalg.norm(side - base, axis=1) / norms for side in rows[1:].astype(np.float64)]
        self.sink_sizes.update(moved[0][sink])
        for histogram, sizes in zip(self.sizes, moved, strict=True):
            histogram.update(sizes[~sink])
        for side, moments in enumerate(self.randoms, start=2):
            moments.update(rows[0, ~sink], rows[side, ~sink])
        for part, moments in enumerate(self.halves):
            kept = ~sink & (half == part)
            moments.update(rows[0, kept], rows[1, kept])

    def whole(self) -> PairedStats:
        """The adapter's moments over both halves."""
        both = PairedMoments(self.width)
        for moments in self.halves:
            both.merge(moments)
        return both.answer()


def diff(
    base: Loaded, adapter: str | Path, request: DiffRequest, *, progress: Callable[[str, float], None]
) -> dict[str, Any]:
    """Compare a base with its adapter on groups of texts.

    Args:
        base: the base model; borrowed and given back as it was.
        adapter: PEFT adapter folder.
        request: texts, layers and nulls.
        progress: is called with what is being done and the share that is done.

    Returns:
        Facts, JSON-able: ``preflight``; ``layers``; ``groups`` with their sizes; ``measures``, one record
        for each number with its layer, group, null and ceiling; ``spectra``; ``tokens``. For an inactive
        adapter every difference is exactly 0.

    Raises:
        AdapterError: see :func:`finetune.adapter.attach`.
        LayerError: a layer that the model does not have.
        DataError: texts that cannot be read, or too few tokens for the subspaces asked for.
    """
    layers = _layers(request.layers, base.n_layers)
    if not 1 <= request.k <= base.width // 2:
        raise DataError(f"k = {request.k}: choose 1 to {base.width // 2}, half the width of the model")
    groups = {name: read_texts(path) for name, path in request.texts.items()}
    rng = np.random.default_rng(request.seed)
    with attach(base, adapter) as attached:
        names = (BASE, ADAPTER, *random_adapters(attached, request.n_random, rng))
        facts: dict[str, Any] = {
            "layers": list(layers),
            "k": request.k,
            "width": base.width,
            "preflight": _plain(attached.preflight),
            "groups": {},
            "measures": [],
            "spectra": [],
            "tokens": [],
        }
        tallies: dict[str, dict[int, Tally]] = {}
        for number, (group, read) in enumerate(groups.items()):
            tallies[group] = {layer: Tally(base.width, request.n_random) for layer in layers}
            batches = paired_batches(attached, read.texts, layers, names=names)
            done = 0
            for batch in batches:
                _tally(batch, tallies[group], read.texts)
                done += len(batch.text_index)
                progress(f"reading {group}", (number + done / len(read.texts)) / (len(groups) + 1))
            facts["groups"][group] = {
                "texts": len(read.texts),
                "documents": len({t.doc_id for t in read.texts}),
                "refused": [{"line": r.line, "reason": r.reason} for r in read.refused],
                "sha256": read.digest,
                "tokens": tallies[group][layers[0]].whole().n,
            }
        for group, by_layer in tallies.items():
            for layer, tally in by_layer.items():
                facts["measures"] += _measures(tally, group=group, layer=layer, k=request.k)
                facts["spectra"].append(_spectrum_record(tally, group=group, layer=layer))
        facts["measures"] += _between(tallies, layers, request.k)
        if attached.preflight.active:
            for group, read in groups.items():
                facts["tokens"] += _displaced(attached, group, read.texts, tallies[group], rng)
        progress("reading displaced tokens", 1.0)
    return facts


def _layers(asked: tuple[int, ...] | None, count: int) -> tuple[int, ...]:
    if asked is None:
        return tuple(range(count))
    for layer in asked:
        if not 0 <= layer < count:
            raise LayerError(f"no layer {layer}: this model has 0 to {count - 1}")
    return tuple(sorted(set(asked)))


def half_of(doc_id: str) -> int:
    """Deal documents to two halves by a hash of their name, whatever their order."""
    return hashlib.sha256(doc_id.encode()).digest()[0] & 1


def _tally(batch: PairedBatch, tallies: dict[int, Tally], texts: Sequence[Text]) -> None:
    half = np.array([half_of(texts[i].doc_id) for i in batch.text_index.tolist()])
    chosen = batch.chosen
    halves = np.broadcast_to(half[:, None], chosen.shape)[chosen.numpy()]
    for layer, tally in tallies.items():
        rows = batch.stream[layer][:, chosen].float().numpy()
        tally.update(rows, halves, batch.sinks(layer)[chosen].numpy())


def _record(
    measure: str, group: str, layer: int, value: float | None, null: list[float] | None = None, **more: Any
) -> dict[str, Any]:
    """One number with its floor, in the form that every figure and table reads."""
    record = {"measure": measure, "group": group, "layer": layer, "value": value, **more}
    if null and len(null) > 1 and value is not None:
        found = null_of(value, null)
        record["null"] = {
            "mean": found.mean,
            "low": found.band[0],
            "high": found.band[1],
            "samples": null,
            "p": found.p,
            "n": found.n,
            "verdict": found.verdict(),
        }
    return record


def _measures(tally: Tally, *, group: str, layer: int, k: int) -> list[dict[str, Any]]:
    whole, randoms = tally.whole(), [m.answer() for m in tally.randoms]
    if whole.n < 4 * k:
        raise DataError(
            f"group '{group}': {whole.n} tokens cannot carry subspaces of {k}; add texts or lower --k"
        )
    halves = [m.answer() for m in tally.halves]
    if min(h.n for h in halves) < 2 * k:
        raise DataError(f"group '{group}': all its texts are in one half; give it more documents (doc_id)")
    n = whole.n

    def of(measure: Callable[[PairedStats], float]) -> tuple[float, list[float]]:
        return measure(whole), [measure(r) for r in randoms]

    sizes = [h.answer().median for h in tally.sizes]
    sinks = tally.sink_sizes.answer()
    records = [
        _record(
            "size",
            group,
            layer,
            sizes[0],
            sizes[1:],
            n=n,
            sinks=sinks.n,
            sink_median=sinks.median if sinks.n else None,
        )
    ]
    measures: dict[str, Callable[[PairedStats], float]] = {
        "mean_share": lambda s: s.mean_shift_share_unbiased,
        "effective_rank": lambda s: effective_rank(spectrum(s.second_diff).values),
        "effective_rank_centred": lambda s: effective_rank(spectrum(s.cov_diff).values),
        "k90": lambda s: float(rank_for_energy(spectrum(s.second_diff).values, 0.9)),
        "turn": lambda s: _turn(s, k),
    }
    for name, measure in measures.items():
        value, null = of(measure)
        records.append(_record(name, group, layer, value, null, n=n))
    base_halves = [spectrum(h.cov_base).top(k).vectors for h in halves]
    records[-1]["sampling"] = float(np.degrees(principal_angles(*base_halves)).mean())
    if whole.mean_square_diff > 0:
        a, b = (diff_subspace(h, k) for h in halves)
        records.append(_record("split_half", group, layer, overlap(a, b), n=n, chance=k / tally.width))
    return records


def diff_subspace(stats: PairedStats, k: int) -> np.ndarray:
    """The k directions that hold most of E[d d^T], the mean shift among them, in columns (d, k)."""
    return spectrum(stats.second_diff).top(k).vectors


def _turn(stats: PairedStats, k: int) -> float:
    """Mean principal angle in degrees between the top-k subspaces of base and adapted activations."""
    sides = (spectrum(c).top(k).vectors for c in (stats.cov_base, stats.cov_adapted))
    return float(np.degrees(principal_angles(*sides)).mean())


def _between(tallies: dict[str, dict[int, Tally]], layers: Sequence[int], k: int) -> Iterator[dict[str, Any]]:
    """Overlap of the first two groups' difference subspaces, between chance, null and ceiling."""
    if len(tallies) < 2:
        return
    first, second = list(tallies)[:2]
    for layer in layers:
        a, b = tallies[first][layer], tallies[second][layer]
        if not (a.whole().mean_square_diff > 0 and b.whole().mean_square_diff > 0):
            continue
        value = overlap(diff_subspace(a.whole(), k), diff_subspace(b.whole(), k))
        null = [
            overlap(diff_subspace(x.answer(), k), diff_subspace(y.answer(), k))
            for x, y in zip(a.randoms, b.randoms, strict=True)
        ]
        reliability = [overlap(*(diff_subspace(h.answer(), k) for h in tally.halves)) for tally in (a, b)]
        chance, chance_sd = haar_overlap(a.width, k, k)
        angles = np.degrees(principal_angles(diff_subspace(a.whole(), k), diff_subspace(b.whole(), k)))
        yield _record(
            "overlap",
            f"{first}-{second}",
            layer,
            value,
            null,
            n=min(a.whole().n, b.whole().n),
            ceiling=float(np.sqrt(reliability[0] * reliability[1])),
            chance=chance,
            chance_sd=chance_sd,
            angles=[float(angle) for angle in angles],
        )


def _spectrum_record(tally: Tally, *, group: str, layer: int) -> dict[str, Any]:
    def shares(stats: PairedStats) -> list[float]:
        values = spectrum(stats.second_diff).values
        total = values.sum()
        return [float(v / total) if total > 0 else 0.0 for v in values[:SHOWN_VALUES]]

    null = [shares(m.answer()) for m in tally.randoms]
    return {"group": group, "layer": layer, "values": shares(tally.whole()), "null": null}


def _plain(preflight: Any) -> dict[str, Any]:
    fields = ("variant", "rank", "modules", "norm", "base_gap", "shift", "active")
    return {name: getattr(preflight, name) for name in fields} | {"notes": list(preflight.notes)}


def _displaced(
    attached: Attached, group: str, texts: Sequence[Text], tallies: dict[int, Tally], rng: np.random.Generator
) -> list[dict[str, Any]]:
    from analyses.displaced import displaced_tokens

    directions = {layer: diff_subspace(tally.whole(), 2) for layer, tally in tallies.items()}
    scales = {
        layer: np.sqrt(np.diag(directions[layer].T @ tally.whole().cov_base @ directions[layer]))
        for layer, tally in tallies.items()
    }
    return [{"group": group, **r} for r in displaced_tokens(attached, texts, directions, scales, rng)]
