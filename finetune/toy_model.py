"""The toy model of superposition (Elhage et al. 2022): n sparse features through m < n dimensions and a ReLU.

    x' = ReLU(W^T W x + b)        loss = sum_i I_i (x_i - x'_i)^2

Feature i is 0 with probability 1 - p and else uniform on [0, 1], independently; I_i is its importance. Many models,
each with its own density p and importances, are trained at once as one batch of matrices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pace:
    """How long toy models are trained.

    Attributes:
        steps: of Adam, with a cosine to 0.
        batch: samples a step, for each model.
        lr: learning rate at the start.
    """

    steps: int = 3000
    batch: int = 512
    lr: float = 0.02


@dataclass(frozen=True, eq=False)
class Toys:
    """R trained toy models.

    Attributes:
        w: (R, m, n) directions of the features, in columns.
        b: (R, n) biases.
        loss: (R,) mean over fresh samples, the same for all models of one density.
    """

    w: Array
    b: Array
    loss: Array


def train_toys(
    density: ArrayLike,
    importance: ArrayLike,
    m: int,
    *,
    rng: np.random.Generator,
    pace: Pace | None = None,
    progress: Callable[[float], None] = lambda done: None,
) -> Toys:
    """Train R toy models at once.

    Args:
        density: (R,) probability p in (0, 1] that a feature is not 0; its sparsity is 1 - p.
        importance: (R, n) importance of each feature, above 0.
        m: dimensions, at least 1.
        rng: source of chance.
        pace: how long.
        progress: is called with the share that is done.

    Returns:
        The trained models.

    Raises:
        DataError: densities, importances or m out of range.
    """
    p, weight = (np.asarray(values, np.float64) for values in (density, importance))
    if weight.ndim != 2 or p.shape != weight.shape[:1] or not len(p) or m < 1:
        raise DataError(
            f"toy models: densities {p.shape}, importances {weight.shape}, m = {m}: give (R,), (R, n) and m >= 1"
        )
    if not ((p > 0) & (p <= 1)).all() or not (weight > 0).all():
        raise DataError("toy models: give densities in (0, 1] and importances above 0")
    pace = pace or Pace()
    random = torch.Generator().manual_seed(int(rng.integers(2**62)))
    count, n = weight.shape
    w = (torch.randn(count, m, n, generator=random) / math.sqrt(m)).requires_grad_()
    b = torch.zeros(count, 1, n).requires_grad_()
    dense, weights = torch.as_tensor(p).float()[:, None, None], torch.as_tensor(weight).float()[:, None]
    optimiser = torch.optim.Adam([w, b], lr=pace.lr)
    for step in range(pace.steps):
        optimiser.param_groups[0]["lr"] = pace.lr * 0.5 * (1 + math.cos(math.pi * step / pace.steps))
        x = _sample(dense, pace.batch, n, random)
        with torch.enable_grad():
            loss = _losses(w, b, x, weights).sum()
        w.grad, b.grad = torch.autograd.grad(loss, (w, b))
        optimiser.step()
        if step % 100 == 0:
            progress(step / pace.steps)
    with torch.no_grad():
        fresh = [
            _losses(w, b, _sample(dense, pace.batch, n, random, alike=True), weights).double()
            for _ in range(40)
        ]
    return Toys(_array(w), _array(b[:, 0]), torch.stack(fresh).mean(0).numpy())


def _sample(density: Tensor, batch: int, n: int, random: torch.Generator, *, alike: bool = False) -> Tensor:
    """Features (R, batch, n); ``alike`` gives all models the same draws."""
    shape = (1 if alike else len(density), batch, n)
    value = torch.rand(shape, generator=random)
    # one draw does both: below p it is there, and its place below p is its value
    return torch.where(value < density, value / density, 0.0)


def _losses(w: Tensor, b: Tensor, x: Tensor, weights: Tensor) -> Tensor:
    """Mean loss of each model, (R,)."""
    x = x.expand(len(w), -1, -1)
    hidden = x @ w.mT
    return (weights * (x - torch.relu(hidden @ w + b)) ** 2).sum(-1).mean(-1)


def _array(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()
