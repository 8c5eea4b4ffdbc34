"""Scoring pairs of decoded index masks: segtool against torchmetrics and against the usual bincount loop.

    SEGTOOL_DATA=<folder with camvid/> python benchmarks/score.py [--pairs 100] [--repeats 7]

All three take the same uint8 arrays and end with the mIoU of one confusion matrix, ignored pixels left out; they take
turns within each repeat, with one thread each, and must agree. torchmetrics has its default settings but for
`ignore_index`, and is fed one pair at a time as a validation loop would.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from segtool.core import images
from segtool.core.scoring.scores import ScoreBoard

Pairs = list[tuple[np.ndarray, np.ndarray]]


def camvid_pairs(folder: Path, count: int) -> tuple[Pairs, int]:
    """CamVid's validation masks and the same shifted by 5 pixels."""
    pairs = []
    for path in sorted(folder.glob("*.png"))[:count]:
        truth = images.to_mask(images.read_indices(path), 11, 11, path)
        pairs.append((truth, np.roll(np.where(truth == 255, 0, truth), 5, axis=1)))
    return pairs, 11


def drawn_pairs(count: int, size: int = 512, classes: int = 12) -> tuple[Pairs, int]:
    """Smooth regions of 12 classes with 5 % ignored, and the same shifted by 5 pixels; edges as in CamVid."""
    random = np.random.default_rng(0)
    pairs = []
    for _ in range(count):
        coarse = random.normal(size=(classes + 1, 8, 8)).astype(np.float32)
        fields = np.stack([cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC) for field in coarse])
        pred = fields[:classes].argmax(0).astype(np.uint8)
        truth = np.roll(pred, 5, axis=1)
        truth[fields[classes] > np.quantile(fields[classes], 0.95)] = 255
        pairs.append((truth, pred))
    return pairs, classes


def by_segtool(pairs: Pairs, classes: int) -> float:
    board = ScoreBoard([str(index) for index in range(classes)])
    for number, (truth, pred) in enumerate(pairs):
        board.add_pair(str(number), truth, pred)
    return board.scores().miou


def by_bincount(pairs: Pairs, classes: int) -> float:
    """The loop found in most repositories, once `fast_hist` of the FCN code."""
    total = np.zeros((classes, classes))
    for truth, pred in pairs:
        keep = (truth >= 0) & (truth < classes)
        index = classes * truth[keep].astype(int) + pred[keep]
        total += np.bincount(index, minlength=classes**2).reshape(classes, classes)
    return float(np.nanmean(np.diag(total) / (total.sum(1) + total.sum(0) - np.diag(total))))


def by_torchmetrics(pairs: Pairs, classes: int) -> float:
    metric = MulticlassJaccardIndex(num_classes=classes, ignore_index=images.IGNORE)
    for truth, pred in pairs:
        metric.update(torch.from_numpy(pred), torch.from_numpy(truth))
    return float(metric.compute())


def compare(title: str, pairs: Pairs, classes: int, repeats: int) -> None:
    """Time all three in turn and print medians and ratios."""
    sides: dict[str, Callable[[Pairs, int], float]] = {
        "segtool": by_segtool,
        "bincount loop": by_bincount,
        "torchmetrics": by_torchmetrics,
    }
    height, width = pairs[0][0].shape
    print(f"{title}: {len(pairs)} pairs of {height}x{width} uint8, {classes} classes, {repeats} repeats in turn")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        scores = {}
        for name, score in sides.items():
            start = time.perf_counter()
            scores[name] = score(pairs, classes)
            seconds[name].append(time.perf_counter() - start)
        assert np.allclose(list(scores.values()), scores["segtool"], atol=1e-6), scores
    ours = np.median(seconds["segtool"])
    for name, values in seconds.items():
        median = np.median(values)
        print(f"  {name:14} {1000 * median:8.1f} ms   {median / ours:5.1f} x   mIoU {scores[name]:.6f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print(f"numpy {np.__version__}, OpenCV {cv2.__version__}, torch {torch.__version__}, one thread")
    camvid = Path(os.environ.get("SEGTOOL_DATA", "")) / "camvid" / "valannot"
    if camvid.is_dir():
        compare("CamVid", *camvid_pairs(camvid, options.pairs), options.repeats)
    compare("drawn", *drawn_pairs(options.pairs), options.repeats)


if __name__ == "__main__":
    main()
