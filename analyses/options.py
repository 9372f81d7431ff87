"""What the commands have in common: options, and how their values are read and shown.

Even :mod:`geometry.checks` is imported inside the functions, since it brings NumPy: help comes first.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from analyses.symmetry_adapter import AdapterRequest
    from geometry.live.models import Loaded

Base = Annotated[str, typer.Option(help="Model: a folder, a Hugging Face name, or 'embedded'.")]
Adapter = Annotated[Path, typer.Option(help="PEFT folder of a LoRA adapter.")]
Out = Annotated[Path, typer.Option(help="Folder to make; written whole or not at all.")]
RecipeFile = Annotated[Path | None, typer.Option(help="YAML of the fields to change.")]
Dtype = Annotated[str, typer.Option(help="Number format of the weights.")]
Device = Annotated[
    str | None, typer.Option(help="Such as cpu or cuda:1; default the first GPU.", show_default=False)
]
Quote = Annotated[bool, typer.Option(help="Whether sentences of the texts may stand on the page.")]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a Hugging Face name.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print report.json in place of the page's path.")]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"repgeo {version('repgeo')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
]


class Pivot(StrEnum):
    """Languages that apertium translates through."""

    spanish = "spanish"
    catalan = "catalan"
    esperanto = "esperanto"
    none = "none"


class DictionaryKind(StrEnum):
    """Kinds of sparse dictionaries, see :data:`geometry.live.dictionary.KINDS`."""

    topk = "topk"
    batchtopk = "batchtopk"
    jumprelu = "jumprelu"
    matryoshka = "matryoshka"


class Weights(StrEnum):
    """What a neighbour at distance d of a window of L words counts."""

    linear = "linear"
    flat = "flat"
    inverse = "inverse"


class Others(StrEnum):
    """What becomes of words that are not counted."""

    removed = "removed"
    kept = "kept"


class Preset(StrEnum):
    """Recipes by name, see :data:`finetune.recipe.PRESETS`."""

    rtt_default = "rtt-default"
    liu_koehn_2026 = "liu-koehn-2026"


PresetName = Annotated[
    Preset | None,
    typer.Option("--preset", help="Recipe by name; --recipe changes fields of it.", show_default=False),
]


class Examples(StrEnum):
    """Which solved pairs a prompt shows."""

    random = "random"
    similar = "similar"


class Task(StrEnum):
    """What hides a needle."""

    kv = "kv"
    haystack = "haystack"
    documents = "documents"


class Hiding(StrEnum):
    """Kinds of filler."""

    neutral = "neutral"
    same = "same"
    rival = "rival"


class Asked(StrEnum):
    """Where a question stands."""

    last = "last"
    first = "first"
    both = "both"


class CorpusEdit(StrEnum):
    """What may be done to a corpus, see :data:`analyses.perturb_edits.EDITS`."""

    delete = "delete"
    flatten = "flatten"
    reorder = "reorder"
    rename_together = "rename-together"
    rename_alone = "rename-alone"
    rename_all = "rename-all"


class EngineKind(StrEnum):
    """Translation engines."""

    apertium = "apertium"
    marian = "marian"


Corpus = Annotated[
    Path, typer.Option(help="Styled text: JSONL, JSON, TSV, CSV, plain text, PubTator, or a folder of them.")
]
StyledCorpus = Annotated[
    Path | None,
    typer.Option(help="Styled text of any form that neutralise reads.", show_default=False),
]
Pivots = Annotated[
    list[str] | None,
    typer.Option(
        help="Language of the round trip; each gives a pair. Default spanish (apertium), german (marian).",
        show_default=False,
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE that records must have, as author=Dickens.", show_default=False),
]
Documents = Annotated[
    list[str] | None,
    typer.Option(help="Key that names the document; several together. Default the id.", show_default=False),
]
Field = Annotated[str, typer.Option(help="Key or column that holds the text.")]
Sentences = Annotated[
    int | None, typer.Option(help="Draw so many by chance; default all.", min=10, show_default=False)
]
Block = Annotated[
    int, typer.Option(help="Split longer documents as blocks of so many sentences; 0 never cuts.", min=0)
]
Workers = Annotated[int, typer.Option(help="Batches under way at a time.", min=1)]
Store = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="File of round trips made; default ~/.cache/repgeo/round-trips.sqlite.",
        show_default=False,
    ),
]


Outputs = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=FILE of what a system wrote: a line for each pair, or JSONL of id and text; may be repeated.",
        show_default=False,
    ),
]
NamedAdapters = Annotated[
    list[str] | None,
    typer.Option(help="NAME=FOLDER of an adapter of --base; may be repeated.", show_default=False),
]
JudgePairs = Annotated[
    Path | None,
    typer.Option(
        help="Pairs that the judge of style learns from, best those that no adapter has seen; default --train.",
        show_default=False,
    ),
]
Classifier = Annotated[
    str | None,
    typer.Option(
        help="Folder of a sequence classifier as judge of style, its last class the style.",
        show_default=False,
    ),
]
PromptName = Annotated[str, typer.Option(help="Prompt by name: plain, instruct, registers, or your own.")]
PromptFile = Annotated[Path | None, typer.Option(help="YAML of prompts of your own.", show_default=False)]


def load(base: str, *, dtype: str, device: str | None, revision: str | None) -> Loaded:
    """Load the model that the options name."""
    from geometry.live.models import load

    return load(base, dtype=dtype, device=device, revision=revision)


def adapter_request(
    model: str | None, adapter: Path | None, control: Path | None, pairs: Path | None, n_random: int
) -> AdapterRequest | None:
    """Read the options that compare a model with its adapter.

    Raises:
        DataError: an adapter without a model, or a control or pairs without an adapter.
    """
    from analyses.symmetry_adapter import AdapterRequest
    from geometry.checks import DataError

    if adapter is None:
        if control or pairs:
            raise DataError("--control and --pairs stand beside an adapter: give --adapter too")
        return None
    if model is None:
        raise DataError("--adapter needs the model that it was trained on: give --model too")
    return AdapterRequest(adapter, control, pairs, n_random)


def named_paths(given: list[str]) -> dict[str, Path]:
    """Read ``NAME=PATH`` options.

    Args:
        given: the options, in order.

    Returns:
        Name -> path, in the same order.

    Raises:
        DataError: no name, a name of other signs than letters and digits, a name twice, or no such file.
    """
    from geometry.checks import DataError

    paths: dict[str, Path] = {}
    for one in given:
        name, equals, path = one.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name):
            raise DataError(f"--texts {one}: write NAME=PATH, the name in letters and digits, as style={one}")
        if name in paths:
            raise DataError(f"--texts {one}: the name {name} is taken; give each group its own")
        if not Path(path).is_file():
            raise DataError(f"--texts {one}: there is no file {path}; check the path")
        paths[name] = Path(path)
    return paths


def system_files(given: list[str] | None) -> dict[str, Path]:
    """Read ``NAME=FILE`` of systems: see :func:`system_folders`."""
    return _systems(given, "--outputs")


def system_folders(given: list[str] | None) -> dict[str, Path]:
    """Read ``NAME=FOLDER`` of adapters.

    Args:
        given: the options, in order.

    Returns:
        Name -> path. A name may have any signs but an equals sign.

    Raises:
        DataError: no name, a name twice, or nothing at the path.
    """
    return _systems(given, "--adapter")


def _systems(given: list[str] | None, flag: str) -> dict[str, Path]:
    from geometry.checks import DataError

    found: dict[str, Path] = {}
    for one in given or []:
        name, equals, path = one.partition("=")
        if not equals or not name.strip() or name in found:
            raise DataError(f"{flag} {one}: write NAME=PATH, each name once, as {flag} mine={name}")
        if not Path(path).exists():
            raise DataError(f"{flag} {one}: there is no {path}; check the path")
        found[name] = Path(path)
    return found


def pairs_of(given: list[str] | None, flag: str) -> dict[str, str]:
    """Read ``KEY=VALUE`` options.

    Args:
        given: the options.
        flag: what the option is called, for the message.

    Returns:
        Key -> value, in order.

    Raises:
        DataError: one has no key or no value, or a key comes twice.

    Examples:
        >>> pairs_of(["author=Dickens"], "--style")
        {'author': 'Dickens'}
    """
    from geometry.checks import DataError

    found: dict[str, str] = {}
    for one in given or []:
        key, _, value = one.partition("=")
        if not key or not value or key in found:
            raise DataError(f"{flag} {one}: write KEY=VALUE, each key once, as {flag} author=Dickens")
        found[key] = value
    return found


def one_source(
    corpus: Path | None, folder: Path | None, files: dict[str, Path | None]
) -> dict[str, Path] | None:
    """Refuse none or several answers to where pairs come from.

    Args:
        corpus: styled text.
        folder: of pairs.
        files: part -> file.

    Returns:
        The files, where these are the answer.

    Raises:
        DataError: none or several are given, or not all three files.
    """
    from geometry.checks import DataError

    named = {part: path for part, path in files.items() if path is not None}
    if sum(map(bool, (corpus, folder, named))) != 1 or 0 < len(named) < len(files):
        raise DataError(
            "give one of --corpus, --pairs, and "
            f"{' with '.join(f'--{part}' for part in files)}: where the pairs are from"
        )
    return named or None


def require_both(there: str | None, back: str | None) -> None:
    """Refuse one of two models of a round trip without the other.

    Raises:
        DataError: only one is given.
    """
    from geometry.checks import DataError

    if (there is None) != (back is None):
        raise DataError("--there and --back belong together: name a model for each way, or neither")


def numbers(given: str | None) -> tuple[int, ...] | None:
    """Read block numbers.

    Args:
        given: such as ``0,3,5``; None for all.

    Returns:
        The numbers in the order given, each once.

    Raises:
        LayerError: something in it is not a whole number.

    Examples:
        >>> numbers("0,3, 5"), numbers(None)
        ((0, 3, 5), None)
    """
    from geometry.checks import LayerError

    if given is None:
        return None
    try:
        return tuple(dict.fromkeys(int(part) for part in given.split(",")))
    except ValueError:
        raise LayerError(f"--layers {given}: write block numbers such as 0,3,5") from None


def layers(given: str) -> tuple[int, ...] | None:
    """Read the value of ``--layer``: one block number, several, or all.

    Args:
        given: such as ``3``, ``0,2,4`` or ``all``.

    Returns:
        The numbers in the order given, each once; None for all.

    Raises:
        LayerError: it is neither.

    Examples:
        >>> layers("4"), layers("0,2"), layers("all")
        ((4,), (0, 2), None)
    """
    from geometry.checks import LayerError

    try:
        return numbers(None if given == "all" else given)
    except LayerError:
        raise LayerError(f"--layer {given}: write a block number, several as 0,2,4, or all") from None


def dimensions(given: str) -> tuple[int, ...]:
    """Read dimensions of subspaces.

    Args:
        given: such as ``1,2,4``.

    Returns:
        The numbers in ascending order, each once.

    Raises:
        DataError: something in it is not a whole number.

    Examples:
        >>> dimensions("4,1, 2,4")
        (1, 2, 4)
    """
    from geometry.checks import DataError

    try:
        return tuple(sorted({int(part) for part in given.split(",")}))
    except ValueError:
        raise DataError(f"--k {given}: write dimensions such as 1,2,4") from None


def strengths(given: str) -> tuple[float, ...]:
    """Read strengths of steering.

    Args:
        given: such as ``-1,0,2.5``.

    Returns:
        The numbers in ascending order, each once.

    Raises:
        DataError: something in it is not a finite number.

    Examples:
        >>> strengths("2, -1,0, 2")
        (-1.0, 0.0, 2.0)
    """
    from geometry.checks import DataError

    try:
        found = tuple(sorted({float(part) for part in given.split(",")}))
    except ValueError:
        raise DataError(f"--strengths {given}: write numbers such as -1,0,2") from None
    if not all(abs(one) < float("inf") for one in found):
        raise DataError(f"--strengths {given}: write finite numbers such as -1,0,2")
    return found


def require_one_list(vocab: int | None, words: Path | None, add: list[Path] | None) -> None:
    """Refuse two answers to which words are counted.

    Raises:
        DataError: more than one of ``--vocab``, ``--words`` and ``--add`` is given.
    """
    from geometry.checks import DataError

    given = {"--vocab": vocab, "--words": words, "--add": add}
    named = [name for name, value in given.items() if value]
    if len(named) > 1:
        raise DataError(f"{' and '.join(named)}: each says which words are counted; give one of them")


def places(given: str) -> tuple[int, ...]:
    """Read places of runs.

    Args:
        given: such as ``1,2``.

    Returns:
        The numbers in the order given.

    Raises:
        DataError: something in it is not a whole number.

    Examples:
        >>> places("1, 3")
        (1, 3)
    """
    from geometry.checks import DataError

    try:
        return tuple(int(part) for part in given.split(","))
    except ValueError:
        raise DataError(f"--seeds {given}: write places of runs such as 1,2") from None


def one_of(lengths: str | None, pieces: str | None) -> bool:
    """Tell whether contexts are measured in pieces.

    Raises:
        DataError: both or neither of ``--lengths`` and ``--pieces`` are given.
    """
    from geometry.checks import DataError

    if (lengths is None) == (pieces is None):
        raise DataError("give the size of the contexts as --lengths in tokens or as --pieces, one of them")
    return pieces is not None


def context_lengths(longest: int | None, several: str | None) -> tuple[int, ...]:
    """Read the lengths of contexts.

    Args:
        longest: the value of ``--length``.
        several: the value of ``--lengths``.

    Returns:
        The lengths in ascending order; for a single one with those that are at least 128 of its quarter and half.

    Raises:
        DataError: both or neither are given, or something is not a whole number.

    Examples:
        >>> context_lengths(1024, None), context_lengths(None, "512,256"), context_lengths(200, None)
        ((256, 512, 1024), (256, 512), (200,))
    """
    from geometry.checks import DataError

    if (longest is None) == (several is None):
        raise DataError("give --length, or several as --lengths 256,512,1024; one of the two")
    if longest is not None:
        return tuple(n for n in (longest // 4, longest // 2, longest) if n >= 128)
    try:
        return tuple(sorted({int(part) for part in several.split(",")}))
    except ValueError:
        raise DataError(f"--lengths {several}: write numbers of tokens such as 256,512,1024") from None


def show_page(page: Path, *, as_json: bool) -> None:
    """Print the path of a page, or the report.json beside it."""
    from geometry.checks import InputError

    if not as_json:
        print(page)
        return
    try:
        print(page.with_name("report.json").read_text(encoding="utf-8"), end="")
    except OSError as error:
        raise InputError(f"{page.parent}: cannot be read ({error.strerror})") from error
