"""Texts that models read a word in: templates with a place for it, and other words for the same place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BARE = "{}"
"""The template without any context; it is shown, and left out of means over templates."""

GENERIC = (
    "{}",
    "The word is {}",
    "They talked about {} for a while.",
    "The title of the book was {}",
    "She wrote {} on the board.",
    "He had never heard of {} before.",
    "The first chapter is about {}",
    "The question was about {} and nothing else.",
    "What they had in mind was {}",
    "The list also has {} on it.",
    "In the end everybody chose {}",
    "Someone in the room said {} aloud.",
    "The next word is {}",
    "The sign at the door said {}",
    "It has something to do with {} after all.",
    "This is an example of {}",
)
"""For concepts that bring no templates of their own."""

OTHER_WORDS = tuple(
    "apple window river engine garden bottle mountain letter blanket hammer carpet mirror candle island basket "
    "ladder bridge forest kitchen button feather pocket tunnel ribbon anchor pencil saddle curtain kettle "
    "orchard pillow quarry rabbit saucer temple turtle valley wallet walnut whistle barrel beetle bucket butter "
    "cabin camera canal castle cellar cement cherry chimney collar copper cotton cradle dagger desert diamond "
    "donkey drawer eagle elbow fabric farmer fiddle finger fisher flame funnel galaxy garlic goblet granite "
    "guitar hamlet harbour helmet hinge honey jacket jungle kernel ketchup kidney knight lantern lemon linen "
    "lizard locker magnet maple marble meadow medal melon miller mortar muscle napkin needle nephew onion "
    "oyster paddle palace parrot pebble pepper pigeon pirate plaster potato powder prison puzzle radish "
    "saddlebag scissors shovel slipper spider".split()
)
"""Common nouns that are near each other in no order: what scores become where the word is another one."""


def with_context(templates: Sequence[str]) -> tuple[str, ...]:
    """The templates that say something besides the item.

    Examples:
        >>> with_context(["{}", "Today is {}"])
        ('Today is {}',)
    """
    return tuple(template for template in templates if template != BARE)


def require_templates(templates: Sequence[str]) -> None:
    """Refuse templates that items cannot be put into.

    Args:
        templates: texts.

    Raises:
        ValueError: one has no place for an item or several, two are equal, or fewer than two have any context.
    """
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"template {template!r}: expected {{}} in it once, where the item stands")
    if len(with_context(templates)) < 2 or len(set(templates)) < len(templates):
        raise ValueError("templates: expected at least two besides {}, all different")


def read_templates(path: Path) -> tuple[str, ...]:
    """Read a file of one template a line.

    Raises:
        DataError: the file cannot be read, or a line is no template.
    """
    try:
        lines = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        require_templates(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as UTF-8 text; give a file of one template a line"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return lines


def other_words(items: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    """Words to put into the place of the items: as many, none of them an item, in random order.

    Args:
        items: of the concept.
        rng: source of the order.

    Returns:
        As many words as items; none at all where there are more items than words to choose from.

    Examples:
        >>> len(other_words(["May", "June", "apple"], np.random.default_rng(0)))
        3
    """
    free = [word for word in OTHER_WORDS if word not in {item.lower() for item in items}]
    if len(free) < len(items):
        return ()
    return tuple(free[at] for at in rng.permutation(len(free))[: len(items)])
