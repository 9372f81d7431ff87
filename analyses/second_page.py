"""Claims and sections of everything that :mod:`analyses.second_passes` found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.first_order_page import first_order_claims, first_order_sections
from analyses.lens_page import lens_sections
from analyses.separation_page import separation_claims, separation_sections

if TYPE_CHECKING:
    from analyses.report import Section


def second_claims(facts: dict[str, Any]) -> list[str]:
    """The findings, a sentence each; none where there was no second pass."""
    return [*separation_claims(facts), *first_order_claims(facts)]


def second_sections(facts: dict[str, Any]) -> list[Section]:
    """What supports them: overlaps beyond sampling, lenses, and what can touch behaviour."""
    return [*separation_sections(facts), *lens_sections(facts), *first_order_sections(facts)]
