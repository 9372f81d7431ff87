"""The commands of ``repgeo``. Each asks its questions of the other packages and writes down the answer.

Heavy libraries are imported inside the commands, so that help is there at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analyses import options
from analyses.options import Adapter, AsJson, Base, Device, Dtype, Out, Quote, RecipeFile, Revision

app = typer.Typer(
    name="repgeo",
    help="See what fine-tuning does to a language model's representations, with a floor under every number.",
    epilog="Start here: repgeo demo",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def repgeo(version: options.Version = False) -> None:
    """Commands write pages and models to folders; progress goes to standard error."""


def example(text: str) -> str:
    """Write the end of a command's help."""
    return f"Example:\n\n{text}"


@app.command(epilog=example("repgeo pretrain --corpus wikipedia.jsonl.gz --corpus novels/ --out my-base"))
def pretrain(
    corpus: Annotated[list[str], typer.Option(help="File or folder of documents; give it more than once.")],
    out: Out,
    recipe: RecipeFile = None,
    round_trip: Annotated[
        options.Pivot, typer.Option(help="Language through which sentences are made plain, by apertium.")
    ] = options.Pivot.none,
) -> None:
    """Train a small base model from text.

    A vocabulary is learnt, the documents are packed, and the schedule runs with checkpoints. A killed
    run goes on where its last checkpoint was when the same command comes again.
    """
    from analyses import jobs

    print(jobs.pretrain(corpus, out, recipe=recipe, pivot=round_trip.value))


@app.command(epilog=example("repgeo train --base embedded --pairs plain-to-ornate.jsonl --out runs/ornate"))
def train(
    base: Base,
    pairs: Annotated[Path, typer.Option(help='JSONL of {"id", "doc_id", "source", "target"}.')],
    out: Out,
    validation: Annotated[
        Path | None,
        typer.Option(help="Pairs to measure on; without it a tenth of the documents is set apart."),
    ] = None,
    preset: options.PresetName = None,
    recipe: RecipeFile = None,
    shots: Annotated[int, typer.Option(help="Solved pairs that each prompt shows first.", min=0)] = 0,
    examples: Annotated[
        options.Examples, typer.Option(help="Those of --shots: drawn by chance, or with the likest target.")
    ] = options.Examples.random,
    seed: Annotated[int | None, typer.Option(help="In place of the recipe's own.")] = None,
    dtype: Dtype = "float32",
    device: Device = None,
    revision: Revision = None,
) -> None:
    """Train a LoRA adapter on sentence pairs.

    It learns to rewrite each source as its target; the result is a standard PEFT folder. A killed run
    goes on where its last checkpoint was when the same command comes again.
    """
    from analyses import jobs

    model = options.load(base, dtype=dtype, device=device, revision=revision)
    chosen = jobs.recipe(recipe, seed, preset and preset.value)
    shown = jobs.shots(examples.value, shots)
    print(jobs.train(model, pairs, out, validation=validation, recipe=chosen, examples=shown))


@app.command(epilog=example('repgeo transfer --base embedded --adapter runs/ornate "The dog ran home."'))
def transfer(
    base: Base,
    adapter: Adapter,
    text: Annotated[str | None, typer.Argument(help="What to rewrite.", show_default=False)] = None,
    input_: Annotated[
        str | None, typer.Option("--input", help="File with one text a line; - reads standard input.")
    ] = None,
    round_trip: Annotated[
        options.Pivot,
        typer.Option(
            help="First translate through this language and back by apertium, as the training inputs were."
        ),
    ] = options.Pivot.none,
    pairs: Annotated[
        Path | None, typer.Option(help="Solved pairs for --shots and --terms.", show_default=False)
    ] = None,
    shots: Annotated[
        int, typer.Option(help="Solved pairs like the answer that each prompt shows.", min=0)
    ] = 0,
    terms: Annotated[
        bool,
        typer.Option("--terms", help="Tell each prompt the terms that its text has, learnt from --pairs."),
    ] = False,
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw tokens by chance, not the likeliest.")
    ] = False,
    temperature: Annotated[float, typer.Option(help="Of --sample: below 1 safer, above 1 bolder.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of --sample.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Texts in one forward pass.", min=1)] = 16,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.", min=1)] = 128,
    dtype: Dtype = "float32",
    device: Device = None,
    revision: Revision = None,
) -> None:
    """Rewrite text in the style of an adapter.

    One line comes out on standard output for each text, and nothing else.
    """
    from analyses import jobs

    texts = jobs.texts_to_rewrite(text, input_)
    texts = texts if round_trip is options.Pivot.none else jobs.neutral(texts, round_trip.value)
    settings = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    settings["sample"] = jobs.sampling(seed, temperature) if sample else None
    write = jobs.shown(pairs, shots, terms=terms)
    model = options.load(base, dtype=dtype, device=device, revision=revision)
    for line in jobs.transfer(model, adapter, texts, write=write, **settings):
        print(line)


