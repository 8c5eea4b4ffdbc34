"""Scores as sums over images are the scores of the boards."""

import numpy as np
import pytest

from segtool.core.scoring.metrics import LABELS, sums
from segtool.core.scoring.planes import MultiScoreBoard
from segtool.core.scoring.scores import ScoreBoard

random = np.random.default_rng(0)


def single(classes: int) -> ScoreBoard:
    board = ScoreBoard([str(index) for index in range(classes)], ["0"] if classes > 2 else [])
    for number in range(6):
        # The second image has no foreground, and the last nothing that counts.
        truth = random.integers(0, 1 if number == 1 else classes, (5, 7)).astype(np.uint8)
        pred = truth if number == 1 else random.integers(0, classes, (5, 7)).astype(np.uint8)
        board.add_pair(str(number), np.full_like(truth, 255) if number == 5 else truth, pred)
    return board


def multi(classes: int) -> MultiScoreBoard:
    board = MultiScoreBoard([str(index) for index in range(classes)])
    for number in range(6):
        truth = (random.random((classes, 5, 7)) > (1 if number == 1 else 0.6)).astype(np.uint8)
        if number == 2:
            truth[0] = 255
        board.add_pair(str(number), truth, random.random((classes, 5, 7)) > (1 if number == 1 else 0.5))
    return board


@pytest.mark.parametrize("metric", LABELS)
@pytest.mark.parametrize("board", [single(2), single(4), multi(3)], ids=["binary", "several", "multi"])
def test_the_sum_over_all_images_has_the_score_of_the_board(board: ScoreBoard | MultiScoreBoard, metric: str) -> None:
    found = sums(metric, np.array(list(board.per_image.values())), board.exclude)
    assert found.score(found.values.sum(0)[None])[0] == pytest.approx(board.summary()[metric], abs=1e-12)
