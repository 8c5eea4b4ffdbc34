"""What looks at a network between epochs: validation, and pictures of its predictions."""

from collections.abc import Callable

from torch import nn

from segtool.core.catalog import Dataset, Record
from segtool.core.inference.predictor import Member, Predictor
from segtool.core.probmaps import decide
from segtool.core.reporting.pictures import write_sheet
from segtool.core.reporting.progress import Track
from segtool.core.selection import limit
from segtool.core.training.update import Updater
from segtool.core.training.validation import Validation, validate
from segtool.settings.train import TrainSettings

# Scores a network; its argument is a label for the progress.
Validate = Callable[[str], Validation]


class Judges:
    """Validation of networks, and pictures, on the validation images of a run."""

    def __init__(
        self, settings: TrainSettings, dataset: Dataset, valid: list[Record], updater: Updater, track: Track
    ) -> None:
        self.settings, self.dataset, self.valid, self.updater, self.track = settings, dataset, valid, updater, track

    def of(self, network: nn.Module, records: list[Record] | None = None) -> Validate:
        """Scores `network`, as it is when called, on all validation images or on some."""
        return lambda label: validate(
            self._predictor(network),
            self.dataset,
            self.valid if records is None else records,
            self.updater.criterion,
            workers=self.settings.machine.workers,
            world=self.updater.world,
            track=self.track,
            label=label,
        )

    def draw(self, epoch: int) -> None:
        """A sheet of some validation images, always the same, with their truths and predictions."""
        predictor, rows = self._predictor(self.updater.network.eval()), []
        for record in limit(self.valid, self.settings.loop.save_images):
            image, truth = self.dataset.read_pair(record)
            rows.append((record.image_id, image, truth, decide(predictor([image])[0])))
        path = self.settings.output.out / "images" / f"epoch_{epoch:03d}.png"
        write_sheet(path, rows, self.dataset.classes, self.dataset.palette)

    def _predictor(self, network: nn.Module) -> Predictor:
        # Made anew each time: it folds the weights of the moment.
        return Predictor([Member(self.updater.spec, network)], self.updater.device)
