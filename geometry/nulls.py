"""The floor under every number: what chance gives, and what may be said about a number beside it.

Two kinds of floor. Closed forms for uniformly random (Haar) subspaces say what geometry alone gives; they
are far too low for real networks, in which random adapters already overlap. Samples, from random adapters
with the same singular values (:func:`matched_random`), from subspaces that follow the activations
(:func:`activation_shaped_overlaps`), from permuted documents or from a second run of the same model, go
through the same measurement as the observed number and into :func:`null_of`. Where many layers are looked
at, :func:`geometry.familywise.max_over` pays for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from geometry.checks import ShapeError
from geometry.spectra import LowRank, spectrum

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Verdict = Literal["above", "not distinguishable", "below"]


@dataclass(frozen=True)
class Null:
    """A number and what it would be if there were nothing to see.

    Attributes:
        observed: the number itself.
        mean: mean of the null samples.
        sd: standard deviation of the null samples, divisor n - 1.
        p: share of null samples at least as large, (1 + #{sample >= observed}) / (1 + n), in (0, 1].
        n: number of null samples, at least 2.
    """

    observed: float
    mean: float
    sd: float
    p: float
    n: int

    @property
    def band(self) -> tuple[float, float]:
        """Where one more null sample falls with 95 % probability, if they are normal (low, high).

        mean -+ t sqrt(1 + 1/n) sd with Student's t of n - 1 degrees of freedom. Three samples, with which no
        p is below 1/4, make a band of five standard deviations to each side: wide, and honest.
        """
        from scipy.special import stdtrit

        half = float(stdtrit(self.n - 1, 0.975)) * float(np.sqrt(1 + 1 / self.n)) * self.sd
        return self.mean - half, self.mean + half

    def verdict(self) -> Verdict:
        """What may be said: ``above`` or ``below`` the null where the number leaves the band.

        Returns:
            ``above``, ``below`` or ``not distinguishable``. A number that is not distinguishable may still
            differ; never read it as "the same".

        Examples:
            >>> null_of(9.0, [1.0, 1.2, 0.8]).verdict()
            'above'
            >>> null_of(1.9, [1.0, 1.2, 0.8]).verdict()
            'not distinguishable'
        """
        low, high = self.band
        rounding = 1e-12 * max(abs(self.observed), abs(self.mean))
        if self.observed > high + rounding:
            return "above"
        return "below" if self.observed < low - rounding else "not distinguishable"


def null_of(observed: float, samples: ArrayLike) -> Null:
    """Put a number beside null samples that were measured in the same way.

    The p value counts the observed number among the samples (Phipson and Smyth 2010), so it is never 0, and
    under the null it is below any level a with probability at most a.

    Args:
        observed: the number; large means that there is something to see.
        samples: null values of it, at least 2, shape (n,).

    Returns:
        The number with its null.

    Raises:
        ShapeError: fewer than 2 samples, not a vector, or a value that is not finite.

    Examples:
        >>> null_of(4.0, [1.0, 2.0, 3.0])
        Null(observed=4.0, mean=2.0, sd=1.0, p=0.25, n=3)
    """
    samples = _samples(observed, samples)
    p = _share_beyond(samples >= observed)
    return Null(float(observed), float(samples.mean()), float(samples.std(ddof=1)), p, len(samples))


def p_two_sided(observed: float, samples: ArrayLike) -> float:
    """How rarely null samples are as far out as a number on its side, both sides counted.

    Twice the smaller of the two one-sided p values, at most 1.

    Args:
        observed: the number; large and small both mean that there is something to see.
        samples: null values of it, at least 2, shape (n,).

    Returns:
        A p value in (0, 1], below any level a with probability at most a under the null.

    Raises:
        ShapeError: fewer than 2 samples, not a vector, or a value that is not finite.

    Examples:
        >>> p_two_sided(-4.0, [1.0, 2.0, 3.0])
        0.5
    """
    samples = _samples(observed, samples)
    return min(1.0, 2 * min(_share_beyond(samples >= observed), _share_beyond(samples <= observed)))


def between_chance_and_ceiling(observed: float, *, chance: float, ceiling: float) -> float | None:
    """Where a number lies from its null mean (0) to the most that its noise lets it be (1).

    For an overlap of two estimated subspaces the ceiling is sqrt(r1 r2), with r the overlap of the two halves
    of each one's data (Spearman's correction for attenuation, less chance).

    Args:
        observed: the number.
        chance: mean of its null.
        ceiling: its value for two noisy measurements of the same thing.

    Returns:
        0 at chance, 1 at the ceiling, beyond both where noise takes it; None where the ceiling is not above
        chance, that is where the measurement cannot tell anything.

    Examples:
        >>> between_chance_and_ceiling(0.5, chance=0.25, ceiling=0.75)
        0.5
    """
    room = ceiling - chance
    return (observed - chance) / room if room > 0 else None


def haar_basis(d: int, k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Orthonormal vectors in R^d, uniform over all of them (Mezzadri 2007: QR of Gaussians, signs fixed).

    Args:
        d: dimension.
        k: number of vectors, 1 to d.
        rng: source of chance.

    Returns:
        Orthonormal columns, shape (d, k).

    Raises:
        ShapeError: k is not in 1 to d.

    Examples:
        >>> haar_basis(5, 2, np.random.default_rng(0)).shape
        (5, 2)
    """
    _fits(d, k)
    q, r = np.linalg.qr(rng.standard_normal((d, k)))
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)


