"""Needles by length and depth: what a model answers, what it attends to, and what an adapter changes of both.

The same prompts stand at every length and depth, so that every difference is paired: a longer context is the shorter
one with more filler, and another depth is the same text with the needle moved. The floor of an accuracy is the same
question over the same filler without its needles.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.asked import Reply, ask, read_answer
from finetune.causal import context_length
from finetune.needle_attention import NeedleAttention, needle_attention
from finetune.needle_layout import Arrangement, Place, fitted, lay_out, without_needles
from geometry.checks import DataError
from geometry.focus import ends_over_middle, lift, odds_slope, rival_margin, sink_share
from geometry.over_prompts import Estimate, discoveries, flipped_signs, mean_over_prompts, share_of_prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from finetune.needle_layout import Case, Question

    Array = NDArray[np.float64]
    Side = tuple[str, nn.Module]

LEAST_LENGTHS = 2
"""Fewest lengths that have a slope."""
FLIPS = 10_000
RATE = 0.05
"""Expected share of false ones among the heads that are named."""


@dataclass(frozen=True)
class NeedleRequest:
    """What to ask.

    Attributes:
        cases: one a prompt.
        lengths: tokens of a context, ascending; or pieces, where ``pieces`` is set.
        depths: shares of the filler before the first needle, ascending.
        spacing: see :class:`finetune.needle_layout.Arrangement`.
        question: where it stands.
        write: most tokens of a written answer; 0 asks for none.
        pieces: whether lengths are numbers of pieces (documents, records), needles among them.
        seed: of the sign flips.
    """

    cases: tuple[Case, ...]
    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    spacing: float = 0.0
    question: Place = Place.last
    write: int = 16
    pieces: bool = False
    seed: int = 0

    def arrangements(self) -> list[Arrangement]:
        """One a depth."""
        return [Arrangement(depth, self.spacing, self.question) for depth in self.depths]


@dataclass(frozen=True, eq=False)
class Grid:
    """One side's replies and attention.

    Attributes:
        replies: (length, depth, prompt) replies.
        blind: (length, prompt) replies without the needles.
        attention: (length, depth, prompt) attention.
    """

    replies: list[list[list[Reply]]]
    blind: list[list[Reply]]
    attention: list[list[list[NeedleAttention]]]

    def numbers(self, name: str) -> Array:
        """One number of the attention, (prompt, length, depth, layer, head)."""
        found = [[[getattr(one, name) for one in cell] for cell in row] for row in self.attention]
        return np.moveaxis(np.array(found, np.float64), 2, 0)


def needle_facts(
    sides: Callable[[], Iterator[Side]],
    tokenizer: PreTrainedTokenizerBase,
    request: NeedleRequest,
    *,
    progress: Callable[[str, float], None],
) -> dict[str, Any]:
    """Ask every side all questions.

    Args:
        sides: gives the base, and the adapted model after it if there is one; each is used before the next comes.
        tokenizer: of both.
        request: what to ask.
        progress: is told what is done, and the share.

    Returns:
        JSON values: ``prompts``, ``lengths``, ``depths``, ``unit``, ``trained_length``, ``layers``, ``heads``,
        ``options``, ``examples``, ``sides`` (a record of each) and ``change`` (None without an adapter).

    Raises:
        DataError: no prompt; lengths or depths not ascending; a length that the needles alone exceed, that the
            filler does not reach or that the position table ends before; a span that does not survive tokenisation.
        ModelError: see :func:`finetune.asked.ask` and :func:`finetune.needle_attention.needle_attention`.
    """
    _require(request)
    grids: dict[str, Grid] = {}
    made = None
    for number, (name, model) in enumerate(sides()):
        made = made or _questions(request, tokenizer)
        trained = context_length(model)
        grids[name] = _grid(
            model, tokenizer, made, request.write, lambda share, name=name: progress(name, share)
        )
        assert number < 2, "two sides at most"
    questions, _ = made
    first = next(iter(grids.values()))
    return {
        "prompts": len(request.cases),
        "lengths": list(request.lengths),
        "depths": list(request.depths),
        "unit": "pieces" if request.pieces else "tokens",
        "question": request.question.value,
        "spacing": request.spacing,
        "write": request.write,
        "trained_length": trained,
        "tokens": [[float(np.mean([r.tokens for r in cell])) for cell in row] for row in first.replies],
        "pieces": [[float(np.mean([q.pieces for q in cell])) for cell in row] for row in questions],
        "rivals": [[float(np.mean([q.rivals for q in cell])) for cell in row] for row in questions],
        "layers": list(first.attention[0][0][0].layers),
        "heads": first.attention[0][0][0].mass.shape[1],
        "options": len(request.cases[0].foils) + 1,
        "sides": {name: _side(grid, questions, request) for name, grid in grids.items()},
        "change": _change(*grids.values(), request) if len(grids) == 2 else None,
    }


def _require(request: NeedleRequest) -> None:
    if not request.cases:
        raise DataError("needle: no prompt; ask for one or more")
    for name in ("lengths", "depths"):
        given = getattr(request, name)
        if not given or list(given) != sorted(set(given)):
            raise DataError(
                f"{name}: expected ascending numbers, each once, got {', '.join(map(str, given))}"
            )


def _questions(
    request: NeedleRequest, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[list[list[Question]]], list[list[Question]]]:
    """(length, depth, prompt) questions, and (length, prompt) those without needles."""
    places = request.arrangements()
    shown, blind = [], []
    for length in request.lengths:
        fills = [_fill(case, length, places, request, tokenizer) for case in request.cases]
        pairs = list(zip(request.cases, fills, strict=True))
        shown.append([[lay_out(case, fill, place) for case, fill in pairs] for place in places])
        blind.append([without_needles(case, fill, places[0]) for case, fill in pairs])
    return shown, blind


def _fill(
    case: Case,
    length: int,
    places: Sequence[Arrangement],
    request: NeedleRequest,
    tokenizer: PreTrainedTokenizerBase,
) -> int:
    if not request.pieces:
        return fitted(case, places, tokenizer, length)
    if length < len(case.needles):
        raise DataError(f"pieces {length}: there are {len(case.needles)} needles; ask for as many at least")
    return length - len(case.needles)


def _grid(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    made: tuple[list[list[list[Question]]], list[list[Question]]],
    write: int,
    told: Callable[[float], None],
) -> Grid:
    questions, blind = made
    cells = 2 * sum(map(len, questions)) + len(blind)
    done = itertools.count(1)

    def replies(asked: Sequence[Question], most: int) -> list[Reply]:
        found = ask(model, tokenizer, [(q.prompt, q.options) for q in asked], write=most)
        told(next(done) / cells)
        return found

    def seen(asked: Sequence[Question]) -> list[NeedleAttention]:
        found = [needle_attention(model, tokenizer, question) for question in asked]
        told(next(done) / cells)
        return found

    answered = [[replies(cell, write) for cell in row] for row in questions]
    unseen = [replies(row, 0) for row in blind]
    attention = [[seen(cell) for cell in row] for row in questions]
    return Grid(answered, unseen, attention)


def _side(grid: Grid, questions: list[list[list[Question]]], request: NeedleRequest) -> dict[str, Any]:
    hits = _hits(grid)
    read = [
        [
            [read_answer(reply.written, [q.answer], q.foils) for reply, q in zip(replies, cell, strict=True)]
            for replies, cell in zip(row, line, strict=True)
        ]
        for row, line in zip(grid.replies, questions, strict=True)
    ]
    correct, invalid = (
        np.moveaxis(
            np.array([[[getattr(r, name) for r in cell] for cell in row] for row in read], float), 2, 0
        )
        for name in ("correct", "invalid")
    )
    blind = np.array([[reply.chosen == 0 for reply in row] for row in grid.blind], float).T
    facts = {
        "accuracy": share_of_prompts(hits).record(),
        "blind": share_of_prompts(blind).record(),
        "gain": mean_over_prompts(hits.mean(axis=2) - blind).record(),
        "margin": mean_over_prompts(_margins(grid)).record(),
        "written": share_of_prompts(correct).record() if request.write else None,
        "invalid": share_of_prompts(invalid).record() if request.write else None,
        **_attention_facts(grid, request),
    }
    if len(request.depths) > 2:
        facts["ends"] = {
            name: dict(zip(("primacy", "recency"), (mean_over_prompts(x).record() for x in ends_over_middle(values)),
                           strict=True))
            for name, values in (("accuracy", hits), ("lift", _lifts(grid).mean(axis=(-2, -1))))
        }  # fmt: skip
    return facts


def _attention_facts(grid: Grid, request: NeedleRequest) -> dict[str, Any]:
    mass, sink = grid.numbers("mass"), grid.numbers("sink")
    lifts = _lifts(grid)
    retrieved = None
    if all(one.retrieved is not None for row in grid.attention for cell in row for one in cell):
        retrieved = mean_over_prompts(grid.numbers("retrieved").mean(axis=(1, 2))).record()
    margin = None
    if all(
        one.rivals is not None and one.rivals.all() for row in grid.attention for cell in row for one in cell
    ):
        keys = (grid.numbers(name)[..., None] for name in ("needle_keys", "rival_keys"))
        margins = rival_margin(mass, grid.numbers("rivals"), *keys)
        margin = mean_over_prompts(margins.mean(axis=(1, 2))).record() if np.isfinite(margins).all() else None
    return {
        "mass": mean_over_prompts(mass.mean(axis=(-2, -1))).record(),
        "largest_mass": mean_over_prompts(mass.max(axis=(-2, -1))).record(),
        "lift": mean_over_prompts(lifts.mean(axis=(-2, -1))).record(),
        "head_lift": mean_over_prompts(lifts.mean(axis=(1, 2))).record(),
        "value_mass": mean_over_prompts(grid.numbers("value_mass").mean(axis=(-2, -1))).record(),
        "signal": mean_over_prompts(grid.numbers("signal").mean(axis=(-2, -1))).record(),
        "by_length": {
            name: mean_over_prompts(values.mean(axis=(2, 3, 4))).record()
            for name, values in (
                ("mass", mass),
                ("lift", lifts),
                *((key, grid.numbers(key)) for key in ("value_mass", "signal")),
            )
        },
        "sink": mean_over_prompts(sink.mean(axis=(2, 4))).record(),
        "sink_share": mean_over_prompts(sink_share(sink.mean(axis=(1, 2))).mean(axis=-1)).record(),
        "retrieved": retrieved,
        "rival_margin": margin,
        "odds_slope": _slopes(grid, request),
    }


def _slopes(grid: Grid, request: NeedleRequest) -> dict[str, Any] | None:
    """Slopes of each head's log-odds over lengths; None in a window, or with one length.

    Heads are counted by their mean over depths, and again (``fixed``) at the one depth at which the needle keeps its
    distance: the last, where the question comes after it.
    """
    odds = grid.numbers("log_odds")
    if len(request.lengths) < LEAST_LENGTHS or not np.isfinite(odds).all():
        return None
    seen = (np.moveaxis(grid.numbers(name), 1, -1)[..., None, :] for name in ("visible", "needle_keys"))
    slopes = odds_slope(*seen, np.moveaxis(odds, 1, -1))  # (prompt, depth, layer, head)
    still = request.depths[-1] == 1 and request.question is Place.last
    return {
        **_against_theory(slopes.mean(axis=1)),
        "by_depth": mean_over_prompts(slopes.mean(axis=(-2, -1))).record(),
        "fixed": _against_theory(slopes[:, -1]) if still else None,
    }


def _against_theory(slopes: Array) -> dict[str, Any]:
    """Slopes (prompt, layer, head), and how many heads lie surely on either side of -1."""
    mean = mean_over_prompts(slopes)
    return {
        **mean.record(),
        "mean": mean_over_prompts(slopes.mean(axis=(-2, -1))).record(),
        "faster": int(np.sum(mean.high < -1)),
        "slower": int(np.sum(mean.low > -1)),
    }


def _change(base: Grid, adapted: Grid, request: NeedleRequest) -> dict[str, Any]:
    rng = np.random.default_rng(request.seed)
    hits = _hits(adapted) - _hits(base)
    records = {"accuracy": _paired(hits.mean(axis=(1, 2)), rng), "margin": _paired(
        (_margins(adapted) - _margins(base)).mean(axis=(1, 2)), rng)}  # fmt: skip
    for name in ("mass", "sink"):
        moved = (adapted.numbers(name) - base.numbers(name)).mean(axis=(1, 2))
        p = flipped_signs(moved, FLIPS, rng)
        picked = discoveries(p, RATE)
        records[name] = {
            **mean_over_prompts(moved).record(),
            "p": p.tolist(),
            "picked": picked.tolist(),
            "gaining": int(np.sum(picked & (moved.mean(axis=0) > 0))),
            "losing": int(np.sum(picked & (moved.mean(axis=0) < 0))),
            "least_p": 2.0 ** (1 - len(moved)) if len(moved) <= 12 else 1 / (FLIPS + 1),
        }
    return records


def _paired(differences: Array, rng: np.random.Generator) -> dict[str, Any]:
    found: Estimate = mean_over_prompts(differences)
    return {**found.record(), "p": float(flipped_signs(differences, FLIPS, rng))}


def _hits(grid: Grid) -> Array:
    """(prompt, length, depth), whether the answer is the likeliest option."""
    chosen = [[[reply.chosen == 0 for reply in cell] for cell in row] for row in grid.replies]
    return np.moveaxis(np.array(chosen, float), 2, 0)


def _margins(grid: Grid) -> Array:
    """(prompt, length, depth), log-likelihood of the answer less that of the best foil, nats."""
    margins = [
        [[reply.likelihoods[0] - max(reply.likelihoods[1:]) for reply in cell] for cell in row]
        for row in grid.replies
    ]
    return np.moveaxis(np.array(margins, float), 2, 0)


def _lifts(grid: Grid) -> Array:
    return lift(
        grid.numbers("mass"), grid.numbers("needle_keys")[..., None], grid.numbers("visible")[..., None]
    )
