"""The largest number of a curve over layers and dimensions, corrected for having looked at all of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.cause_bases import HAAR, RANDOM
from analyses.cause_claims import ONE, selectivity_of
from analyses.cause_exam import GROUPS
from geometry.familywise import max_over

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def farthest(measures: Sequence[dict[str, Any]], own: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Find where each measure lies farthest from its random controls.

    Args:
        measures: records at one layer each, see :func:`analyses.adapter_cause.cause`.
        own: group -> the metric that its directions are expected to move.

    Yields:
        For each basis, measure and control of several draws (Haar and random adapters, at equal k): ``layer``,
        ``k`` and the ``value`` with its interval at the farthest place, ``looked_at``, the number of places,
        and the fields of :class:`geometry.familywise.MaxNull` less its index. Nothing where the adapter has no
        sure effect.
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
                samples = np.array([_draws(record, control) for record in found]).T
                null = asdict(max_over([r["value"] for r in found], samples))
                at = found[null.pop("where")]
                place = {key: at[key] for key in ("layer", "k", "value", "low", "high")}
                yield {
                    "basis": basis, "measure": measure, "metric": metric, "control": control,
                    "looked_at": len(found), **place, **null,
                }  # fmt: skip


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


def _draws(record: dict[str, Any], control: str) -> list[float]:
    kinds = [c for c in record["controls"] if (c["control"], c["rule"]) == (control, "equal k")]
    return kinds[0]["values"]
