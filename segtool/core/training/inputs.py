"""The input of a run; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from segtool.core.dataloading.pipeline_file import pipeline_digest
from segtool.core.dataloading.soft_targets import check_soft
from segtool.core.dataset.dataset import Dataset, Record, load_dataset
from segtool.core.dataset.extra import extra_digests, read_extras
from segtool.core.dataset.relabel import relabel
from segtool.core.dataset.selection import only_digest, select
from segtool.core.losses.class_weights import class_weights_digest
from segtool.core.models.weight_files import init_digest, weights_digest
from segtool.errors import UsageError
from segtool.settings.train import TrainSettings


def read_images(settings: TrainSettings) -> tuple[Dataset, list[Record], list[Record]]:
    """Read the data set, and choose its images for training and for validation."""
    dataset = load_dataset(settings.data)
    settings.loss.check_classes(len(dataset.classes), multi=dataset.multi)
    if dataset.multi and settings.augmentation.snapmix:
        raise UsageError("--snapmix: the data set has labels: multi, for which it is not defined; use --cutmix")
    train, valid = select(dataset, settings.folds)
    train = relabel(settings.extras, dataset, train)
    train += read_extras(settings.extras, dataset, settings.folds.max_samples)
    check_soft(train, settings.augmentation, settings.loss)
    return dataset, train, valid


def settings_for(settings: TrainSettings, dataset: Dataset) -> TrainSettings:
    """Return the settings as the run and its stamp have them, with the default loss of its labels."""
    return replace(settings, loss=settings.loss.for_planes()) if dataset.multi else settings


def digests(settings: TrainSettings, dataset: Dataset, train: list[Record], valid: list[Record]) -> dict[str, str]:
    """Return digests of everything that a run reads: images, masks, and files named by options."""
    return {
        **{f"train {k}": v for k, v in dataset.digests([r for r in train if r.origin is None]).items()},
        **extra_digests(train),
        **{f"valid {k}": v for k, v in dataset.digests(valid).items()},
        **({} if settings.model.init else weights_digest(settings.model)),
        **init_digest(settings.model.init),
        **only_digest(settings.folds.only),
        **pipeline_digest(settings.augmentation.augment),
        **class_weights_digest(settings.loss.class_weights),
    }


def how_to_train_on(settings: TrainSettings, stamp: Mapping[str, Any]) -> str:
    """Return the end of the error that refuses a finished run of fewer epochs, whose stamp is given."""
    epochs = stamp.get("settings", {}).get("epochs") if "outputs" in stamp and stamp["command"] == "train" else None
    if not epochs or epochs >= settings.loop.epochs:
        return ""
    # A time limit or patience may have ended it before the last planned epoch.
    out, more = settings.output.out, settings.loop.epochs - stamp.get("epochs", epochs)
    return (
        f". To continue from its best weights, run this command with --init {out} --epochs {more} -o {out}_more: a new"
        " run with its own schedule"
    )
