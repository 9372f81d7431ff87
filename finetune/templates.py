"""Prompts as data: a task, solved examples, notes on terms, and the question last.

A template is four texts with gaps. Those that ship are in ``data/prompts.yaml``; anybody's own is a YAML file
of the same form. The question comes last: Liu & Koehn (arXiv 2602.15013) found that it must.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Self

from finetune.prompts import one_line
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

SHIPPED = Path(__file__).with_name("data") / "prompts.yaml"
"""The templates that ship."""

_GAPS = {
    "task": {"style"},
    "example": {"style", "source", "target"},
    "note": {"style", "term", "styled"},
    "query": {"style", "source"},
}
_NEEDED = {"task": set(), "example": {"source", "target"}, "note": {"term", "styled"}, "query": {"source"}}


@dataclass(frozen=True)
class Template:
    """Four texts with gaps in braces, from which a prompt is put together.

    Attributes:
        task: opens the prompt; may have ``{style}``.
        example: a solved pair, with ``{source}`` and ``{target}``.
        note: a term, with ``{term}`` and ``{styled}``.
        query: the question, with ``{source}``; ends where the answer begins, without white space.

    Raises:
        DataError: a text has another gap, lacks one, or the query ends in white space.
    """

    task: str
    example: str
    note: str
    query: str

    def __post_init__(self) -> None:
        """Check the gaps."""
        for part, allowed in _GAPS.items():
            found = _gaps(getattr(self, part), part)
            if not _NEEDED[part] <= found <= allowed:
                raise DataError(
                    f"prompt: {part} has the gaps {sorted(found)}; it needs {sorted(_NEEDED[part])} and may have "
                    f"{sorted(allowed)}"
                )
        if self.query != self.query.rstrip():
            raise DataError("prompt: query ends in white space; the answer brings its own")

    @classmethod
    def named(cls, name: str, path: str | Path = SHIPPED) -> Self:
        r"""Read a template.

        Args:
            name: of the template in its file.
            path: a YAML file of templates by name.

        Returns:
            The template.

        Raises:
            DataError: the file cannot be read, has no such template, or the template is not one.

        Examples:
            >>> Template.named("registers").render("It rained.", style="Ornate")
            'General: It rained.\nOrnate:'
        """
        import yaml

        try:
            known = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DataError(f"{path}: cannot be read as YAML; give a file of prompts by name") from error
        if not isinstance(known, dict) or name not in known:
            names = ", ".join(map(str, known)) if isinstance(known, dict) else "none"
            raise DataError(f"{path}: has no prompt '{name}'; it has {names}")
        parts = known[name]
        wanted = [part.name for part in fields(cls)]
        if not isinstance(parts, dict) or sorted(parts) != sorted(wanted) or not all(
            isinstance(text, str) for text in parts.values()
        ):  # fmt: skip
            raise DataError(f"{path}: the prompt '{name}' must have the texts {', '.join(wanted)}")
        return cls(**parts)

    def render(
        self,
        source: str,
        examples: Sequence[tuple[str, str]] = (),
        terms: Sequence[tuple[str, str]] = (),
        *,
        style: str = "",
    ) -> str:
        r"""Write a prompt.

        Args:
            source: the text to rewrite, folded to one line like all others.
            examples: (source, target) texts of solved pairs, shown in this order.
            terms: (plain, styled) words to be reminded of; they come between examples and question.
            style: what the style is called.

        Returns:
            The prompt; braces inside the texts stay what they are.

        Examples:
            >>> Template.named("plain").render("It {rained}.", [("Go.", "Depart!")])
            'Input: Go.\nOutput: Depart!\n\nInput: It {rained}.\nOutput:'
        """
        shown = [
            self.example.format(style=style, source=one_line(s), target=one_line(t)) for s, t in examples
        ]
        told = [self.note.format(style=style, term=one_line(w), styled=one_line(v)) for w, v in terms]
        asked = self.query.format(style=style, source=one_line(source))
        return "".join([self.task.format(style=style), *shown, *told, asked])


def _gaps(text: str, part: str) -> set[str]:
    try:
        pieces = list(Formatter().parse(text))
    except ValueError as error:
        raise DataError(
            f"prompt: {part} has a brace without its partner; double it to mean a brace"
        ) from error
    for _, gap, form, conversion in pieces:
        if form or conversion or (gap is not None and not gap.isidentifier()):
            raise DataError(f"prompt: {part} has the gap {{{gap}}}; a gap is one word, such as {{source}}")
    return {gap for _, gap, _, _ in pieces if gap is not None}
