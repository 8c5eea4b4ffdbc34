"""A tiny data set of classes that overlap, and runs of untrained networks of it."""

from pathlib import Path

import numpy as np
from PIL import Image

from segtool.core.dataset.dataset import Dataset, Record, load_dataset, write_dataset
from segtool.core.files import write_json
from segtool.core.planes import Planes, write_planes

CLASSES = ("hand", "ring", "nail")


def draw_planes(index: int, height: int = 32, width: int = 32) -> np.ndarray:
    """Two boxes that overlap and, in every second image, a stripe; the top row is ignored, uint8 (3, H, W)."""
    planes = np.zeros((3, height, width), np.uint8)
    planes[0, 2 + index : 20 + index, 3:20] = 1
    planes[1, 10 : 16 + index, 8:28] = 1
    planes[2, :, width - 4 :] = index % 2
    planes[:, 0] = 255
    return planes


def write_overlapping(folder: Path, train: int = 4, test: int = 2, unknown: int | None = None) -> Dataset:
    """Write a data set of 32x32 images; in the image `unknown` nobody looked for nails."""
    random = np.random.default_rng(0)
    records: dict[str, list[Record]] = {"train": [], "test": []}
    for part, count in (("train", train), ("test", test)):
        for index in range(count):
            image_id, planes = f"{part}_{index}", draw_planes(index)
            image = folder / "images" / f"{image_id}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            pixels = 60 + 60 * (planes == 1).transpose(1, 2, 0) + random.integers(0, 40, (32, 32, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(image)
            if index == unknown:
                planes[2] = 255
            path = folder / "masks" / f"{image_id}.json"
            if part == "train":
                write_planes(path, Planes.of(planes), CLASSES)
            records[part].append(Record(image_id, image, path if part == "train" else None, f"scene{index}"))
    parts = {part: tuple(rows) for part, rows in records.items()}
    write_dataset(folder, Dataset(folder / "dataset.yaml", CLASSES, labels="multi", **parts))
    return load_dataset(folder)


def write_run(folder: Path, labels: str = "multi", seed: int = 0, *, aux_head: bool = False) -> Path:
    """Write the folder of a run that ended before it learnt anything."""
    import torch

    from segtool.core.dataset.seen_images import write_samples
    from segtool.core.models.build import NetworkSpec, build_network
    from segtool.core.models.checkpoint import save_checkpoint

    spec = NetworkSpec(
        "linknet", "tu-test_efficientnet", CLASSES, 3, (0.4,) * 3, (0.2,) * 3, None, "fp32", aux_head, labels=labels
    )
    torch.manual_seed(seed)
    network = build_network(spec.arch, spec.encoder, 3, spec.outputs, spec.aux_outputs)
    save_checkpoint(folder / "best.pt", spec, network, epoch=1)
    write_samples(folder / "samples.csv", Dataset(folder, CLASSES), [], [])
    write_json(folder / "config.json", {"network": spec.plain()})
    write_json(folder / "done.json", {"command": "train"})
    return folder


def write_noisy_predictions(folder: Path, dataset: Dataset, scale: float = 0.25) -> Path:
    """Write a finished prediction folder of the training images: about 0.7 in the objects and 0.3 outside."""
    from segtool.core.predictions.writer import PredictionWriter, write_index
    from segtool.values import Size

    size, random = Size(32, 32), np.random.default_rng(3)
    ids = [record.image_id for record in dataset.train]
    with PredictionWriter(folder, keep_probs=True, palette=None, planes=CLASSES) as writer:
        for index, image_id in enumerate(ids):
            noise = random.normal(scale=scale, size=(3, *size))
            probs = np.clip(0.3 + 0.4 * (draw_planes(index) == 1) + noise, 0, 1)
            writer.write(image_id, size, 0, probs.astype(np.float32))
    members = [{"run": "a", "digest": "network"}]
    sizes = dict.fromkeys(ids, size)
    write_index(folder, sizes, ids, classes=CLASSES, subset="oof", members=members, labels="multi")
    write_json(folder / "done.json", {"command": "predict"})
    return folder
