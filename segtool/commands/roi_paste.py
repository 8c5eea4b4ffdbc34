"""`segtool roi paste`: paste the predictions of crops into the full images."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segtool.core.artifacts import output as artifacts
from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, load_dataset
from segtool.core.dataset.masks import masks_glob
from segtool.core.files import digest_file
from segtool.core.predictions.folder import Predictions, open_predictions
from segtool.core.predictions.ground_truth import check_classes
from segtool.core.predictions.probability_maps import Probs
from segtool.core.predictions.writer import OWNS, output_files, write_index, write_predictions
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.core.roi.crops import BOXES, read_boxes
from segtool.core.roi.pasting import complete_images, fits_of, pasted_bands, pasted_out_of_fold
from segtool.errors import UsageError
from segtool.settings.roi import RoiPasteSettings

log = logging.getLogger(__name__)


def run(settings: RoiPasteSettings) -> Result:
    """Combine the predictions of the crops of each image, and write a prediction folder as `predict` would."""
    stamp, crops = _open_crops(settings.crops)
    preds = open_predictions(settings.preds)
    base = open_predictions(settings.base) if settings.base else None
    _check(preds, crops, base)
    images = {image.image_id: image for image in complete_images(read_boxes(settings.crops / BOXES), preds, base)}
    output = Output(settings.output, "roi paste", owns=OWNS)
    inputs = {"boxes": digest_file(settings.crops / BOXES), **preds.digests(probs=True)}
    if base:
        inputs |= {f"base {key}": digest for key, digest in base.digests(probs=True).items()}

    def bands(image_id: str) -> Iterator[Probs]:
        below = base.open_probs(image_id) if base else None
        image, count = images[image_id], len(crops.classes)
        return pasted_bands(image, count, lambda crop: preds.open_probs(crop.crop_id), below, multi=crops.multi)

    sizes = {image_id: image.size for image_id, image in images.items()}
    track = tracker(settings.output.quiet)
    with output.writing(settings, inputs, keep=masks_glob(crops.labels)):
        if output.done:
            return output.up_to_date()
        write_predictions(
            output.path,
            sizes,
            len(crops.classes),
            bands,
            palette=crops.palette,
            track=track,
            label="pasting",
            planes=crops.planes,
        )
        unseen = pasted_out_of_fold(list(images.values()), preds, base)
        members = [*preds.members, *stamp.get("members", ()), *(base.members if base else ())]
        members = [member for number, member in enumerate(members) if member not in members[:number]]
        write_index(
            output.path,
            sizes,
            unseen,
            classes=crops.classes,
            subset=preds.subset,
            members=members,
            data=settings.crops / stamp["data"],
            fits=fits_of(list(images.values()), preds, base),
            labels=crops.labels,
        )
        output.finish(output_files(output.path, sizes, keep_probs=True, labels=crops.labels))
    if len(preds.oof) == len(preds.ids) and (seen := len(sizes) - len(unseen)):
        log.warning("%d images do not count as out-of-fold: whatever located their objects has seen them", seen)
    count = sum(len(image.crops) for image in images.values())
    return Result(f"{output.path}: {len(sizes)} images ({preds.subset}) of {count} crops")


def _open_crops(folder: Path) -> tuple[dict[str, Any], Dataset]:
    stamp = artifacts.require_done(folder, "folder of crops")
    if stamp.get("command") != "roi crop":
        raise UsageError(f"--crops {folder} is an output of `segtool {stamp.get('command')}`, not `segtool roi crop`")
    return stamp, load_dataset(folder)


def _check(preds: Predictions, crops: Dataset, base: Predictions | None) -> None:
    for other in (preds, base):
        if other:
            check_classes(other, crops)
    if base and base.subset != preds.subset:
        raise UsageError(f"--base {base.path} is of the subset {base.subset}, {preds.path} of {preds.subset}")
