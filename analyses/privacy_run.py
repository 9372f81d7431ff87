"""PAPerBench on a model: personalisation and privacy by length of the context, by likelihood and as published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.digits import digits
from analyses.module_maps import percent
from analyses.report import FigureSpec, Section, TableSpec
from finetune.paper_bench import confusion, mark, paper_scores, trap_rates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from finetune.paper_bench import Instance

Facts = dict[str, Any]


def privacy_facts(
    sides: Callable[[], Iterator[tuple[str, nn.Module]]],
    tokenizer: PreTrainedTokenizerBase,
    groups: Mapping[str, Sequence[Instance]],
    *,
    progress: Callable[[str, float], None],
) -> Facts:
    """Ask every side all questions of all instances.

    Args:
        sides: gives the base, and the adapted model after it if there is one.
        tokenizer: of both.
        groups: name, such as a length, -> instances.
        progress: is told what is done, and the share.

    Returns:
        JSON values: ``groups`` (names), ``instances`` and ``sides``: for each side and group the ``scores`` of each
        area, the ``confusion`` of letters and the ``traps``.

    Raises:
        InputError: see :func:`finetune.paper_bench.mark`.
    """
    found: dict[str, list[Facts]] = {}
    for name, model in sides():
        found[name] = []
        for number, instances in enumerate(groups.values()):

            def told(share: float, name: str = name, number: int = number) -> None:
                progress(name, (number + share) / len(groups))

            marked = mark(model, tokenizer, instances, progress=told)
            scores = {
                area: {key: {**one.record(), "value": float(one.value)} for key, one in numbers.items()}
                for area, numbers in paper_scores(marked).items()
            }
            found[name].append({
                "scores": scores,
                "confusion": confusion(marked),
                "traps": trap_rates(marked),
            })
    return {
        "groups": list(groups),
        "instances": [len(instances) for instances in groups.values()],
        "sides": found,
    }


def privacy_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence each."""
    claims = []
    for name, groups in facts["sides"].items():
        for area, last in groups[-1]["scores"].items():
            claims.append(
                f"`{name}`, {area}, {facts['groups'][-1]}: {_span(last['likelihood'])} right by likelihood, "
                f"{_span(last['blind'])} without the context, {percent(last['chance']['value'])} by chance. The "
                f"published reading of what is written gives {_span(last['published'])}; "
                f"{_span(last['invalid'])} of the written answers are none."
            )
    return tuple(claims)


def privacy_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings."""
    areas = list(next(iter(facts["sides"].values()))[0]["scores"])
    return (*(_area(facts, area) for area in areas), _letters(facts))


def _area(facts: Facts, area: str) -> Section:
    rows = [
        (name, group, *(one["scores"][area][key] | {"n": None} for key in
                        ("likelihood", "blind", "gain", "published", "strict", "invalid")))
        for name, groups in facts["sides"].items()
        for group, one in zip(facts["groups"], groups, strict=True)
    ]  # fmt: skip
    series = [
        {
            "name": name,
            **{key: [one["scores"][area]["gain"][of] for one in groups] for key, of in
               (("values", "value"), ("low", "low"), ("high", "high"))},
        }
        for name, groups in facts["sides"].items()
    ]  # fmt: skip
    return Section(
        area.capitalize(),
        (
            "Letters are scored by their likelihood after the question. Without context: the same question alone, "
            "which is the floor; the gain is the difference, paired. As published: the first of the letters A to E "
            "that stands alone in what is written, in either case, so that the article counts as A. Strict: an "
            "answer that is a letter; all others are invalid.",
        ),
        figures=(
            FigureSpec(
                f"gain-{area}",
                "bars",
                "What the context adds to the share of right answers, with 95 % intervals over instances.",
                {"groups": facts["groups"], "series": series, "y_label": "share right, less without context"},
            ),
        ),
        tables=(
            TableSpec(
                f"Shares of questions, mean over instances; {digits(facts['instances'][0])} instances a group.",
                ("side", "context", "right", "without context", "gain", "as published", "strict", "invalid"),
                tuple(rows),
            ),
        ),
    )


def _letters(facts: Facts) -> Section:
    figures, tables = [], []
    for number, (name, groups) in enumerate(facts["sides"].items(), 1):
        counts = groups[-1]["confusion"]
        figures.append(
            FigureSpec(
                f"letters-{number}",
                "heat",
                f"{name}, {facts['groups'][-1]}: right letter against likeliest letter, numbers of questions. A "
                "column that is full is a favourite letter, not knowledge.",
                {
                    "values": [list(row.values()) for row in counts.values()],
                    "rows": list(counts),
                    "columns": list(counts),
                    "label": "questions",
                    "low": 0,
                    "x_label": "likeliest",
                    "y_label": "right",
                },
            )
        )
        for group, one in zip(facts["groups"], groups, strict=True):
            tables += [(name, group, kind, share) for kind, share in one["traps"].items()]
    traps = TableSpec(
        "Personalisation: which kind of draft is the likeliest.",
        ("side", "context", "kind", "share"),
        tuple(tables),
    )
    return Section(
        "Letters and traps",
        ("A model that favours a letter is right in one question of five whatever it read.",),
        figures=tuple(figures),
        tables=(traps,) if tables else (),
    )


def _span(record: Facts) -> str:
    if record["low"] is None:
        return percent(record["value"])
    return f"{percent(record['value'])} [{percent(record['low'])}, {percent(record['high'])}]"
