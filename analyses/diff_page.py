"""The page of a diff: what the facts of :mod:`analyses.adapter_diff` mean, in figures, tables and sentences.

Pure functions of the facts: nothing here runs a model or reads a file. The sections are in ``diff_page_*``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyses.diff_figures import RANDOM, over_all_layers, pairs, pick, verdicts
from analyses.diff_page_likeness import likeness, turn
from analyses.diff_page_overlap import separate
from analyses.diff_page_shape import directions, shape, tokens
from analyses.diff_page_size import position, preflight, size
from analyses.diff_page_source import source
from analyses.digits import digits
from analyses.second_page import second_claims, second_sections

if TYPE_CHECKING:
    from analyses.diff_figures import Facts
    from analyses.report import Section

__all__ = ["diff_claims", "diff_sections", "pick"]

NAMES = {
    "size": "median size",
    "mean_share": "share of the mean",
    "effective_rank": "effective rank",
    "overlap": "overlap",
}
"""Measures that decide whether an adapter is told from random ones, in words."""


def diff_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence or two each."""
    if not facts["preflight"]["active"]:
        return ("The adapter is inactive: every difference from the base is exactly 0.",)
    claims = [_apart(facts)]
    claims += [_strongest(facts, group) for group in facts["groups"]]
    claims += [_concentration(facts, group) for group in list(facts["groups"])[:1]]
    claims += [_separation(facts, pair) for pair in pairs(facts)]
    return (*claims, *second_claims(facts))


def diff_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings, from preflight to the displaced tokens."""
    sections = [preflight(facts)]
    if facts["preflight"]["active"]:
        sections += [size(facts), position(facts), shape(facts), directions(facts), tokens(facts)]
        sections += [source(facts)]
        sections += [separate(facts, pair) for pair in pairs(facts)]
        sections += [turn(facts)] if facts["exact"] else []
        sections += [likeness(facts), *second_sections(facts)]
    return tuple(sections)


def _apart(facts: Facts) -> str:
    """Whether this is more than any adapter of the same strength would do, in one verdict."""
    found = facts["told_apart"]
    if found is None:
        return "There is no null: ask for two random adapters or more to tell what the numbers mean."
    n, side = found["n"], "above" if found["t"] > 0 else "below"
    texts = found["group"].replace("-", " and ")
    where = f"the {NAMES[found['measure']]} of {texts} texts at layer {found['layer']}"
    numbers = f"{digits(found['value'], 2)} against {digits(found['mean'], 2)}"
    chance = (
        f"p = {digits(found['p'], 2)} over all {found['looked_at']} numbers looked at (size, share of the mean, "
        f"effective rank and overlap at every layer), with {n} random adapters never below {digits(1 / (1 + n), 2)}; "
        f"{digits(found['p_normal'], 2)} if they are normal"
    )
    if found["apart"]:
        return (
            f"This adapter is told apart from {RANDOM}: {where} lies farthest out, {side} the random-adapter null "
            f"({numbers}; {chance})."
        )
    return (
        f"This adapter is not distinguishable from {RANDOM}: even {where}, which lies farthest out ({numbers}), is "
        f"not rare among them ({chance})."
    )


def _strongest(facts: Facts, group: str) -> str:
    records = pick(facts, "size", group)
    most = max(records, key=lambda r: r["value"])
    return (
        f"On {group} texts the adapter moves the median token by {digits(100 * most['value'], 2)} % of its "
        f"norm at layer {most['layer']}, where it moves most; the size is {verdicts(records)}."
        + over_all_layers(facts, "size", group)
    )


def _concentration(facts: Facts, group: str) -> str:
    records = pick(facts, "effective_rank", group)
    values = [r["value"] for r in records]
    nulls = [r["null"]["mean"] for r in records if "null" in r]
    against = f" against {digits(min(nulls), 2)} to {digits(max(nulls), 2)} for {RANDOM}" if nulls else ""
    return (
        f"Its differences on {group} texts spread over an effective rank of {digits(min(values), 2)} to "
        f"{digits(max(values), 2)}{against}: {verdicts(records)}."
        + over_all_layers(facts, "effective_rank", group)
    )


def _separation(facts: Facts, pair: str) -> str:
    records = pick(facts, "overlap", pair)
    values = [r["value"] for r in records]
    ceilings = [r["ceiling"] for r in records]
    return (
        f"The top-{facts['k']} difference subspaces of {pair.replace('-', ' and ')} texts overlap by "
        f"{digits(min(values), 2)} to {digits(max(values), 2)} (chance {digits(records[0]['chance'], 2)}, "
        f"ceiling from split halves {digits(min(ceilings), 2)} to {digits(max(ceilings), 2)}): "
        f"{verdicts(records)}." + over_all_layers(facts, "overlap", pair)
    )
