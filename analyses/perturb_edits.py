"""The edits of a corpus that are tried, each with the control that it must be told from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from geometry.corpus_edits import (
    Members,
    alone,
    anywhere,
    renamed,
    repeated,
    rewritten,
    rewritten_members,
    together,
    without,
)
from geometry.kernel_edits import (
    companies,
    flat_kernel,
    kernel_of,
    member_matched,
    other_calendar,
    reordered_kernel,
    shuffled_weights,
    size_matched,
    tilt,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from geometry.kernel_edits import Corpus
    from geometry.layouts import Layout

    Texts = Iterator[str]
    Kernel = Callable[[NDArray[np.float64], Layout], ArrayLike]
    Which = Callable[[tuple[int, ...]], bool]


@dataclass(frozen=True)
class Setting:
    """What is edited.

    Attributes:
        corpus: begins the corpus anew each time.
        members: the concept's words.
        layout: where they lie.
    """

    corpus: Corpus
    members: Members
    layout: Layout


@dataclass(frozen=True)
class Edit:
    """One edit.

    Attributes:
        about: what is done, for the page.
        control: what its controls do.
        prepare: looks at the corpus; gives the edit, its controls by name, and notes on it as JSON values. Edit
            and controls take a source of chance and give the texts.
    """

    about: str
    control: str
    prepare: Callable[[Setting], Prepared]


@dataclass(frozen=True)
class Prepared:
    """An edit that knows its corpus."""

    edited: Callable[[np.random.Generator], Texts]
    controls: Mapping[str, Callable[[np.random.Generator], Texts]]
    notes: Mapping[str, Any]


def _deleted(setting: Setting) -> Prepared:
    def control(matched: Callable, rng: np.random.Generator) -> Texts:
        rewrite = matched(setting.corpus, setting.members, rng)
        return rewritten(setting.corpus(), setting.members, rewrite)

    return Prepared(
        edited=lambda _: rewritten_members(setting.corpus(), setting.members, without(together)),
        controls={
            "others of equal length deleted": partial(control, size_matched),
            "each member as often deleted alone": partial(control, member_matched),
        },
        notes={},
    )


def _resampled(kernel: Kernel, setting: Setting) -> Prepared:
    seen = companies(setting.corpus(), setting.members)
    found = tilt(seen, setting.layout, kernel(kernel_of(seen, setting.layout), setting.layout))

    def texts(weight: Callable, rng: np.random.Generator) -> Texts:
        return rewritten_members(setting.corpus(), setting.members, repeated(weight, rng))

    return Prepared(
        edited=partial(texts, found.weight),
        controls={"same copies, any lag": lambda rng: texts(shuffled_weights(seen, found, rng), rng)},
        notes={"before": found.before, "after": found.after, "effective": found.effective},
    )


def _renamed(which: Which, setting: Setting) -> Prepared:
    def texts(order: Sequence[int], texts: Iterable[str]) -> Texts:
        return rewritten_members(texts, setting.members, renamed(setting.members, order, which))

    return Prepared(
        edited=lambda _: texts(other_calendar(setting.layout).tolist(), setting.corpus()),
        controls={
            "names dealt at random": lambda rng: texts(
                rng.permutation(setting.layout.n).tolist(), setting.corpus()
            )
        },
        notes={},
    )


EDITS: Mapping[str, Edit] = {
    "delete": Edit(
        "sentences with two or more members are deleted",
        "as many sentences with at most one member, equally long, are deleted; or as many occurrences of each "
        "member, where it stands alone",
        _deleted,
    ),
    "flatten": Edit(
        "sentences with two or more members are left out or repeated until all lags are equally frequent",
        "the same numbers of copies, dealt to these sentences regardless of lag",
        partial(_resampled, flat_kernel),
    ),
    "reorder": Edit(
        "sentences with two or more members are left out or repeated until their lags follow the other order",
        "the same numbers of copies, dealt to these sentences regardless of lag",
        partial(_resampled, reordered_kernel),
    ),
    "rename-together": Edit(
        "members take each other's names after the other order, in sentences that hold two or more",
        "names dealt at random in the same sentences",
        partial(_renamed, together),
    ),
    "rename-alone": Edit(
        "members take each other's names after the other order, in sentences that hold one alone",
        "names dealt at random in the same sentences",
        partial(_renamed, alone),
    ),
    "rename-all": Edit(
        "members take each other's names after the other order, everywhere",
        "names dealt at random everywhere",
        partial(_renamed, anywhere),
    ),
}
"""Name on the command line -> edit."""
