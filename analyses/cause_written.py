"""What patched copies write, and whether it is still in the style."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.cause_bases import own_columns
from analyses.cause_exam import GROUPS
from finetune.pairs import read_pairs
from finetune.patched import ablate_diff, keep_only
from finetune.patched_transfer import patched_transfer
from finetune.score import bleu, bootstrap_draws
from finetune.style import StyleClassifier
from finetune.transfer import transfer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from analyses.adapter_cause import CauseRequest
    from analyses.cause_bases import Site
    from analyses.cause_exam import Dealt
    from finetune.adapter import Attached
    from finetune.pairs import Pair

BATCH = 16
WROTE = {"taken out": ablate_diff, "kept alone": keep_only}
"""What was done -> its patch."""


def written_facts(
    attached: Attached,
    sites: dict[str, dict[int, Site]],
    dealt: Dealt,
    found: dict[str, Any],
    request: CauseRequest,
) -> dict[str, Any]:
    """Let base, adapted model and patched copies rewrite held-out sources, and judge the style.

    The patches are those of the largest k at the layer that the page shows in full.

    Args:
        attached: the attached adapter.
        sites: group -> layer -> subspaces.
        dealt: documents, of which the measured half is rewritten.
        found: what was found before, with the layer ``shown``.
        request: how many sources to write, and the pairs that the judge learns from.

    Returns:
        ``layer``, ``k``, ``n``, the ``judge`` with the pairs it learnt from, its floor and ceiling, and
        ``systems``, one record for each with what was ``done`` by which ``directions`` (None for plain models), its
        scores, and all its ``texts``,
        if they may be kept. Intervals resample sources.
    """
    rng = np.random.default_rng(request.seed)
    layer = found["shown"]
    pairs = _spread(dealt.exam.pairs, request.write)
    known = dealt.fitted if request.training is None else read_pairs(request.training).pairs
    judge = StyleClassifier.fit(
        [p.source for p in known], [p.target for p in known], [p.doc_id for p in known], rng=rng
    )
    draws = bootstrap_draws(len(pairs), rng)
    systems = [
        system | {"texts": texts if request.quotable else [], **_scores(texts, pairs, judge, draws)}
        for system, texts in _texts(attached, sites, layer, max(request.ks), [p.source for p in pairs])
    ]
    return {
        "layer": layer,
        "k": max(request.ks),
        "n": len(pairs),
        "judge": {
            "pairs": len(known),
            "learnt_from": "the fit half" if request.training is None else "the adapter's training",
            "floor": _score(judge.floor),
            "ceiling": _score(judge.ceiling),
        },
        "systems": systems,
    }


def _texts(
    attached: Attached, sites: dict[str, dict[int, Site]], layer: int, k: int, sources: Sequence[str]
) -> list[tuple[dict[str, str | None], list[str]]]:
    """Each system and what it writes."""
    tokenizer = attached.loaded.tokenizer
    with attached.model.disable_adapter():
        base = transfer(attached.model, tokenizer, sources, batch_size=BATCH)
    adapted = transfer(attached.model, tokenizer, sources, batch_size=BATCH)
    plain = {"copy the input": list(sources), "base model": base, "adapted model": adapted}
    written = [({"system": name, "directions": None, "done": None}, texts) for name, texts in plain.items()]
    columns = {f"top-{k} {group}": own_columns({layer: sites[group][layer]}, k) for group in GROUPS}
    columns[f"{k} Haar"] = {layer: sites[GROUPS[0]][layer].haar[0][:, :k]}
    for done, act in WROTE.items():
        for name, basis in columns.items():
            system = {"system": f"{name} directions {done}", "directions": name, "done": done}
            written.append((system, patched_transfer(attached, sources, act(basis), batch_size=BATCH)))
    return written


def _scores(
    texts: Sequence[str], pairs: Sequence[Pair], judge: StyleClassifier, draws: NDArray[np.int32]
) -> dict[str, Any]:
    found = {
        "judged_styled": judge.rate(texts, draws),
        "bleu_to_reference": bleu(texts, [p.target for p in pairs], draws),
        "bleu_to_input": bleu(texts, [p.source for p in pairs], draws),
    }
    return {name: _score(score) for name, score in found.items()}


def _score(score: Any) -> dict[str, float]:
    return {"value": score.value, "low": score.low, "high": score.high}


def _spread(pairs: Sequence[Pair], n: int) -> list[Pair]:
    """Evenly spread pairs, at most n."""
    places = np.linspace(0, len(pairs) - 1, min(n, len(pairs))).round().astype(int)
    return [pairs[i] for i in places]
