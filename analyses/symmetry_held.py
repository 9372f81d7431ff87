"""What the states of a model are held against: where items lie, and the kernel that a corpus follows on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geometry.cloud_scores import Expected
from geometry.kernels import KernelFit
from geometry.label_nulls import other_orders
from geometry.lattice import Modes, modes
from geometry.nuisances import Nuisances, nuisance_matrices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from analyses.concepts import Concept
    from geometry.layouts import Layout

DRAWS = 999
"""Shuffles of the labels where the orders cannot be enumerated."""

FITTED = "fitted to the corpus"
GENERIC = "generic: the corpus follows no kernel that falls with distance"


@dataclass(frozen=True, eq=False)
class Held:
    """What clouds of one concept are held against.

    Attributes:
        concept: with the items that the corpus has, n of them.
        block: M* over them, (n, n).
        counts: how often each occurs.
        kernel: of distance, whose modes are predicted.
        source: :data:`FITTED` or :data:`GENERIC`.
        expected: the modes and the curve.
        orders: of the labels, the true one first, (m, n).
    """

    concept: Concept
    block: NDArray[np.float64]
    counts: tuple[int, ...]
    kernel: KernelFit
    source: str
    expected: Expected
    orders: NDArray[np.int64]

    @property
    def layout(self) -> Layout:
        """Where the items lie."""
        return self.concept.layout

    def nuisances(self, tokens: Sequence[Sequence[int]]) -> Nuisances:
        """What else could make items alike, to a model with these tokens."""
        return nuisance_matrices(
            self.concept.items,
            counts=self.counts,
            tokens=tokens,
            without=self.concept.order_nuisances,
        )

    def only(self, keep: Sequence[int]) -> Held:
        """The same for some of the items, with the kernel as it is.

        Args:
            keep: their numbers, rising.
        """
        concept = self.concept.only([self.concept.items[at] for at in keep])
        predicted = predicted_modes(self.kernel, concept.layout)
        return replace(
            self,
            concept=concept,
            block=self.block[np.ix_(keep, keep)],
            counts=tuple(self.counts[at] for at in keep),
            expected=Expected(concept.layout, predicted, self.expected.dimensions),
            orders=np.arange(len(keep))[None],
        )

    @property
    def kernel_record(self) -> dict[str, Any]:
        """The kernel as JSON values."""
        return {
            "shape": self.kernel.shape,
            "width": self.kernel.width,
            "held_out": self.kernel.held_out,
            "source": self.source,
        }


def held_against(
    concept: Concept,
    block: NDArray[np.float64],
    counts: Sequence[int],
    fits: Sequence[KernelFit],
    rng: np.random.Generator,
) -> Held:
    """Take the modes of the kernel that the corpus follows best; a generic one where it follows none.

    A kernel serves if it predicts held-out pairs at all (R^2 above 0) and falls with distance. The generic one is
    exponential with a quarter of the largest distance along a line, half of it round a cycle, as its width.

    Args:
        concept: with the items of the block.
        block: M* over them, (n, n).
        counts: how often each occurs.
        fits: of kernels to the block, the best first; may be empty.
        rng: source of the shuffles.

    Returns:
        What to hold clouds against.
    """
    layout = concept.layout
    serving = [fit for fit in fits if fit.held_out > 0 and fit.amplitude > 0]
    kernel = serving[0] if serving else _generic(layout)
    dimensions = 2 if _is_round(layout) else 3
    orders = np.vstack([np.arange(layout.n), other_orders(layout, DRAWS, rng)])
    return Held(
        concept=concept,
        block=block,
        counts=tuple(int(count) for count in counts),
        kernel=kernel,
        source=FITTED if serving else GENERIC,
        expected=Expected(layout, predicted_modes(kernel, layout), min(dimensions, layout.n - 2)),
        orders=orders,
    )


def predicted_modes(kernel: KernelFit, layout: Layout) -> Modes:
    """Modes of a kernel over a layout, where those that symmetry makes one group are one group.

    Round a whole cycle cosine and sine have one eigenvalue, and so have the first three modes of a globe that is
    evenly covered. Missing months and oceans part them a little, which makes no single one of them mean anything:
    their eigenvalues are set to their mean.

    Args:
        kernel: of distance.
        layout: where the items lie.

    Returns:
        The modes; the first group is a pair round a cycle or a part of one, three on a globe.
    """
    found = modes(kernel(layout.distance))
    size = 2 if _is_round(layout) else 3 if layout.kind == "sphere" else 1
    values = found.values.copy()
    values[:size] = values[:size].mean()
    return Modes(values, found.vectors)


def _is_round(layout: Layout) -> bool:
    """Whether the items lie round a cycle, all of them or some."""
    return layout.kind == "cycle" or (
        layout.kind == "part"
        and layout.targets.shape[1] == 2
        and bool(np.allclose(np.linalg.norm(layout.targets, axis=1), 1.0))
    )


def _generic(layout: Layout) -> KernelFit:
    period = layout.n if layout.kind == "cycle" else None
    width = float(layout.distance.max()) / (2 if period else 4)
    return KernelFit("exponential", width, 0.0, 1.0, 0.0, 0.0, 0.0, period)
