"""Compiled sums of a tile against float64."""

import itertools

import numpy as np
import pytest

from geometry.row_kernels import HIDDEN_BELOW, LANES, add_tile, keep_largest, lane_maxima


def test_every_sum_of_a_tile_is_that_of_float64():
    rng = np.random.default_rng(0)
    n, width, rows, k = 24, 70, 12, 5
    s = (rng.normal(size=(n, width)) * 6).astype(np.float32)
    place = np.arange(30, 30 + rows)
    hidden = np.arange(width) > np.resize(place, n)[:, None]
    hidden[5] = True
    s[hidden] = -1e30
    norms = rng.random((2, width)).astype(np.float32)
    starts, stops = np.array([0, 17, 40]), np.array([17, 40, 70])
    bands = (rng.integers(0, 4, width) == np.arange(1, 4)[:, None]).astype(np.float32)
    edges = np.array([0, 1, 2, 4, 8, 16, 32, 1 << 62])
    shift, whole = np.empty(n, np.float32), np.empty((n, 5), np.float32)
    sums, subsets = np.empty((n, 3, 3), np.float32), np.empty((n, 2, 3), np.float32)
    distances = np.empty((n, 7), np.float32)
    best, keys = np.full((n, k), -np.inf, np.float32), np.full(n, -1)
    add_tile(
        s, 12, norms, starts, stops, bands, place, edges, 0, 6, 100,
        shift, whole, sums, subsets, distances, best, keys,
    )  # fmt: skip
    exact = s.astype(float)
    x = np.where(hidden, 0.0, exact - shift[:, None])
    p = np.where(hidden, 0.0, np.exp(x))
    assert (shift == np.maximum(exact.max(-1), HIDDEN_BELOW)).all()
    terms = (p * x * x, p * p, x, x * x, p * np.arange(width))
    np.testing.assert_allclose(whole, np.stack([t.sum(-1) for t in terms], -1), rtol=2e-6, atol=1e-5)
    for i, term in enumerate((p, p * x, p * norms[np.arange(n) // 12])):
        pieces = np.stack([term[:, a:b].sum(-1) for a, b in zip(starts, stops, strict=True)], -1)
        np.testing.assert_allclose(sums[:, i], pieces, rtol=2e-6, atol=1e-6)
    for i, term in enumerate((p, p * x)):
        np.testing.assert_allclose(subsets[:, i], term @ bands.T, rtol=2e-6, atol=1e-6)
    away = np.abs(np.resize(place, n)[:, None] - np.arange(width))
    by_bucket = [(p * ((away >= a) & (away < b))).sum(-1) for a, b in itertools.pairwise(edges)]
    np.testing.assert_allclose(distances, np.stack(by_bucket, -1), rtol=2e-6, atol=1e-6)
    visible = np.where(hidden, -np.inf, exact)
    np.testing.assert_array_equal(best, np.sort(visible, axis=-1)[:, -k:].astype(np.float32))
    assert keys[5] == -1
    assert (np.delete(keys, 5) == np.delete(visible, 5, 0).argmax(-1) + 100).all()


@pytest.mark.parametrize("width", [1, LANES - 1, LANES, 3 * LANES + 5])
@pytest.mark.parametrize("k", [1, 4, LANES + 3])
def test_ties_go_to_the_first_key_over_any_tiles(width, k):
    rng = np.random.default_rng(width)
    tiles = rng.integers(0, 3, (4, width)).astype(np.float32)
    lanes, best, key = np.empty(LANES, np.float32), np.full(k, -np.inf, np.float32), -1
    for i, tile in enumerate(tiles):
        assert lane_maxima(tile, lanes) == tile.max()
        key = keep_largest(tile, lanes, i * width, best, key, np.empty(k, np.float32))
    flat = tiles.ravel()
    assert key == flat.argmax()
    kept = np.sort(flat)[-k:]
    np.testing.assert_array_equal(best[k - len(kept) :], kept)