def haar_overlap(d: int, k1: int, k2: int) -> tuple[float, float]:
    """Mean and standard deviation of the overlap of two uniformly random subspaces.

    ||U^T V||_F^2 has mean k1 k2 / d and variance 2 k1 k2 (d - k1)(d - k2) / (d^2 (d - 1)(d + 2)); the overlap
    is that over min(k1, k2).

    Args:
        d: dimension.
        k1: dimension of the one, 1 to d.
        k2: dimension of the other, 1 to d.

    Returns:
        ``mean`` = max(k1, k2) / d and ``sd``.

    Raises:
        ShapeError: k1 or k2 is not in 1 to d.

    Examples:
        >>> haar_overlap(4, 1, 2)
        (0.5, 0.2886...)
    """
    _fits(d, k1)
    _fits(d, k2)
    # in one dimension there is one subspace; the formula is 0 / 0 there
    spread = 2 * k1 * k2 * (d - k1) * (d - k2) / (d * d * max(d - 1, 1) * (d + 2))
    return max(k1, k2) / d, float(np.sqrt(spread)) / min(k1, k2)


def haar_largest_cosine(d: int, k1: int, k2: int) -> float:
    """Cosine of the smallest angle between two uniformly random subspaces, in the limit of large d.

    sqrt(a (1 - b)) + sqrt(b (1 - a)) with a = k1 / d, b = k2 / d: the upper edge of the Jacobi ensemble
    (Wachter 1980). At finite d the smallest angle is on average wider than at the edge, by 8 degrees at
    d = 40, k1 = k2 = 4 and by 1.4 at d = 400, k1 = k2 = 40 (simulated).

    Args:
        d: dimension.
        k1: dimension of the one, 1 to d.
        k2: dimension of the other, 1 to d.

    Returns:
        A cosine, 0 to 1; 1 where k1 + k2 >= d, since they must then meet.

    Raises:
        ShapeError: k1 or k2 is not in 1 to d.

    Examples:
        >>> round(float(np.rad2deg(np.arccos(haar_largest_cosine(768, 16, 16)))), 1)
        73.4
    """
    _fits(d, k1)
    _fits(d, k2)
    a, b = k1 / d, k2 / d
    return 1.0 if k1 + k2 >= d else float(np.sqrt(a * (1 - b)) + np.sqrt(b * (1 - a)))


