"""Necessity, sufficiency and selectivity of a part of the change, each beside its controls.

A metric arrives as an array (1 + draws,): its mean over the items, then over each resampling of the documents.
All copies of the model were asked the same items and are resampled alike, so every difference is paired.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.cause_exam import METRICS
from geometry.nulls import null_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from numpy.typing import NDArray

    Resampled = NDArray[np.float64]
    PartOf = Callable[[Resampled], Resampled]
    Score = dict[str, NDArray[np.float64]]

ROUNDING = 1e-4
"""Shares of log-likelihoods in float32 are not told apart more finely than this."""

ABOVE, UNCLEAR, BELOW = "above", "not distinguishable", "below"


@dataclass(frozen=True, eq=False)
class Trial:
    """What one patched copy of the model is for.

    Attributes:
        measure: such as ``necessity``.
        energy: share of E|d|^2 that the patch is about, on the fit half.
        dimensions: of its subspace, mean over blocks.
        control: name of the control; None for the adapter's own subspace.
        rule: ``own``, or what makes the control equal to it.
    """

    measure: str
    energy: float
    dimensions: int = 1
    control: str | None = None
    rule: str = "own"


def necessity(states: NDArray[np.float64]) -> Resampled:
    """Share of the adapter's effect that goes when a part of its change is taken out.

    Args:
        states: (3, 1 + draws) metric of the base, the adapted model and the patched copy.

    Returns:
        (1 + draws,) of (adapted - patched) / (adapted - base): 1 if it all goes, 0 if nothing does.

    Examples:
        >>> necessity(np.array([[0.0], [2.0], [0.5]]))
        array([0.75])
    """
    base, adapted, patched = states
    return (adapted - patched) / (adapted - base)


def sufficiency(states: NDArray[np.float64]) -> Resampled:
    """Share of the adapter's effect that a part of its change has alone.

    Args:
        states: (3, 1 + draws) metric of the base, the adapted model and the patched copy.

    Returns:
        (1 + draws,) of (patched - base) / (adapted - base): 1 if it does all, 0 if nothing.

    Examples:
        >>> sufficiency(np.array([[0.0], [2.0], [0.5]]))
        array([0.25])
    """
    base, adapted, patched = states
    return (patched - base) / (adapted - base)


def effect(states: NDArray[np.float64]) -> dict[str, Any]:
    """What the whole adapter does to one metric.

    Args:
        states: (2 or more, 1 + draws) metric of the base, the adapted model, and others that are not looked at.

    Returns:
        ``base``, ``adapted`` and ``effect``, each with its interval, and ``sure``: whether the interval of the
        effect leaves out 0. Shares of an effect that is not sure are not computed.
    """
    base, adapted = states[:2]
    change = _estimate(adapted - base)
    sure = change["low"] > 0 or change["high"] < 0
    return {"base": _estimate(base), "adapted": _estimate(adapted), "effect": change, "sure": sure}


def records(
    measure: str, part_of: PartOf, tried: Sequence[tuple[Trial, Score]], sure: Container[str]
) -> Iterator[dict[str, Any]]:
    """Put a subspace beside its controls, metric by metric.

    Args:
        measure: such as ``necessity``; that one also yields records of ``selectivity``, one for each metric of facts.
        part_of: :func:`necessity` or :func:`sufficiency`.
        tried: trials, the own one first, with metric -> (3, 1 + draws) of base, adapted and patched copy.
        sure: the metrics on which the adapter has an effect that can be divided, see :func:`effect`.

    Yields:
        For each metric ``value`` with ``low`` and ``high`` (None, with the ``reason``, where the adapter has no
        sure effect), the ``change`` of the metric by the patch in the metric's own unit, ``energy`` and
        ``dimensions``, and ``controls``, one for each control and rule with its ``values`` and the ``verdict``.
    """
    own = tried[0][0]
    shares: dict[str, list[Resampled]] = {}
    for metric in METRICS:
        record = {"measure": measure, "metric": metric, "energy": own.energy, "dimensions": own.dimensions}
        record["change"] = _change(metric, part_of, tried)
        if metric not in sure:
            yield record | _absent(f"the adapter's effect on the {metric} is within its interval")
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            shares[metric] = [part_of(score[metric]) for _, score in tried]
        yield record | _compared(shares[metric], [trial for trial, _ in tried])
    if measure == "necessity":
        for fact in (metric for metric, group in METRICS.items() if group == "fact"):
            yield _selectivity(fact, shares, [trial for trial, _ in tried])


def _selectivity(fact: str, shares: dict[str, list[Resampled]], trials: Sequence[Trial]) -> dict[str, Any]:
    record = {"measure": "selectivity", "metric": f"style minus {fact}"}
    record |= {"energy": trials[0].energy, "dimensions": trials[0].dimensions}
    for metric in ("style", fact):
        if metric not in shares:
            return record | _absent(f"the adapter's effect on the {metric} is within its interval")
    gaps = [s - f for s, f in zip(shares["style"], shares[fact], strict=True)]
    return record | _compared(gaps, trials)


def share(part_of: PartOf, states: NDArray[np.float64], *, sure: bool) -> dict[str, Any]:
    """A share of the adapter's effect with its interval, or nothing where the effect is not sure.

    Args:
        part_of: :func:`necessity` or :func:`sufficiency`.
        states: (3, 1 + draws) metric of the base, the adapted model and the changed one.
        sure: whether there is an effect to divide.

    Returns:
        ``value``, ``low`` and ``high``; all None without a sure effect.
    """
    if not sure:
        return {"value": None, "low": None, "high": None}
    with np.errstate(divide="ignore", invalid="ignore"):
        return dict(_estimate(part_of(states)))


def damage(trial: Trial, states: Score) -> Iterator[dict[str, Any]]:
    """What a patch does to the reading of plain text and of facts.

    Args:
        trial: what the patch is for.
        states: metric -> (3, 1 + draws) of base, adapted model and patched copy.

    Yields:
        For each metric its ``value`` under the patch with ``low`` and ``high``, and ``excess``, the value less
        the larger of base and adapted model: above 0 where the patch breaks what neither of them lacks.
    """
    for metric, (base, adapted, patched) in states.items():
        excess = _estimate(patched - np.maximum(base, adapted))
        yield asdict(trial) | {"metric": metric, **_estimate(patched), "excess": excess}


def verdict(own: Resampled, others: Sequence[Resampled]) -> str:
    """What may be said of a number beside one kind of control.

    It is above (or below) when the paired interval of its distance from the mean of the control's draws leaves
    out 0 and what rounding makes of it, and, where there are several draws, it also lies outside the band in
    which one more draw would fall.

    Args:
        own: the number, (1 + draws,).
        others: one array a draw of the control, at least one.

    Returns:
        ``above``, ``not distinguishable`` or ``below``.

    Examples:
        >>> verdict(np.array([0.9, 0.8, 1.0]), [np.array([0.1, 0.0, 0.2])])
        'above'
        >>> verdict(np.array([0.9, 0.8, 1.0]), [np.array([0.1, 0.0, 0.2]), np.array([0.9, 0.7, 1.1])])
        'not distinguishable'
    """
    gap = _estimate(own - np.mean(others, axis=0))
    said = ABOVE if gap["low"] > ROUNDING else BELOW if gap["high"] < -ROUNDING else UNCLEAR
    if len(others) > 1 and said != UNCLEAR and null_of(own[0], [o[0] for o in others]).verdict() != said:
        return UNCLEAR
    return said


def _compared(values: Sequence[Resampled], trials: Sequence[Trial]) -> dict[str, Any]:
    kinds: dict[tuple[str, str], list[int]] = {}
    for i, trial in enumerate(trials):
        if trial.control is not None:
            kinds.setdefault((trial.control, trial.rule), []).append(i)
    controls = [
        {
            "control": control,
            "rule": rule,
            "values": [float(values[i][0]) for i in at],
            "dimensions": [trials[i].dimensions for i in at],
            "energy": [trials[i].energy for i in at],
            "gap": _estimate(values[0] - np.mean([values[i] for i in at], axis=0)),
            "verdict": verdict(values[0], [values[i] for i in at]),
        }
        for (control, rule), at in kinds.items()
    ]
    return {**_estimate(values[0]), "controls": controls}


def _change(metric: str, part_of: PartOf, tried: Sequence[tuple[Trial, Score]]) -> dict[str, Any]:
    """The metric under the patch, less that of the model it starts from, with the range of the controls."""
    start = 1 if part_of is necessity else 0
    changes = [score[metric][2] - score[metric][start] for _, score in tried]
    others = [float(change[0]) for change in changes[1:]]
    floor = {"null": {"low": min(others), "high": max(others)}} if others else {}
    return _estimate(changes[0]) | floor


def _absent(reason: str) -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "reason": reason, "controls": []}


def _estimate(values: Resampled) -> dict[str, float]:
    value, low, high = (values[0], *np.nanpercentile(values[1:], [2.5, 97.5]))
    # differences of equal shares are rounding, not numbers
    value, low, high = (0.0 if abs(x) < 1e-12 else float(x) for x in (value, low, high))
    return {"value": value, "low": low, "high": high}
