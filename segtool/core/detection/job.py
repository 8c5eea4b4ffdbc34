"""`roi crop --detector`: train the detector, or go on with it, and have it find the objects."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.detection.examples import Examples, fit, read_objects
from segtool.core.detection.files import DETECTIONS, DETECTOR
from segtool.core.detection.training import Trainer, read_state
from segtool.core.formats.coco_results import write_results
from segtool.core.geometry import Box
from segtool.core.images import image_size
from segtool.core.models.build import NetworkSpec, check_encoder
from segtool.core.models.normalisation import normalisation
from segtool.core.models.weight_files import weights_digest
from segtool.core.reporting.progress import Track
from segtool.core.runtime.distributed import compute, require_one_process
from segtool.core.runtime.memory import memory_errors
from segtool.settings.roi import DetectorSettings, RoiCropSettings


def digests(settings: DetectorSettings, dataset: Dataset, train: Sequence[Record]) -> dict[str, str]:
    """Digests of what a detector is trained on: images, masks, and a file of encoder weights.

    Raises:
        UsageError: an unknown encoder.
        SegtoolError: a file is missing.
    """
    check_encoder(settings.encoder)
    seen = {f"train {key}": digest for key, digest in dataset.digests(train).items()}
    return {**seen, **weights_digest(settings.model)}


def detect(
    settings: RoiCropSettings,
    dataset: Dataset,
    train: Sequence[Record],
    records: Sequence[Record],
    wanted: Sequence[int],
    folder: Path,
    track: Track,
) -> tuple[Path, list[float]]:
    """Train a detector on the components in the masks of `train`, and write what it finds in `records`.

    In `folder` it keeps its state, `detector.pt`, and its boxes, a COCO results file `detections.json`: neither is made
    again where it is there, whole, and the same as if nothing had come between.

    Args:
        wanted: ids of the classes whose pixels are objects.

    Returns:
        The results file, and the mean loss of each epoch.

    Raises:
        SegtoolError: no mask has an object, an image or weights are broken, the loss became NaN, or memory is short.
        UsageError: the encoder gives no feature pyramid.
    """
    state, file = folder / DETECTOR, folder / DETECTIONS
    if file.exists():
        # Whoever wants the room may have removed the detector.
        return file, list(read_state(state)["losses"]) if state.exists() else []
    require_one_process("roi crop --detector")
    for record in records:
        # What is missing or broken is better known before hours of training.
        image_size(record.image)
    labels = tuple(dataset.classes[index] for index in wanted)
    objects = read_objects(dataset, train, wanted, settings.min_area, track)
    examples = Examples(dataset, train, objects, labels, settings.training.seed)
    with compute(settings.machine, deterministic=True) as (device, _), memory_errors("try a smaller --batch"):
        trainer = Trainer(settings.training, _spec(settings.training, dataset, labels), examples, device)
        trainer.run(state, track)
        trainer.network.eval()
        found = {
            record.image_id: list(_find(trainer, dataset, record))
            for record in track(records, total=len(records), label="detecting")
        }
    write_results(file, found, dataset.classes)
    return file, trainer.losses


def _spec(settings: DetectorSettings, dataset: Dataset, labels: tuple[str, ...]) -> NetworkSpec:
    colours = normalisation(settings.model, dataset.channels)
    return NetworkSpec(
        arch="faster-rcnn",
        encoder=settings.encoder,
        classes=labels,
        channels=dataset.channels,
        mean=colours.mean,
        std=colours.std,
        resize=None,
        precision="fp32",
    )


@torch.no_grad()
def _find(trainer: Trainer, dataset: Dataset, record: Record) -> Iterator[Box]:
    """The objects of an image, alone so that they hang on no other; those thinner than a pixel are none."""
    image, scale = fit(dataset.read_image(record))
    (answer,) = trainer.network([trainer.inputs(image)])
    boxes = answer["boxes"].cpu().numpy() / scale
    for place, label, score in zip(boxes.tolist(), answer["labels"].tolist(), answer["scores"].tolist(), strict=True):
        left, top, right, bottom = place
        if min(right - left, bottom - top) >= 1:
            yield Box(left, top, right - left, bottom - top, trainer.spec.classes[label - 1], score)
