"""What becomes pseudo-labels: predictions, the data set they are of, and which of its images."""

from collections.abc import Sequence
from dataclasses import dataclass

from segtool.core import images
from segtool.core.dataset.dataset import Dataset, Record, load_dataset
from segtool.core.files import digest_file
from segtool.core.predictions.folder import Predictions, open_predictions
from segtool.core.predictions.ground_truth import check_classes, predicted_records
from segtool.core.predictions.probability_maps import ProbReader
from segtool.core.predictions.pseudo_labels import Ints, confident_share, read_worst
from segtool.errors import SegtoolError, UsageError
from segtool.settings.pseudo import PseudoSettings
from segtool.values import Size


@dataclass(frozen=True)
class Task:
    """What becomes masks: predictions, and the records of their images."""

    settings: PseudoSettings
    preds: Predictions
    dataset: Dataset
    records: Sequence[Record]

    def inputs(self) -> dict[str, str]:
        """Digests of everything that is read."""
        data = {f"data {key}": value for key, value in self.dataset.digests(self.records).items()}
        noise = {"replace": digest_file(self.settings.replace)} if self.settings.replace else {}
        return {**self.preds.digests(probs=True), **data, **noise}

    def is_kept(self, counts: Ints) -> bool:
        """Whether an image counts; one without any confident pixel tells nothing."""
        share = confident_share(counts)
        return share > 0 and share >= self.settings.min_share

    def probs(self, image_id: str) -> ProbReader:
        """The probabilities of an image, of the size and classes of the predictions."""
        return self.preds.open_probs(image_id)

    def given(self, record: Record) -> images.Array | None:
        """The mask that is corrected, if one is."""
        if not self.settings.replace:
            return None
        mask, size = self.dataset.read_mask(record), self.preds.sizes[record.image_id]
        if mask.shape != size:
            raise SegtoolError(f"mask {record.mask} is {Size(*mask.shape)} (HxW), but its image is {size}")
        return mask


def read_task(settings: PseudoSettings) -> Task:
    """Open the predictions and their data set, and choose the images.

    Raises:
        SegtoolError, UsageError: they do not belong together, or masks are to be corrected and the predictions are not
            out-of-fold.
    """
    preds = open_predictions(settings.preds)
    dataset = _dataset(settings, preds)
    records = _suspicious(settings, preds, dataset) if settings.replace else predicted_records(preds, dataset)
    return Task(settings, preds, dataset, records)


def _dataset(settings: PseudoSettings, preds: Predictions) -> Dataset:
    """The data set that was predicted."""
    path = settings.data or preds.data
    if path is None:
        raise UsageError(f"{preds.path} does not say which data set its images are of: give --data DATA")
    if not path.exists():
        noted_by = "" if settings.data else f" ({preds.path / 'meta.json'} names it); --data DATA says where it is"
        raise SegtoolError(f"data set {path} is not there{noted_by}")
    dataset = load_dataset(path)
    check_classes(preds, dataset)
    return dataset


def _suspicious(settings: PseudoSettings, preds: Predictions, dataset: Dataset) -> list[Record]:
    """The records of the images whose masks are to be corrected; their predictions must be out-of-fold."""
    assert settings.replace and settings.worst
    if preds.subset == "test":
        raise UsageError(f"--replace corrects training masks; {preds.path} holds predictions of the subset test")
    ids = read_worst(settings.replace, settings.worst)
    for image_id in ids:
        if image_id not in preds.sizes:
            raise SegtoolError(f"image {image_id!r} of {settings.replace} was not predicted in {preds.path}")
        if image_id not in preds.oof:
            raise UsageError(
                f"--replace: {preds.path} is not out-of-fold for {image_id!r}: a model repeats the wrong labels it has"
                " learnt. `segtool predict --subset oof` predicts each image by the runs that did not see it"
            )
        if image_id not in dataset.by_id or dataset.by_id[image_id].mask is None:
            raise SegtoolError(f"image {image_id!r} of {settings.replace} has no mask in {dataset.path}")
    return [dataset.by_id[image_id] for image_id in ids]
