"""`roi crop --detector`: train the detector or resume its training, then run it on the images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.intensity import measure_intensity, of_8_bits
from segtool.core.detection.examples import Examples, fit, read_objects
from segtool.core.detection.files import DETECTIONS, DETECTOR
from segtool.core.detection.training import DetectorTrainer, load_state
from segtool.core.formats.coco_results import write_results
from segtool.core.geometry import Box
from segtool.core.images import image_size
from segtool.core.models.build import NetworkSpec
from segtool.core.models.names import check_encoder
from segtool.core.models.normalisation import measured_kind, normalisation
from segtool.core.models.weight_files import weights_digest
from segtool.core.reporting.progress import Track
from segtool.core.runtime.distributed import compute, require_one_process
from segtool.core.runtime.memory import memory_errors
from segtool.settings.roi import DetectorSettings, RoiCropSettings


def digests(settings: DetectorSettings, dataset: Dataset, train: Sequence[Record]) -> dict[str, str]:
    """Return digests of what a detector is trained on: images, masks, and a file of encoder weights.

    Raises:
        UsageError: an unknown encoder.
        SegtoolError: a file is missing.
    """
    check_encoder(settings.encoder)
    data = {f"train {key}": digest for key, digest in dataset.digests(train).items()}
    return {**data, **weights_digest(settings.model)}


def detect(
    settings: RoiCropSettings,
    dataset: Dataset,
    train: Sequence[Record],
    records: Sequence[Record],
    class_ids: Sequence[int],
    folder: Path,
    track: Track,
) -> tuple[Path, list[float]]:
    """Train a detector on the components in the masks of `train`, and write its detections in `records`.

    `folder` holds the detector's state, `detector.pt`, and its detections, the COCO results file `detections.json`. A
    detector that was interrupted resumes, with the same result; detections that exist are not made again.

    Args:
        class_ids: ids of the classes whose pixels are objects.

    Returns:
        The results file, and the mean loss of each epoch.

    Raises:
        SegtoolError: no mask has an object, an image or weights are broken, the loss became NaN, or memory is short.
        UsageError: the encoder gives no feature pyramid.
    """
    state, file = folder / DETECTOR, folder / DETECTIONS
    if file.exists():
        # The user may have removed the detector to save space.
        return file, list(load_state(state)["losses"]) if state.exists() else []
    require_one_process("roi crop --detector")
    for record in records:
        # Better to find missing and broken files before hours of training.
        image_size(record.image)
    labels = tuple(dataset.classes[index] for index in class_ids)
    objects = read_objects(dataset, train, class_ids, settings.min_area, track)
    examples = Examples(dataset, train, objects, labels, settings.training.seed)
    with compute(settings.machine, deterministic=True) as (device, _), memory_errors("try a smaller --batch"):
        spec = _spec(settings.training, dataset, train, labels, track)
        trainer = DetectorTrainer(settings.training, spec, examples, device)
        trainer.run(state, track)
        trainer.network.eval()
        detections = {
            record.image_id: list(_detect(trainer, dataset, record))
            for record in track(records, total=len(records), label="detecting")
        }
    write_results(file, detections, dataset.classes)
    return file, trainer.losses


def _spec(
    settings: DetectorSettings, dataset: Dataset, train: Sequence[Record], labels: tuple[str, ...], track: Track
) -> NetworkSpec:
    kind = measured_kind(settings.model, dataset)
    if kind:
        intensity = measure_intensity(dataset, train, kind, track)
    else:
        colours = normalisation(settings.model, dataset.channels)
        intensity = of_8_bits(colours.mean, colours.std)
    return NetworkSpec(
        arch="faster-rcnn",
        encoder=settings.encoder,
        classes=labels,
        channels=dataset.channels,
        resize=None,
        precision="fp32",
        dtype=dataset.dtype,
        **vars(intensity),
    )


@torch.no_grad()
def _detect(trainer: DetectorTrainer, dataset: Dataset, record: Record) -> Iterator[Box]:
    """Detect objects in a single image, so that they depend on no other; skip boxes thinner than a pixel."""
    image, scale = fit(dataset.read_image(record))
    (output,) = trainer.network([trainer.inputs(image)])
    boxes = output["boxes"].cpu().numpy() / scale
    for box, label, score in zip(boxes.tolist(), output["labels"].tolist(), output["scores"].tolist(), strict=True):
        left, top, right, bottom = box
        if min(right - left, bottom - top) >= 1:
            yield Box(left, top, right - left, bottom - top, trainer.spec.classes[label - 1], score)