def activation_shaped(cov: ArrayLike, k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random subspace that prefers the directions in which activations vary.

    The span of k independent directions z ~ N(0, C). Two things a network does need not be about the same to
    lie along its few strong directions; overlaps between such subspaces say how much comes of that alone.

    Args:
        cov: covariance C of the base activations, shape (d, d).
        k: dimension of the subspace, 1 to the rank of C.
        rng: source of chance.

    Returns:
        Orthonormal columns, shape (d, k); with C the identity, uniform as :func:`haar_basis` is.

    Raises:
        ShapeError: C is no covariance, or has fewer than k directions of any variance.

    Examples:
        >>> abs(activation_shaped([[4.0, 0.0], [0.0, 0.0]], 1, np.random.default_rng(0)))
        array([[1.],
               [0.]])
    """
    found = spectrum(cov)
    return found.vectors @ _shaped(found.values, k, rng)


def activation_shaped_overlaps(
    energies: ArrayLike, k1: int, k2: int, *, n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Overlaps of independent pairs of activation-shaped subspaces: samples for :func:`null_of`.

    The overlap does not depend on the eigenvectors that both sides share, so the eigenvalues are enough.

    Args:
        energies: eigenvalues of the covariance of the base activations, any order, shape (d,).
        k1: dimension of the one, 1 to the number of energies above 0.
        k2: dimension of the other, likewise.
        n: number of pairs.
        rng: source of chance.

    Returns:
        ||U^T V||_F^2 / min(k1, k2) for each pair, 0 to 1, shape (n,).

    Raises:
        ShapeError: energies are not a vector of finite numbers >= 0, or fewer than k1 or k2 are above 0.

    Examples:
        Two lines of a plane whose second direction hardly varies:

        >>> activation_shaped_overlaps([1.0, 1e-12], 1, 1, n=2, rng=np.random.default_rng(0)).round(3)
        array([1., 1.])
    """
    energies = np.asarray(energies, dtype=np.float64)
    if energies.ndim != 1 or not np.isfinite(energies).all() or (energies < 0).any():
        raise ShapeError("energies: expected finite numbers >= 0 (d,); spectrum(cov).values are such")
    pairs = ((_shaped(energies, k1, rng), _shaped(energies, k2, rng)) for _ in range(n))
    return np.array([min(1.0, float(np.sum((u.T @ v) ** 2)) / min(k1, k2)) for u, v in pairs])


def matched_random(update: LowRank, rng: np.random.Generator) -> LowRank:
    """A random update with the singular values of another, and uniformly random singular vectors.

    Args:
        update: the update to match.
        rng: source of chance.

    Returns:
        An update with factors of the same shapes and the same scale, so that it fits where the other was; the
        singular values are split evenly between the factors.

    Examples:
        >>> matched = matched_random(LowRank([[3.0], [0.0]], [[0.0, 2.0]]), np.random.default_rng(0))
        >>> matched.singular_values()
        array([6.])
    """
    values = update.singular_values()
    (out, width), m = update.shape, len(values)
    root = np.sqrt(values / abs(update.scale)) if update.scale else np.zeros(m)
    b, a = np.zeros((out, update.rank)), np.zeros((update.rank, width))
    b[:, :m] = haar_basis(out, m, rng) * root
    a[:m] = (haar_basis(width, m, rng) * root).T
    return LowRank(b, a, update.scale)


def _samples(observed: float, samples: ArrayLike) -> NDArray[np.float64]:
    samples = np.asarray(samples, dtype=np.float64)
    if samples.ndim != 1 or len(samples) < 2:
        raise ShapeError(f"null: expected at least 2 samples (n,), got shape {samples.shape}; draw more")
    if not np.isfinite(samples).all() or not np.isfinite(observed):
        raise ShapeError("null: the observed number or a sample is not finite; find where it was measured")
    return samples


def _share_beyond(beyond: NDArray[np.bool_]) -> float:
    return float((1 + beyond.sum()) / (1 + len(beyond)))


def _shaped(energies: NDArray[np.float64], k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """An orthonormal basis (d, k) of k draws from N(0, diag(energies))."""
    varying = int(np.sum(energies > len(energies) * np.finfo(np.float64).eps * energies.max(initial=0.0)))
    if not 1 <= k <= varying:
        raise ShapeError(f"subspace: the activations vary in {varying} directions, which cannot carry {k}")
    return np.linalg.qr(np.sqrt(energies)[:, None] * rng.standard_normal((len(energies), k)))[0]


def _fits(d: int, k: int) -> None:
    if not 1 <= k <= d:
        raise ShapeError(f"subspace: expected 1 to {d} dimensions of {d}, got {k}")
