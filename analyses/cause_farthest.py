"""The largest number of a curve over layers and dimensions, corrected for having looked at all of them.

The largest of many numbers is large by chance too, so every random draw is asked for its own largest: the max
statistic of Westfall and Young (1993). Gaps are compared as they are, all being shares of one effect. Divided by
the spread of three draws each, the largest would be where three draws happen to agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.cause_bases import HAAR, RANDOM
from analyses.cause_claims import ONE, selectivity_of
from analyses.cause_exam import GROUPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray


def farthest(measures: Sequence[dict[str, Any]], own: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Find where each measure lies farthest from its random controls.

    Args:
        measures: records at one layer each, see :func:`analyses.adapter_cause.cause`.
        own: group -> the metric that its directions are expected to move.

    Yields:
        For each basis, measure and control of several draws (Haar and random adapters, at equal k): ``layer``,
        ``k`` and the ``value`` with its interval at the farthest place; its ``gap`` to the mean of the control
        there, with an interval; ``looked_at``, the number of places; and ``draws_gap``, ``p`` and ``n`` of
        :func:`chance_of_largest`. Nothing where the adapter has no sure effect.
    """
    for basis in GROUPS:
        looked_at = {
            "necessity": own[basis],
            "sufficiency": own[basis],
            "selectivity": selectivity_of(own["fact"]),
        }
        for measure, metric in looked_at.items():
            wanted = (basis, measure, metric, ONE)
            keys = ("basis", "measure", "metric", "scope")
            found = [r for r in measures if tuple(r[key] for key in keys) == wanted]
            if not found or any(r["value"] is None for r in found):
                continue
            for control in (HAAR, RANDOM):
                beside = [_beside(record, control) for record in found]
                samples = np.array([c["values"] for c in beside]).T
                where, null = chance_of_largest(np.array([r["value"] for r in found]), samples)
                place = {key: found[where][key] for key in ("layer", "k", "value", "low", "high")}
                yield {
                    "basis": basis, "measure": measure, "metric": metric, "control": control,
                    "looked_at": len(found), **place, "gap": beside[where]["gap"], **null,
                }  # fmt: skip


def chance_of_largest(
    observed: NDArray[np.float64], samples: NDArray[np.float64]
) -> tuple[int, dict[str, float]]:
    """Find the largest gap between numbers and their random draws, and how often a draw's own is as large.

    Args:
        observed: numbers at L places, (L,).
        samples: the same for n random draws, (n, L), n >= 2; a row is one draw at every place.

    Returns:
        The place, and ``draws_gap``, the largest gap that a draw has to the mean of the others anywhere; ``p``, the
        share of the n + 1 rows whose largest gap to the mean of all others is at least the observed one's; and
        ``n``. If the observed row is exchangeable with the draws, p is at most a with probability at most a.

    Examples:
        >>> chance_of_largest(np.array([0.1, 0.9]), np.array([[0.0, 0.1], [0.1, 0.0], [0.1, 0.1]]))
        (1, {'draws_gap': 0.1, 'p': 0.25, 'n': 3})
    """
    n = len(samples)
    rows = np.vstack([observed, samples])
    gaps = np.abs(rows - rows.mean(axis=0)) * (n + 1) / n
    largest = gaps.max(axis=1)
    among = np.abs(samples - samples.mean(axis=0)) * n / (n - 1)
    p = float(np.mean(largest >= largest[0] * (1 - 1e-9)))
    return int(gaps[0].argmax()), {"draws_gap": float(among.max()), "p": p, "n": n}


def shown_layer(found: Sequence[dict[str, Any]], layers: Sequence[int]) -> int:
    """Choose the layer whose curves are shown in full, where several were tested.

    Args:
        found: of :func:`farthest`.
        layers: that were tested.

    Returns:
        Where necessity for the style lies farthest above the Haar controls; without a sure effect on the style,
        where that for the facts does; the first layer, if there is none either.
    """
    places = [r["layer"] for r in found if (r["measure"], r["control"]) == ("necessity", HAAR)]
    return places[0] if places else min(layers)


def _beside(record: dict[str, Any], control: str) -> dict[str, Any]:
    return next(c for c in record["controls"] if (c["control"], c["rule"]) == (control, "equal k"))
