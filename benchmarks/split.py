"""How evenly folds share the classes, and how long that takes: segtool, scikit-learn and iterative-stratification.

Run: SEGTOOL_DATA=<folder> python benchmarks/split.py [--large]
"""

import argparse
import json
import os
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

from segtool.core.dataset.splits import spread
from segtool.core.images import count_values, read_indices
from segtool.core.inspection.sequences import sequence_names

FOLDS = 5
SEEDS = range(5)


def camvid(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels per class, and as groups runs of ten frames of a sequence."""
    paths = sorted([*(data / "camvid/trainannot").glob("*.png"), *(data / "camvid/valannot").glob("*.png")])
    pixels = np.array([count_values(read_indices(path))[:11] for path in paths])
    names = sequence_names([path.stem for path in paths])
    keys = [f"{name} {names[:row].count(name) // 10}" for row, name in enumerate(names)]
    return pixels, np.unique(keys, return_inverse=True)[1]


def coco(path: Path, group: Callable[[str], str]) -> tuple[np.ndarray, np.ndarray]:
    """Annotated area per category, and groups by file name."""
    content = json.loads(path.read_text())
    images = sorted(content["images"], key=lambda image: image["file_name"])
    row = {image["id"]: number for number, image in enumerate(images)}
    column = {category["id"]: number for number, category in enumerate(content["categories"])}
    pixels = np.zeros((len(row), len(column)))
    for one in content["annotations"]:
        pixels[row[one["image_id"]], column[one["category_id"]]] += one["area"]
    return pixels, np.unique([group(image["file_name"]) for image in images], return_inverse=True)[1]


def long_tail(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Class c is in a share 1/(c+1) of the images, 0.3 % at least; groups of 1 to 20 images share their classes."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(images), rng.integers(1, 21, images))[:images]
    share = np.maximum(1 / np.arange(1, classes + 1), 0.003)
    often = rng.random((groups.max() + 1, classes)) < share
    present = often[groups] & (rng.random((images, classes)) < 0.8)
    return present * rng.lognormal(7, 1.5, (images, classes)), groups


def unevenness(amount: np.ndarray, folds: np.ndarray) -> float:
    """Mean over classes of the standard deviation over folds of their share of the class, in % of the whole."""
    amount = amount[:, (amount > 0).sum(0) >= FOLDS].astype(float)
    shares = np.array([amount[folds == fold].sum(0) for fold in range(FOLDS)]) / amount.sum(0)
    return float(100 * shares.std(0).mean())


def assigned(splitter: object, pixels: np.ndarray, labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    folds = np.empty(len(pixels), int)
    for fold, (_, rows) in enumerate(splitter.split(pixels, labels, groups)):
        folds[rows] = fold
    return folds


def methods(pixels: np.ndarray, groups: np.ndarray) -> dict[str, Callable[[int], np.ndarray]]:
    dominant, present = pixels.argmax(1), (pixels > 0).astype(int)
    shuffled = {"n_splits": FOLDS, "shuffle": True}
    return {
        "segtool": lambda seed: spread(pixels, np.arange(len(pixels)), FOLDS, seed),
        "StratifiedKFold": lambda seed: assigned(
            StratifiedKFold(**shuffled, random_state=seed), pixels, dominant, None
        ),
        "iterative-stratification": lambda seed: assigned(
            MultilabelStratifiedKFold(**shuffled, random_state=seed), pixels, present, None
        ),
        "segtool, groups": lambda seed: spread(pixels, groups, FOLDS, seed),
        "StratifiedGroupKFold": lambda seed: assigned(
            StratifiedGroupKFold(**shuffled, random_state=seed), pixels, dominant, groups
        ),
        "GroupKFold": lambda seed: assigned(GroupKFold(**shuffled, random_state=seed), pixels, dominant, groups),
    }


def compare(name: str, pixels: np.ndarray, groups: np.ndarray) -> None:
    print(f"\n{name}: {len(pixels)} images, {pixels.shape[1]} classes, {groups.max() + 1} groups")
    print("| method | pixels | images with the class | fold sizes | CPU seconds |\n| --- | --- | --- | --- | --- |")
    for method, split in methods(pixels, groups).items():
        rows = []
        for seed in SEEDS:
            start = time.process_time()
            folds = split(seed)
            took = time.process_time() - start
            sizes = np.bincount(folds, minlength=FOLDS)
            rows.append((unevenness(pixels, folds), unevenness(pixels > 0, folds), np.ptp(sizes), took))
        pixel, image, size, seconds = np.mean(rows, axis=0)
        print(f"| {method} | {pixel:.3f} | {image:.3f} | {size:.0f} | {seconds:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="100,000 images of 60 classes with groups, segtool alone")
    large = parser.parse_args().large
    warnings.simplefilter("ignore")
    if large:
        pixels, groups = long_tail(100_000, 60)
        start = time.process_time()
        folds = spread(pixels, groups, FOLDS, 0)
        print(f"{time.process_time() - start:.1f} s, {unevenness(pixels, folds):.3f} % of pixels")
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most, the matrix among them")
        return
    data = Path(os.environ["SEGTOOL_DATA"])
    compare("CamVid", *camvid(data))
    compare("trash", *coco(data / "trash/train.json", lambda name: str(int(Path(name).stem) // 5)))
    compare("TACO", *coco(data / "annotations/taco.json", lambda name: f"{name.split('/')[0]} {name[-6:-5]}"))
    compare("long tail", *long_tail(5000, 40))


if __name__ == "__main__":
    main()
