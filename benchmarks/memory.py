"""Peak memory of predicting one large image: segtool's bands against the plain loop that holds whole maps.

Makes a data set of 12 classes with one test image of 12,000 x 12,000 pixels, trains a lite0 U-Net for one short epoch,
and runs each side in a process of its own, whose peak resident memory (with Python, torch and all) it prints. The plain
loop adds up zeros instead of a network's answers: its maps alone are what counts.

    python benchmarks/memory.py [--side 12000] [--window 512] [--stride 384]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from segtool.core.dataset.dataset import Dataset, Record, write_dataset

CLASSES = 12
PLAIN = """
import sys, numpy as np, torch
from pathlib import Path
from segtool.core.images import read_image
from segtool.core.geometry import starts
from segtool.core.inference.windows import profile
path, classes, window, stride = sys.argv[1], *map(int, sys.argv[2:])
image = read_image(Path(path))
shape = torch.from_numpy(profile(window, "gaussian"))
share = torch.outer(shape, shape)
answer = torch.full((classes, window, window), 1 / classes)
total, weight = torch.zeros(classes, *image.shape[:2]), torch.zeros(image.shape[:2])
for top in starts(image.shape[0], window, stride):
    for left in starts(image.shape[1], window, stride):
        place = slice(top, top + window), slice(left, left + window)
        total[:, *place] += answer * share
        weight[place] += share
probs = total / weight
mask = probs.argmax(0).numpy().astype(np.uint8)
"""


def make_data(folder: Path, side: int) -> None:
    """Four small training images that hold every class, and a large test image."""
    random = np.random.default_rng(0)
    train = []
    for index in range(4):
        mask = np.repeat(np.repeat(random.permutation(16).reshape(4, 4) % CLASSES, 32, 0), 32, 1).astype(np.uint8)
        image, truth = folder / f"train_{index}.png", folder / f"mask_{index}.png"
        cv2.imwrite(str(image), np.repeat(mask[:, :, None] * 20, 3, 2))
        cv2.imwrite(str(truth), mask)
        train.append(Record(f"train_{index}", image, truth))
    coarse = random.integers(0, 255, (side // 200, side // 200, 3), np.uint8)
    cv2.imwrite(str(folder / "large.jpg"), cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR))
    names = tuple(f"class_{index}" for index in range(CLASSES))
    write_dataset(folder, Dataset(folder, names, train=tuple(train), test=(Record("large", folder / "large.jpg"),)))


def peak(command: list[str]) -> tuple[float, float]:
    """Run a command; its peak resident memory in GB, and its seconds."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss * 1024 / 1e9, time.monotonic() - started


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=12000)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--stride", type=int, default=384)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, args.side)
        segtool = [sys.executable, "-m", "segtool"]
        network = ["--encoder", "tu-tf_efficientnet_lite0", "--encoder-weights", "none"]
        train = [
            "train",
            name,
            *network,
            "--epochs",
            "1",
            "--batch",
            "2",
            "--fold",
            "all",
            "--quiet",
            "-o",
            f"{name}/run",
        ]
        subprocess.run([*segtool, *train], check=True)
        predict = [*segtool, "predict", name, "--run", f"{name}/run", "--quiet"]
        windows = ["--window", str(args.window), "--stride", str(args.stride)]
        large = args.side
        print(f"one image of {large} x {large}, {CLASSES} classes; peak GB and seconds of the whole process")
        sides = {
            "segtool, windows": [*predict, *windows, "-o", f"{name}/windows"],
            "segtool, --resize 1024": [*predict, "--resize", "1024", "-o", f"{name}/resized"],
            "plain loop, no network": [sys.executable, "-c", PLAIN, f"{name}/large.jpg", str(CLASSES), *windows[1::2]],
        }
        for title, command in sides.items():
            gigabytes, seconds = peak(command)
            print(f"  {title:24} {gigabytes:6.2f} GB {seconds:8.0f} s", flush=True)


if __name__ == "__main__":
    main()
