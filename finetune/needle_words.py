"""Words of invented facts: names, things that a fact can say of a name, and plain sentences about nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

FIRST_NAMES = tuple(
    "Anna Peter Lucy Henry Clara George Alice Walter Emma Arthur Nora Frank Rose Oscar Helen Martin Julia Simon Ruth "
    "Thomas Grace Edgar Laura Philip Mary Victor Ellen Hugo Sarah Leon Jane Robert Martha Albert Irene Paul Edith "
    "Jacob Agnes Daniel Flora Samuel Olive Bruno Judith Conrad Stella Rufus Wanda Felix".split()
)
LAST_NAMES = tuple(
    "Miller Carter Stone Wood Baker Hill Fisher Marsh Turner Field Cooper Brook Weaver Lake Mason Ford Potter Reed "
    "Archer Bell Hunter Dale Porter Frost Walker Grove Tyler North Shepherd Lane Barber Pond Taylor Heath Smith West "
    "Gardener Snow Cook Rivers Sawyer Park Glover Moss Chandler Green Butler Ash Fowler Brown".split()
)
VALUES = tuple(
    "apple bridge candle desert engine forest garden hammer island jacket kettle ladder mirror needle orange pencil "
    "rabbit silver tunnel valley window basket button carpet donkey finger guitar helmet jungle lemon market nephew "
    "palace ribbon saddle temple violin wagon anchor barrel copper dragon feather glacier harbour insect kitchen "
    "lantern magnet notebook oyster pillow quarry ribcage sailor turtle umbrella village whistle".split()
)
RELATIONS = (
    "favourite thing",
    "first present",
    "old nickname",
    "lost object",
    "best drawing",
    "birthday wish",
)
_TIMES = (
    "In the morning",
    "Late at night",
    "After the rain",
    "Before dinner",
    "On the way home",
    "In early spring",
)
_WHO = (
    "the farmer",
    "a tall boy",
    "the old woman",
    "a young teacher",
    "the driver",
    "a quiet child",
    "the doctor",
)
_DID = (
    "walked slowly to",
    "looked for a long time at",
    "came back from",
    "thought about",
    "talked about",
    "drove past",
)
_WHAT = (
    "the river",
    "the empty house",
    "the school",
    "the small shop",
    "the big tree",
    "the new road",
    "the church",
)
_HOW = (
    "and said nothing",
    "with a smile",
    "without a word",
    "as always",
    "for a while",
    "and then went away",
)


def plain_sentences(rng: np.random.Generator) -> Iterator[str]:
    """Write sentences about nothing in particular, without end; none names a person or holds a value.

    Examples:
        >>> import numpy as np
        >>> next(plain_sentences(np.random.default_rng(0)))
        'In early spring, the driver thought about the empty house with a smile.'
    """
    parts = (_TIMES, _WHO, _DID, _WHAT, _HOW)
    while True:
        when, who, did, what, how = (part[rng.integers(len(part))] for part in parts)
        yield f"{when}, {who} {did} {what} {how}."


def names(rng: np.random.Generator) -> Iterator[str]:
    """Invent full names, all different, without end: from the first repetition on they carry a middle name."""
    pairs = [f"{first} {{}}{last}" for first in FIRST_NAMES for last in LAST_NAMES]
    order = rng.permutation(len(pairs))
    middle = ""
    while True:
        yield from (pairs[i].format(middle) for i in order)
        middle += f"{FIRST_NAMES[rng.integers(len(FIRST_NAMES))]} "
