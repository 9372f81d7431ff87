"""The card of a pretrained model: what it reads, what it can do, and how it was made, as README.md.

Measuring and writing are apart: :func:`measure_card` gives numbers, :func:`card` turns numbers into text.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.folders import write_whole
from finetune.model_measures import measure_card
from finetune.progress import duration
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["NOTE", "card", "measure_card", "write_model_card"]

NOTE = "pretraining.json"
"""The file of a pretrained folder that holds every number of its card."""
_CURVE_ROWS = 12


def card(made: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """Write a card from numbers alone.

    Args:
        made: the content of ``pretraining.json``.
        measured: from :func:`measure_card`, and ``validation_name``, what its text is.

    Returns:
        Markdown, with the metadata that the Hugging Face hub reads on top.
    """
    recipe = made["request"]["recipe"]
    return _BODY.format(
        parameters=made["parameters"],
        **{key: recipe[key] for key in ("width", "layers", "heads", "kv_heads", "mlp", "context")},
        vocabulary=recipe["vocabulary"],
        tokens=made["tokens"],
        time=duration(made["seconds"]),
        machine=made["machine"],
        quality=_quality(made, measured),
        curve=_curve(made["log"]),
        samples="\n\n".join(_verbatim(f"[{s['prompt']}]{s['text']}") for s in measured["samples"]),
        copies="\n\n".join(_verbatim(f"{c['source']}\n-> {c['answer']}") for c in measured["copies"]),
        splits=_splits(made["split_words"]),
        making=_making(made),
        held_out=made["held_out"],
        validation=measured["validation_name"],
    )


def write_model_card(folder: str | Path, measured: Mapping[str, Any], *, validation_name: str) -> None:
    """Write README.md into a pretrained folder, and the numbers behind it into ``pretraining.json``.

    Args:
        folder: what :func:`finetune.pretrain.pretrain` wrote.
        measured: from :func:`measure_card`.
        validation_name: what the validation text is, such as ``WikiText-2, validation part``.

    Raises:
        DataError: the folder has no ``pretraining.json``, or another file of that name.
        InputError: it cannot be written.
    """
    note = Path(folder) / NOTE
    try:
        made = json.loads(note.read_text(encoding="utf-8"))
        made["request"]["recipe"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{note}: is not the note of a pretrained model; name such a folder") from error
    made["measured"] = {**measured, "validation_name": validation_name}
    write_whole(Path(folder) / "README.md", card(made, made["measured"]))
    write_whole(note, json.dumps(made, indent=1))


def _quality(made: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    text, copying = measured["validation"], measured["copying"]
    name = measured["validation_name"]
    exact, scored = copying["exact"], copying["bleu"]
    rows = [
        (
            f"loss on {made['held_out_tokens']:,} tokens of held-out documents",
            f"{made['held_out_loss']:.3f} nats a token",
            "",
        ),
        (
            f"loss on {name}",
            f"{text['nats_per_token']:.3f} nats a token",
            f"{text['unigram_nats_per_token']:.3f} from the frequencies of its tokens alone",
        ),
        (
            f"perplexity on {name}",
            f"{text['perplexity']:.1f}",
            f"{math.exp(text['unigram_nats_per_token']):.1f}",
        ),
        (f"bits a character on {name}", f"{text['bits_per_character']:.3f}", ""),
        (
            f"exact copies of {copying['n']:,} held-out sentences",
            f"{exact['value']:.1%} [{exact['low']:.1%}, {exact['high']:.1%}]",
            "0 %",
        ),
        (
            "BLEU of these copies",
            f"{scored['value']:.1f} [{scored['low']:.1f}, {scored['high']:.1f}]",
            f"{copying['bleu_of_another']:.1f} for answering with another sentence",
        ),
    ]
    return "\n".join(f"| {what} | {value} | {floor} |" for what, value, floor in rows) + _how(measured)


def _how(measured: Mapping[str, Any]) -> str:
    text, copying = measured["validation"], measured["copying"]
    return (
        f"\n\nThe validation text has {text['characters']:,} characters and {text['tokens']:,} tokens; it was read "
        f"in windows of {text['window']:,} tokens without overlap, weights in float32. Copies are greedy answers "
        f"to the prompt below; brackets hold 95 % bootstrap intervals; BLEU is `{copying['bleu_signature']}`."
    )


def _curve(log: Sequence[Mapping[str, float]]) -> str:
    points = [record for record in log if "held_out" in record]
    chosen = np.unique(np.linspace(0, len(points) - 1, min(_CURVE_ROWS, len(points))).round().astype(int))
    return "\n".join(
        f"| {points[i]['step']:,} | {points[i]['tokens']:,} | {points[i]['loss']:.3f} | {points[i]['held_out']:.3f} |"
        for i in chosen
    )


def _splits(split: Mapping[str, Sequence[str]]) -> str:
    if not split:
        return "None of them splits."
    words = ", ".join(f"{word} (`{' '.join(parts)}`)" for word, parts in split.items())
    return f"Those that split all the same ({len(split)}): {words}."


def _making(made: Mapping[str, Any]) -> str:
    recipe, request = made["request"]["recipe"], made["request"]
    stages = ", ".join(f"{share:.0%} at length {length:,}" for share, length in recipe["stages"])
    engine = request["engine"]
    undone = (
        f"undoing a round trip through {engine}, copying and repairing noise"
        if engine
        else "copying and repairing"
    )
    rows = [
        ("corpora", ", ".join(f"`{name}` ({digest[:12]})" for name, digest in request["corpora"])),
        ("tokens", f"{stages}; {recipe['batch_tokens']:,} a step"),
        ("rewriting exercises", f"{recipe['exercise_share']:.0%} of the rows: {undone}"),
        (
            "optimiser",
            f"{recipe['optimiser']}, peak rates {recipe['lr_matrix']:g} (matrices) and {recipe['lr_rest']:g}",
        ),
        ("schedule", f"{recipe['warmup']:.0%} of the steps warm up, {recipe['decay']:.0%} decay to zero"),
        ("seed, digest", f"{recipe['seed']}, `{made['digest']}`"),
        ("versions", ", ".join(f"{name} {number}" for name, number in made["versions"].items())),
    ]
    return "\n".join(f"| {what} | {value} |" for what, value in rows)


def _verbatim(text: str) -> str:
    """Indent, so that nothing in a model's text is read as Markdown."""
    return "\n".join(f"    {line}" for line in text.splitlines())