@app.command(
    epilog=example(
        "repgeo diff --base embedded --adapter runs/ornate --texts style=style.jsonl --texts fact=facts.jsonl"
    )
)
def diff(
    base: Base,
    adapter: Adapter,
    texts: Annotated[
        list[str], typer.Option(help="NAME=PATH of a group of texts (JSONL); give it more than once.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; default results/diff/<run id>.")
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Block numbers such as 0,3,5; default all.")] = None,
    k: Annotated[int, typer.Option(help="Dimension of the subspaces that are compared.", min=1)] = 8,
    random_adapters: Annotated[int, typer.Option(help="Random adapters of the null.", min=0)] = 8,
    quick: Annotated[
        bool, typer.Option("--quick", help="At most 3 random adapters: a rough null in less time.")
    ] = False,
    exact_width: Annotated[
        int, typer.Option(help="Widest model with exact moments, 8 d² bytes each; wider ones are sketched.")
    ] = 3072,
    seed: Annotated[int, typer.Option(help="Of the random adapters.", min=0)] = 0,
    quote: Quote = True,
    dtype: Dtype = "float32",
    device: Device = None,
    revision: Revision = None,
    json: AsJson = False,
) -> None:
    """Compare a base and its adapter, layer by layer, and write a page.

    Texts are JSONL of {"id", "text"}, {"id", "prompt", "answer"} or {"id", "source", "target"}.
    """
    from analyses import jobs
    from analyses.adapter_diff import DiffRequest

    groups = options.named_paths(texts)
    n_random = min(3, random_adapters) if quick else random_adapters
    request = DiffRequest(groups, options.numbers(layers), k, n_random, seed, exact_width, quotable=quote)
    jobs.require_room(out, "diff")
    model = options.load(base, dtype=dtype, device=device, revision=revision)
    options.show_page(jobs.diff(model, adapter, request, out), as_json=json)


@app.command(epilog=example("repgeo cause results/diff/0123456789ab --layer all --k 1,2,4,8,16"))
def cause(
    run: Annotated[
        Path, typer.Argument(help="Folder of a run of diff, or the page folder of style or demo.")
    ],
    layer: Annotated[
        str, typer.Option(help="Block after which the stream is patched; several as 0,2,4; or all.")
    ],
    k: Annotated[str, typer.Option(help="Dimensions of the subspaces.")] = "1,2,4,8,16",
    all_layers: Annotated[
        bool, typer.Option("--all-layers", help="Also take them out at every block from --layer on.")
    ] = False,
    draws: Annotated[int, typer.Option(help="Of each random control.", min=2)] = 3,
    write: Annotated[int, typer.Option(help="Held-out sources that patched copies rewrite.", min=0)] = 24,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; default results/cause/<run id>.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the controls and the intervals.", min=0)] = 0,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Test which directions of an adapter's change make the style, and which the facts.

    Base, adapter and texts are those of the run. The directions are taken out, kept alone and put into the
    base, beside controls of equal size and equal energy. Half of the documents fits, the other measures.
    """
    from analyses import jobs
    from analyses.adapter_cause import CauseRequest
    from analyses.compared import Compared

    found = Compared.read(run)
    layers, ks = options.layers(layer), options.dimensions(k)
    request = CauseRequest(
        found.texts, layers, ks, all_layers, draws, seed, write, found.training, found.quotable
    )
    jobs.require_room(out, "cause")
    options.show_page(jobs.cause(found.load(device=device), found.adapter, request, out), as_json=json)


@app.command(epilog=example("repgeo steer results/diff/0123456789ab --layer 3 --strengths=-1,0,1,2,4"))
def steer(
    run: Annotated[
        Path, typer.Argument(help="Folder of a run of diff, or the page folder of style or demo.")
    ],
    layer: Annotated[int, typer.Option(help="Block after which vectors are added.", min=0)],
    strengths: Annotated[
        str, typer.Option(help="Multiples of each vector; 1 is what the adapter adds itself.")
    ] = "-2,-1,0,1,2,4",
    draws: Annotated[int, typer.Option(help="Random directions for each vector.", min=2)] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; default results/steer/<run id>.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random directions and the intervals.", min=0)] = 0,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Add an adapter's mean shift or top direction to the model: dose and response of style, facts and loss.

    Vectors are fitted on half of the documents and added to base and adapted model; what moves is measured on the
    other half, beside random directions of the same length.
    """
    from analyses import jobs
    from analyses.compared import Compared
    from analyses.steer import SteerRequest

    found = Compared.read(run)
    request = SteerRequest(found.texts, layer, options.strengths(strengths), draws, seed)
    jobs.require_room(out, "steer")
    options.show_page(jobs.steer(found.load(device=device), found.adapter, request, out), as_json=json)


@app.command(epilog=example("repgeo circuit results/diff/0123456789ab --keep 0.9"))
def circuit(
    run: Annotated[
        Path, typer.Argument(help="Folder of a run of diff, or the page folder of style or demo.")
    ],
    keep: Annotated[
        float, typer.Option(help="Share of the style effect that the circuit has to have.")
    ] = 0.9,
    draws: Annotated[int, typer.Option(help="Random sets of each size.", min=2)] = 8,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another adapter of the same base and modules, such as a seed.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; default results/circuit/<run id>.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random sets and the intervals.", min=0)] = 0,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Find the few modules of an adapter that make its style, beside random sets of as many.

    Modules and rank components are switched off exactly, attributed by gradient and pruned on half of the
    documents; what the circuit has, and what goes without it, is measured on the other half.
    """
    from analyses import jobs
    from analyses.circuit import CircuitRequest
    from analyses.compared import Compared

    found = Compared.read(run)
    request = CircuitRequest(found.texts, keep, draws, seed, tuple(beside or ()))
    jobs.require_room(out, "circuit")
    options.show_page(jobs.circuit(found.load(device=device), found.adapter, request, out), as_json=json)


@app.command(
    epilog=example(
        "repgeo style --base embedded --corpus novels.jsonl.gz --style author=Dickens --sentences 1500 "
        "--preset rtt-default --out runs/dickens"
    )
)
def style(
    base: Base,
    out: Annotated[Path, typer.Option(help="Folder of the run: adapter and page are made in it.")],
    corpus: options.StyledCorpus = None,
    style: options.Where = None,
    field: options.Field = "text",
    document: options.Documents = None,
    sentences: options.Sentences = None,
    pivot: options.Pivots = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Folder that neutralise or pairs made.", show_default=False)
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(help='JSONL of {"id", "doc_id", "source", "target"} to learn from.', show_default=False),
    ] = None,
    validation: Annotated[Path | None, typer.Option(help="Pairs to stop on.", show_default=False)] = None,
    test: Annotated[
        Path | None,
        typer.Option(help="Pairs of other documents, to score and to diff on.", show_default=False),
    ] = None,
    facts: Annotated[
        Path | None, typer.Option(help="JSONL of cloze facts with foils; default ours.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the style, for the page.", show_default=False)] = None,
    quote: Quote = True,
    preset: options.PresetName = None,
    recipe: RecipeFile = None,
    seed: Annotated[int | None, typer.Option(help="In place of the recipe's own.")] = None,
    workers: options.Workers = 1,
    cache: options.Store = None,
    dtype: Dtype = "float32",
    device: Device = None,
    revision: Revision = None,
    json: AsJson = False,
) -> None:
    """Train, rewrite, score and diff a style in one go, and write a page.

    Give a styled --corpus, which is made neutral by apertium first; or --pairs, a folder of them; or --train,
    --validation and --test. Scores of the adapter stand beside copying the input and the base model, with
    intervals; the facts that the base knew are asked again.
    """
    from analyses import jobs, pair_jobs
    from analyses.neutralise_run import NeutraliseRequest
    from finetune.passages import Bounds, Fields

    files = options.one_source(corpus, pairs, {"train": train, "validation": validation, "test": test})
    chosen = jobs.recipe(recipe, seed, preset and preset.value)
    wanted = options.pairs_of(style, "--style")
    if corpus:
        request = NeutraliseRequest(
            corpus, pair_jobs.engines("apertium", pivot or [], None), Fields(field, tuple(document or ()), wanted),
            Bounds(most=sentences), workers=workers, seed=chosen.seed, quotable=quote,
        )  # fmt: skip
        pair_jobs.neutralise(request, pair_jobs.store(cache), out / "pairs")
    data = pair_jobs.style_data(
        files or pairs or out / "pairs",
        facts,
        name=name or " ".join(wanted.values()) or "style",
        quotable=quote,
    )
    model = options.load(base, dtype=dtype, device=device, revision=revision)
    options.show_page(jobs.style(model, data, chosen, out), as_json=json)


@app.command(
    epilog=example("repgeo neutralise --corpus novels.jsonl.gz --style author=Dickens --out pairs/dickens")
)
def neutralise(
    corpus: options.Corpus,
    out: Out,
    engine: Annotated[
        options.EngineKind, typer.Option(help="Rule-based and offline, or two neural models.")
    ] = options.EngineKind.apertium,
    pivot: options.Pivots = None,
    there: Annotated[
        str | None, typer.Option(help="Marian model from English: folder or hub name.", show_default=False)
    ] = None,
    back: Annotated[
        str | None, typer.Option(help="Marian model back to English.", show_default=False)
    ] = None,
    trips: Annotated[int, typer.Option(help="Round trips one after the other.", min=1)] = 1,
    field: options.Field = "text",
    style: options.Where = None,
    document: options.Documents = None,
    unsplit: Annotated[
        bool, typer.Option("--unsplit", help="Take each text as it is, not sentence by sentence.")
    ] = False,
    sentences: options.Sentences = None,
    block: options.Block = 100,
    longest: Annotated[int, typer.Option(help="Words of the longest sentence that is used.", min=1)] = 60,
    copied: Annotated[float, typer.Option(help="chrF to the original above which a trip is a copy.")] = 95.0,
    embedder: Annotated[
        Path | None,
        typer.Option(help="Folder of an embedding model, for likeness of content.", show_default=False),
    ] = None,
    similarity: Annotated[
        float | None, typer.Option(help="Lowest cosine of embeddings; needs --embedder.", show_default=False)
    ] = None,
    workers: options.Workers = 1,
    beams: Annotated[int, typer.Option(help="Of Marian's search; 1 is greedy.", min=1)] = 4,
    batch_size: Annotated[int, typer.Option(help="Sentences in one forward pass of Marian.", min=1)] = 32,
    device: Device = None,
    cache: options.Store = None,
    seed: Annotated[int, typer.Option(help="Of the sample, the parts and the intervals.", min=0)] = 0,
    quote: Quote = True,
    json: AsJson = False,
) -> None:
    """Make pairs neutral -> styled of a styled corpus by round-trip translation, and write a page.

    Translation keeps what is said and loses the style. Round trips that are empty, copies, or say something
    else are dropped and counted. A killed run goes on where it was when the same command comes again.
    """
    from analyses import pair_jobs
    from analyses.neutralise_run import NeutraliseRequest
    from finetune.filters import Limits
    from finetune.passages import Bounds, Fields
    from finetune.sentences import split_sentences

    options.require_both(there, back)
    engines = pair_jobs.engines(
        engine.value, pivot or [], (there, back) if there and back else None,
        beams=beams, batch_size=batch_size, device=device,
    )  # fmt: skip
    request = NeutraliseRequest(
        corpus, engines, Fields(field, tuple(document or ()), options.pairs_of(style, "--style")),
        Bounds(longest=longest, block=block, most=sentences), pair_jobs.unsplit if unsplit else split_sentences,
        trips, Limits(copied, similarity=similarity), workers, seed, quote,
    )  # fmt: skip
    compare = pair_jobs.similarity(embedder, similarity, device=device)
    options.show_page(
        pair_jobs.neutralise(request, pair_jobs.store(cache), out, similarity=compare), as_json=json
    )


@app.command(
    epilog=example(
        "repgeo pairs --corpus bible.jsonl.gz --source BBE --target KJV --document book --document chapter "
        "--out pairs/kjv"
    )
)
def pairs(
    corpus: Annotated[
        list[Path],
        typer.Option(
            help="File with both sides; or give two text files with a sentence a line, plain first."
        ),
    ],
    out: Out,
    source: Annotated[str, typer.Option(help="Key or column of the plain side.")] = "source",
    target: Annotated[str, typer.Option(help="Key or column of the styled side.")] = "target",
    style: options.Where = None,
    document: options.Documents = None,
    block: Annotated[
        int, typer.Option(help="Neighbours split as one document where none is named.", min=1)
    ] = 100,
    seed: Annotated[int, typer.Option(help="Of the deal.", min=0)] = 0,
) -> None:
    """Deal a parallel corpus into training, validation and test, by document.

    Columns of a .tsv are called 1, 2, 3; a .csv names them in its first row. Duplicates are taken out, and what
    training and test still share is reported.
    """
    from analyses import pair_jobs
    from finetune.passages import Fields

    fields = Fields(source, tuple(document or ()), options.pairs_of(style, "--style"))
    print(pair_jobs.pairs(corpus, fields, target, out, block=block, seed=seed))


@app.command(
    epilog=example(
        "repgeo score --pairs test.jsonl --train train.jsonl --base embedded --adapter ornate=runs/ornate "
        "--outputs other=other-system.txt --round-trip spanish"
    )
)
def score(
    pairs: Annotated[
        Path, typer.Option(help="Pairs that every system answers, of documents apart from --train.")
    ],
    outputs: options.Outputs = None,
    train: Annotated[
        Path | None,
        typer.Option(help="Pairs to learn rules, terms and examples from.", show_default=False),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Model for prompts, adapters, fluency and facts.", show_default=False)
    ] = None,
    adapter: options.NamedAdapters = None,
    judge: options.JudgePairs = None,
    classifier: options.Classifier = None,
    embedder: Annotated[
        Path | None,
        typer.Option(
            help="Folder of an embedding model, for likeness of content and examples.", show_default=False
        ),
    ] = None,
    facts: Annotated[
        Path | None, typer.Option(help="JSONL of cloze facts with foils to ask.", show_default=False)
    ] = None,
    round_trip: Annotated[
        options.Pivot, typer.Option(help="Language of a round trip by apertium, alone and before adapters.")
    ] = options.Pivot.none,
    shots: Annotated[int, typer.Option(help="Solved pairs in a prompt of examples.", min=1)] = 5,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.", min=1)] = 128,
    prompt: options.PromptName = "plain",
    prompts: options.PromptFile = None,
    name: Annotated[str, typer.Option(help="Of the style, for prompts and the page.")] = "the style",
    diff: Annotated[
        Path | None, typer.Option(help="Folder of a diff of the adapter, to link to.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; default results/score/<run id>.")
    ] = None,
    quote: Quote = True,
    seed: Annotated[int, typer.Option(help="Of draws, exchanges and random examples.", min=0)] = 0,
    dtype: Dtype = "float32",
    device: Device = None,
    revision: Revision = None,
    json: AsJson = False,
) -> None:
    """Score systems that rewrite: style, content, fluency, facts, with intervals and paired tests; write a page.

    Texts of systems come from files, or are made here: copied input, word rules, round trip, prompts without and with
    examples, adapters alone, with similar examples, with terms and after a round trip.
    """
    from analyses import jobs, score_jobs

    asked = {"pairs": pairs, "train": train, "judge": judge, "facts": facts}
    files = {use: path for use, path in asked.items() if path}
    request = score_jobs.request(
        files,
        options.system_files(outputs),
        options.system_folders(adapter),
        pivot=round_trip.value, embedder=embedder, classifier=classifier, shots=shots, room=max_new_tokens,
        prompt=(prompt, prompts), style=name, seed=seed, quotable=quote, device=device,
    )  # fmt: skip
    jobs.require_room(out, "score")
    model = base and options.load(base, dtype=dtype, device=device, revision=revision)
    page = score_jobs.scored(request, model or None, out, files=files, diff=diff)
    options.show_page(page, as_json=json)


@app.command(epilog=example("repgeo demo --out results/demo"))
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the page and of what it is about.")] = Path(
        "results/demo"
    ),
    json: AsJson = False,
) -> None:
    """Do the main job on the embedded model and data, and write a page.

    An adapter is trained, held-out sentences are rewritten and scored, and its activations compared.
    """
    from analyses import jobs

    options.show_page(jobs.demo(out), as_json=json)


@app.command(epilog=example("repgeo world --out results/world/tutorial"))
def world(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the worlds and the page; default results/world/<run id>."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many worlds, each with its own facts.", min=1)] = 3,
    json: AsJson = False,
) -> None:
    """Make small worlds where the truth is known, and see what each measure sees and misses there.

    A language with two styles and a set of facts is generated; a base and adapters that change the style,
    the facts or both are trained on it. The folders of a world can be given to every other command.
    """
    from analyses import jobs

    options.show_page(jobs.world(seeds, out), as_json=json)


@app.command(epilog=example("repgeo weights --adapter runs/ornate --adapter runs/plain --base embedded"))
def weights(
    adapter: Annotated[
        list[Path], typer.Option(help="PEFT folder of a LoRA adapter; give it more than once to compare.")
    ],
    base: Annotated[
        str | None,
        typer.Option(
            help="The model they were trained on, for what lies in its weights.", show_default=False
        ),
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=PATH of texts (JSONL) that --base reads, for what fires on them; may be given more than "
            "once.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; default results/weights/<run id>.")
    ] = None,
    random_adapters: Annotated[int, typer.Option(help="Random updates of each null.", min=2)] = 8,
    seed: Annotated[int, typer.Option(help="Of the random updates.", min=0)] = 0,
    revision: Revision = None,
    json: AsJson = False,
) -> None:
    """Describe adapters in weight space, without running a model, and write a page.

    Spectra, ranks and scale of every update, and how adapters lie to each other. With --base also how
    each update lies in the weight that it changes, and intruder dimensions. With --texts, which the base
    reads once, also which ranks fire on them.
    """
    from analyses import jobs
    from analyses.weight_report import WeightRequest

    request = WeightRequest(tuple(adapter), random_adapters, seed, options.named_paths(texts or []))
    jobs.require_room(out, "weights")
    model = base and options.load(base, dtype="float32", device="cpu", revision=revision)
    options.show_page(jobs.weights(model or None, request, out), as_json=json)


@app.command(
    epilog=example("repgeo count --corpus wikipedia.jsonl.gz --window 16 --vocab 25000 --out counts")
)
def count(
    out: Out,
    corpus: Annotated[
        list[str] | None,
        typer.Option(help="File or folder of documents, or hf:OWNER/NAME; give it more than once."),
    ] = None,
    window: Annotated[int, typer.Option(help="Words on either side that count as near.", min=1)] = 16,
    weights: Annotated[
        options.Weights, typer.Option(help="A neighbour at distance d counts window + 1 - d, 1, or 1/d.")
    ] = options.Weights.linear,
    vocab: Annotated[
        int | None,
        typer.Option(help="Most frequent words to count; default 25000.", min=1, show_default=False),
    ] = None,
    words: Annotated[
        Path | None, typer.Option(help="Count these instead: one word or phrase a line.", show_default=False)
    ] = None,
    phrases: Annotated[
        Path | None, typer.Option(help="Join these to one word each: one phrase a line.", show_default=False)
    ] = None,
    fold_case: Annotated[bool, typer.Option("--fold-case", help="May and may are one word.")] = False,
    others: Annotated[
        options.Others | None,
        typer.Option(
            help="Words not counted: removed before the window, or kept in their places. "
            "Default: kept with --words, else removed.",
            show_default=False,
        ),
    ] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of counts to add, of the same words and window; give it more than once."),
    ] = None,
    blocks: Annotated[
        int,
        typer.Option(help="Also count in so many blocks of documents, for intervals; 32 are usual.", min=0),
    ] = 0,
    block_words: Annotated[
        Path | None,
        typer.Option(
            help="Words counted by block, one a line; default those of --words.", show_default=False
        ),
    ] = None,
    field: Annotated[str, typer.Option(help="Key or column that holds the text.")] = "text",
    workers: Annotated[
        int | None, typer.Option(help="Processes; default one for each core.", min=1, show_default=False)
    ] = None,
) -> None:
    """Count which words stand near which in a corpus.

    Counts are exact and do not depend on the order or the number of workers. A killed run goes on where it
    was when the same command comes again; counts of parts of a corpus are added with --add.
    """
    import os

    from analyses import jobs
    from analyses.count_run import CountRequest
    from geometry import weightings
    from geometry.live.hub import corpus_path
    from geometry.words import cased, folded

    chosen = jobs.lines_of(words)
    options.require_one_list(vocab, words, add)
    request = CountRequest(
        tuple(corpus_path(one) for one in corpus or ()),
        getattr(weightings, weights.value)(window),
        vocabulary=vocab or CountRequest.vocabulary,
        words=chosen,
        phrases=jobs.lines_of(phrases),
        letters=folded if fold_case else cased,
        places=others is options.Others.kept or (others is None and bool(chosen)),
        field=field,
        add=tuple(add or ()),
        blocks=blocks,
        apart=jobs.lines_of(block_words),
    )
    print(jobs.count(request, out, workers=workers or len(os.sched_getaffinity(0))))


@app.command(
    epilog=example(
        "repgeo symmetry --corpus counts --concept months --concept weekdays --model embedded --out months"
    )
)
def symmetry(
    corpus: Annotated[
        str,
        typer.Option(help="Folder of repgeo count; or a file or folder of documents, or hf:OWNER/NAME."),
    ],
    concept: Annotated[
        list[str],
        typer.Option(help="Such as months, or a YAML file of your own; give it more than once."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="A folder, a Hugging Face name, or 'embedded'; without one, the corpus alone.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; default results/symmetry/<run id>.")
    ] = None,
    geonames: Annotated[
        Path | None,
        typer.Option(help="GeoNames file, for cities, countries and states.", show_default=False),
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(
            help="Texts with {} for the item, one a line, in place of the concepts'.", show_default=False
        ),
    ] = None,
    untrained: Annotated[int, typer.Option(help="Models of random weights beside the model.", min=0)] = 3,
    adapter: Annotated[
        Path | None,
        typer.Option(help="PEFT folder of an adapter of --model, to compare.", show_default=False),
    ] = None,
    control: Annotated[
        Path | None,
        typer.Option(help="PEFT folder trained on something else, such as neutral text.", show_default=False),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Pairs that --adapter was trained on: does their M* predict the change?", show_default=False
        ),
    ] = None,
    random_adapters: Annotated[
        int, typer.Option(help="Adapters of the same strength in random directions.", min=2)
    ] = 19,
    seed: Annotated[int, typer.Option(help="Of shuffles, folds and random weights.", min=0)] = 0,
    dtype: Dtype = "float32",
    device: Device = None,
    revision: Revision = None,
    json: AsJson = False,
) -> None:
    """Ask whether months, years or places have their symmetry in a corpus and in a model, and write a page.

    The kernel that the corpus follows predicts circles, curves and maps; the states of the model are held
    against it at every layer, in at least fifteen templates, with nulls.
    """
    from analyses import jobs
    from analyses.item_templates import read_templates
    from analyses.symmetry_report import SymmetryRequest
    from geometry.live.hub import corpus_path

    chosen = read_templates(templates) if templates else ()
    compared = options.adapter_request(model, adapter, control, pairs, random_adapters)
    request = SymmetryRequest(tuple(dict.fromkeys(concept)), geonames, chosen, untrained, seed, compared)
    jobs.require_room(out, "symmetry")
    counts = jobs.counts_of(corpus_path(corpus), request, out)
    loaded = model and options.load(model, dtype=dtype, device=device, revision=revision)
    options.show_page(jobs.symmetry(counts, loaded or None, request, out), as_json=json)


@app.command(
    epilog=example("repgeo perturb --corpus wikipedia.jsonl.gz --concept months --edit delete --edit reorder")
)
def perturb(
    corpus: Annotated[
        list[str],
        typer.Option(help="File or folder of documents, or hf:OWNER/NAME; give it more than once."),
    ],
    concept: Annotated[str, typer.Option(help="Such as months, or a YAML file of your own.")],
    edit: Annotated[
        list[options.CorpusEdit] | None,
        typer.Option(
            help="What is done to the corpus; give it more than once. Default all.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; default results/perturb/<run id>.")
    ] = None,
    vocab: Annotated[int, typer.Option(help="Most frequent words to embed.", min=100)] = 5000,
    dimensions: Annotated[int, typer.Option(help="Of the embedding.", min=2)] = 50,
    window: Annotated[int, typer.Option(help="Words on either side that count as near.", min=1)] = 16,
    blocks: Annotated[
        int, typer.Option(help="Of documents, one left out at a time for intervals; 1 gives none.", min=1)
    ] = 8,
    controls: Annotated[int, typer.Option(help="Draws of each control.", min=1)] = 2,
    models: Annotated[
        int, typer.Option(help="Small language models to train on every corpus, a minute each.", min=0)
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of all chance.", min=0)] = 0,
    field: options.Field = "text",
    json: AsJson = False,
) -> None:
    """Edit a corpus so that a concept's statistics change, embed it again, and see whether geometry follows.

    Sentences with two or more members are deleted, or resampled to another kernel, or their members are renamed
    after an order that is as symmetric and has other neighbours; each edit stands beside a control of equal size.
    """
    from analyses import jobs
    from analyses.concepts import load as load_concept
    from analyses.perturb_jobs import perturb
    from analyses.perturb_run import PerturbRequest
    from geometry.live.hub import corpus_path

    jobs.require_room(out, "perturb")
    request = PerturbRequest(
        tuple(corpus_path(one) for one in corpus),
        load_concept(concept),
        tuple(dict.fromkeys(one.value for one in edit or options.CorpusEdit)),
        vocabulary=vocab,
        dimensions=dimensions,
        window=window,
        blocks=blocks,
        controls=controls,
        seed=seed,
        field=field,
        models=models,
    )
    options.show_page(perturb(request, out), as_json=json)


@app.command(epilog=example("repgeo compare runs/diff-seed-0 runs/diff-seed-1 runs/diff-other"))
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs of diff, two or more, of one base.")],
    seeds: Annotated[
        list[str] | None,
        typer.Option(
            help="Runs that differ in their seed alone, by their place, as 1,2,3; those of repgeo train are found.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; default results/compare/<run id>.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Compare runs of diff: seeds, ranks, recipes, adapters; what they share, what differs.

    Overlaps stand between random adapters below, and halves of the documents and seeds of one recipe
    above. No model is run.
    """
    from analyses import jobs

    jobs.require_room(out, "compare")
    families = [options.places(given) for given in seeds or []]
    options.show_page(jobs.compare(runs, families, out), as_json=json)


@app.command(epilog=example("repgeo needle --model embedded --task haystack --lengths 256,512,1024"))
def needle(
    model: Annotated[str, typer.Option(help="Model: a folder, a Hugging Face name, or 'embedded'.")],
    task: Annotated[options.Task, typer.Option(help="What hides the needle.")],
    lengths: Annotated[
        str | None, typer.Option(help="Tokens of the contexts, as 512,1024.", show_default=False)
    ] = None,
    pieces: Annotated[
        str | None,
        typer.Option(help="Documents or records of the contexts, as 10,20,30.", show_default=False),
    ] = None,
    depths: Annotated[
        str, typer.Option(help="Shares of the filler before the needle.")
    ] = "0,0.25,0.5,0.75,1",
    prompts: Annotated[int, typer.Option(help="Questions; intervals are over them.", min=2)] = 12,
    adapter: Annotated[
        Path | None, typer.Option(help="PEFT folder, to compare with.", show_default=False)
    ] = None,
    filler: Annotated[
        options.Hiding | None,
        typer.Option(
            help="Plain text, facts of another kind, or rivals. Default neutral; kv has rivals.",
            show_default=False,
        ),
    ] = None,
    needles: Annotated[int, typer.Option(help="Parts of the answer, each apart.", min=1, max=8)] = 1,
    spacing: Annotated[
        float, typer.Option(help="Spread of several needles: 0 side by side, 1 to the end.")
    ] = 0.0,
    question: Annotated[options.Asked, typer.Option(help="Where the question stands.")] = options.Asked.last,
    data: Annotated[
        Path | None, typer.Option(help="File of Lost in the Middle, for kv or documents.", show_default=False)
    ] = None,
    haystack: Annotated[
        Path | None, typer.Option(help="Corpus whose sentences are the filler.", show_default=False)
    ] = None,
    write: Annotated[int, typer.Option(help="Longest written answer in tokens; 0 for none.", min=0)] = 16,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; default results/needle/<run id>.")
    ] = None,
    dtype: Dtype = "float32",
    device: Device = None,
    revision: Revision = None,
    json: AsJson = False,
) -> None:
    """Ask for facts hidden in long contexts, by length and depth.

    Options are scored by likelihood, beside the same question without its needle; what is written, and how
    often that is no answer, stands apart. Heads that look at the needle are read in the same passes.
    """
    from analyses import jobs, long_context_jobs
    from analyses.needle_run import NeedleRequest
    from finetune.needle_layout import Place

    jobs.require_room(out, "needle")
    told = long_context_jobs.Told(task.value, filler and filler.value, needles, prompts, data, haystack, seed)
    by_pieces = options.one_of(lengths, pieces)
    request = NeedleRequest(
        long_context_jobs.cases(told),
        long_context_jobs.ascending(pieces or lengths, "--pieces" if by_pieces else "--lengths", int),
        long_context_jobs.ascending(depths, "--depths", float),
        spacing=spacing,
        question=Place(question.value),
        write=write,
        pieces=by_pieces,
        seed=seed,
    )
    loaded = options.load(model, dtype=dtype, device=device, revision=revision)
    options.show_page(long_context_jobs.needle(loaded, adapter, told, request, out), as_json=json)


@app.command(epilog=example("repgeo attention --model embedded --text novels.jsonl.gz --length 1024"))
def attention(
    model: Annotated[str, typer.Option(help="Model: a folder, a Hugging Face name, or 'embedded'.")],
    text: Annotated[Path, typer.Option(help="File or folder of documents.")],
    length: Annotated[
        int | None, typer.Option(help="Tokens of the longest context.", min=128, show_default=False)
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            help="Several, as 256,512,1024; default a quarter, a half and all of --length.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[int, typer.Option(help="Passages, and needles; intervals are over them.", min=2)] = 12,
    adapter: Annotated[
        Path | None, typer.Option(help="PEFT folder, to compare with.", show_default=False)
    ] = None,
    random_adapters: Annotated[
        int, typer.Option(help="Random adapters beside the adapter, the floor of what it moves.", min=0)
    ] = 8,
    rows: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the rows of every passage, as parquet and safetensors.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; default results/attention/<run id>.")
    ] = None,
    dtype: Dtype = "float32",
    device: Device = None,
    revision: Revision = None,
    json: AsJson = False,
) -> None:
    """Read how far every head spreads its attention, by position and by length.

    Entropy stands between even attention and what random subsets of the same keys give. Sinks, distances and a
    needle at several depths come with it, and with an adapter all of it before and after.
    """
    from analyses import jobs, long_context_jobs

    jobs.require_room(out, "attention")
    if rows is not None:
        jobs.require_room(rows, "attention")
    wanted = options.context_lengths(length, lengths)
    reading = long_context_jobs.Reading(text, wanted, prompts, seed, random_adapters, rows)
    loaded = options.load(model, dtype=dtype, device=device, revision=revision)
    options.show_page(long_context_jobs.attention(loaded, adapter, reading, out), as_json=json)


@app.command(
    epilog=example(
        "repgeo features --model embedded --layer 3 --corpus wikipedia.jsonl.gz --size 1024 --out runs/features"
    )
)
def features(
    model: Annotated[str, typer.Option(help="Model: a folder, a Hugging Face name, or 'embedded'.")],
    layer: Annotated[int, typer.Option(help="Block whose output is described.", min=0)],
    corpus: Annotated[
        list[Path], typer.Option(help="File or folder of documents to train on; give it more than once.")
    ],
    out: Out,
    adapter: Annotated[
        Path | None, typer.Option(help="Adapter whose rows are described as well.", show_default=False)
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(help="style=PAIRS and fact=FACTS, on which its change is told.", show_default=False),
    ] = None,
    kind: Annotated[
        options.DictionaryKind, typer.Option(help="Kind of dictionary.")
    ] = options.DictionaryKind.topk,
    size: Annotated[int, typer.Option(help="Features.", min=2)] = 1024,
    active: Annotated[int, typer.Option(help="Features that are active at a token.", min=1)] = 16,
    rows: Annotated[int, typer.Option(help="Activations to train on.", min=1)] = 1_000_000,
    length: Annotated[int, typer.Option(help="Tokens of a window of a document.", min=16)] = 256,
    seeds: Annotated[int, typer.Option(help="Starts, one dictionary each.", min=2)] = 2,
    seed: Annotated[int, typer.Option(help="Of the first start.", min=0)] = 0,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Train sparse dictionaries of a model's activations, and tell an adapter's change in their features.

    Needs the extra 'sae'. Quality is measured on documents that training did not read, beside untrained codes, and
    features beside those of another start; a killed training goes on when the same command comes again.
    """
    from analyses import jobs
    from analyses.features import FeaturesRequest
    from geometry.live.dictionary import Recipe

    recipe = Recipe(kind.value, size, active, rows)
    starts = tuple(range(seed, seed + seeds))
    groups = options.named_paths(texts or [])
    request = FeaturesRequest(tuple(corpus), layer, recipe, starts, groups, length)
    jobs.require_room(out / "page", "features")
    loaded = options.load(model, dtype="float32", device=device, revision=None)
    options.show_page(jobs.features(loaded, adapter, request, out), as_json=json)


@app.command(
    epilog=example("repgeo superposition --out results/superposition/small --features 40 --dimensions 8")
)
def superposition(
    features: Annotated[int, typer.Option(help="Of the large models.", min=2)] = 80,
    dimensions: Annotated[int, typer.Option(help="Of the large models.", min=1)] = 12,
    seeds: Annotated[int, typer.Option(help="Models of each kind; the best speaks for it.", min=1)] = 5,
    steps: Annotated[int, typer.Option(help="Of training.", min=1)] = 3000,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; default results/superposition/<run id>.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything.", min=0)] = 0,
    json: AsJson = False,
) -> None:
    """Train toy models of superposition: when features share dimensions, and in which shapes.

    The phase diagram of two features beside its closed form, digon to pentagon in small models, and how many
    features divide a space, beside random directions. Takes a few minutes; no language model is used.
    """
    from analyses import jobs
    from analyses.superposition import SuperpositionRequest
    from finetune.toy_model import Pace

    jobs.require_room(out, "superposition")
    request = SuperpositionRequest(features, dimensions, seeds, seed, Pace(steps))
    options.show_page(jobs.superposition(request, out), as_json=json)


@app.command(epilog=example("repgeo privacy --model embedded --lengths 900"))
def privacy(
    model: Annotated[str, typer.Option(help="Model: a folder, a Hugging Face name, or 'embedded'.")],
    data: Annotated[
        Path | None,
        typer.Option(help="JSONL of PAPerBench, in place of invented persons.", show_default=False),
    ] = None,
    lengths: Annotated[str, typer.Option(help="Tokens of invented contexts.")] = "1024",
    prompts: Annotated[int, typer.Option(help="Persons of a length, or lines of the file.", min=2)] = 12,
    sparse: Annotated[bool, typer.Option("--sparse", help="Each kind of private data once at most.")] = False,
    decoys: Annotated[int, typer.Option(help="Look-alikes of private data in a context.", min=0)] = 0,
    adapter: Annotated[
        Path | None, typer.Option(help="PEFT folder, to compare with.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; default results/privacy/<run id>.")
    ] = None,
    dtype: Dtype = "float32",
    device: Device = None,
    revision: Revision = None,
    json: AsJson = False,
) -> None:
    """Ask about a person and about private data in long contexts, as PAPerBench does.

    Letters are scored by likelihood beside the same question without its context; the published reading of
    what is written stands beside it. Persons and their data are invented, or read from a file.
    """
    from analyses import jobs, long_context_jobs

    jobs.require_room(out, "privacy")
    wanted = long_context_jobs.ascending(lengths, "--lengths", int)
    persons = long_context_jobs.Persons(data, wanted, prompts, sparse, decoys, seed)
    loaded = options.load(model, dtype=dtype, device=device, revision=revision)
    options.show_page(long_context_jobs.privacy(loaded, adapter, persons, out), as_json=json)


@app.command(epilog=example("repgeo redraw results/diff/0123456789ab"))
def redraw(
    folder: Annotated[Path, typer.Argument(help="Folder of a run: what holds its report.json.")],
) -> None:
    """Draw the page of a run again from its numbers.

    Only the report.json in its folder is read; no model is needed.
    """
    from analyses import report

    options.show_page(report.redraw(folder), as_json=False)


@app.command(epilog=example("repgeo index results"))
def index(
    folder: Annotated[Path, typer.Argument(help="Folder that holds runs, at any depth.")],
) -> None:
    """Write one page that shows what each run in a folder found.

    It is called index.html, stands in that folder, and leads to the pages of the runs. No model is needed.
    """
    from analyses import gallery

    print(gallery.index(folder))


@app.command(epilog=example("repgeo doctor"))
def doctor(json: AsJson = False) -> None:
    """Try out what works on this machine, and say what to install for the rest.

    Libraries, devices, the shipped model and the translators are really tried. The exit code is 1 where something is
    missing that the main jobs need.
    """
    from analyses import doctor

    findings = doctor.examine()
    print(doctor.as_json(findings) if json else doctor.lines(findings))
    raise typer.Exit(0 if all(one.works for one in findings if one.needed) else 1)
