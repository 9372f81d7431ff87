"""How far an adapter moves the attention of every head, and at which distance, beside random adapters.

Base and adapter read the same tokens as rows of one forward pass. The floor under every distance is what adapters
with the same singular values and random directions do to the same rows: any change of the weights moves attention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.adapter import ADAPTER, random_adapters
from finetune.attention_passages import LAST_ROWS
from finetune.attention_shift import passage_shift
from geometry.dispersion import distance_edges
from geometry.over_prompts import mean_over_prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from finetune.adapter import Attached
    from finetune.attention_passages import Passage

    Array = NDArray[np.float64]

MEASURES = ("hellinger", "kl", "kl_reverse")


def moved_facts(
    attached: Attached,
    passages: Sequence[Passage],
    length: int,
    *,
    n_random: int,
    rng: np.random.Generator,
    progress: Callable[[str, float], None],
) -> dict[str, Any]:
    """Compare the last rows of passages between base, adapter and random adapters.

    Args:
        attached: the attached adapter.
        passages: each as long as the length at least.
        length: tokens.
        n_random: random adapters of the null; none are made where the adapter cannot be mixed.
        rng: source of their directions.
        progress: is told what is done, and the share.

    Returns:
        JSON values: ``length``, ``last_rows``, ``distance_edges``, ``layers``, ``random`` (how many) and, for each of
        :data:`MEASURES`, a record of ``value``, ``low``, ``high`` (L, H) over passages, the same by distance
        (L, H, E) under ``by_distance``, ``null`` (low, high and mean over random adapters, (L, H)),
        ``null_by_distance`` (mean over random adapters and heads, (L, E)) and ``above``: heads that are moved
        further than by any random adapter. Terms of Hellinger by distance add to its square.
    """
    names = random_adapters(attached, n_random if attached.mixes else 0, rng)
    found: dict[str, list[dict[str, Array]]] = {name: [] for name in (ADAPTER, *names)}
    done, of = 0, len(passages) * len(found)
    for passage in passages:
        for name, kept in found.items():
            layers = passage_shift(attached, passage, length, name=name)
            kept.append({
                key: np.stack([getattr(layer, key)[0].mean(axis=1, dtype=np.float64) for layer in layers])
                for measure in MEASURES
                for key in (measure, f"{measure}_by_distance")
            })
            done += 1
            progress("what moves", done / of)
    own, randoms = found[ADAPTER], [found[name] for name in names]
    return {
        "length": length,
        "last_rows": LAST_ROWS,
        "distance_edges": distance_edges(length).tolist(),
        "layers": [layer.layer for layer in layers],
        "random": len(names),
        **{measure: _record(own, randoms, measure) for measure in MEASURES},
    }


def _record(
    own: list[dict[str, Array]], randoms: list[list[dict[str, Array]]], measure: str
) -> dict[str, Any]:
    far, near = measure, f"{measure}_by_distance"
    record = mean_over_prompts(np.stack([one[far] for one in own])).record()
    record["by_distance"] = mean_over_prompts(np.stack([one[near] for one in own])).record()
    if not randoms:
        return record | {"null": None, "null_by_distance": None, "above": None}
    null = np.stack([np.mean([one[far] for one in some], axis=0) for some in randoms])  # (n, L, H)
    spread = np.stack([np.mean([one[near] for one in some], axis=0) for some in randoms])
    return record | {
        "null": {"low": null.min(0).tolist(), "high": null.max(0).tolist(), "mean": null.mean(0).tolist()},
        "null_by_distance": spread.mean(axis=(0, 2)).tolist(),
        "above": (np.array(record["value"]) > null.max(axis=0)).tolist(),
    }
