"""Finding wrong masks: `segtool noise-rank` against cleanlab's two scores and plain mIoU, on the same predictions.

    SEGTOOL_DATA=<folder with camvid/ and membrane/> python benchmarks/noise.py -o OUT \
      [--data demo camvid membrane] [--seeds 0 1] [--weights tf_efficientnet_lite0.safetensors]

For each data set and seed, the masks of 20 % of the images are made wrong (see corrupt.py, four kinds in equal parts),
two folds are trained on them, every image is predicted by the fold that did not see it, and every column of noise-rank
is scored by its average precision. The intervals are paired bootstraps over images. A stopped call goes on where it
was; what is there already is only read. Without --weights the encoders start at random.

cleanlab's scores are those of cleanlab.segmentation.rank.get_label_quality_scores (2.9): `softmin` with temperature
0.1, and `num_pixel_issues`, the share of an image's pixels among the T of the data set whose label is least probable
and is not the prediction. T is the number of pixels whose prediction is another class than the label and at least as
probable as that class is, on average, on pixels labelled so. Ignored pixels, unknown to cleanlab, are left out.
"""

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from corrupt import KINDS, spoil

from segtool.core import images
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, write_dataset
from segtool.core.images import IGNORE, Array, Size
from segtool.core.noise.evidence import DatasetStatistics
from segtool.core.noise.table import QUALITY
from segtool.core.predictions.folder import probs_path
from segtool.core.predictions.probability_maps import ProbReader, most_probable
from segtool.core.tables import write_csv

