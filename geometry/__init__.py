"""Rows to numbers: the geometry of representations, each number with its floor.

    import geometry

    pairs = geometry.PairedMoments(width)
    for base, adapted in batches:            # rows of both models on the same tokens, (n, width) each
        pairs.update(base, adapted)
    stats = pairs.answer()
    directions = geometry.spectrum(stats.cov_diff)
    geometry.effective_rank(directions.values)

Everything is computed in float64, nothing depends on how the rows were split, and what chance would give is
in :mod:`geometry.nulls`. This half loads no torch; the live half, which runs models, is :mod:`geometry.live`.
"""

from geometry.checks import DataError, InputError, ShapeError
from geometry.familywise import MaxNull, max_over
from geometry.moments import Moments, MomentStats, PairedMoments, PairedStats, unbiased_square
from geometry.nulls import (
    Null,
    activation_shaped,
    activation_shaped_overlaps,
    between_chance_and_ceiling,
    haar_basis,
    haar_largest_cosine,
    haar_overlap,
    matched_random,
    null_of,
    p_two_sided,
)
from geometry.similarity import (
    UnbiasedCKA,
    linear_cka,
    mean_cca,
    procrustes_distance,
    svcca,
    unbiased_cka,
)
from geometry.sketch import Sketch, SketchStats, refined
from geometry.spectra import (
    LowRank,
    Spectrum,
    effective_rank,
    participation_ratio,
    participation_ratio_about_zero_unbiased,
    participation_ratio_unbiased,
    rank_for_energy,
    relative_gap,
    spectrum,
    stable_rank,
)
from geometry.subspaces import (
    capture,
    coordinate_concentration,
    matrix_cosine,
    orthonormal,
    overlap,
    principal_angles,
)
from geometry.turns import Turns, turns
from geometry.variance_parts import TextSums, VarianceParts

__all__ = [
    "DataError",
    "InputError",
    "LowRank",
    "MaxNull",
    "MomentStats",
    "Moments",
    "Null",
    "PairedMoments",
    "PairedStats",
    "ShapeError",
    "Sketch",
    "SketchStats",
    "Spectrum",
    "TextSums",
    "Turns",
    "UnbiasedCKA",
    "VarianceParts",
    "activation_shaped",
    "activation_shaped_overlaps",
    "between_chance_and_ceiling",
    "capture",
    "coordinate_concentration",
    "effective_rank",
    "haar_basis",
    "haar_largest_cosine",
    "haar_overlap",
    "linear_cka",
    "matched_random",
    "matrix_cosine",
    "max_over",
    "mean_cca",
    "null_of",
    "orthonormal",
    "overlap",
    "p_two_sided",
    "participation_ratio",
    "participation_ratio_about_zero_unbiased",
    "participation_ratio_unbiased",
    "principal_angles",
    "procrustes_distance",
    "rank_for_energy",
    "refined",
    "relative_gap",
    "spectrum",
    "stable_rank",
    "svcca",
    "turns",
    "unbiased_cka",
    "unbiased_square",
]