_BODY = """---
library_name: transformers
pipeline_tag: text-generation
---

# A small base model

A Llama-type causal language model of {parameters:,} parameters that was trained from scratch with
`repgeo pretrain`. It is made to be measured and adapted: small enough for a laptop, trained to copy and
rewrite a line, and with months, weekdays and large cities as single tokens.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
```

To have a line rewritten, write `Input: ` and the line, then `Output:` on the next line, without a space
after it; the answer ends with the end-of-text token.

| | |
|---|---|
| blocks | {layers} of width {width}, {heads} heads ({kv_heads} for keys and values), MLP of {mlp} |
| positions, embeddings | rotary, tied |
| vocabulary | byte-level BPE, {vocabulary:,} tokens at most |
| context | {context:,} tokens |
| tokens seen | {tokens:,} |
| time | {time} on {machine} |

## How good it is

| | this model | floor |
|---|---|---|
{quality}

Loss while it was trained, nats a token:

| step | tokens | on that step | held-out documents |
|---|---|---|---|
{curve}

Every number, and the whole curve, is in `pretraining.json`.

## What it writes

Sampled at temperature 0.8 within 95 % of the probability, what is in brackets given; the first ones, not
the best:

{samples}

Asked to copy:

{copies}

## Words of more than one token

The vocabulary was made to hold 12 months, 7 weekdays and large cities as single tokens after a space.
{splits}

## How it was made

| | |
|---|---|
{making}

## Limits

A model of this size knows little and forgets the beginning of a paragraph by its end. What it says of
people, places and dates is mostly invented, and it repeats what its corpora say, prejudice included. It
was never tuned to follow instructions or to be safe. Do not ask it for facts; measure it.

Held out were {held_out}. Whether other text is new to the model ({validation}) depends on the corpora
named above.
"""
