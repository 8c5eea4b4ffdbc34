"""Adversarial validation: can a classifier tell training from test images by cheap features?

An AUC of 0.5 means that it cannot, so that a random part of the training images stands for the test images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segtool.core.inspection.survey import FEATURES

# Images per part that are looked at, and groups of near-duplicates needed in each.
MOST, FEWEST = 2000, 6
FOLDS = 5
# Features that are named, and the AUC from which one alone tells something.
NAMED, TELLING = 3, 0.65


@dataclass(frozen=True)
class Telling:
    """A feature that differs: its AUC alone (above 0.5: larger in the test images), and its medians."""

    feature: str
    auc: float
    train: float
    test: float


@dataclass(frozen=True)
class Adversarial:
    """How well training and test images can be told apart.

    Attributes:
        auc: cross-validated over groups of near-duplicates, 0.5 to 1 but for chance.
        error: its standard error (Hanley and McNeil, 1982), counting each group once.
        telling: the features that differ most on their own.
    """

    auc: float
    error: float
    telling: tuple[Telling, ...]

    @property
    def differ(self) -> bool:
        """Whether the parts differ by more than chance and enough to matter."""
        return self.auc - 2 * self.error > 0.5 and self.auc >= TELLING


def tell_apart(
    train: npt.NDArray[np.float32],
    test: npt.NDArray[np.float32],
    groups: npt.NDArray[np.int64],
    seed: int = 0,
) -> Adversarial | None:
    """Return how well two sets of images can be told apart; None if there are too few images or groups.

    Args:
        train, test: features of their images, (N, F) and (M, F).
        groups: group of near-duplicates of each image, of `train` and then of `test`, (N + M,).
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    rng = np.random.default_rng(seed)
    rows = np.concatenate([_some(len(train), rng), len(train) + _some(len(test), rng)])
    values, is_test, groups = np.concatenate([train, test])[rows], rows >= len(train), groups[rows]
    counts = [len(np.unique(groups[is_test == part])) for part in (False, True)]
    if min(counts) < FEWEST:
        return None
    # Small leaves would learn single images.
    model = ExtraTreesClassifier(200, min_samples_leaf=3, class_weight="balanced", random_state=seed)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    scores = cross_val_predict(model, values, is_test, groups=groups, cv=folds, method="predict_proba")[:, 1]
    auc = float(roc_auc_score(is_test, scores))
    alone = [float(roc_auc_score(is_test, column)) for column in values.T]
    return Adversarial(auc, _standard_error(auc, *counts), _telling(values, is_test, alone))


def _some(count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.sort(rng.permutation(count)[:MOST])


def _telling(
    values: npt.NDArray[np.float32], is_test: npt.NDArray[np.bool_], alone: Sequence[float]
) -> tuple[Telling, ...]:
    order = np.argsort(-np.abs(np.array(alone) - 0.5), kind="stable")[:NAMED]
    medians = [[float(np.median(values[is_test == part, index])) for part in (False, True)] for index in order]
    found = (Telling(FEATURES[i], alone[i], *pair) for i, pair in zip(order.tolist(), medians, strict=True))
    return tuple(one for one in found if max(one.auc, 1 - one.auc) >= TELLING)


def _standard_error(auc: float, negatives: int, positives: int) -> float:
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (q1 - auc * auc) + (negatives - 1) * (q2 - auc * auc)
    return float((max(variance, 0) / (positives * negatives)) ** 0.5)
