"""Of all that moves, how much is one constant shift, how much goes with the text, how much with the token?

Tokens of one text are alike, so a mean over ten texts of a thousand tokens is known from ten things and not from
ten thousand. The parts here are unbiased with texts as what is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows
from geometry.moments import check_state, positive_width

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class VarianceParts:
    """E|x|^2 = constant + between + within, each estimated without bias; a small one may come out negative.

    Attributes:
        n: number of rows.
        texts: number of texts.
        constant: |E x|^2, the mean being that of a random text.
        between: E|E[x | text] - E x|^2.
        within: E|x - E[x | text]|^2.
    """

    n: int
    texts: int
    constant: float
    between: float
    within: float

    @property
    def between_share(self) -> float | None:
        """Share of the variance that goes with the text (intraclass correlation); None where nothing varies.

        At most 1; slightly negative where the text does not matter.
        """
        variance = self.between + self.within
        return self.between / variance if variance > 0 else None

    @property
    def constant_share(self) -> float | None:
        """Share of E|x|^2 that is one constant shift, at most about 1; None where nothing moves."""
        energy = self.constant + self.between + self.within
        return self.constant / energy if energy > 0 else None


class TextSums:
    """Accumulates rows text by text: d + 5 numbers, however many texts.

    Args:
        width: the number of columns d.

    Raises:
        ShapeError: the width is not a positive whole number.

    Examples:
        Two texts, of two rows each: 0 and 2, then 10 and 12.

        >>> sums = TextSums(1)
        >>> sums.update([[0.0], [10.0], [2.0], [12.0]], ["first", "second", "first", "second"])
        >>> sums.answer()
        VarianceParts(n=4, texts=2, constant=11.0, between=49.0, within=2.0)
    """

    def __init__(self, width: int) -> None:
        self.width = positive_width(width)
        self._n, self._texts = 0, 0
        self._squares = 0.0  # sum of n_t^2
        self._mean = np.zeros(width)
        self._within = 0.0  # sum over rows of |x - mean of its text|^2
        self._between = 0.0  # sum over texts of n_t |mean of the text - mean|^2

    def update(self, x: ArrayLike, text: ArrayLike) -> None:
        """Add all rows of some texts; n may be 0.

        Args:
            x: observations in rows, shape (n, d).
            text: which text each row belongs to, any labels, shape (n,). A text must come whole in one call: in
                another call the same label is another text.

        Raises:
            ShapeError: another width, values that are not finite, or not one label for each row.
        """
        x, text = rows(x, "x", self.width), np.asarray(text)
        if text.shape != (len(x),):
            raise ShapeError(f"text: expected one label for each of {len(x)} rows, got shape {text.shape}")
        for label in np.unique(text):
            own = x[text == label]
            mean = own.mean(axis=0)
            self._add(len(own), 1, float(len(own)) ** 2, mean, float(np.sum((own - mean) ** 2)), 0.0)

    def merge(self, other: TextSums) -> None:
        """Add everything that another accumulator has seen of other texts; the other is left as it is.

        Args:
            other: sums of the same width.

        Raises:
            ShapeError: the widths differ.
        """
        if self.width != other.width:
            raise ShapeError(f"merge: widths {self.width} and {other.width} differ; merge like with like")
        if other._n:
            self._add(other._n, other._texts, other._squares, other._mean, other._within, other._between)

    def state(self) -> dict[str, NDArray]:
        """Everything as arrays: ``n``, ``texts``, ``squares``, ``mean``, ``within``, ``between``."""
        held = {"n": self._n, "texts": self._texts, "squares": self._squares, "mean": self._mean}
        held |= {"within": self._within, "between": self._between}
        return {name: np.array(value) for name, value in held.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> TextSums:
        """Make the accumulator whose ``state()`` this was.

        Args:
            state: what ``state()`` returned.

        Returns:
            An accumulator that continues where the other stopped.

        Raises:
            DataError: keys or shapes are not those of a state.
        """
        width = np.asarray(state.get("mean", ())).size
        shapes = dict.fromkeys(("n", "texts", "squares", "within", "between"), ())
        check_state(state, shapes | {"mean": (width,)})
        made = cls(width)
        made._n, made._texts = int(np.asarray(state["n"])), int(np.asarray(state["texts"]))
        made._mean = np.array(state["mean"], dtype=np.float64)
        for name in ("squares", "within", "between"):
            setattr(made, f"_{name}", float(np.asarray(state[name])))
        return made

    def answer(self) -> VarianceParts:
        """Split E|x|^2 as the one-way analysis of variance with texts of unequal length does.

        The estimators of Searle, Casella and McCulloch (1992, "Variance components", section 3.6), summed over
        coordinates. They take the rows of a text to be independent given the text; neighbouring tokens are a
        little more alike than that, which moves some of ``within`` to ``between``.

        Returns:
            The frozen parts.

        Raises:
            ShapeError: fewer than two texts, or no text of more than one row.
        """
        n, texts = self._n, self._texts
        if texts < 2 or n == texts:
            raise ShapeError(
                f"variance parts: {n} rows of {texts} texts; give two texts or more, some of several rows"
            )
        within = self._within / (n - texts)
        typical = (n - self._squares / n) / (texts - 1)
        between = (self._between / (texts - 1) - within) / typical
        noise = between * self._squares / n**2 + within / n
        return VarianceParts(n, texts, float(self._mean @ self._mean) - noise, between, within)

    def _add(
        self, n: int, texts: int, squares: float, mean: NDArray[np.float64], within: float, between: float
    ) -> None:
        total = self._n + n
        gap = mean - self._mean
        self._between += between + self._n * n / total * float(gap @ gap)
        self._within += within
        self._squares += squares
        self._mean = self._mean + gap * (n / total)
        self._n, self._texts = total, self._texts + texts
