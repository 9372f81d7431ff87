"""Words in prompts become states: one row a word, for every layer, prompt and position that is asked for.

A prompt is a text and the place of the word in it. What is read is the residual stream after each block at the
word's last token, as the mean over its tokens, at the last token of the text, and, of models that were trained to
embed sentences, pooled as they do it. Nothing about the model changes; one side of an adapter is read by handing
over the model with the adapter on it, the other with it switched off.
"""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geometry.checks import DataError, ModelError
from geometry.live.anatomy import unwrapped
from geometry.live.capture import EMBEDDING, Batch, block_outputs, model_inputs, token_batches
from geometry.live.models import EMBEDDED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from geometry.live.models import Loaded

ITEM_END = "item end"
"""The word's last token."""

ITEM_MEAN = "item mean"
"""Mean over the word's tokens."""

TEXT_END = "text end"
"""The last token of the text; special tokens that the tokenizer adds are no part of it."""

SENTENCE = "sentence"
"""All tokens, special ones included, pooled as the model was trained to."""

INPUT = "input embeddings"
OUTPUT = "output embeddings"

_POOLED = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}


@dataclass(frozen=True)
class Prompt:
    """A text with a word in it.

    Attributes:
        text: what the model reads.
        item: the word, for messages.
        start: where the word begins, in characters.
        end: where it has ended.
    """

    text: str
    item: str
    start: int
    end: int

    @classmethod
    def of(cls, template: str, item: str) -> Prompt:
        """Put a word into a template.

        Args:
            template: a text with ``{}`` in it once.
            item: the word.

        Raises:
            DataError: the template has no such place, or several.

        Examples:
            >>> Prompt.of("It was {} again.", "May")
            Prompt(text='It was May again.', item='May', start=7, end=10)
        """
        if template.count("{}") != 1:
            raise DataError(f"template {template!r}: expected {{}} in it once, where the item stands")
        start = template.index("{}")
        return cls(template.replace("{}", item), item, start, start + len(item))


@dataclass(frozen=True)
class Pooling:
    """How a sentence model makes one row of a text.

    Attributes:
        mode: ``mean``, ``cls`` or ``lasttoken``.
        normalised: whether rows are divided by their norms afterwards.
        dense: number of further layers that the model has and that are not read.
    """

    mode: str
    normalised: bool
    dense: int


@dataclass(frozen=True, eq=False)
class ItemStates:
    """What was read.

    Attributes:
        layers: -1 for the embedding output, then the blocks.
        rows: position -> (layers, templates, items, d), float32.
    """

    layers: tuple[int, ...]
    rows: dict[str, NDArray[np.float32]]

    @property
    def positions(self) -> tuple[str, ...]:
        """Positions that were read."""
        return tuple(self.rows)


def item_states(
    loaded: Loaded,
    templates: Sequence[str],
    items: Sequence[str],
    *,
    batch_tokens: int = 4096,
    tell: Callable[[float], None] = lambda share: None,
) -> ItemStates:
    """Read the states of every word in every template.

    Texts are padded on the right with positions of their own, so that a row is what the text alone would give,
    to rounding, however the batches are cut.

    Args:
        loaded: a causal language model or an encoder; ``dataclasses.replace(loaded, model=...)`` reads the same
            with an adapter on.
        templates: texts with ``{}`` in them once.
        items: words, put into all of them.
        batch_tokens: most tokens of a batch, padding included.
        tell: is told the share that is done.

    Returns:
        Rows of the stream after every block, in float32. ``sentence`` is among the positions if the model's
        folder says how it pools.

    Raises:
        DataError: no template or item, a template without a place for the item, an item that no token of its
            text covers, a text that is too long, or a tokenizer that reports no offsets.
        ModelError: a sentence model that pools in a way that is not known here.
    """
    if not templates or not items:
        raise DataError("states: expected at least one template and one item")
    prompts = [Prompt.of(template, item) for template in templates for item in items]
    spans = located(prompts, loaded)
    pooling = pooling_of(loaded)
    positions = [ITEM_END, ITEM_MEAN, TEXT_END, *([SENTENCE] if pooling else [])]
    layers = (EMBEDDING, *range(loaded.n_layers))
    found = np.empty((len(positions), len(layers), len(prompts), loaded.width), dtype=np.float32)
    texts, done = [prompt.text for prompt in prompts], 0
    for batch in token_batches(
        texts, loaded.tokenizer, max_length=loaded.max_length, batch_tokens=batch_tokens
    ):
        chosen = batch.text_index.tolist()
        weights = _weights(batch, [spans[i] for i in chosen], pooling)
        with torch.inference_mode(), block_outputs(loaded.model, layers) as stream:
            loaded.model(**model_inputs(loaded.model, batch))
            for at, layer in enumerate(layers):
                states = stream[layer].float()
                found[:, at, chosen] = torch.einsum("bpt,btd->pbd", weights.to(states.device), states).cpu()
        done += len(chosen)
        tell(done / len(prompts))
    if pooling and pooling.normalised:
        found[-1] /= np.linalg.norm(found[-1], axis=-1, keepdims=True)
    shape = (len(layers), len(templates), len(items), loaded.width)
    return ItemStates(layers, {name: found[at].reshape(shape) for at, name in enumerate(positions)})


