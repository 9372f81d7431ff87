"""The main job in one go: train a style adapter, rewrite held-out texts, score them, diff, and write the page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.adapter_diff import DiffRequest, diff
from analyses.compared import comparison
from analyses.diff_page import diff_claims, diff_sections
from analyses.manifest import manifest
from analyses.report import FigureSpec, Report, Section, TableSpec
from finetune.adapter import attach
from finetune.facts import fact_scores, facts_kept, read_facts
from finetune.pairs import read_pairs
from finetune.score import bleu, bootstrap_draws, chrf, gain, numbers_kept
from finetune.style import StyleClassifier
from finetune.train import train
from finetune.transfer import transfer
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from finetune.facts import FactScore
    from finetune.pairs import Pair
    from finetune.progress import Progress
    from finetune.recipe import Recipe
    from finetune.score import Score
    from finetune.train import TrainResult
    from geometry.live.models import Loaded

DATA = Path(__file__).parents[1] / "finetune" / "data"
"""Where the data that this project wrote lies, inside the installed package."""

SHOWN = 14
"""Held-out sentences shown on the page."""

SYSTEMS = ("copy the input", "base model", "adapter")

GROUPS = {"style": "test", "fact": "facts"}
"""Group of texts that is compared -> the file of the run that it is."""


@dataclass(frozen=True)
class StyleData:
    """Files of one style: pairs to train, to stop on and to test with, and facts to keep.

    Attributes:
        name: of the style, for the page.
        train, validation, test: JSONL of pairs, no document in two of them.
        facts: JSONL of cloze facts with foils.
        quotable: whether sentences of the pairs may stand on the page; their licence may forbid it.
    """

    name: str
    train: Path
    validation: Path
    test: Path
    facts: Path
    quotable: bool = True


ORNATE = StyleData(
    "ornate nineteenth-century English",
    *(DATA / f"ornate-{part}.jsonl" for part in ("train", "validation", "test")),
    facts=DATA / "facts.jsonl",
)
"""The style data that this project wrote; see its datasheet."""


@dataclass(frozen=True)
class Watch:
    """Who is told how far a run is: the training on its own, everything else as (what, share done)."""

    training: Callable[[Progress], None] | None
    progress: Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class StyleResult:
    """What a run of a style leaves beside its adapter.

    Attributes:
        report: the page.
        arrays: as those of :class:`analyses.adapter_diff.DiffResult`.
    """

    report: Report
    arrays: dict[str, NDArray[np.float32]]


def style_run(
    base: Loaded, data: StyleData, recipe: Recipe, out: str | Path, *, watch: Watch, seed: int = 0
) -> StyleResult:
    """Train, rewrite, score and diff; the adapter is left in ``<out>/adapter``.

    Args:
        base: the base model, in float32 on a CPU; it comes back as it was.
        data: the pairs and facts.
        recipe: of the training.
        out: folder of the run.
        watch: is told how far it is.
        seed: of the intervals and the random adapters.

    Returns:
        The report and the directions that were compared; write them with :func:`analyses.report.write`.

    Raises:
        DataError: data that cannot be read, or a document in both training and test.
        InputError: whatever training, attaching or comparing refuses.
    """
    parts = {part: read_pairs(getattr(data, part)).pairs for part in ("train", "validation", "test")}
    _require_apart(parts)
    facts = read_facts(data.facts).facts
    folder = Path(out) / "adapter"
    trained = train(base, parts["train"], parts["validation"], folder, recipe, progress=watch.training)
    rng = np.random.default_rng(seed)
    with attach(base, folder) as attached:
        answers = {"copy the input": [pair.source for pair in parts["test"]]}
        sources = answers["copy the input"]
        tokenizer = base.tokenizer
        watch.progress("rewriting with the base", 0.0)
        with attached.model.disable_adapter():
            answers["base model"] = transfer(attached.model, tokenizer, sources)
            asked = fact_scores(attached.model, tokenizer, facts)
        watch.progress("rewriting with the adapter", 0.5)
        answers["adapter"] = transfer(attached.model, tokenizer, sources)
        again = fact_scores(attached.model, tokenizer, facts)
    scored = _scores(parts, answers, rng)
    scored["facts"] = _facts(asked, again, rng)
    files = {group: getattr(data, use) for group, use in GROUPS.items()}
    request = DiffRequest(files, seed=seed, quotable=data.quotable)
    compared = diff(base, folder, request, progress=watch.progress)
    difference = compared.facts
    samples = [
        {"id": p.id, "source": p.source, "reference": p.target, **{s: answers[s][i] for s in SYSTEMS[1:]}}
        for i, p in enumerate(parts["test"])
        if data.quotable
    ]
    report = Report(
        command="style",
        title=f"A style adapter and what it changes: {data.name}",
        claims=(*_claims(scored), *diff_claims(difference)),
        sections=(_training(trained), _quality(scored), *_shown(samples), *diff_sections(difference)),
        facts={"training": _plain(trained), "scores": scored, "samples": samples, "diff": difference},
        manifest=manifest(
            files={part: getattr(data, part) for part in ("train", "validation", "test", "facts")},
            groups=GROUPS,
            quotable=data.quotable,
            recipe=trained.recipe,
            **comparison(base, folder),
            seed=seed,
        ),
    )
    return StyleResult(report, compared.arrays)


def _require_apart(parts: dict[str, tuple[Pair, ...]]) -> None:
    learnt = {p.doc_id for part in ("train", "validation") for p in parts[part]}
    if both := sorted(learnt & {p.doc_id for p in parts["test"]}):
        raise DataError(
            f"document {both[0]} is in training and in test; split by document, or the scores mean nothing"
        )


def _scores(
    parts: dict[str, tuple[Pair, ...]], answers: dict[str, list[str]], rng: np.random.Generator
) -> dict[str, Any]:
    """Score every system on the same items and draws, so that gains are paired."""
    targets, sources = [p.target for p in parts["test"]], [p.source for p in parts["test"]]
    known = parts["train"]
    judge = StyleClassifier.fit(
        [p.source for p in known], [p.target for p in known], [p.doc_id for p in known], rng=rng
    )
    draws = bootstrap_draws(len(targets), rng)
    table = {
        system: {
            "bleu": bleu(written, targets, draws),
            "chrf": chrf(written, targets, draws),
            "bleu_to_input": bleu(written, sources, draws),
            "style": judge.rate(written, draws),
            "numbers": numbers_kept(written, sources, draws),
        }
        for system, written in answers.items()
    }
    gains = {
        name: gain(table["adapter"][name], table["copy the input"][name])
        for name in ("bleu", "chrf", "style")
    }
    return {
        "n": len(targets),
        "systems": {s: {m: _score(v) for m, v in row.items()} for s, row in table.items()},
        "gain_over_copy": {name: asdict(g) for name, g in gains.items()},
        "judge": {
            "ceiling": _score(judge.ceiling),
            "floor": _score(judge.floor),
            "accuracy": _score(judge.accuracy),
        },
        "references_judged_styled": _score(judge.rate(targets, draws)),
    }


def _facts(
    base: Sequence[FactScore], adapted: Sequence[FactScore], rng: np.random.Generator
) -> dict[str, Any]:
    kept = facts_kept(base, adapted, rng)
    return {
        "asked": len(base),
        "known_to_base": sum(f.known for f in base),
        "known_to_adapter": sum(f.known for f in adapted),
        "kept": _score(kept.kept),
        "styled_kept": _score(kept.styled_kept),
        "forgotten": list(kept.forgotten),
        "items": [{**asdict(b), "adapted_margin": a.margin} for b, a in zip(base, adapted, strict=True)],
    }


def _score(score: Score) -> dict[str, Any]:
    plain = {"value": score.value, "low": score.low, "high": score.high, "n": score.n}
    return plain | ({"signature": score.signature} if score.signature else {})


def _plain(trained: TrainResult) -> dict[str, Any]:
    return {name: value for name, value in asdict(trained).items() if name != "folder"}


def _claims(scored: dict[str, Any]) -> tuple[str, ...]:
    systems, gains = scored["systems"], scored["gain_over_copy"]
    new, old = systems["adapter"], systems["copy the input"]
    low, high = gains["bleu"]["low"], gains["bleu"]["high"]
    sure = "which leaves out zero" if low > 0 or high < 0 else "which holds zero"
    facts = scored["facts"]
    return (
        f"On {scored['n']} held-out sentences the adapter reaches BLEU {new['bleu']['value']:.1f} to the reference, "
        f"copying the input {old['bleu']['value']:.1f}: a difference of {gains['bleu']['value']:+.1f} "
        f"with the interval [{low:+.1f}, {high:+.1f}], {sure}.",
        f"The judge of style calls {100 * new['style']['value']:.0f} % of its sentences styled, against "
        f"{100 * old['style']['value']:.0f} % of the inputs and "
        f"{100 * scored['references_judged_styled']['value']:.0f} % of the references.",
        f"Of {facts['asked']} facts the base knows {facts['known_to_base']}; the adapter keeps "
        f"{100 * facts['kept']['value']:.0f} % of these "
        f"[{100 * facts['kept']['low']:.0f}, {100 * facts['kept']['high']:.0f}].",
    )


def _training(trained: TrainResult) -> Section:
    curves = {
        "train": dict(zip("xy", map(list, zip(*trained.train_losses, strict=True)), strict=True)),
        "validation": dict(zip("xy", map(list, zip(*trained.valid_losses, strict=True)), strict=True)),
    }
    rows = (
        ("validation loss before, nats a token", f"{trained.loss_before:.3f}"),
        ("validation loss after", f"{trained.loss_after:.3f}"),
        ("pairs trained on, validated on", f"{trained.n_train}, {trained.n_valid}"),
        ("pairs left out as too long", len(trained.too_long)),
        ("steps, best step", f"{trained.steps}, {trained.best_step}"),
        ("trained numbers", trained.parameters),
        ("seconds", round(trained.seconds)),
    )
    return Section(
        "Training",
        (f"Base model: `{trained.base['name']}`. The loss is that of the rewritten sentence alone.",),
        figures=(
            FigureSpec(
                "loss",
                "loss_curve",
                "Loss of the answers while the adapter was trained; the weights at the ringed point were kept.",
                curves,
            ),
        ),
        tables=(TableSpec("The training in numbers.", ("what", "value"), rows),),
    )


def _quality(scored: dict[str, Any]) -> Section:
    systems = scored["systems"]
    rows = tuple((name, *(_interval(systems[name][m]) for m in systems[name])) for name in SYSTEMS)
    style = [systems[name]["style"] for name in SYSTEMS]
    ceiling = scored["references_judged_styled"]["value"]
    floor = scored["judge"]["floor"]
    return Section(
        "Does it write the style, and keep the content?",
        (
            "Copying the input is a strong rival for BLEU, since most words stay; it can never win on style. "
            "The judge of style is a classifier of character n-grams, trained on the training pairs; its floor "
            "and ceiling come from documents that it had not seen.",
        ),
        figures=(
            FigureSpec(
                "style",
                "bars",
                "Share of held-out sentences that the judge calls styled, with 95 % intervals over sentences. It "
                "says nothing about content.",
                {
                    "groups": list(SYSTEMS),
                    "series": [
                        {
                            "name": "judged styled",
                            "values": [s["value"] for s in style],
                            "low": [s["low"] for s in style],
                            "high": [s["high"] for s in style],
                        }
                    ],
                    "y_label": "share judged styled",
                    "y_limits": [0, 1],
                    "ceiling": {"name": "references", "value": ceiling},
                    "floor": {"name": "plain text", **{k: floor[k] for k in ("value", "low", "high")}},
                },
            ),
        ),
        tables=(
            TableSpec(
                "Scores on the held-out sentences, with 95 % intervals.",
                (
                    "system",
                    "BLEU to reference",
                    "chrF to reference",
                    "BLEU to input",
                    "judged styled",
                    "numbers kept",
                ),
                rows,
            ),
        ),
    )


def _interval(score: dict[str, Any]) -> dict[str, Any]:
    return {key: score[key] for key in ("value", "low", "high")}


def _shown(samples: list[dict[str, str]]) -> tuple[Section, ...]:
    if not samples:
        return ()
    step = max(1, len(samples) // SHOWN)
    rows = tuple(
        (s["source"], s["base model"], s["adapter"], s["reference"]) for s in samples[::step][:SHOWN]
    )
    section = Section(
        "Before and after",
        (
            f"Every {step}th of the {len(samples)} held-out sentences, not chosen by hand; all are in `report.json`.",
        ),
        tables=(
            TableSpec(
                "Greedy decoding.", ("input", "base model", "with the adapter", "written by a person"), rows
            ),
        ),
    )
    return (section,)
