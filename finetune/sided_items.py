"""Words in prompts through every side of an adapter: the same texts, the same places, one side after the other."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from finetune.adapter import ADAPTER, BASE
from geometry.live.item_states import item_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from finetune.adapter import Attached


@contextlib.contextmanager
def side_on(attached: Attached, name: str) -> Iterator[None]:
    """Let the base model compute one side for as long as the block lasts; then the attached adapter is on again.

    Args:
        attached: the attached adapter.
        name: of an adapter on it, or ``BASE`` for none.
    """
    if name == BASE:
        with attached.model.disable_adapter():
            yield
        return
    attached.model.set_adapter(name)
    try:
        yield
    finally:
        attached.model.set_adapter(ADAPTER)


def sided_item_states(
    attached: Attached,
    templates: Sequence[str],
    items: Sequence[str],
    names: Sequence[str],
    position: str,
    *,
    tell: Callable[[float], None] = lambda share: None,
) -> dict[str, NDArray[np.float32]]:
    """Read the same items in the same templates off several sides.

    Args:
        attached: the attached adapter.
        templates: texts with ``{}`` in them once.
        items: words, put into all of them.
        names: sides.
        position: one of those of :mod:`geometry.live.item_states`.
        tell: is told the share that is done.

    Returns:
        Side -> states, shape (layers, templates, items, d), the embedding output first. Batches are the same for
        every side, so that an adapter of updates of 0 gives the base's states bit for bit.

    Raises:
        DataError: see :func:`geometry.live.item_states.item_states`.
    """
    found = {}
    for at, name in enumerate(names):
        with side_on(attached, name):
            states = item_states(
                attached.loaded, templates, items, tell=lambda share, at=at: tell((at + share) / len(names))
            )
        found[name] = states.rows[position]
    return found