def static_rows(loaded: Loaded, ids: Sequence[Sequence[int]]) -> dict[str, NDArray[np.float32]]:
    """Rows of the input embeddings and of the unembedding, each averaged over a word's tokens.

    Args:
        loaded: the model.
        ids: of each word's tokens, see :func:`analyses.token_audit.audit_tokens`.

    Returns:
        :data:`INPUT` and, where the model has an unembedding of its own, :data:`OUTPUT`: (n, d) each.
    """
    tables = {INPUT: loaded.model.get_input_embeddings(), OUTPUT: loaded.model.get_output_embeddings()}
    given = {name: table.weight for name, table in tables.items() if table is not None}
    if OUTPUT in given and given[OUTPUT].data_ptr() == given[INPUT].data_ptr():
        del given[OUTPUT]
    with torch.inference_mode():
        return {
            name: torch.stack([weight[list(own)].float().mean(dim=0) for own in ids]).cpu().numpy()
            for name, weight in given.items()
        }


def untrained(loaded: Loaded, seed: int) -> Loaded:
    """The same architecture with the random weights that its training began with.

    Args:
        loaded: a model; it is not touched.
        seed: of the weights.

    Returns:
        A model of the same config on the same device, in float32.
    """
    trained = unwrapped(loaded.model)
    config = type(trained.config).from_dict(trained.config.to_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = type(trained)(config)
    return replace(loaded, model=model.to(loaded.device).eval(), fingerprint=f"untrained, seed {seed}")


def located(prompts: Sequence[Prompt], loaded: Loaded) -> list[tuple[list[int], int]]:
    """Find the tokens of each prompt's word, and the last token of its text.

    Args:
        prompts: at least one.
        loaded: whose tokenizer cuts them.

    Returns:
        For each prompt the places of the word's tokens, rising, and the place of the last token.

    Raises:
        DataError: no token covers the word, or the tokenizer reports no offsets.
    """
    if not loaded.tokenizer.is_fast:
        raise DataError(f"{loaded.name}: its tokenizer does not say where its tokens are; give a fast one")
    cut = loaded.tokenizer(
        [prompt.text for prompt in prompts],
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    return [
        _span(prompt, offsets, loaded.name)
        for prompt, offsets in zip(prompts, cut["offset_mapping"], strict=True)
    ]


def pooling_of(loaded: Loaded) -> Pooling | None:
    """How a sentence model pools, read from the ``modules.json`` beside its weights.

    Args:
        loaded: any model.

    Returns:
        None for models that say nothing of it.

    Raises:
        ModelError: it pools in a way that is not known here.
    """
    modules = _beside(loaded, "modules.json")
    if modules is None:
        return None
    kinds = {module["type"].rpartition(".")[-1]: module for module in modules}
    if "Pooling" not in kinds:
        return None
    said = _beside(loaded, f"{kinds['Pooling']['path']}/config.json") or {}
    modes = [mode for mode, key in _POOLED.items() if said.get(f"pooling_mode_{key}")]
    modes += [said["pooling_mode"]] if said.get("pooling_mode") in _POOLED else []
    if len(modes) != 1:
        raise ModelError(
            f"{loaded.name}: pools its sentences in a way that is not known here; {', '.join(_POOLED)} are"
        )
    return Pooling(modes[0], "Normalize" in kinds, sum(m["type"].endswith(".Dense") for m in modules))


def _span(prompt: Prompt, offsets: Sequence[tuple[int, int]], name: str) -> tuple[list[int], int]:
    inside = [
        at for at, (start, end) in enumerate(offsets) if max(start, prompt.start) < min(end, prompt.end)
    ]
    if not inside:
        raise DataError(
            f"{name}: no token covers the item {prompt.item!r} in {prompt.text!r}; write it differently"
        )
    return inside, max(at for at, (start, end) in enumerate(offsets) if end > start)


def _weights(batch: Batch, spans: Sequence[tuple[list[int], int]], pooling: Pooling | None) -> Tensor:
    """What each token counts at each position, (B, positions, T)."""
    size, length = batch.attention_mask.shape
    weights = torch.zeros(size, 3 + (pooling is not None), length)
    for row, (inside, last) in enumerate(spans):
        weights[row, 0, inside[-1]] = 1.0
        weights[row, 1, inside] = 1.0 / len(inside)
        weights[row, 2, last] = 1.0
    if pooling is not None:
        mask = batch.attention_mask.float()
        ends = batch.attention_mask.sum(dim=1) - 1
        match pooling.mode:
            case "mean":
                weights[:, 3] = mask / mask.sum(dim=1, keepdim=True)
            case "cls":
                weights[:, 3, 0] = 1.0
            case _:
                weights[torch.arange(size), 3, ends] = 1.0
    return weights


def _beside(loaded: Loaded, file: str) -> Any:
    """A JSON file of the model's folder or hub repository; None where it has none."""
    from transformers.utils import cached_file

    place = str(EMBEDDED) if loaded.name == "embedded" else loaded.name
    try:
        path = cached_file(
            place,
            file,
            revision=loaded.revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError):
        return None
    if path is None:
        return None
    with pathlib.Path(path).open(encoding="utf-8") as opened:
        return json.load(opened)
