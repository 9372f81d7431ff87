"""Words that a style says in its own way, learnt from pairs alone: terms, names, and plain substitutions.

A plain word that its sentence's styled side does not repeat was said otherwise there. Which styled word stands
for it is told by association: over all pairs, the two occur together far more often than chance has it
(log-likelihood ratio, Dunning 1993), and each is the other's strongest partner (competitive linking, Melamed
2000). Nothing is taken that could be chance among all the pairs of words that were looked at.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Protocol

import numpy as np

from finetune.entities import WORD, names, words
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from finetune.pairs import Pair


_NEARLY_ALWAYS = 0.75
"""Share of a styled word's occurrences with one neighbour from which the two are a phrase."""


@dataclass(frozen=True)
class Term:
    """A plain word and what the style says for it.

    Attributes:
        source: the plain word, in lower case.
        target: the styled word or phrase of up to three words, in lower case, or as written for a name.
        together: pairs in which the one is replaced by the other.
        sources: pairs whose plain side has the word.
        targets: pairs whose styled side has the other and whose plain side has not.
        ratio: log-likelihood ratio of the association, 2 ln of likelihoods.
        name: whether the plain word is written as a name is.
    """

    source: str
    target: str
    together: int
    sources: int
    targets: int
    ratio: float
    name: bool

    @property
    def share(self) -> float:
        """Share of the plain sides with the word whose styled side says the other."""
        return self.together / self.sources


class TermFinder(Protocol):
    """Finds terms in pairs; :func:`associations` does it by counting, a language model may do it too."""

    def __call__(self, pairs: Sequence[Pair]) -> Sequence[Term]:
        """Return the terms of the pairs."""
        ...


def associations(pairs: Sequence[Pair], *, least: int = 3, level: float = 0.01) -> tuple[Term, ...]:
    """Find which plain words the style replaces by which.

    Args:
        pairs: plain and styled texts.
        least: pairs in which a replacement must be seen.
        level: chance of any false find among all the pairs of words that are looked at (Bonferroni over
            the ratio's chi-squared law with one degree of freedom).

    Returns:
        Terms by falling ratio; each plain word and each styled word at most once.

    Raises:
        DataError: there are no pairs.

    Examples:
        >>> from finetune.pairs import Pair
        >>> said = [("before noon", "ere noon"), ("before he came", "ere he came"), ("he came", "he came")] * 9
        >>> pairs = [Pair(str(i), "d", s, t) for i, (s, t) in enumerate(said)]
        >>> [(t.source, t.target, t.together, t.sources) for t in associations(pairs)]
        [('before', 'ere', 18, 18)]
    """
    if not pairs:
        raise DataError("terms need pairs to be learnt from; give at least one")
    sides = [(Counter(words(p.source)), Counter(words(p.target))) for p in pairs]
    has = Counter(word for plain, _ in sides for word in plain)
    lost = [sorted(plain - styled) for plain, styled in sides]
    new = [sorted(styled.keys() - plain.keys()) for plain, styled in sides]
    gained = Counter(word for some in new for word in some)
    both = Counter(pair for a, b in zip(lost, new, strict=True) for pair in product(a, b))
    candidates = [pair for pair, n in both.items() if n >= least]
    if not candidates:
        return ()
    away = Counter(word for some in lost for word in some)
    table = np.array([[both[s, t], away[s], gained[t]] for s, t in candidates], dtype=np.float64)
    ratios = _log_likelihood_ratios(*table.T, len(pairs))
    linked = _linked(candidates, ratios, _bound(level / len(both)))
    written = _spellings(pairs)
    phrases = _phrases(pairs, {source: target for source, target, _ in linked})
    return tuple(
        Term(
            source, written.get(target, target) if source in written else phrases[source],
            both[source, target], has[source], gained[target], ratio, source in written,
        )
        for source, target, ratio in linked
    )  # fmt: skip


@dataclass(frozen=True)
class TermBank:
    """Terms to be told of when they occur in a text: rare words and names.

    Attributes:
        terms: of a :class:`TermFinder`.
    """

    terms: tuple[Term, ...]

    @classmethod
    def learnt(
        cls, pairs: Sequence[Pair], *, finder: TermFinder = associations, rare: float = 0.02
    ) -> TermBank:
        """Keep the terms that are names, or rare enough for a reminder to be worth its place.

        Args:
            pairs: the training pairs.
            finder: how terms are found.
            rare: share of the pairs, at most, that have the plain word.

        Returns:
            The bank.
        """
        most = rare * len(pairs)
        return cls(tuple(t for t in finder(pairs) if t.name or t.sources <= most))

    def occurring(self, text: str, *, most: int = 5) -> tuple[Term, ...]:
        """List the terms that a text has, the most certain first.

        Args:
            text: what is to be rewritten.
            most: how many at most.

        Returns:
            Terms in falling order of how often they hold.
        """
        has = set(words(text))
        held = [term for term in self.terms if term.source in has]
        return tuple(sorted(held, key=lambda t: (-t.share, -t.together))[:most])


