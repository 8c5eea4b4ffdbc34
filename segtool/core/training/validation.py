"""Validation: the same predictor and the same scores as `predict` and `evaluate`, so the numbers are the same."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from segtool.core.catalog import Dataset, Record
from segtool.core.images import image_size
from segtool.core.inference.predictor import Predictor
from segtool.core.inference.stream import read_ahead
from segtool.core.models.losses import Criterion, Share
from segtool.core.probmaps import Probs, decide
from segtool.core.reporting.progress import Track
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.scores import ScoreBoard
from segtool.core.training.distributed import World
from segtool.errors import DivergedError


@dataclass(frozen=True)
class Validation:
    """Scores of all validation images, and the mean over images of the loss at their own size."""

    board: ScoreBoard
    loss: float


def validate(
    predictor: Predictor,
    dataset: Dataset,
    records: Sequence[Record],
    criterion: Criterion,
    *,
    workers: int,
    world: World,
    track: Track,
    label: str,
) -> Validation:
    """Predict and score `records`, each by one process; every process gets the whole result.

    The networks are left in eval mode.

    Raises:
        DivergedError: a network answers NaN, here or in another process.
    """
    for member in predictor.members:
        member.network.eval()
    groups = predictor.group([image_size(record.image) for record in records])
    mine = groups[world.rank :: world.size]
    rows: list[tuple[int, np.ndarray, float]] = []
    reading = read_ahead(lambda group: [dataset.read_pair(records[i]) for i in group], mine, workers)
    diverged: DivergedError | None = None
    try:
        for group, pairs in track(reading, total=len(mine), label=label):
            for index, probs, (_, truth) in zip(group, predictor([image for image, _ in pairs]), pairs, strict=True):
                matrix = confusion(truth, decide(probs), len(dataset.classes))
                rows.append((index, matrix, map_loss(criterion, probs, truth)))
    except DivergedError as error:
        # Kept until the other processes are here, who would wait for this one's rows.
        diverged = error
    if found := next((error for error in world.gather(diverged) if error), None):
        raise found
    board = ScoreBoard(dataset.classes)
    losses = []
    for index, matrix, loss in sorted((row for part in world.gather(rows) for row in part), key=lambda row: row[0]):
        board.add(records[index].image_id, matrix)
        losses.append(loss)
    return Validation(board, float(np.mean(losses)))


@torch.inference_mode()
def map_loss(criterion: Criterion, probs: Probs, truth: np.ndarray) -> float:
    """The training loss of one probability map: its logarithm has the same softmax as the logits it came from."""
    logs = torch.from_numpy(probs)[None].clamp(min=1e-7).log()
    logits = logs[:, 1:] - logs[:, :1] if logs.shape[1] == 2 else logs
    masks = torch.from_numpy(truth)[None]
    weights = torch.ones(1)
    return float(criterion(logits, masks, weights, Share(criterion.pixels(masks, weights), 1)))
