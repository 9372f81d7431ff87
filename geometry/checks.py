"""The door: what input is legal, and the errors that say what to do when it is not.

Every error that a user can cause is an :class:`InputError`. The command line prints its one line and
exits with code 2; from Python it is a ``ValueError``. ``assert`` is kept for our own bugs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class InputError(ValueError):
    """Something that was handed in cannot be used; the message says what to do instead."""


class ShapeError(InputError):
    """An array has the wrong shape, or holds values that are not finite."""


class LayerError(InputError):
    """A layer was asked for that the model does not have."""


class AdapterError(InputError):
    """An adapter cannot be compared with its base.

    It is inactive, merged, of another model, or of a kind whose disabled state is not the base model.
    """


class ModelError(InputError):
    """A model or tokenizer cannot be loaded or used."""


class DataError(InputError):
    """A file of texts, pairs or facts cannot be read as what it should be."""


def rows(x: ArrayLike, name: str, width: int | None = None) -> NDArray[np.float64]:
    """Check observations in rows, and return them in float64.

    Args:
        x: observations, shape (n, d), any real dtype.
        name: what the caller calls it; used in the message.
        width: the d that is expected, if it is known.

    Returns:
        The same values, shape (n, d), float64. A float64 input is returned as it is, not copied.

    Raises:
        ShapeError: not two-dimensional, another width than expected, or NaN or infinity in it.

    Examples:
        >>> rows([[1, 2], [3, 4]], "activations").shape
        (2, 2)
        >>> rows([1.0, 2.0], "activations")
        Traceback (most recent call last):
        ...
        geometry.checks.ShapeError: activations: expected (n, d), got (2,)
    """
    try:
        array = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{name}: expected an array of numbers; rows must be equally long") from error
    expected = f"(n, {width})" if width is not None else "(n, d)"
    if array.ndim != 2 or (width is not None and array.shape[1] != width):
        raise ShapeError(f"{name}: expected {expected}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ShapeError(f"{name}: holds NaN or infinity; find the layer or text that makes it first")
    return array