@dataclass(frozen=True)
class Substitutions:
    """The rule baseline: every plain word that the style mostly replaces is replaced, nothing else.

    Attributes:
        terms: those that are applied.
    """

    terms: tuple[Term, ...]
    _by_word: dict[str, str] = field(repr=False)

    @classmethod
    def learnt(
        cls, pairs: Sequence[Pair], *, finder: TermFinder = associations, share: float = 0.5
    ) -> Substitutions:
        """Keep the replacements that hold for most occurrences.

        Args:
            pairs: the training pairs.
            finder: how terms are found.
            share: of the plain sides with the word, the least that must have it replaced.

        Returns:
            The rules.
        """
        kept = tuple(term for term in finder(pairs) if term.share >= share)
        return cls(kept, {term.source: term.target for term in kept})

    def __call__(self, text: str) -> str:
        """Replace the words of a text; a capital at the front of a word stays one.

        Examples:
            >>> rule = Term("before", "ere", 9, 9, 9, 50.0, False)
            >>> Substitutions((rule,), {"before": "ere"})("Before noon, long before.")
            'Ere noon, long ere.'
        """

        def replaced(match: re.Match[str]) -> str:
            new = self._by_word.get(match[0].lower())
            return match[0] if new is None else new[:1].upper() + new[1:] if match[0][0].isupper() else new

        return WORD.sub(replaced, text)


def _linked(
    candidates: Sequence[tuple[str, str]], ratios: NDArray[np.float64], bound: float
) -> list[tuple[str, str, float]]:
    """Take the strongest pair of words, then the strongest of the words that are left, and so on."""
    linked, sources, targets = [], set(), set()
    for i in np.argsort(-ratios, kind="stable"):
        source, target = candidates[i]
        if ratios[i] >= bound and source not in sources and target not in targets:
            linked.append((source, target, float(ratios[i])))
            sources.add(source)
            targets.add(target)
    return linked


def _phrases(pairs: Sequence[Pair], linked: dict[str, str]) -> dict[str, str]:
    """Add to a styled word the new word that nearly always stands before or after it, as in "made answer"."""
    beside: dict[str, tuple[Counter[str], Counter[str]]] = {
        source: (Counter(), Counter()) for source in linked
    }
    seen: Counter[str] = Counter()
    for pair in pairs:
        plain, styled = words(pair.source), words(pair.target)
        for source in {word for word in plain if word in linked} - set(styled):
            if linked[source] in styled and linked[source] not in plain:
                at = styled.index(linked[source])
                seen[source] += 1
                for side, near in zip(
                    beside[source], (styled[max(0, at - 1) : at], styled[at + 1 : at + 2]), strict=True
                ):
                    side.update(set(near) - set(plain))
    phrases = {}
    for source, target in linked.items():
        before, after = (
            [word for word, n in side.most_common(1) if n >= _NEARLY_ALWAYS * seen[source]]
            for side in beside[source]
        )
        phrases[source] = " ".join([*before, target, *after])
    return phrases


def _spellings(pairs: Sequence[Pair]) -> dict[str, str]:
    """Words that are written as names wherever they stand inside a sentence: lower case -> as written."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    common: Counter[str] = Counter()
    for pair in pairs:
        for text in (pair.source, pair.target):
            for name, n in names(text).items():
                seen[name.lower()][name] += n
            common.update(word for word in WORD.findall(text) if word[:1].islower())
    return {low: forms.most_common(1)[0][0] for low, forms in seen.items() if not common[low]}


def _log_likelihood_ratios(together: NDArray, first: NDArray, second: NDArray, n: int) -> NDArray[np.float64]:
    """Dunning's G² of 2 x 2 tables; 0 where the two occur together less often than by chance."""
    cells = np.stack([together, first - together, second - together, n - first - second + together])
    margins = np.stack([first, n - first, second, n - second])
    expected = np.stack([
        margins[0] * margins[2], margins[0] * margins[3], margins[1] * margins[2], margins[1] * margins[3]
    ]) / n  # fmt: skip
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(cells > 0, cells * np.log(cells / expected), 0.0)
    return np.where(together > expected[0], 2 * terms.sum(axis=0), 0.0)


def _bound(level: float) -> float:
    from scipy.stats import chi2

    return float(chi2.isf(level, 1))
