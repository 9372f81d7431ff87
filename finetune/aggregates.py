"""One number for style, content and fluency together, that copying cannot win; always with its parts.

Each part of an item is measured on a scale of its own whose ends are known: copying the input has 0 of the
style, strangers to the input have 0 of the content, and what a person wrote has 1 of everything. Hence J, G and H of
the copied input are 0 whatever the judge and the likeness are, those of the references are 1, and those of
references that stand at the wrong places are near 0.

J is the mean product of an item's parts (Krishna et al. 2020, arXiv 2010.05700), G and H are the geometric and the
harmonic mean of the three means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from finetune.score import score_of_sums
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from finetune.score import Score

LEAST_HEARD = 0.1
"""An item counts only where the judge puts the reference at least so much above the input, in probability."""

_PARTS = 3


@dataclass(frozen=True, eq=False)
class Measured:
    """What the three judges say of the texts of one system; all arrays have shape (n,).

    Attributes:
        style: probability of being styled, in [0, 1].
        likeness: cosine to the input.
        loss: nats per token under the base model.
    """

    style: NDArray[np.float64]
    likeness: NDArray[np.float64]
    loss: NDArray[np.float64]


def item_parts(
    system: Measured, inputs: Measured, references: Measured, *, strangers: float
) -> NDArray[np.float64]:
    """Put the style, content and fluency of each item on a scale from 0 to 1.

    Style is the way from the input to the reference in the judge's probability, (p - p_in) / (p_ref - p_in).
    Content is the likeness to the input above that of strangers, over that of the reference. Fluency is the
    perplexity of the reference over the item's own. All are cut to [0, 1].

    Args:
        system: what is judged.
        inputs: what was to be rewritten, judged the same way.
        references: what people made of it.
        strangers: likeness of texts without common content, see :func:`finetune.content.strangers`.

    Returns:
        Shape (n, 3); rows of NaN for items that cannot tell, the same for every system: the judge hears no
        difference between input and reference, or the reference is as far from its input as a stranger.

    Raises:
        DataError: the three are not of the same items.

    Examples:
        >>> one = lambda p, c, l: Measured(np.array([p]), np.array([c]), np.array([l]))
        >>> given, meant = one(0.0, 1.0, 4.0), one(1.0, 0.6, 4.0)
        >>> item_parts(one(0.5, 0.4, 4.0), given, meant, strangers=0.2)
        array([[0.5, 0.5, 1. ]])
    """
    sizes = {len(a) for m in (system, inputs, references) for a in (m.style, m.likeness, m.loss)}
    if len(sizes) != 1:
        raise DataError(f"aggregates: judged {sorted(sizes)} texts; judge the same items of every system")
    way = references.style - inputs.style
    near = references.likeness - strangers
    tells = (way >= LEAST_HEARD) & (near > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.stack([
            (system.style - inputs.style) / way,
            (system.likeness - strangers) / near,
            np.exp(np.minimum(0.0, references.loss - system.loss)),
        ], axis=1)  # fmt: skip
    return np.where(tells[:, None], np.clip(parts, 0.0, 1.0), np.nan)


def aggregate_scores(parts: NDArray[np.float64], draws: NDArray[np.int32]) -> dict[str, Score]:
    """Sum the parts up.

    Args:
        parts: from :func:`item_parts`, shape (n, 3).
        draws: from :func:`finetune.score.bootstrap_draws`.

    Returns:
        ``J``, ``G``, ``H`` and their parts ``style``, ``content``, ``fluency``, all in [0, 1] and over the same
        items; NaN where no item can tell.

    Raises:
        DataError: the draws are for another number of items.

    Examples:
        >>> found = aggregate_scores(np.array([[1.0, 0.5, 1.0], [0.0, 1.0, 1.0]]), np.array([[0, 1]]))
        >>> {name: round(score.value, 3) for name, score in found.items()}
        {'J': 0.25, 'G': 0.721, 'H': 0.692, 'style': 0.5, 'content': 0.75, 'fluency': 1.0}
    """
    if len(parts) != draws.shape[1]:
        raise DataError(f"{len(parts)} items and draws for {draws.shape[1]}: these must be the same items")
    counts = np.column_stack([parts, parts.prod(axis=1), np.ones(len(parts))])
    counts[np.isnan(counts).any(axis=1)] = 0.0

    def of_means(measure: Callable[[NDArray[np.float64]], float]) -> Callable[[NDArray[np.float64]], float]:
        return lambda sums: float(measure(sums[:-1] / sums[-1])) if sums[-1] else float("nan")

    measures: dict[str, Callable[[NDArray[np.float64]], float]] = {
        "J": lambda means: means[_PARTS],
        "G": lambda means: means[:_PARTS].prod() ** (1 / _PARTS),
        "H": lambda means: _PARTS / np.sum(1 / means[:_PARTS]) if means[:_PARTS].all() else 0.0,
        "style": lambda means: means[0],
        "content": lambda means: means[1],
        "fluency": lambda means: means[2],
    }
    return {name: score_of_sums(name, counts, of_means(measure), draws) for name, measure in measures.items()}
