"""Which blocks' own modules make the effect: each switched off alone, and each left on alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.cause_exam import METRICS
from analyses.cause_measures import necessity, share, sufficiency
from finetune.knockout import modules_by_block, without_modules
from finetune.patched_likelihoods import patched_likelihoods

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from analyses.cause_exam import Exam
    from finetune.adapter import Attached


def module_records(attached: Attached, exam: Exam, sure: Container[str]) -> Iterator[dict[str, Any]]:
    """Switch the adapter's modules off block by block.

    Args:
        attached: the attached adapter; all its modules are on again afterwards.
        exam: held-out questions.
        sure: the metrics on which the adapter has an effect that can be divided.

    Yields:
        For each block with modules (None for those outside the blocks), metric and measure: ``value`` with its
        interval, None where the effect is not sure. ``knock-out`` is the share of the effect that goes with the
        block's modules, ``knock-in`` the share that they have alone.
    """
    modules = modules_by_block(attached)
    whole = exam.means(patched_likelihoods(attached, exam.questions, []))
    for block in modules:
        off = {"knock-out": [block], "knock-in": [other for other in modules if other != block]}
        for (measure, silent), part_of in zip(off.items(), (necessity, sufficiency), strict=True):
            with without_modules(attached, silent):
                found = exam.means(patched_likelihoods(attached, exam.questions, []))
            for metric in METRICS:
                states = np.stack([*whole[metric], found[metric][1]])
                record = {
                    "block": block,
                    "modules": len(modules[block]),
                    "measure": measure,
                    "metric": metric,
                }
                yield record | share(part_of, states, sure=metric in sure)
