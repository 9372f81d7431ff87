"""What is read of a model for one concept: its items in every template, and everything that should show nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analyses.item_templates import BARE, other_words, with_context
from analyses.token_audit import audit_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from analyses.concepts import Concept
    from analyses.token_audit import TokenAudit
    from geometry.live.item_states import ItemStates
    from geometry.live.models import Loaded

    Clouds = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class ModelRead:
    """States of one concept's items.

    Attributes:
        layers: -1 for the embedding output, then the blocks.
        contexts: templates with context, those that means are taken over.
        states: position -> (layers, contexts, items, d), float32.
        bare: position -> (layers, items, d): the item without context; empty if that is no template.
        other: the same means over contexts for other words in the place of the items, position -> (layers,
            items, d); empty if there are more items than such words.
        untrained: the same for models of random weights, one a seed.
        static: name of a table of embeddings -> (items, d).
        tokens: how the tokenizer cuts the items.
    """

    layers: tuple[int, ...]
    contexts: tuple[str, ...]
    states: Clouds
    bare: Clouds
    other: Clouds
    untrained: tuple[Clouds, ...]
    static: Clouds
    tokens: TokenAudit

    @property
    def positions(self) -> tuple[str, ...]:
        """Positions that were read."""
        return tuple(self.states)


def read_model(
    loaded: Loaded,
    concept: Concept,
    templates: Sequence[str],
    rng: np.random.Generator,
    *,
    n_untrained: int = 3,
    tell: Callable[[float], None] = lambda share: None,
) -> ModelRead:
    """Read a concept's items off a model, and off what it must be told from.

    Args:
        loaded: the model.
        concept: its items.
        templates: that they are put into.
        rng: source of the other words' order and of untrained weights.
        n_untrained: models of random weights.
        tell: is told the share that is done.

    Returns:
        States in float32. The mean over an item's tokens is left out where every item is one token.

    Raises:
        DataError: an item or template cannot be read, see :func:`geometry.live.item_states.item_states`.
        ModelError: see there.
    """
    from geometry.live.item_states import item_states, static_rows, untrained

    contexts, words = with_context(templates), other_words(concept.items, rng)
    passes = 1 + bool(words) + n_untrained
    done = iter(range(passes))

    def one(model: Loaded, items: Sequence[str], chosen: Sequence[str]) -> ItemStates:
        at = next(done)
        return item_states(model, chosen, items, tell=lambda share: tell((at + share) / passes))

    audit = audit_tokens(loaded.tokenizer, concept.items)
    ordered = [*contexts, *([BARE] if BARE in templates else [])]
    found = one(loaded, concept.items, ordered)
    last = len(contexts)
    rows = _told_apart(found.rows, last)
    return ModelRead(
        layers=found.layers,
        contexts=contexts,
        states={position: states[:, :last] for position, states in rows.items()},
        bare={position: states[:, last] for position, states in rows.items() if BARE in templates},
        other=over_contexts(one(loaded, words, contexts).rows, rows) if words else {},
        untrained=tuple(
            over_contexts(one(untrained(loaded, seed), concept.items, contexts).rows, rows)
            for seed in rng.integers(2**31, size=n_untrained).tolist()
        ),
        static=static_rows(loaded, audit.ids),
        tokens=audit,
    )


def over_contexts(states: Clouds, wanted: Sequence[str] | Clouds) -> dict[str, NDArray[np.float32]]:
    """Means over templates: position -> (layers, items, d), for the positions that are wanted."""
    return {position: states[position].mean(axis=1) for position in wanted}


def _told_apart(rows: Clouds, contexts: int) -> dict[str, NDArray[np.float32]]:
    """Leave out a position whose rows, in every template with context, are those of one before it."""
    kept: dict[str, NDArray[np.float32]] = {}
    for position, states in rows.items():
        same = (np.allclose(states[:, :contexts], one[:, :contexts], atol=1e-6) for one in kept.values())
        if not any(same):
            kept[position] = states
    return kept
