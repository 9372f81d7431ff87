"""Codes of activations that nobody trained: what a dictionary has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    Code = Callable[[Tensor], Tensor]


def random_code(directions: NDArray[np.float64], centre: NDArray[np.float64], k: int) -> Code:
    """Code rows by the k of some fixed directions that they lie along most: the floor of a trained dictionary.

    Args:
        directions: (size, d) unit vectors.
        centre: (d,) what is taken off first.
        k: directions a row.

    Returns:
        Rows (n, d) -> rebuilt rows, each the best multiple of sum_i (u_i . h) u_i over its k directions.
    """
    u, m = torch.as_tensor(directions, dtype=torch.float32), torch.as_tensor(centre, dtype=torch.float32)

    def code(rows: Tensor) -> Tensor:
        h = rows - m
        along = h @ u.T
        top = along.relu().topk(k, dim=-1)
        drawn = torch.zeros_like(along).scatter(-1, top.indices, top.values) @ u
        scale = (drawn * h).sum(dim=-1) / drawn.square().sum(dim=-1).clamp_min(1e-12)
        return scale[:, None] * drawn + m

    return code


def principal_code(covariance: NDArray[np.float64], centre: NDArray[np.float64], k: int) -> Code:
    """Code rows by the first k principal directions: as many numbers a row as a dictionary with k active features."""
    basis = np.linalg.eigh(covariance)[1][:, ::-1][:, :k]
    u, m = torch.tensor(basis.copy(), dtype=torch.float32), torch.as_tensor(centre, dtype=torch.float32)

    def code(rows: Tensor) -> Tensor:
        return (rows - m) @ u @ u.T + m

    return code


def mean_code(centre: NDArray[np.float64]) -> Code:
    """Code every row by the mean."""
    m = torch.as_tensor(centre, dtype=torch.float32)
    return lambda rows: m.expand_as(rows)