WRONG = 0.2
CAMVID = ("sky", "building", "pole", "road", "sidewalk", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
# Frames of a video that stay in one fold.
NEIGHBOURS = 20
FOLDS = ("0", "1")
LITE = "--arch fpn --encoder tu-tf_efficientnet_lite0 --encoder-weights {weights}"
TRAINING = {
    "demo": "--arch fpn --encoder resnet18 --encoder-weights none --batch 4 --lr 3e-3 --scale 0.9,1.1 --epochs 30",
    "camvid": f"{LITE} --crop 160x160 --epochs 10",
    "membrane": f"{LITE} --crop 160x160 --epochs 20",
}
SCORES = ("score", "region_share", "shift_gain", "outline_gain", "tolerant_iou", "worst_iou")
OTHERS = ("softmin", "num_pixel_issues", "miou")
REPEATS = 2000

# Every score of every image, high is suspicious, and the kind of mistake that was made in it.
Suspicions = tuple[dict[str, np.ndarray], np.ndarray]


def segtool(*words: object) -> None:
    """Run a command; its stamps make that nothing is done twice."""
    subprocess.run([sys.executable, "-m", "segtool", *map(str, words), "--quiet"], check=True)


def clean_demo(folder: Path) -> Dataset:
    """The drawn data set, without the wrong masks that it has of its own."""
    segtool("demo", "-o", folder, "--train", 192, "--test", 0)
    dataset = load_dataset(folder)
    with (folder / "wrong_masks.csv").open(newline="") as file:
        wrong = {row["image_id"] for row in csv.DictReader(file)}
    return replace(dataset, train=tuple(r for r in dataset.train if r.image_id not in wrong))


def clean_camvid(folder: Path) -> Dataset:
    """The training part at half its size."""
    root, dataset = Path(os.environ["SEGTOOL_DATA"]) / "camvid", Dataset(folder / "dataset.yaml", CAMVID)
    paths = sorted((root / "train").glob("*.jpg"))

    def read() -> Iterator[tuple[str, str, Array, Array]]:
        for number, path in enumerate(paths):
            file = root / "trainannot" / f"{path.stem}.png"
            mask = images.to_mask(images.read_indices(file), len(CAMVID), 11, file)
            half = Size(mask.shape[0] // 2, mask.shape[1] // 2)
            group = f"{path.stem.split('_')[0]}-{number // NEIGHBOURS}"
            yield path.stem, group, images.resize_image(images.read_image(path), half), images.resize_mask(mask, half)

    return write_clean(dataset, read())


def clean_membrane(folder: Path) -> Dataset:
    """The slices, each in four parts of 256x256."""
    root = Path(os.environ["SEGTOOL_DATA"]) / "membrane" / "train"
    dataset = Dataset(folder / "dataset.yaml", ("membrane", "cell"))

    def read() -> Iterator[tuple[str, str, Array, Array]]:
        for path in sorted((root / "image").glob("*.png")):
            image, mask = images.read_image(path), images.read_indices(root / "label" / path.name) > 127
            for part in range(4):
                rows, columns = (slice(256 * n, 256 * n + 256) for n in divmod(part, 2))
                yield f"{path.stem}_{part}", path.stem, image[rows, columns], mask[rows, columns].astype(np.uint8)

    return write_clean(dataset, read())


def write_clean(dataset: Dataset, samples: Iterator[tuple[str, str, Array, Array]]) -> Dataset:
    """Write id, group, image and mask of each sample as a data set."""
    folder, records = dataset.path.parent, []
    if dataset.path.exists():
        return load_dataset(dataset.path)
    for image_id, group, image, mask in samples:
        record = Record(image_id, folder / "images" / f"{image_id}.png", folder / "masks" / f"{image_id}.png", group)
        for path, pixels in ((record.image, image), (record.mask, mask)):
            assert path is not None
            path.parent.mkdir(parents=True, exist_ok=True)
            images.Image.fromarray(pixels).save(path)
        records.append(record)
    dataset = replace(dataset, train=tuple(records))
    write_dataset(folder, dataset)
    return dataset


CLEAN = {"demo": clean_demo, "camvid": clean_camvid, "membrane": clean_membrane}


def write_spoilt(clean: Dataset, folder: Path, seed: int) -> Dataset:
    """The same data set with wrong masks, and `wrong.csv`, which lists them with their kinds."""
    if (folder / "wrong.csv").exists():
        return load_dataset(folder)
    random = np.random.default_rng([seed, 20])
    kinds: dict[str, str] = {}
    spoilt = {}
    for index in random.permutation(len(clean.train)):
        if len(kinds) >= round(WRONG * len(clean.train)):
            break
        record, kind = clean.train[index], list(KINDS)[len(kinds) % len(KINDS)]
        mask = spoil(clean.read_mask(record), kind, len(clean.classes), random)
        if mask is not None:
            path = folder / "masks" / f"{record.image_id}.png"
            images.write_mask(path, mask)
            kinds[record.image_id], spoilt[record.image_id] = kind, replace(record, mask=path)
    train = tuple(spoilt.get(r.image_id, r) for r in clean.train)
    # The others' masks are read as they are: what is ignored in them keeps its value.
    dataset = replace(clean, path=folder / "dataset.yaml", train=train, test=())
    write_dataset(folder, dataset)
    write_csv(folder / "wrong.csv", ("image_id", "kind"), sorted(kinds.items()))
    return dataset


def predict(folder: Path, training: str) -> Path:
    """Train on the wrong masks, predict out-of-fold, rank; returns the table."""
    data, folds, preds = folder / "data", folder / "folds.csv", folder / "oof"
    segtool("split", data, "-o", folds, "--kind", "stratified-group", "--n-folds", len(FOLDS))
    runs = [folder / f"fold{fold}" for fold in FOLDS]
    for fold, run in zip(FOLDS, runs, strict=True):
        segtool("train", data, "-o", run, "--folds", folds, "--fold", fold, *training.split())
    # Not the best epoch: it would be chosen by the masks that are to be judged.
    given = [word for run in runs for word in ("--run", run)]
    segtool("predict", data, "-o", preds, "--subset", "oof", "--checkpoint", "last", *given)
    segtool("noise-rank", data, preds, "-o", folder / "noise.csv", "--sort", "score", "--overwrite")
    return folder / "noise.csv"


def pixel_issues(dataset: Dataset, preds: Path) -> dict[str, float]:
    """cleanlab's `num_pixel_issues` of every image, as a share of its pixels (high is suspicious)."""
    pairs = [(r, dataset.read_mask(r)) for r in dataset.train]
    statistics = DatasetStatistics(len(dataset.classes))
    for record, label in pairs:
        statistics.add(label, ProbReader(probs_path(preds, record.image_id)).bands())
    reached = statistics.thresholds()
    below, wanted, per_image = np.zeros(65536, np.int64), 0, {}
    for record, label in pairs:
        levels = ProbReader(probs_path(preds, record.image_id)).levels()
        counted = label != IGNORE
        own = np.take_along_axis(levels, np.where(counted, label, 0).astype(np.intp)[None], axis=0)[0]
        pred, best = most_probable(levels)
        against = counted & (pred != label)
        below += np.bincount(own[counted], minlength=65536)
        wanted += int((against & (best >= reached[pred])).sum())
        per_image[record.image_id] = np.bincount(own[against], minlength=65536), label.size
    # As many pixels as are wanted, by whole levels.
    last = int(np.searchsorted(np.cumsum(below), wanted))
    return {image_id: float(counts[: last + 1].sum() / size) for image_id, (counts, size) in per_image.items()}


def suspicions(folder: Path) -> Suspicions:
    """Every score of every image, high is suspicious, and the kind of what was made wrong ("": nothing)."""
    dataset = load_dataset(folder / "data")
    with (folder / "noise.csv").open(newline="") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    with (folder / "data" / "wrong.csv").open(newline="") as file:
        wrong = {row["image_id"]: row["kind"] for row in csv.DictReader(file)}
    ids = [record.image_id for record in dataset.train]
    found = {
        name: np.array([float(rows[i][name] or "nan") for i in ids]) * (-1 if name in QUALITY else 1)
        for name in (*SCORES, "softmin", "miou")
    }
    issues = pixel_issues(dataset, folder / "oof")
    found["num_pixel_issues"] = np.array([issues[i] for i in ids])
    return found, np.array([wrong.get(i, "") for i in ids])


def average_precision(scores: np.ndarray, wrong: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Average precision, one for each row of `counts` (..., N), how often each image counts. Ties come together."""
    scores = np.nan_to_num(scores, nan=-np.inf)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(counts[:, order] * wrong[order], axis=1)[:, ends]
    drawn = np.cumsum(counts[:, order], axis=1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0)
    return (gained * hits / np.maximum(drawn, 1)).sum(1) / np.maximum(hits[:, -1], 1)


def resampled(found: Sequence[Suspicions]) -> dict[str, np.ndarray]:
    """Mean over trainings of each score's average precision: of all images first, then of each resample."""
    sums: dict[str, np.ndarray] = {}
    for number, (scores, kinds) in enumerate(found):
        drawn = np.random.default_rng(number).multinomial(len(kinds), np.full(len(kinds), 1 / len(kinds)), REPEATS)
        counts = np.vstack([np.ones((1, len(kinds)), np.int64), drawn])
        for name, values in scores.items():
            sums[name] = sums.get(name, 0) + average_precision(values, kinds != "", counts) / len(found)
    return sums


def of_kind(found: Sequence[Suspicions], name: str, kind: str) -> float:
    """Mean over trainings of a score's average precision where no other kind of wrong mask is there."""
    precisions = []
    for scores, kinds in found:
        kept = (kinds == kind) | (kinds == "")
        precisions.append(average_precision(scores[name][kept], kinds[kept] != "", np.ones((1, kept.sum()), int))[0])
    return float(np.mean(precisions))


def show(title: str, found: Sequence[Suspicions]) -> None:
    """A line per score: its average precision, by kind too, and how far `score` is ahead of it, with the interval."""
    sums = resampled(found)
    print(f"\n{title}: {len(found)} trainings of two folds\n")
    print(f"| score | average precision | {' | '.join(KINDS)} | `score` is ahead by |")
    print(f"| --- | --- | {' | '.join('---' for _ in KINDS)} | --- |")
    for name in (*SCORES, *OTHERS):
        ahead = sums["score"] - sums[name]
        low, high = np.quantile(ahead[1:], [0.025, 0.975])
        kinds = " | ".join(f"{of_kind(found, name, kind):.3f}" for kind in KINDS)
        interval = "" if name == "score" else f"{ahead[0]:+.3f} ({low:+.3f} to {high:+.3f})"
        print(f"| {name} | {sums[name][0]:.3f} | {kinds} | {interval} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--data", nargs="+", choices=list(CLEAN), default=list(CLEAN))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--weights", type=Path, default=None, help="weights of tf_efficientnet_lite0")
    parser.add_argument("--train-options", default="", help="more options for every training, such as '--threads 1'")
    options = parser.parse_args()
    weights = options.weights.resolve() if options.weights else "none"
    found: dict[str, list[Suspicions]] = {name: [] for name in options.data}
    for seed in options.seeds:
        for name in options.data:
            folder = options.out / name / f"seed{seed}"
            clean = CLEAN[name](options.out / name / "clean")
            write_spoilt(clean, folder / "data", seed)
            predict(folder, f"{TRAINING[name].format(weights=weights)} --seed {seed} {options.train_options}")
            found[name].append(suspicions(folder))
            print(f"{folder} is done", file=sys.stderr)
    for name, its in found.items():
        show(name, its)
    show("All", [one for its in found.values() for one in its])


if __name__ == "__main__":
    main()
