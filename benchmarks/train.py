"""Training speed: segtool's loop against the plainest PyTorch loop, same network, augmentation, loader settings.

Both train in turn, a few updates at a time, in one process; the ratio is the median over the turns. `basic` is what
`segtool train` does by default; `all` has the heavy preset, mixup, CutMix and an average of the weights as well, which
the plain loop has as they are usually written: batches mixed with themselves, and torch's AveragedModel. Needs CamVid,
at $SEGTOOL_DATA/camvid.

    SEGTOOL_DATA=<folder> python benchmarks/train.py --parts basic all
"""

import argparse
import math
import os
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from segtool.core.dataloading.augmentation import Augmentation
from segtool.core.dataloading.batches import Collate
from segtool.core.dataloading.loader import make_loader
from segtool.core.dataloading.samples import TrainingSamples
from segtool.core.dataloading.sampling import BatchPlan
from segtool.core.dataloading.training_units import TrainingUnits
from segtool.core.dataset import dataset as catalog
from segtool.core.losses.criterion import Criterion
from segtool.core.models.build import NetworkSpec, build_network
from segtool.core.optim.optimizer import make_optimizer
from segtool.core.runtime.distributed import World
from segtool.core.training.update import Updater
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.data import SizeSettings
from segtool.settings.loss import LossSettings
from segtool.settings.optimizer import OptimizerSettings
from segtool.values import Size

PARTS = {"basic": AugmentationSettings(), "all": AugmentationSettings(augment="heavy", mixup=0.4, cutmix=1)}
DECAY = {"basic": 0.0, "all": 0.999}
ENCODER, CROP, CLASSES, SEED = "tu-tf_efficientnet_lite0", Size(256, 256), 11, 0
MEAN = STD = (0.5, 0.5, 0.5)
FILL = (128, 128, 128)


def read_camvid() -> catalog.Dataset:
    """The training part, straight from its folders."""
    root = Path(os.environ["SEGTOOL_DATA"]) / "camvid"
    records = tuple(
        catalog.Record(p.stem, p, root / "trainannot" / f"{p.stem}.png") for p in sorted((root / "train").glob("*.jpg"))
    )
    return catalog.Dataset(root, tuple(map(str, range(CLASSES))), ignore_index=11, train=records)


class PlainSamples(Dataset):
    """What everyone writes: read, augment, normalise to a float tensor."""

    def __init__(self, dataset: catalog.Dataset, settings: AugmentationSettings) -> None:
        self.dataset, self.augment = dataset, Augmentation(settings, SizeSettings(crop=CROP), FILL)

    def __len__(self) -> int:
        return len(self.dataset.train)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = self.dataset.read_pair(self.dataset.train[index])
        image, mask = self.augment(image, mask, SEED, index)
        pixels = (image.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), torch.from_numpy(mask).long()


def mix_batch(
    images: torch.Tensor, masks: torch.Tensor, settings: AugmentationSettings
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, float]:
    """Half of the batches mixed with themselves; also the second masks of mixup, and what the first count."""
    if not settings.mixing or random.random() >= settings.mix_share:
        return images, masks, None, 1.0
    others, kind = torch.randperm(len(images)), random.choice(("mixup", "cutmix"))
    stays = random.betavariate(getattr(settings, kind), getattr(settings, kind))
    if kind == "mixup":
        return stays * images + (1 - stays) * images[others], masks, masks[others], stays
    half, centre = CROP.height * math.sqrt(1 - stays) / 2, [random.randrange(CROP.height) for _ in range(2)]
    rows, columns = (slice(max(0, round(c - half)), round(c + half)) for c in centre)
    images[:, :, rows, columns] = images[others][:, :, rows, columns]
    masks[:, rows, columns] = masks[others][:, rows, columns]
    return images, masks, None, 1.0


def plain_loop(dataset: catalog.Dataset, batch: int, workers: int, parts: str) -> Iterator[None]:
    """The plainest loop; one update for each `next`."""
    torch.manual_seed(SEED)
    network = smp.create_model("unet", ENCODER, encoder_weights=None, classes=CLASSES).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    ce = torch.nn.CrossEntropyLoss(ignore_index=255)
    dice = smp.losses.DiceLoss("multiclass", ignore_index=255)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(DECAY[parts])) if DECAY[parts] else None
    samples = PlainSamples(dataset, PARTS[parts])
    loader = DataLoader(samples, batch, shuffle=True, num_workers=workers, drop_last=True)
    while True:
        for images, masks in loader:
            images, masks, seconds, stays = mix_batch(images, masks, PARTS[parts])
            logits = network(images)
            loss = ce(logits, masks) + dice(logits, masks)
            if seconds is not None:
                loss = stays * loss + (1 - stays) * (ce(logits, seconds) + dice(logits, seconds))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if average:
                average.update_parameters(network)
            loss.item()  # as a progress bar would
            yield


def segtool_loop(dataset: catalog.Dataset, batch: int, workers: int, parts: str) -> Iterator[None]:
    """The parts that `segtool train` is made of."""
    torch.manual_seed(SEED)
    spec = NetworkSpec("unet", ENCODER, dataset.classes, 3, MEAN, STD, None, "fp32")
    network = build_network("unet", ENCODER, 3, CLASSES).to(memory_format=torch.channels_last).train()
    options = OptimizerSettings(batch=batch)
    optimizer, criterion = make_optimizer(network, options), Criterion(LossSettings(loss="ce+dice"))
    more = {"clip": 0.0, "seed": SEED, "device": "cpu", "world": World(), "ema": DECAY[parts]}
    updater = Updater(network, spec, optimizer, criterion, **more)
    augment = Augmentation(PARTS[parts], SizeSettings(crop=CROP), FILL)
    samples = TrainingSamples(dataset, TrainingUnits(dataset.train), None, augment, SEED)
    plan = BatchPlan(len(dataset.train), batch=batch, accumulate=1, seed=SEED, epochs=range(1000))
    for number, micro in enumerate(make_loader(samples, plan, Collate(FILL, 32), workers)):
        updater.step([micro], 1.0, 0, number)
        yield


def seconds(loop: Iterator[None], updates: int) -> float:
    """Seconds of so many updates."""
    started = time.perf_counter()
    for _ in range(updates):
        next(loop)
    return time.perf_counter() - started


def compare(parts: str, dataset: catalog.Dataset, args: argparse.Namespace) -> None:
    """Time both loops in turn and print how fast they are."""
    loops = {"plain loop": plain_loop, "segtool": segtool_loop}
    running = {name: make(dataset, args.batch, args.workers, parts) for name, make in loops.items()}
    for loop in running.values():
        seconds(loop, 2)
    turns = [{name: seconds(loop, args.updates) for name, loop in running.items()} for _ in range(args.turns)]
    print(
        f"{parts}: unet {ENCODER}, crop {CROP}, batch {args.batch}, {args.workers} worker(s),"
        f" {torch.get_num_threads()} threads,"
    )
    print(f"ce+dice, AdamW, {args.turns} turns of {args.updates} updates each; images/s, median over the turns")
    for name in loops:
        print(f"{name:>12}: {args.updates * args.batch / statistics.median(t[name] for t in turns):6.2f}")
    ratios = [turn["plain loop"] / turn["segtool"] for turn in turns]
    print(f"segtool / plain loop: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    """One kind of run after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=["basic"])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--updates", type=int, default=5, help="per turn")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    dataset = read_camvid()
    for parts in args.parts:
        compare(parts, dataset, args)


if __name__ == "__main__":
    main()
