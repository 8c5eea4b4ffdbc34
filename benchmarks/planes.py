"""Overlapping classes: segtool against the plain PyTorch loop, images per second and peak memory.

    python benchmarks/planes.py [--turns 3] [--classes 29]

Training and prediction of 29 classes at 512x512 and prediction of one image at 2048x2048, by the same U-Net with a
lite0 encoder and random weights. The plain script is what people write: pycocotools decodes all planes of an image to
float32, albumentations flips them, `BCEWithLogitsLoss`; for prediction the sigmoid of a batch of one, masks from 0.5
on, run lengths class by class. Each side runs in a process of its own, in turn; its seconds are measured inside,
without imports, its peak memory (with Python and torch) from outside. `segtool` is the parts that its commands are made
of.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch.utils.data import DataLoader

from segtool.core.dataset.dataset import Dataset, Record, load_dataset, write_dataset
from segtool.core.planes import Planes, write_planes
from segtool.values import Size

ENCODER, BATCH, IMAGES, SEED = "tu-tf_efficientnet_lite0", 2, 12, 0
MEAN = STD = (0.5, 0.5, 0.5)
JOBS = ("train 512", "predict 512", "predict 2048")


def make_data(folder: Path, classes: int) -> None:
    """Write images with two boxes of each class, which overlap, and one test image of 2048x2048."""
    random = np.random.default_rng(SEED)
    records = []
    for index in range(IMAGES + 1):
        side = 2048 if index == IMAGES else 512
        planes = np.zeros((classes, side, side), np.uint8)
        for plane in planes:
            for _ in range(2):
                top, left = random.integers(0, side * 3 // 4, 2)
                height, width = random.integers(side // 16, side // 4, 2)
                plane[top : top + height, left : left + width] = 1
        image, mask = folder / f"{index}.jpg", folder / f"masks/{index}.json"
        cv2.imwrite(str(image), random.integers(0, 255, (side, side, 3), np.uint8))
        write_planes(mask, Planes.of(planes), [f"c{number}" for number in range(classes)])
        records.append(Record(str(index), image, mask))
    names = tuple(f"c{number}" for number in range(classes))
    write_dataset(folder, Dataset(folder, names, labels="multi", train=tuple(records)))


class PlainSamples(torch.utils.data.Dataset):
    """Decode, flip, normalise."""

    def __init__(self, dataset: Dataset, records: list[Record]) -> None:
        self.dataset, self.records = dataset, records
        self.flip = A.HorizontalFlip(p=0.5)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        record = self.records[index]
        image = cv2.cvtColor(cv2.imread(str(record.image)), cv2.COLOR_BGR2RGB)
        content = json.loads(record.mask.read_text())
        masks = np.zeros((*image.shape[:2], len(self.dataset.classes)), np.float32)
        for number, name in enumerate(self.dataset.classes):
            if name in content["classes"]:
                masks[..., number] = coco_mask.decode({"size": content["size"], "counts": content["classes"][name]})
        changed = self.flip(image=image, mask=masks)
        return to_tensor(changed["image"]), torch.from_numpy(changed["mask"].transpose(2, 0, 1).copy())


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """Normalise (H, W, 3)."""
    pixels = (image.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def plain_network(classes: int) -> torch.nn.Module:
    import segmentation_models_pytorch as smp

    torch.manual_seed(SEED)
    return smp.create_model("unet", ENCODER, encoder_weights=None, classes=classes)


def plain_train(dataset: Dataset, records: list[Record]) -> float:
    network = plain_network(len(dataset.classes)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    criterion = torch.nn.BCEWithLogitsLoss()
    loader = DataLoader(PlainSamples(dataset, records), BATCH, shuffle=True)
    start = time.perf_counter()
    for images, masks in loader:
        loss = criterion(network(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    return time.perf_counter() - start


def segtool_train(dataset: Dataset, records: list[Record]) -> float:
    from segtool.core.dataloading.augmentation import Augmentation
    from segtool.core.dataloading.batches import Collate
    from segtool.core.dataloading.loader import make_loader
    from segtool.core.dataloading.samples import TrainingSamples
    from segtool.core.dataloading.sampling import BatchPlan
    from segtool.core.dataloading.training_units import TrainingUnits
    from segtool.core.losses.plane_criterion import PlaneCriterion
    from segtool.core.models.build import NetworkSpec
    from segtool.core.optim.optimizer import make_optimizer
    from segtool.core.runtime.distributed import World
    from segtool.core.training.update import Updater
    from segtool.settings.augmentation import AugmentationSettings
    from segtool.settings.data import SizeSettings
    from segtool.settings.loss import LossSettings
    from segtool.settings.optimizer import OptimizerSettings

    network = plain_network(len(dataset.classes)).to(memory_format=torch.channels_last).train()
    spec = NetworkSpec("unet", ENCODER, dataset.classes, 3, MEAN, STD, None, "fp32", labels="multi")
    criterion, optimizer = (
        PlaneCriterion(LossSettings(loss="bce")),
        make_optimizer(network, OptimizerSettings(batch=BATCH)),
    )
    more = {"clip": 0.0, "seed": SEED, "device": "cpu", "world": World()}
    updater = Updater(network, spec, optimizer, criterion, **more)
    fill = (128, 128, 128)
    augmentation = Augmentation(AugmentationSettings(augment="none", scale=(1, 1)), SizeSettings(), fill)
    samples = TrainingSamples(dataset, TrainingUnits(tuple(records)), None, augmentation, SEED)
    plan = BatchPlan(len(records), batch=BATCH, accumulate=1, seed=SEED, epochs=range(1))
    start = time.perf_counter()
    for number, micro in enumerate(make_loader(samples, plan, Collate(fill, 32), 0)):
        updater.step([micro], 1.0, 0, number)
    return time.perf_counter() - start


@torch.no_grad()
def plain_predict(dataset: Dataset, records: list[Record]) -> float:
    network = plain_network(len(dataset.classes)).eval()
    start = time.perf_counter()
    for record in records:
        image = to_tensor(cv2.cvtColor(cv2.imread(str(record.image)), cv2.COLOR_BGR2RGB))
        probs = torch.sigmoid(network(image[None]))[0].numpy()
        for plane in probs > 0.5:
            coco_mask.encode(np.asfortranarray(plane.astype(np.uint8)))
    return time.perf_counter() - start


def segtool_predict(dataset: Dataset, records: list[Record]) -> float:
    from segtool.core.inference.predictor import Member, Predictor
    from segtool.core.models.build import NetworkSpec
    from segtool.core.predictions.plane_decision import GrowingPlanes, PlaneDecision

    network = plain_network(len(dataset.classes)).to(memory_format=torch.channels_last).eval()
    spec = NetworkSpec("unet", ENCODER, dataset.classes, 3, MEAN, STD, None, "fp32", labels="multi")
    predictor, rule = Predictor([Member(spec, network)], "cpu"), PlaneDecision.half(len(dataset.classes))
    start = time.perf_counter()
    for record in records:
        image = dataset.read_image(record)
        growing = GrowingPlanes(rule, Size(*image.shape[:2]))
        for band in predictor.stream([image]):
            growing.add_probs(band.top, band.probs)
        growing.finish()
    return time.perf_counter() - start


SIDES = {
    "plain": {"train": plain_train, "predict": plain_predict},
    "segtool": {"train": segtool_train, "predict": segtool_predict},
}


def measure(side: str, job: str, folder: Path) -> tuple[float, float]:
    """Run one side in a process; return its images per second and its peak memory in GB."""
    command = [sys.executable, __file__, "--child", side, job, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    rate = float(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{side}: {job} failed")
    return rate, usage.ru_maxrss * 1024 / 1e9


def child(side: str, job: str, folder: Path) -> None:
    """Do one job and print its images per second."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    dataset, (kind, size) = load_dataset(folder), job.split()
    records = list(dataset.train[-1:] if size == "2048" else dataset.train[:-1])
    print(len(records) / SIDES[side][kind](dataset, records))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--classes", type=int, default=29)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--child", nargs=3)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], given.child[1], Path(given.child[2]))
        return
    print("| | plain loop | segtool | ratio | memory of the plain loop | of segtool |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        make_data(Path(name), given.classes)
        for job in given.jobs:
            turns = [{side: measure(side, job, Path(name)) for side in SIDES} for _ in range(given.turns)]
            ratios = [turn["segtool"][0] / turn["plain"][0] for turn in turns]
            (plain, plain_memory), (own, memory) = (
                (statistics.median(t[side][0] for t in turns), max(t[side][1] for t in turns)) for side in SIDES
            )
            print(
                f"| {job} | {plain:.2f} images/s | {own:.2f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to"
                f" {max(ratios):.2f}) | {plain_memory:.2f} GB | {memory:.2f} GB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
