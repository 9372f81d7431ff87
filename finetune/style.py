"""The judge of style: character n-grams and logistic regression, with its own ceiling and floor.

A judge is only as good as it is on real text. It therefore carries what it says of styled text that it has
not seen (the ceiling: nothing that is judged can be expected to score higher) and of plain text that it
has not seen (the floor: what copying the input scores).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from finetune.score import Score, bootstrap_draws, score_of_sums
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

_FOLDS = 5


@dataclass(frozen=True)
class StyleClassifier:
    """Tells styled text from plain text by its character n-grams.

    Attributes:
        ceiling: share of held-out styled texts that are judged styled.
        floor: share of held-out plain texts that are judged styled.
        accuracy: share of held-out texts of both kinds that are judged rightly.
    """

    ceiling: Score
    floor: Score
    accuracy: Score
    _pipeline: Pipeline = field(repr=False)

    @classmethod
    def fit(
        cls,
        neutral_texts: Sequence[str],
        styled_texts: Sequence[str],
        groups: Sequence[str],
        *,
        rng: np.random.Generator,
    ) -> Self:
        """Train the judge on pairs, and cross-validate it with whole documents held out.

        Args:
            neutral_texts: plain texts.
            styled_texts: the same contents in the style, in the same order.
            groups: the document of each pair. No document is on both sides of a fold, or the judge
                could learn topics by heart.
            rng: source of chance for the intervals; the judge itself has none.

        Returns:
            The judge, trained on all pairs; its ceiling, floor and accuracy are from five folds in which
            the judged text was held out (fewer where there are fewer documents).

        Raises:
            DataError: the three lists differ in length, hold an empty text, or name fewer than two
                documents.
        """
        if not len(neutral_texts) == len(styled_texts) == len(groups):
            raise DataError(
                f"{len(neutral_texts)} plain texts, {len(styled_texts)} styled ones and {len(groups)} "
                "documents: give pairs, one document each"
            )
        if len(set(groups)) < 2:
            raise DataError("the judge of style needs texts of at least two documents")
        if not all(text.strip() for text in (*neutral_texts, *styled_texts)):
            raise DataError("the judge of style cannot learn from an empty text; leave it out")
        texts = [*neutral_texts, *styled_texts]
        labels = np.repeat([0, 1], len(groups))
        judged = _held_out(texts, labels, [*groups, *groups])
        draws = bootstrap_draws(len(groups), rng)
        half = len(groups)
        right = (judged == labels).astype(np.float64)
        return cls(
            ceiling=_rate("style ceiling", judged[half:], draws),
            floor=_rate("style floor", judged[:half], draws),
            accuracy=_rate("style accuracy", (right[:half] + right[half:]) / 2, draws),
            _pipeline=new_pipeline().fit(texts, labels),
        )

    def probability(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability that each text is styled, shape (n,), in [0, 1].

        An empty text is not styled: its probability is 0.
        """
        if not len(texts):
            return np.zeros(0)
        written = np.array([bool(text.strip()) for text in texts])
        return np.where(written, self._pipeline.predict_proba(list(texts))[:, 1], 0.0)

    def rate(self, texts: Sequence[str], draws: NDArray[np.int32]) -> Score:
        """Return the share of texts that are judged styled (probability of one half or more).

        Args:
            texts: the texts to judge.
            draws: from :func:`finetune.score.bootstrap_draws`.

        Returns:
            The share in [0, 1], to be read between ``floor`` and ``ceiling``.

        Raises:
            DataError: the draws are for another number of texts.
        """
        if len(texts) != draws.shape[1]:
            raise DataError(
                f"{len(texts)} texts and draws for {draws.shape[1]}: these must be the same items"
            )
        return _rate("style rate", self.probability(texts) >= 0.5, draws)


def new_pipeline() -> Pipeline:
    """Make a judge that has learnt nothing yet: character n-grams up to 5, weighted, and logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True, lowercase=False)
    return make_pipeline(grams, LogisticRegression(C=30.0, max_iter=1000))


def _held_out(texts: list[str], labels: NDArray[np.int64], groups: list[str]) -> NDArray[np.int64]:
    from sklearn.model_selection import GroupKFold, cross_val_predict

    folds = GroupKFold(min(_FOLDS, len(set(groups))))
    return cross_val_predict(new_pipeline(), texts, labels, groups=groups, cv=folds)


def _rate(name: str, hits: NDArray[np.generic], draws: NDArray[np.int32]) -> Score:
    counts = np.stack([np.asarray(hits, dtype=np.float64), np.ones(len(hits))], axis=1)
    return score_of_sums(name, counts, lambda sums: float(sums[0] / sums[1]), draws)
