"""What each command does once its options are read: the same jobs as functions, with progress on standard error."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyses import plots
from analyses.compared import WEIGHTS, base_record, comparison
from analyses.manifest import manifest, run_id
from analyses.report import Report, plain, write
from analyses.terminal import note, refusals, watched
from finetune.folders import require_replaceable
from finetune.pairs import read_pairs, split_by_document
from geometry.checks import AdapterError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analyses.adapter_cause import CauseRequest
    from analyses.adapter_diff import DiffRequest
    from analyses.circuit import CircuitRequest
    from analyses.count_run import CountRequest
    from analyses.features import FeaturesRequest
    from analyses.steer import SteerRequest
    from analyses.style_run import StyleData
    from analyses.superposition import SuperpositionRequest
    from analyses.symmetry_adapter import AdapterRequest
    from analyses.symmetry_report import SymmetryRequest
    from analyses.weight_report import WeightRequest
    from finetune.pairs import Pair
    from finetune.progress import Progress
    from finetune.recipe import Recipe
    from finetune.transfer import Sampling
    from geometry.live.models import Loaded

VALIDATION_SHARE = 0.1


def pretrain(corpora: list[str], out: Path, *, recipe: Path | None, pivot: str) -> Path:
    """Train a small base model and draw its loss curve; see :func:`finetune.pretrain.pretrain`.

    Args:
        corpora: files or folders of documents.
        out: the model folder.
        recipe: YAML of the fields of a ``PretrainRecipe`` to change.
        pivot: language of the round trip, or ``none``.

    Returns:
        The model folder.

    Raises:
        InputError: see :func:`finetune.pretrain.pretrain`.
    """
    from finetune.neutralise import Apertium
    from finetune.pretrain import PretrainRecipe, pretrain
    from finetune.recipe import read_fields, validated

    fields = {} if recipe is None else read_fields(recipe)
    chosen = validated(PretrainRecipe, fields, name=str(recipe))
    engine = None if pivot == "none" else Apertium(pivot)
    with watched("pretraining") as show:
        folder = pretrain(
            corpora, out, chosen, engine=engine,
            on_step=lambda r, steps: show(f"loss {r['loss']:.3f}", r["step"] / steps),
        )  # fmt: skip
    log = json.loads((folder / "pretraining.json").read_text(encoding="utf-8"))["log"]
    measured = [record for record in log if "held_out" in record]
    _draw_losses(
        folder,
        x_label="tokens",
        train={"x": [r["tokens"] for r in log], "y": [r["loss"] for r in log]},
        validation={"x": [r["tokens"] for r in measured], "y": [r["held_out"] for r in measured]},
    )
    return folder


def train(
    loaded: Loaded,
    pairs: Path,
    out: Path,
    *,
    validation: Path | None,
    recipe: Recipe,
    examples: Callable[[Sequence[Pair], int], Callable[[Pair], Sequence[Pair]]] | None = None,
) -> Path:
    """Train an adapter and draw its loss curve; see :func:`finetune.train.train`.

    Args:
        loaded: the base.
        pairs: JSONL of pairs.
        out: the adapter's folder.
        validation: JSONL of pairs to measure on; None sets a tenth of the documents apart, by the recipe's
            seed.
        recipe: the numbers.
        examples: takes the training pairs and the recipe's seed, and returns what finds the solved examples of
            a pair, see :func:`shots`; None shows none.

    Returns:
        The adapter's folder.

    Raises:
        InputError: see :func:`finetune.train.train`.
    """
    from finetune.train import train

    read = read_pairs(pairs)
    refusals(pairs, read.refused)
    if validation is None:
        shares = {"train": 1 - VALIDATION_SHARE, "validation": VALIDATION_SHARE}
        parts = split_by_document(read.pairs, shares, recipe.seed)
    else:
        held_out = read_pairs(validation)
        refusals(validation, held_out.refused)
        parts = {"train": read.pairs, "validation": held_out.pairs}
    shown = examples(parts["train"], recipe.seed) if examples else None
    with watched("training") as show:
        result = train(
            loaded,
            parts["train"],
            parts["validation"],
            out,
            recipe,
            examples=shown,
            progress=_training(show),
        )
    if result.too_long:
        note(f"{len(result.too_long)} pairs were left out: longer than {result.max_length} tokens")
    _draw_losses(out, train=_curve(result.train_losses), validation=_curve(result.valid_losses))
    note(f"validation loss {result.loss_before:.3f} before, {result.loss_after:.3f} after (nats a token)")
    return out


def shots(kind: str, k: int) -> Callable[[Sequence[Pair], int], Callable[[Pair], Sequence[Pair]]] | None:
    """Say how prompts of a training run get their solved examples.

    Args:
        kind: ``random``, drawn by chance; or ``similar``, those with the most similar targets.
        k: examples for each pair.

    Returns:
        A function of the training pairs and a seed; None for no examples.
    """
    from finetune.retrieve import Bm25, ExampleBank, SimilarShots
    from finetune.shots import RandomShots

    if not k:
        return None
    if kind == "random":
        return lambda pairs, seed: RandomShots(pairs, k, seed)
    return lambda pairs, _: SimilarShots(ExampleBank(pairs, Bm25.of([p.target for p in pairs])), k)


def recipe(path: Path | None, seed: int | None, preset: str | None = None) -> Recipe:
    """Read the recipe of an adapter: a preset, the fields of a file on top, and a seed on top of that.

    Args:
        path: YAML of the fields to change.
        seed: in place of the recipe's own.
        preset: a name of :data:`finetune.recipe.PRESETS`; None starts from the defaults.

    Returns:
        The recipe.

    Raises:
        InputError: the file cannot be read, or a field is unknown or out of range.
    """
    from finetune.recipe import PRESETS, Recipe, read_fields

    fields = PRESETS[preset].model_dump() if preset else {}
    fields |= read_fields(path) if path else {}
    fields |= {} if seed is None else {"seed": seed}
    return Recipe.of(fields, name="recipe" if path is None else str(path))


def texts_to_rewrite(text: str | None, source: str | None) -> list[str]:
    """Take the one text of the command line, or the lines of a file or of standard input.

    Args:
        text: the argument.
        source: a path, or ``-``.

    Returns:
        One text a line, without line ends.

    Raises:
        DataError: both or neither were given, or the file cannot be read, is empty or is not UTF-8.
    """
    if (text is None) == (source is None):
        raise DataError("give either a text or --input FILE (- reads standard input)")
    if text is not None:
        return [text]
    try:
        content = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"--input {source}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"--input {source}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    # Other line breaks of Unicode stand inside a text; only these end a line for the tools around us.
    lines = content.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if not any(line.strip() for line in lines):
        raise DataError(f"--input {source}: holds no text; write one a line")
    return lines


def sampling(seed: int, temperature: float) -> Sampling:
    """Say how tokens are drawn."""
    from finetune.transfer import Sampling

    return Sampling(seed, temperature)


def transfer(
    loaded: Loaded,
    adapter: Path,
    texts: Sequence[str],
    *,
    write: Callable[..., list[str]] | None = None,
    **settings: Any,
) -> list[str]:
    """Rewrite texts with an adapter; see :func:`finetune.transfer.transfer`.

    Args:
        loaded: the base.
        adapter: PEFT folder.
        texts: one output comes back for each; a blank one stays blank.
        write: takes model, tokenizer, texts and settings; None is :func:`finetune.transfer.transfer`.
        **settings: keywords of :func:`finetune.transfer.transfer`.

    Returns:
        The rewritten texts, in order, each on one line.

    Raises:
        InputError: the adapter does not belong to the base, or a text does not fit its context.
    """
    from finetune.adapter import attach
    from finetune.transfer import transfer

    places = [i for i, text in enumerate(texts) if text.strip()]
    if len(places) < len(texts):
        blank = len(texts) - len(places)
        note(f"{blank} blank line{'s stay' if blank > 1 else ' stays'} blank")
    outputs = [""] * len(texts)
    with attach(loaded, adapter) as attached:
        if not attached.preflight.active:
            note(f"{adapter}: the adapter is inactive; these are the base model's own outputs")
        write = write or transfer
        answers = write(attached.model, loaded.tokenizer, [texts[i] for i in places], **settings)
    for place, answer in zip(places, answers, strict=True):
        outputs[place] = answer
    return outputs


def shown(pairs: Path | None, shots: int, *, terms: bool) -> Callable[..., list[str]] | None:
    """Say how texts are rewritten with solved pairs and terms in their prompts.

    Args:
        pairs: JSONL of pairs to take both from; None shows neither.
        shots: solved pairs of each prompt, found by a sketch: the text itself, then the first answer.
        terms: whether a prompt tells the terms that its text has.

    Returns:
        What :func:`transfer` takes as ``write``; None where nothing is shown.

    Raises:
        DataError: examples or terms without pairs, pairs without either, or pairs that cannot be read.
    """
    if (pairs is None) != (not shots and not terms):
        raise DataError("--pairs goes with --shots or --terms: they say what is taken from the pairs")
    if pairs is None:
        return None
    from finetune.prompted import rewriter

    read = read_pairs(pairs)
    refusals(pairs, read.refused)
    return rewriter(read.pairs, shots, terms=terms)


def neutral(texts: Sequence[str], pivot: str) -> list[str]:
    """Translate texts there and back by apertium before they are rewritten (round-trip-first, Liu & Koehn 2026).

    Args:
        texts: what is to be rewritten.
        pivot: language of the round trip.

    Returns:
        The round trips, in order; a text that came back empty goes on as it was, and this is said.

    Raises:
        InputError: the engine or its language pair is not installed.
    """
    from finetune.neutralise import Apertium

    trips = Apertium(pivot).round_trip(texts)
    if lost := sum(bool(text.strip()) and not trip for text, trip in zip(texts, trips, strict=True)):
        note(f"{lost} texts came back empty from the round trip and are rewritten as they are")
    return [trip or text for text, trip in zip(texts, trips, strict=True)]


def require_room(out: Path | None, command: str) -> None:
    """Refuse a place that a page cannot be written to, before any work is done.

    Args:
        out: the folder asked for; None means ``results/<command>/<run id>``.
        command: the command's name.

    Raises:
        InputError: the place cannot be written, or holds something else.
    """
    require_replaceable(out or Path("results", command, "new"))


def diff(loaded: Loaded, adapter: Path, request: DiffRequest, out: Path | None) -> Path:
    """Compare a base with its adapter and write the page; see :func:`analyses.adapter_diff.diff`.

    Args:
        loaded: the base.
        adapter: PEFT folder.
        request: texts, layers and nulls.
        out: folder of the page; None names it after what was asked.

    Returns:
        The path of the page.

    Raises:
        InputError: the adapter is inactive, or see :func:`analyses.adapter_diff.diff`.
    """
    from analyses.adapter_diff import compare
    from analyses.diff_page import diff_claims, diff_sections
    from finetune.adapter import attach, require_active

    with watched("comparing") as show, attach(loaded, adapter) as attached:
        require_active(attached)
        found = compare(attached, request, progress=show)
    facts = found.facts
    identity = comparison(loaded, adapter) | {
        "layers": facts["layers"],
        "k": request.k,
        "random_adapters": request.n_random,
        "exact_width": request.exact_width,
        "quotable": request.quotable,
        "seed": request.seed,
    }
    made = manifest(files=request.texts, device=str(loaded.device), **identity)
    report = Report(
        command="diff",
        title=f"What {adapter.resolve().name} changes in {Path(loaded.name).name}",
        claims=diff_claims(facts),
        sections=diff_sections(facts),
        facts=facts,
        manifest=made,
    )
    place = _place(out, "diff", identity, texts=made["files"])
    return write(report, place, arrays={"subspaces": found.arrays} if found.arrays else None)


def cause(loaded: Loaded, adapter: Path, request: CauseRequest, out: Path | None) -> Path:
    """Test what parts of an adapter's change do, and write the page; see :func:`analyses.adapter_cause.cause`.

    Args:
        loaded: the base.
        adapter: PEFT folder.
        request: texts, layers, dimensions and controls.
        out: folder of the page; None names it after what was asked.

    Returns:
        The path of the page.

    Raises:
        InputError: see :func:`analyses.adapter_cause.cause`.
    """
    from analyses.adapter_cause import cause
    from analyses.cause_claims import cause_claims
    from analyses.cause_page import cause_sections

    with watched("testing causes") as show:
        facts = cause(loaded, adapter, request, progress=show)
    identity = comparison(loaded, adapter) | {
        "layers": facts["layers"],
        "k": list(request.ks),
        "all_layers": request.all_layers,
        "draws": request.draws,
        "write": request.write,
        "quotable": request.quotable,
        "seed": request.seed,
        "groups": {group: group for group in request.texts},
    }
    files = request.texts | ({"train": request.training} if request.training else {})
    made = manifest(files=files, device=str(loaded.device), **identity)
    report = Report(
        command="cause",
        title=f"What {adapter.resolve().name} does to {Path(loaded.name).name}, and by which directions",
        claims=cause_claims(facts),
        sections=cause_sections(facts),
        facts=facts,
        manifest=made,
    )
    return write(report, _place(out, "cause", identity, texts=made["files"]))


def circuit(loaded: Loaded, adapter: Path, request: CircuitRequest, out: Path | None) -> Path:
    """Find the modules that make an adapter's style, and write the page; see :func:`analyses.circuit.circuit`.

    Args:
        loaded: the base.
        adapter: PEFT folder.
        request: texts, threshold and draws.
        out: folder of the page; None names it after what was asked.

    Returns:
        The path of the page.

    Raises:
        InputError: see :func:`analyses.circuit.circuit`.
    """
    from analyses.circuit import circuit
    from analyses.circuit_page import circuit_claims, circuit_sections

    with watched("finding the circuit") as show:
        facts = plain(circuit(loaded, adapter, request, progress=show))
    identity = comparison(loaded, adapter) | {
        "keep": request.keep,
        "draws": request.draws,
        "seed": request.seed,
        "groups": {group: group for group in request.texts},
    }
    others = {f"adapter {n}": folder / WEIGHTS for n, folder in enumerate(request.others, start=1)}
    made = manifest(files=request.texts | others, device=str(loaded.device), **identity)
    report = Report(
        command="circuit",
        title=f"Which modules of {adapter.resolve().name} make its style",
        claims=circuit_claims(facts),
        sections=circuit_sections(facts),
        facts=facts,
        manifest=made,
    )
    return write(report, _place(out, "circuit", identity, texts=made["files"]))


def steer(loaded: Loaded, adapter: Path, request: SteerRequest, out: Path | None) -> Path:
    """Steer by what an adapter adds, and write the page; see :func:`analyses.steer.steering`.

    Args:
        loaded: the base.
        adapter: PEFT folder.
        request: texts, layer, strengths and draws.
        out: folder of the page; None names it after what was asked.

    Returns:
        The path of the page.

    Raises:
        InputError: see :func:`analyses.steer.steering`.
    """
    from analyses.steer import steering
    from analyses.steer_page import steer_claims, steer_sections

    with watched("steering") as show:
        facts = plain(steering(loaded, adapter, request, progress=show))
    identity = comparison(loaded, adapter) | {
        "layer": request.layer,
        "strengths": list(request.strengths),
        "draws": request.draws,
        "seed": request.seed,
        "groups": {group: group for group in request.texts},
    }
    made = manifest(files=request.texts, device=str(loaded.device), **identity)
    report = Report(
        command="steer",
        title=f"Steering {Path(loaded.name).name} by what {adapter.resolve().name} adds",
        claims=steer_claims(facts),
        sections=steer_sections(facts),
        facts=facts,
        manifest=made,
    )
    return write(report, _place(out, "steer", identity, texts=made["files"]))


def weights(loaded: Loaded | None, request: WeightRequest, out: Path | None) -> Path:
    """Describe adapters in weight space and write the page; see :func:`analyses.weight_report.weight_report`.

    Args:
        loaded: the base, or None.
        request: adapters and nulls.
        out: folder of the page; None names it after what was asked.

    Returns:
        The path of the page.

    Raises:
        InputError: see :func:`analyses.weight_report.weight_report`.
    """
    from analyses.run_names import in_words
    from analyses.weight_page import weight_claims, weight_sections
    from analyses.weight_report import weight_report

    with watched("weighing") as show:
        facts = plain(weight_report(request, loaded, progress=show))
    for one in facts["adapters"]:
        if not one["norm"]:
            raise AdapterError(f"{one['folder']}: is inactive, every update is 0; train it, or name another")
    files = {a["name"]: Path(a["folder"], WEIGHTS) for a in facts["adapters"]}
    identity = {
        "base": loaded and base_record(loaded),
        "random_adapters": request.n_random,
        "seed": request.seed,
    }
    read = {f"texts {name}": path for name, path in request.texts.items()}
    made = manifest(files={**files, **read}, **identity)
    report = Report(
        command="weights",
        title=f"{in_words(list(files))} in weight space",
        claims=weight_claims(facts),
        sections=weight_sections(facts),
        facts=facts,
        manifest=made,
    )
    return write(report, _place(out, "weights", identity, files=made["files"]))


def compare(runs: Sequence[Path], seeds: Sequence[Sequence[int]], out: Path | None) -> Path:
    """Compare runs of diff and write the page; see :func:`analyses.compare_runs.compare_runs`.

    Args:
        runs: folders of two or more runs.
        seeds: places of runs that are seeds of one recipe.
        out: folder of the page; None names it after the runs.

    Returns:
        The path of the page.

    Raises:
        InputError: see :func:`analyses.compare_runs.compare_runs`.
    """
    from analyses.compare_page import compare_claims, compare_sections
    from analyses.compare_runs import compare_runs
    from analyses.diff_runs import ARRAYS
    from analyses.run_names import in_words

    facts = plain(compare_runs(runs, seeds))
    folders = {run["name"]: Path(run["folder"]) for run in facts["runs"]}
    made = manifest(files={name: folder / ARRAYS for name, folder in folders.items()}, base=facts["base"])
    report = Report(
        command="compare",
        title=f"{in_words(list(folders))}: what they share",
        claims=compare_claims(facts),
        sections=compare_sections(facts),
        facts=facts,
        manifest=made,
    )
    return write(report, _place(out, "compare", {"seeds": facts["families"]}, files=made["files"]))


def style(loaded: Loaded, data: StyleData, recipe: Recipe, out: Path) -> Path:
    """Do the main job on one style and write the page; see :func:`analyses.style_run.style_run`.

    Args:
        loaded: the base.
        data: pairs and facts.
        recipe: of the training.
        out: folder of the run: ``adapter`` and ``page`` are made in it.

    Returns:
        The path of the page.

    Raises:
        InputError: data that cannot be used, or a place that cannot be written.
    """
    from analyses.style_run import Watch, style_run

    require_replaceable(out / "page")
    with watched("style") as show:
        made = style_run(loaded, data, recipe, out, watch=Watch(_training(show), show))
    return write(made.report, out / "page", arrays={"subspaces": made.arrays} if made.arrays else None)


def demo(out: Path) -> Path:
    """Do the main job on the embedded model and data; see :mod:`analyses.demo`.

    Args:
        out: folder of the run.

    Returns:
        The path of the page.

    Raises:
        InputError: ``out`` cannot be written.
    """
    from analyses.demo import RECIPE
    from analyses.style_run import ORNATE
    from geometry.live.models import load

    return style(load("embedded", dtype="float32"), ORNATE, RECIPE, out)


def world(seeds: int, out: Path | None) -> Path:
    """Make worlds in which everything is known, measure them and write the page; see :mod:`analyses.world`.

    Args:
        seeds: how many worlds, at least 1.
        out: folder of the run: the worlds and ``page`` are made in it; None names it after what was asked.

    Returns:
        The path of the page.

    Raises:
        InputError: ``out`` cannot be written.
    """
    from analyses.world import Looks, world_report
    from analyses.world_page import world_claims, world_sections
    from finetune.world_models import Plan

    plan, looks = Plan(), Looks()
    identity = {"plan": asdict(plan), "looks": asdict(looks), "seeds": list(range(seeds))}
    place = _place(out, "world", identity)
    require_replaceable(place / "page")
    with watched("world") as show:
        facts = plain(world_report(place, range(seeds), plan, looks, progress=show))
    weights = {
        f"world-{seed}-{name}": place / f"world-{seed}" / name / file
        for seed in range(seeds)
        for name, file in (("base", "model.safetensors"), ("style-0", WEIGHTS), ("fact-0", WEIGHTS))
    }
    report = Report(
        command="world",
        title="What each measure sees and misses where the truth is known",
        claims=world_claims(facts),
        sections=world_sections(facts),
        facts=facts,
        manifest=manifest(files=weights, **identity),
    )
    return write(report, place / "page")


def count(request: CountRequest, out: Path, *, workers: int) -> Path:
    """Count which words stand near which; see :func:`analyses.count_run.count`.

    Args:
        request: corpora, window and words.
        out: the folder to make.
        workers: processes and threads.

    Returns:
        The folder.

    Raises:
        InputError: see :func:`analyses.count_run.count`.
    """
    from analyses.count_run import count
    from geometry.count_files import read_notes

    require_replaceable(out, known_by=["counts.json"])
    with watched("counting") as show:
        folder = count(request, out, workers=workers, show=show)
    absent = read_notes(folder)["absent"]
    if absent:
        note(f"never seen in the corpus: {', '.join(absent)}")
    return folder


def counts_of(corpus: Path, request: SymmetryRequest, out: Path | None) -> Path:
    """Find the counts of a corpus; texts are counted beside the page, for the words of the concepts.

    Args:
        corpus: folder of counts, or texts.
        request: whose concepts are counted.
        out: folder of the page; None names the counts after what is counted.

    Returns:
        A folder of counts.

    Raises:
        InputError: a concept or a corpus that cannot be read, see :func:`analyses.count_run.count`.
    """
    from analyses.symmetry_counts import count_concepts, is_counts, spelled
    from analyses.symmetry_report import concepts_of

    concepts = concepts_of(request)
    if is_counts(corpus):
        return corpus
    if out is None:
        out = _place(None, "symmetry", {"corpus": str(corpus.resolve()), "words": list(spelled(concepts))})
    folder = out.with_name(f"{out.name}-counts")
    require_replaceable(folder, known_by=["counts.json"])
    with watched("counting") as show:
        count_concepts(corpus, concepts, folder, workers=len(os.sched_getaffinity(0)), show=show)
    note(f"counts are kept: --corpus {folder} spares counting again")
    return folder


def symmetry(counts: Path, loaded: Loaded | None, request: SymmetryRequest, out: Path | None) -> Path:
    """Ask for symmetry in a corpus and a model, and write the page; see :mod:`analyses.symmetry_report`.

    Args:
        counts: folder of counts.
        loaded: the model, or None.
        request: concepts and nulls.
        out: folder of the page; None names it after what was asked.

    Returns:
        The path of the page.

    Raises:
        InputError: see :func:`analyses.symmetry_report.symmetry`.
    """
    from analyses.run_names import in_words
    from analyses.symmetry_counts import read_corpus
    from analyses.symmetry_page import symmetry_claims, symmetry_sections
    from analyses.symmetry_report import symmetry
    from analyses.symmetry_words import model_name

    with watched("looking for symmetry") as show:
        facts = plain(symmetry(read_corpus(counts), request, loaded, progress=show))
    identity = {
        "model": loaded and base_record(loaded),
        "concepts": {one["name"]: one["corpus"]["items"] for one in facts["concepts"]},
        "templates": list(request.templates),
        "untrained": request.n_untrained,
        "seed": request.seed,
    }
    files_of_adapter: dict[str, Path] = {}
    if request.adapter:
        files_of_adapter = _adapter_files(request.adapter)
        identity["random_adapters"] = request.adapter.n_random
    files = files_of_adapter | {"counts": counts / "data.npy", "words": counts / "words.txt"}
    made = manifest(files=files | ({"places": request.geonames} if request.geonames else {}), **identity)
    names = in_words([one["name"].replace("_", " ") for one in facts["concepts"]])
    where = f" and in {model_name(facts)}" if loaded else ""
    report = Report(
        command="symmetry",
        title=f"The symmetry of {names} in {counts.resolve().name}{where}",
        claims=symmetry_claims(facts),
        sections=symmetry_sections(facts),
        facts=facts,
        manifest=made,
    )
    return write(report, _place(out, "symmetry", identity, files=made["files"]))


def _adapter_files(request: AdapterRequest) -> dict[str, Path]:
    """What an adapter, its control and its training are known by, to be hashed."""
    from finetune.adapter_folder import WEIGHTS

    files = {"adapter": request.adapter / WEIGHTS}
    if request.control:
        files["control"] = request.control / WEIGHTS
    return files | ({"pairs": request.pairs} if request.pairs else {})


def features(loaded: Loaded, adapter: Path | None, request: FeaturesRequest, out: Path) -> Path:
    """Train dictionaries, tell an adapter's change in them, and write both; see :func:`analyses.features.features`.

    Args:
        loaded: the base.
        adapter: PEFT folder, or None.
        request: corpora, layer, recipe and groups.
        out: the folder: ``dictionary-<seed>`` in sae-lens's format, and ``page``. A training that is killed leaves
            its checkpoints in ``<page>.partial``, and the same request goes on with them.

    Returns:
        The path of the page.

    Raises:
        InputError: see :func:`analyses.features.features`.
    """
    from analyses.features import features
    from analyses.features_page import features_claims, features_sections
    from finetune.folders import whole_folder, work_folder
    from geometry.corpora import files

    place = out / "page"
    identity: dict[str, Any] = (
        {"base": base_record(loaded)} if adapter is None else comparison(loaded, adapter)
    )
    identity |= {
        "layer": request.layer,
        "recipe": asdict(request.recipe),
        "seeds": list(request.seeds),
        "length": request.length,
        "held_tokens": request.held_tokens,
        "random_adapters": request.n_random,
        "groups": {group: group for group in request.compared},
    }
    read = [file for corpus in request.corpora for file in files(corpus)]
    corpora = {f"corpus {n}": path for n, path in enumerate(read, start=1)}
    made = manifest(files=request.compared | corpora, device=str(loaded.device), **identity)
    wanted = identity | {"files": {name: file["sha256"] for name, file in made["files"].items()}}
    with watched("finding features") as show, work_folder(place, plain(wanted)) as work:
        found = features(loaded, adapter, request, work=work, progress=show)
        for seed, dictionary in zip(request.seeds, found.dictionaries, strict=True):
            with whole_folder(out / f"dictionary-{seed}", known_by=("cfg.json",)) as folder:
                dictionary.save(folder)
    facts = plain(found.facts)
    of = "" if adapter is None else f" and {adapter.resolve().name}"
    report = Report(
        command="features",
        title=f"Features of {Path(loaded.name).name}{of} after block {request.layer}",
        claims=features_claims(facts),
        sections=features_sections(facts),
        facts=facts,
        manifest=made,
    )
    return write(report, place)


def superposition(request: SuperpositionRequest, out: Path | None) -> Path:
    """Train toy models of superposition and write the page; see :func:`analyses.superposition.superposition`.

    Args:
        request: sizes and seeds.
        out: folder of the page; None names it after what was asked.

    Returns:
        The path of the page.

    Raises:
        InputError: see :func:`analyses.superposition.superposition`.
    """
    from analyses.superposition import superposition
    from analyses.superposition_page import superposition_claims, superposition_sections

    with watched("training toy models of superposition") as show:
        facts = plain(superposition(request, progress=show))
    identity = asdict(request)
    report = Report(
        command="superposition",
        title="When features share dimensions, and how",
        claims=superposition_claims(facts),
        sections=superposition_sections(facts),
        facts=facts,
        manifest=manifest(files={}, **identity),
    )
    return write(report, _place(out, "superposition", identity))


def lines_of(path: Path | None) -> tuple[str, ...]:
    """Read a file of one word or phrase a line; None is none.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or is empty.
    """
    if path is None:
        return ()
    try:
        lines = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text; give a file of one word a line") from error
    if not lines:
        raise DataError(f"{path}: is empty; give a file of one word a line")
    return lines


def _training(show: Callable[[str, float], None]) -> Callable[[Progress], None]:
    def tell(moment: Progress) -> None:
        loss = "" if moment.loss is None else f"loss {moment.loss:.3f}, "
        show(f"{loss}validation {moment.valid_loss:.3f}", moment.step / max(1, moment.steps))

    return tell


def _curve(points: Sequence[tuple[int, float]]) -> dict[str, list[float]]:
    return {"x": [x for x, _ in points], "y": [y for _, y in points]}


def _draw_losses(folder: Path, **data: Any) -> None:
    plots.save(plots.draw("loss_curve", data), folder / "loss_curve")


def _place(out: Path | None, command: str, identity: dict[str, Any], **files: dict[str, Any]) -> Path:
    """Name a run after what was asked and the hashes of what was read, unless a place was given."""
    hashes = {kind: {name: file["sha256"] for name, file in read.items()} for kind, read in files.items()}
    return out or Path("results", command, run_id({**identity, **hashes}))
