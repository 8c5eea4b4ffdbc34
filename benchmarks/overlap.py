"""What is lost where overlapping classes are squeezed into one class per pixel.

    python benchmarks/overlap.py -o OUT [--seeds 0 1 2] [--epochs 15]

Draws `demo --labels multi`, and the same images with one class per pixel: in an overlap the class with more pixels in
the image wins, as in the usual conversion. Both are trained on three folds, predicted by the average of the three,
decided by thresholds fitted out-of-fold, and scored against the true planes of the test images: mean Dice over images
and classes, where an empty class that is predicted as empty counts 1. The difference has an interval from a bootstrap
over scenes and seeds. Runs that are done stay done.
"""

import argparse
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from segtool.core.dataset.dataset import Dataset, load_dataset, write_dataset
from segtool.core.images import IGNORE, read_indices, write_mask
from segtool.core.planes import Planes, write_planes

NETWORK = ("--arch", "fpn", "--encoder", "resnet18", "--encoder-weights", "none", "--batch", 4, "--lr", 3e-3)
NETWORK += ("--scale", "0.9,1.1", "--threads", 1)
LOSSES = {"multi": "bce+dice", "single": "ce+dice"}
REPEATS = 2000


def segtool(*arguments: object) -> None:
    subprocess.run(["segtool", *map(str, arguments), "--quiet"], check=True)


def squeeze(multi: Dataset, folder: Path) -> None:
    """Write the data set with one class per pixel, the background first."""
    records = []
    for record in multi.train:
        planes = multi.read_mask(record)
        order = np.argsort([(plane == 1).sum() for plane in planes])
        mask = np.zeros(planes.shape[1:], np.uint8)
        for index in order:
            mask[planes[index] == 1] = index + 1
        mask[(planes == IGNORE).all(0)] = IGNORE
        path = folder / "masks" / f"{record.image_id}.png"
        write_mask(path, mask)
        records.append(replace(record, mask=path))
    classes = ("background", *multi.classes)
    single = Dataset(folder / "dataset.yaml", classes, train=tuple(records), test=multi.test)
    write_dataset(folder, single)


def unsqueeze(preds: Path, masks: Path, multi: Dataset) -> None:
    """Write predicted class ids as planes, so that both sides are scored alike."""
    for record in multi.test:
        mask = read_indices(preds / "masks" / f"{record.image_id}.png")
        planes = (mask == np.arange(1, len(multi.classes) + 1)[:, None, None]).astype(np.uint8)
        write_planes(masks / f"{record.image_id}.json", Planes.of(planes), multi.classes)


def run_side(out: Path, side: str, seed: int, epochs: int, folds: Path) -> pd.Series:
    """Train, predict, decide and score one side; return the Dice of each test image."""
    data, folder, multi = out / side, out / f"{side}-{seed}", load_dataset(out / "multi")
    runs = [folder / f"fold{fold}" for fold in range(3)]
    for fold, run in enumerate(runs):
        options = ["--folds", folds, "--fold", fold, "--seed", seed, "--epochs", epochs, "--loss", LOSSES[side]]
        segtool("train", data, "-o", run, *options, *NETWORK)
    members = [part for run in runs for part in ("--run", run)]
    for subset in ("oof", "test"):
        segtool("predict", data, "-o", folder / subset, "--subset", subset, *members, "--threads", 1)
    thresholds = folder / "thresholds.json"
    segtool(
        "threshold", data, folder / "oof", "-o", thresholds, "--metric", "image_dice" if side == "multi" else "dice"
    )
    answers, scores = out / "multi/answers.yaml", folder / "scores"
    if side == "multi":
        segtool("evaluate", answers, folder / "test", "-o", scores, "--thresholds", thresholds)
    else:
        segtool("predict", data, "-o", folder / "decided", *members, "--threads", 1, "--thresholds", thresholds)
        unsqueeze(folder / "decided", folder / "planes", multi)
        segtool("evaluate", answers, folder / "planes", "-o", scores)
    return pd.read_csv(scores / "per_image.csv", index_col="image_id")["dice"]


def interval(differences: np.ndarray, scenes: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean of (seeds, images), from drawing seeds and scenes with replacement."""
    random, names = np.random.default_rng(0), np.unique(scenes)
    by_scene = np.stack([differences[:, scenes == name].mean(1) for name in names], axis=1)
    means = []
    for _ in range(REPEATS):
        seeds = random.integers(0, len(by_scene), len(by_scene))
        means.append(by_scene[seeds][:, random.integers(0, len(names), len(names))].mean())
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=15)
    given = parser.parse_args()
    out = given.out.resolve()
    segtool("demo", "-o", out / "multi", "--labels", "multi", "--test", 48)
    squeeze(load_dataset(out / "multi"), out / "single")
    folds = out / "folds.csv"
    segtool("split", out / "multi", "-o", folds, "--kind", "stratified-group", "--n-folds", 3)
    dice = {side: [run_side(out, side, seed, given.epochs, folds) for seed in given.seeds] for side in LOSSES}
    table = {side: np.stack([one.sort_index().to_numpy() for one in rows]) for side, rows in dice.items()}
    scenes = np.array([name.split("/")[0] for name in sorted(dice["multi"][0].index)])
    difference = table["multi"] - table["single"]
    low, high = interval(difference, scenes)
    print("| | mean Dice of the test images | by seed |\n| --- | --- | --- |")
    for side, rows in table.items():
        print(f"| {side} | {rows.mean():.3f} | {', '.join(f'{row.mean():.3f}' for row in rows)} |")
    print(f"difference {difference.mean():+.3f} ({low:+.3f} to {high:+.3f}), {len(scenes)} images")


if __name__ == "__main__":
    main()
