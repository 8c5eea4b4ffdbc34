"""Validation with the predictor and the scores of `predict` and `evaluate`, so that the numbers are the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from segtool.core.dataset.dataset import Record
from segtool.core.dataset.selection import limit
from segtool.core.images import Array, image_size
from segtool.core.inference.predictor import Member, Predictor
from segtool.core.inference.stream import read_ahead
from segtool.core.losses.criterion import Criterion, UpdateTotals
from segtool.core.losses.plane_criterion import PlaneCriterion
from segtool.core.predictions.bit_planes import decide_planes
from segtool.core.predictions.probability_maps import Probs, decide, quantise
from segtool.core.reporting.pictures import class_colours, picture_strip, to_rgb, write_sheet
from segtool.core.reporting.progress import Track
from segtool.core.scoring import pixel_counts
from segtool.core.scoring.confusion import Matrix, confusion
from segtool.core.scoring.planes import MultiScoreBoard, plane_counts
from segtool.core.scoring.scores import ScoreBoard
from segtool.core.tables import write_table
from segtool.core.tracking.tracker import Overlay
from segtool.core.training.context import RunContext
from segtool.errors import DivergedError

# Height of the pictures that trackers get.
STRIP = 240


@dataclass(frozen=True)
class Validation:
    """The scores of all validation images, the mean over images of the loss at their own size, and their groups."""

    board: ScoreBoard | MultiScoreBoard
    loss: float
    groups: Mapping[str, str | None]

    def write(self, folder: Path) -> None:
        """Write the tables with a row for each image: `per_image.csv` and `pixel_counts.csv`."""
        write_table(folder / "per_image.csv", self.board.table())
        write_table(folder / pixel_counts.NAME, pixel_counts.counts_table(self.board, self.groups))


class Validator:
    """Scores networks, and draws their predictions, on the validation images of a run."""

    def __init__(self, context: RunContext, criterion: Criterion | PlaneCriterion, track: Track) -> None:
        self.context, self.criterion, self.track = context, criterion, track

    def validate(self, network: nn.Module, label: str, records: Sequence[Record] | None = None) -> Validation:
        """Predict and score `records` (default: all validation images), each by one process.

        Every process gets the whole result. The network is left in eval mode.

        Raises:
            DivergedError: the network outputs NaN, here or in another process.
        """
        records = self.context.valid if records is None else records
        dataset, world, predictor = self.context.dataset, self.context.world, self._predictor(network)
        groups = predictor.group([image_size(record.image) for record in records])
        mine = groups[world.rank :: world.size]
        workers = self.context.settings.machine.workers
        reading = read_ahead(lambda group: [dataset.read_pair(records[i]) for i in group], mine, workers)
        rows: list[tuple[int, np.ndarray, float]] = []
        diverged: DivergedError | None = None
        try:
            for group, pairs in self.track(reading, total=len(mine), label=label):
                for index, probs, (_, mask) in zip(group, predictor([image for image, _ in pairs]), pairs, strict=True):
                    rows.append((index, self._count(mask, probs), map_loss(self.criterion, probs, mask)))
        except DivergedError as error:
            # Raised once all processes are here, since the others would wait for the rows of this one.
            diverged = error
        if failure := next(filter(None, world.gather(diverged)), None):
            raise failure
        losses = []
        board = MultiScoreBoard(dataset.classes) if dataset.multi else ScoreBoard(dataset.classes)
        for index, matrix, loss in sorted((row for part in world.gather(rows) for row in part), key=lambda row: row[0]):
            board.add(records[index].image_id, matrix)
            losses.append(loss)
        group_of = {record.image_id: record.group for record in records}
        return Validation(board, float(np.mean(losses)), group_of)

    def draw(self, network: nn.Module, epoch: int) -> list[Overlay]:
        """Draw a sheet of some validation images, always the same ones, with their masks and predictions."""
        settings, dataset = self.context.settings, self.context.dataset
        predictor, rows = self._predictor(network), []
        for record in limit(self.context.valid, settings.loop.save_images):
            image, mask = dataset.read_pair(record)
            rows.append((record.image_id, image, mask, self._decide(predictor([image])[0])))
        path = settings.output.out / "images" / f"epoch_{epoch:03d}.png"
        write_sheet(path, rows, dataset.classes, dataset.palette, multi=dataset.multi)
        colours = class_colours(len(dataset.classes), dataset.palette, background=not dataset.multi)
        return [
            Overlay(caption, to_rgb(image), truth, pred, picture_strip(image, (truth, pred), colours, STRIP))
            for caption, image, truth, pred in rows
        ]

    def _decide(self, probs: Probs) -> Array:
        return decide_planes(quantise(probs)).view(np.uint8) if self.context.dataset.multi else decide(probs)

    def _count(self, mask: Array, probs: Probs) -> Matrix:
        pred, dataset = self._decide(probs), self.context.dataset
        return plane_counts(mask, pred) if dataset.multi else confusion(mask, pred, len(dataset.classes))

    def _predictor(self, network: nn.Module) -> Predictor:
        # Not kept, since a predictor folds the current weights.
        return Predictor([Member(self.context.spec, network.eval())], self.context.device)


@torch.inference_mode()
def map_loss(criterion: Criterion | PlaneCriterion, probs: Probs, mask: np.ndarray) -> float:
    """Return the training loss of one probability map, from logits that give the same probabilities."""
    if isinstance(criterion, PlaneCriterion):
        logits = torch.from_numpy(probs)[None].logit(eps=1e-6)
    else:
        logs = torch.from_numpy(probs)[None].clamp(min=1e-7).log()
        logits = logs[:, 1:] - logs[:, :1] if logs.shape[1] == 2 else logs
    masks = torch.from_numpy(mask)[None]
    return float(criterion(logits, masks, torch.ones(1), UpdateTotals(criterion.pixels(masks), 1)))
