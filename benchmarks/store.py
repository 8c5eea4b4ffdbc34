"""Writing and reading probabilities: segtool's store against compressed npz (float32).

    [SEGTOOL_DATA=<folder with camvid/>] python benchmarks/store.py [--run RUN --data DATA] [--maps 4] [--repeats 7]

Maps are softmax probabilities of 12x360x480. With --run they are a trained network's answers;
otherwise they are made: blurred one-hot masks (CamVid's, or drawn ones) as logits, with noise of the pixel and
of the region as a network's are. Both sides write new files, one thread each, in turn within each repeat; reading ends
with a float32 array in memory, files in the page cache.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import blosc2
import cv2
import numpy as np

from segtool.core import images
from segtool.core.predictions.probability_maps import Probs, read_probs, write_probs

CLASSES, HEIGHT, WIDTH = 12, 360, 480


def masks(count: int) -> Iterator[np.ndarray]:
    """CamVid's validation masks where they are, drawn regions elsewhere."""
    paths = sorted((Path(os.environ.get("SEGTOOL_DATA", "")) / "camvid" / "valannot").glob("*.png"))
    random = np.random.default_rng(0)
    for number in range(count):
        if paths:
            yield images.read_indices(paths[number * len(paths) // count]).astype(np.uint8)
        else:
            coarse = random.normal(size=(CLASSES, 12, 16)).astype(np.float32)
            yield np.stack([cv2.resize(c, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for c in coarse]).argmax(0)


def softmax_map(mask: np.ndarray, seed: int) -> Probs:
    """Probabilities as a network gives them for such a mask: sure inside, unsure along borders and in some regions."""
    random = np.random.default_rng(seed)

    def noise(sigma: float) -> np.ndarray:
        return cv2.GaussianBlur(random.normal(size=mask.shape).astype(np.float32), (0, 0), sigma)

    logits = np.stack(
        [
            8 * cv2.GaussianBlur((mask == index).astype(np.float32), (0, 0), 3) + noise(1) + 20 * noise(8)
            for index in range(CLASSES)
        ]
    )
    powers = np.exp(logits - logits.max(0))
    return np.ascontiguousarray(powers / powers.sum(0), np.float32)


def timed(seconds: list[float], work: Callable[..., Any], *arguments: Any) -> Any:
    start = time.perf_counter()
    result = work(*arguments)
    seconds.append(time.perf_counter() - start)
    return result


def answers(run: Path, data: Path, count: int) -> list[Probs]:
    """What a run's network answers, float32 before any rounding."""
    from segtool.core.dataset.dataset import load_dataset
    from segtool.core.inference.predictor import Member, Predictor
    from segtool.core.models.checkpoint import load_checkpoint, restore_network

    predictor = Predictor([Member(*restore_network(load_checkpoint(run / "best.pt"), run / "best.pt"))], "cpu")
    dataset = load_dataset(data)
    return [predictor([dataset.read_image(record)])[0] for record in dataset.train[-count:]]


def write_npz(path: Path, probs: Probs) -> None:
    np.savez_compressed(path, probs=probs)


def read_npz(path: Path) -> Probs:
    with np.load(path) as file:
        return file["probs"]


def compare(maps: list[Probs], folder: Path, repeats: int) -> None:
    """Write and read every map on both sides in turn; print medians, sizes and ratios."""
    sides = {"segtool": (write_probs, read_probs, ".b2nd"), "npz": (write_npz, read_npz, ".npz")}
    writing: dict[str, list[float]] = {name: [] for name in sides}
    reading: dict[str, list[float]] = {name: [] for name in sides}
    sizes = {}
    for number in range(repeats * len(maps)):
        probs = maps[number % len(maps)]
        for name, (write, read, suffix) in sides.items():
            path = folder / f"{number}{suffix}"
            timed(writing[name], write, path, probs)
            back = timed(reading[name], read, path)
            assert np.abs(back - probs).max() <= 0.51 / 65535
            sizes[name] = path.stat().st_size
            path.unlink()
    for name in sides:
        write_time, read_time = np.median(writing[name]), np.median(reading[name])
        print(
            f"  {name:8} write {1000 * write_time:7.2f} ms ({write_time / np.median(writing['segtool']):5.1f} x)"
            f"   read {1000 * read_time:6.2f} ms ({read_time / np.median(reading['segtool']):5.1f} x)"
            f"   {sizes[name] / 1e6:.2f} MB"
        )
    both = {name: np.median(writing[name]) + np.median(reading[name]) for name in sides}
    print(f"  writing and reading: npz / segtool {both['npz'] / both['segtool']:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a trained run: maps are its answers to the last images of --data")
    parser.add_argument("--data", type=Path, help="dataset.yaml or its folder")
    parser.add_argument("--maps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--folder", type=Path, help="where to write; by default the system's folder for temporary files"
    )
    options = parser.parse_args()
    if options.run:
        maps = answers(options.run, options.data, options.maps)
    else:
        maps = [softmax_map(mask, seed) for seed, mask in enumerate(masks(options.maps))]
    confidence = np.mean([probs.max(0).mean() for probs in maps])
    shape = "x".join(map(str, maps[0].shape))
    print(f"numpy {np.__version__}, blosc2 {blosc2.__version__}, one thread")
    print(f"{len(maps)} maps of {shape}, mean highest probability {confidence:.2f}, {options.repeats} repeats in turn")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        compare(maps, Path(folder), options.repeats)


if __name__ == "__main__":
    main()
