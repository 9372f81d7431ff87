"""Exact moments of rows that stream by: the memory does not depend on how many there are.

An accumulator has four verbs: ``update`` with rows, ``merge`` with another accumulator, ``state`` (arrays
that can be written to disk, read back by ``from_state``) and ``answer``, which is frozen. An update *is* a
merge with the accumulator of the new rows, so any split of the data, in any order, on any number of
workers, gives the same answer up to rounding.

All sums are kept about the running mean (Chan, Golub and LeVeque 1983) and moved when the mean moves. A
coordinate of mean 1000, which language models have, therefore costs no digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import DataError, ShapeError, rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray


#: A difference of float64 sums that is this small beside them is zero.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class MomentStats:
    """Mean and covariance of rows.

    Attributes:
        n: number of rows.
        mean: shape (d,).
        cov: covariance about the mean, divisor n, shape (d, d).
    """

    n: int
    mean: NDArray[np.float64]
    cov: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PairedStats:
    """What two models do to the same tokens: moments of base rows x and of differences d = adapted - base.

    Attributes:
        n: number of paired rows.
        mean_base: E[x], shape (w,).
        mean_diff: E[d], shape (w,).
        cov_base: Cov(x), divisor n, shape (w, w).
        cov_diff: Cov(d), about its mean, divisor n, shape (w, w).
        cross: Cov(x, d), divisor n, shape (w, w); rows belong to x, columns to d.
        quartic: E[q q^T] for q = (|x|^2, x.d, |d|^2), x and d about their means, shape (3, 3). With it,
            squared covariances are estimated without bias (:func:`unbiased_square`).
        fourth_diff: E[|d|^4], d not centred.
    """

    n: int
    mean_base: NDArray[np.float64]
    mean_diff: NDArray[np.float64]
    cov_base: NDArray[np.float64]
    cov_diff: NDArray[np.float64]
    cross: NDArray[np.float64]
    quartic: NDArray[np.float64]
    fourth_diff: float

    @property
    def second_diff(self) -> NDArray[np.float64]:
        """E[d d^T], not centred, shape (w, w)."""
        return self.cov_diff + np.outer(self.mean_diff, self.mean_diff)

    @property
    def mean_adapted(self) -> NDArray[np.float64]:
        """E[y] of the adapted rows y = x + d, shape (w,)."""
        return self.mean_base + self.mean_diff

    @property
    def cov_adapted(self) -> NDArray[np.float64]:
        """Cov(y) of the adapted rows, divisor n, shape (w, w)."""
        return self.cov_base + (self.cross + self.cross.T) + self.cov_diff

    @property
    def cross_adapted(self) -> NDArray[np.float64]:
        """Cov(x, y) of base rows with adapted rows, divisor n, shape (w, w)."""
        return self.cov_base + self.cross

    @property
    def mean_square_diff(self) -> float:
        """E[|d|^2], the mean squared length of a difference, d not centred."""
        return float(np.trace(self.cov_diff) + self.mean_diff @ self.mean_diff)

    @property
    def mean_shift_share_unbiased(self) -> float:
        """Share of E[|d|^2] that is one constant shift, |E d|^2 / E|d|^2, the numerator without bias.

        At most 1; slightly negative where there is no shift; 0 where nothing changed at all.

        Raises:
            ShapeError: fewer than two rows.
        """
        if self.n < 2:
            raise ShapeError(f"mean shift: needs at least 2 rows, got {self.n}; give more text")
        energy = self.mean_square_diff
        noise = float(np.trace(self.cov_diff)) / (self.n - 1)
        return (float(self.mean_diff @ self.mean_diff) - noise) / energy if energy > 0 else 0.0


def unbiased_square(n: int, cross: ArrayLike, trace_product: float, quartic: float) -> float:
    """Estimate ||Cov(x, y)||_F^2 without bias from the moments of n independent rows.

    The plain ||cross||_F^2 is too large by about tr Cov(x) tr Cov(y) / n. This is the U-statistic HSIC_1
    with linear kernels (Song et al. 2012, "Feature selection via dependence maximization", eq. 5), which
    does not change when x or y is shifted, so that centred moments are all it needs. It can be negative.

    Args:
        n: number of rows, at least 4.
        cross: Cov(x, y), divisor n, shape (p, q).
        trace_product: tr Cov(x) * tr Cov(y), divisor n.
        quartic: E[|x|^2 |y|^2], x and y about their means.

    Returns:
        The estimate, in squared units of x times y; exactly 0 where it is no more than rounding.

    Raises:
        ShapeError: fewer than 4 rows.

    Examples:
        x and y independent signs, n = 6, which happen to have Cov = 1/3: the plain square says 1/9.

        >>> round(unbiased_square(6, [[1 / 3]], 1.0, 1.0), 12)
        -0.177777777778
    """
    if n < 4:
        raise ShapeError(f"unbiased estimate: needs at least 4 rows, got {n}; give more text")
    bias = quartic / (n - 2) - trace_product / ((n - 1) * (n - 2))
    found = float(n / (n - 3) * (np.sum(np.square(cross)) - bias))
    return found if abs(found) > ROUNDING * trace_product else 0.0


class Moments:
    """Accumulates the mean and covariance of rows of one width.

    Args:
        width: the number of columns d.

    Raises:
        ShapeError: the width is not a positive whole number.

    Examples:
        >>> halves = Moments(1), Moments(1)
        >>> halves[0].update([[1.0], [2.0]])
        >>> halves[1].update([[6.0]])
        >>> halves[0].merge(halves[1])
        >>> halves[0].answer()
        MomentStats(n=3, mean=array([3.]), cov=array([[4.66666667]]))
    """

    def __init__(self, width: int) -> None:
        self.width = positive_width(width)
        self._n = 0
        self._mean = np.zeros(width)
        self._scatter = np.zeros((width, width))

    def update(self, x: ArrayLike) -> None:
        """Add rows, shape (n, d); n may be 0.

        Args:
            x: observations in rows, any real dtype; summed in float64.

        Raises:
            ShapeError: another width, or values that are not finite.
        """
        x = rows(x, "x", self.width)
        if len(x):
            self.merge(self._of(x))

    def merge(self, other: Moments) -> None:
        """Add everything that another accumulator has seen; the other is left as it is.

        Args:
            other: moments of the same width.

        Raises:
            ShapeError: the widths differ.
        """
        _same_width(self.width, other.width)
        if other._n == 0:
            return
        total = self._n + other._n
        gap = other._mean - self._mean
        # the root keeps the sum symmetric to the last bit
        apart = gap * np.sqrt(self._n * other._n / total)
        self._scatter += other._scatter
        self._scatter += np.outer(apart, apart)
        self._mean = self._mean + gap * (other._n / total)
        self._n = total

    def state(self) -> dict[str, NDArray]:
        """Everything that is known, as arrays: ``n``, ``mean`` (d,), ``scatter`` (d, d)."""
        return {"n": np.array(self._n), "mean": self._mean.copy(), "scatter": self._scatter.copy()}

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> Moments:
        """Make the accumulator whose ``state()`` this was.

        Args:
            state: what ``state()`` returned.

        Returns:
            An accumulator that continues where the other stopped.

        Raises:
            DataError: keys or shapes are not those of a state.
        """
        width = np.asarray(state.get("mean", ())).size
        check_state(state, {"n": (), "mean": (width,), "scatter": (width, width)})
        made = cls(width)
        made._n, made._mean = int(np.asarray(state["n"])), np.array(state["mean"], dtype=np.float64)
        made._scatter = np.array(state["scatter"], dtype=np.float64)
        return made

    def answer(self) -> MomentStats:
        """Mean and covariance of the rows so far.

        Returns:
            The frozen moments; later updates do not change them.

        Raises:
            ShapeError: no rows yet.
        """
        _some(self._n)
        return MomentStats(self._n, self._mean.copy(), self._scatter / self._n)

    @classmethod
    def _of(cls, x: NDArray[np.float64]) -> Moments:
        made = cls(x.shape[1])
        made._n, made._mean = len(x), x.mean(axis=0)
        centred = x - made._mean
        made._scatter = centred.T @ centred
        return made


class PairedMoments:
    """Accumulates base rows and differences d = adapted - base of the same tokens.

    The difference is formed in float64 before any product: Cov(adapted) + Cov(base) - cross terms would
    lose it next to a large coordinate. Kept are the joint moments of (x, d), and the third and fourth
    moments of squared lengths that unbiased estimates need: 4 d^2 + 8 d + 10 numbers, however long the text.

    Args:
        width: the number of columns d.

    Raises:
        ShapeError: the width is not a positive whole number.

    Examples:
        >>> pairs = PairedMoments(1)
        >>> pairs.update([[1.0], [3.0]], [[1.5], [3.5]])
        >>> stats = pairs.answer()
        >>> stats.mean_diff, stats.cov_diff, stats.cov_adapted
        (array([0.5]), array([[0.]]), array([[1.]]))
        >>> stats.mean_shift_share_unbiased
        1.0
    """

    def __init__(self, width: int) -> None:
        self.width = positive_width(width)
        self._joint = Moments(2 * width)
        # sums of z q^T and q q^T, z = (x, d) and q = (|x|^2, x.d, |d|^2), all about the running mean
        self._cubic = np.zeros((2 * width, 3))
        self._quartic = np.zeros((3, 3))

    def update(self, base: ArrayLike, adapted: ArrayLike) -> None:
        """Add the rows of both models on the same tokens, both of shape (n, d); n may be 0.

        Args:
            base: rows of the base model.
            adapted: rows of the adapted model, token by token.

        Raises:
            ShapeError: shapes differ from each other or from the width, or values are not finite.
        """
        base = rows(base, "base", self.width)
        adapted = rows(adapted, "adapted", self.width)
        if base.shape != adapted.shape:
            raise ShapeError(f"adapted: expected {base.shape} like base, got {adapted.shape}")
        if len(base):
            self.merge(self._of(np.concatenate([base, adapted - base], axis=1)))

    def merge(self, other: PairedMoments) -> None:
        """Add everything that another accumulator has seen; the other is left as it is.

        Args:
            other: paired moments of the same width.

        Raises:
            ShapeError: the widths differ.
        """
        _same_width(self.width, other.width)
        if other._joint._n == 0:
            return
        total = self._joint._n + other._joint._n
        gap = other._joint._mean - self._joint._mean
        mine = self._moved(gap * (-other._joint._n / total))
        theirs = other._moved(gap * (self._joint._n / total))
        self._cubic, self._quartic = mine[0] + theirs[0], mine[1] + theirs[1]
        self._joint.merge(other._joint)

    @property
    def n(self) -> int:
        """Number of paired rows so far."""
        return self._joint._n

    def state(self) -> dict[str, NDArray]:
        """Everything that is known, as arrays: ``n``, ``mean``, ``scatter``, ``cubic``, ``quartic``."""
        return self._joint.state() | {"cubic": self._cubic.copy(), "quartic": self._quartic.copy()}

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> PairedMoments:
        """Make the accumulator whose ``state()`` this was.

        Args:
            state: what ``state()`` returned.

        Returns:
            An accumulator that continues where the other stopped.

        Raises:
            DataError: keys or shapes are not those of a state.
        """
        width = np.asarray(state.get("mean", ())).size // 2
        joint = {"n": (), "mean": (2 * width,), "scatter": (2 * width, 2 * width)}
        check_state(state, joint | {"cubic": (2 * width, 3), "quartic": (3, 3)})
        made = cls(width)
        made._joint = Moments.from_state({key: state[key] for key in joint})
        made._cubic = np.array(state["cubic"], dtype=np.float64)
        made._quartic = np.array(state["quartic"], dtype=np.float64)
        return made

    def answer(self) -> PairedStats:
        """Moments of base rows and differences so far.

        Returns:
            The frozen moments; later updates do not change them.

        Raises:
            ShapeError: no rows yet.
        """
        joint, w = self._joint.answer(), self.width
        about_zero = np.concatenate([np.zeros(w), joint.mean[w:]])
        return PairedStats(
            n=joint.n,
            mean_base=joint.mean[:w].copy(),
            mean_diff=joint.mean[w:].copy(),
            cov_base=joint.cov[:w, :w].copy(),
            cov_diff=joint.cov[w:, w:].copy(),
            cross=joint.cov[:w, w:].copy(),
            quartic=self._quartic / joint.n,
            fourth_diff=float(self._moved(about_zero)[1][2, 2]) / joint.n,
        )

    @classmethod
    def _of(cls, z: NDArray[np.float64]) -> PairedMoments:
        made = cls(z.shape[1] // 2)
        made._joint = Moments._of(z)
        centred = z - made._joint._mean
        x, d = np.split(centred, 2, axis=1)
        q = np.stack([np.einsum("nw,nw->n", f, g) for f, g in ((x, x), (x, d), (d, d))], axis=1)
        made._cubic, made._quartic = centred.T @ q, q.T @ q
        return made

    def _moved(self, by: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Cubic and quartic sums after every centred row z has become z + by.

        The products q are quadratic, so q(z + by) = q(z) + bend z + q(by), and the sums of z vanish.
        """
        scatter, n, w = self._joint._scatter, self._joint._n, self.width
        u, v = by[:w], by[w:]
        nothing = np.zeros(w)
        bend = np.array([np.r_[2 * u, nothing], np.r_[v, u], np.r_[nothing, 2 * v]])
        at = np.array([u @ u, u @ v, v @ v])
        sum_q = np.array([np.trace(block) for block in (scatter[:w, :w], scatter[:w, w:], scatter[w:, w:])])
        bent = scatter @ bend.T
        tilt = bend @ self._cubic + np.outer(at, sum_q)
        cubic = self._cubic + bent + np.outer(by, sum_q + n * at)
        return cubic, self._quartic + tilt + tilt.T + bend @ bent + n * np.outer(at, at)


def positive_width(width: int) -> int:
    """Check the width of an accumulator, and return it as an int.

    Raises:
        ShapeError: the width is not a positive whole number.
    """
    if not isinstance(width, (int, np.integer)) or width < 1:
        raise ShapeError(f"width: expected a whole number of columns, at least 1, got {width!r}")
    return int(width)


def _same_width(mine: int, other: int) -> None:
    if mine != other:
        raise ShapeError(f"merge: this accumulator has width {mine}, the other {other}; merge like with like")


def _some(n: int) -> None:
    if n == 0:
        raise ShapeError("moments: no rows yet; call update first")


def check_state(state: Mapping[str, ArrayLike], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that arrays are those that an accumulator's ``state()`` returned.

    Args:
        state: arrays by name.
        shapes: the shape of each that there must be.

    Raises:
        DataError: names or shapes are others.
    """
    if set(state) != set(shapes):
        raise DataError(f"state: expected {sorted(shapes)}, got {sorted(state)}; was it written by state()?")
    for key, shape in shapes.items():
        found = np.shape(state[key])
        if found != shape:
            raise DataError(f"state: {key} has shape {found}, expected {shape}; was it written by state()?")
