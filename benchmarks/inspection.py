"""Reading a data set once, and finding near-duplicates: segtool against the loop that is usually written.

SEGTOOL_DATA=<folder> python benchmarks/inspection.py            # reading CamVid's training images and masks
python benchmarks/inspection.py --generated 2000 20000           # `segtool inspect` of generated images
"""

import argparse
import hashlib
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segtool.core.dataset.dataset import Dataset, Record, write_dataset
from segtool.core.inspection import duplicates
from segtool.core.inspection.findings import find
from segtool.core.inspection.survey import survey
from segtool.core.reporting.progress import shown

CLASSES = 11
TURNS = 5
# Every so many generated images one is a copy of another, saved again.
COPIED = 10


def plain_loop(records: list[Record]) -> tuple[np.ndarray, dict[str, int]]:
    """One process: decode, count pixels, components of each class, a digest and a 64-bit hash of each image."""
    pixels, hashes = np.zeros(CLASSES + 1, np.int64), {}
    seen: set[str] = set()
    for record in records:
        image, mask = np.array(Image.open(record.image).convert("RGB")), np.array(Image.open(record.mask))
        assert image.shape[:2] == mask.shape
        pixels += np.bincount(mask[mask <= CLASSES].ravel(), minlength=CLASSES + 1)
        for value in np.unique(mask):
            cv2.connectedComponentsWithStats((mask == value).astype(np.uint8), connectivity=8)
        seen.add(hashlib.md5(image.tobytes()).hexdigest())
        small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
        low = cv2.dct(small.astype(np.float32))[:8, :8]
        hashes[record.image_id] = int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")
    return pixels, hashes


def camvid(folder: Path) -> Dataset:
    images = sorted((folder / "camvid/train").glob("*.jpg"))
    records = tuple(Record(path.stem, path, folder / "camvid/trainannot" / f"{path.stem}.png") for path in images)
    return Dataset(folder, tuple(f"c{index}" for index in range(CLASSES)), ignore_index=CLASSES, train=records)


def compare_reading(folder: Path) -> None:
    dataset = camvid(folder)
    times: dict[str, list[float]] = {"plain loop": [], "segtool, one process": [], "segtool, two": []}
    for _ in range(TURNS):
        for name, work in (
            ("plain loop", lambda: plain_loop(list(dataset.train))),
            ("segtool, one process", lambda: survey(dataset, 0)),
            ("segtool, two", lambda: survey(dataset, 2)),
        ):
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    for name, seconds in times.items():
        ratios = [plain / own for plain, own in zip(times["plain loop"], seconds, strict=True)]
        rate = len(dataset.train) / statistics.median(seconds)
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(f"{name}: {rate:.0f} images/s, ratio {middle:.2f} ({low:.2f} to {high:.2f})")


def generate(folder: Path, count: int) -> Dataset:
    """Smooth pictures of 96x128 with masks of three classes; every tenth is an earlier one as another JPEG."""
    records, rng = [], np.random.default_rng(0)
    for number in range(count):
        image, mask = folder / f"images/{number}.jpg", folder / f"masks/{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        mask.parent.mkdir(parents=True, exist_ok=True)
        source = number - 5 if number % COPIED == COPIED - 1 else number
        coarse = np.random.default_rng(source).integers(0, 256, (9, 12, 3), np.uint8)
        picture = cv2.resize(coarse, (128, 96), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(picture).save(image, quality=int(rng.integers(50, 96)))
        Image.fromarray((picture[..., 0] // 86).astype(np.uint8)).save(mask)
        records.append(Record(str(number), image, mask))
    dataset = Dataset(folder / "dataset.yaml", ("a", "b", "c"), train=tuple(records))
    write_dataset(folder, dataset)
    return dataset


def measure(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        dataset = generate(Path(name), count)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        facts = survey(dataset, None, shown)
        read = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu = time.perf_counter(), time.process_time()
        pairs = duplicates.find_pairs(np.array([one.thumbnail for one in facts]))
        search, cpu = time.perf_counter() - start, time.process_time() - cpu
        findings = find(dataset, facts)
    copies = {(number - 5, number) for number in range(COPIED - 1, count, COPIED)}
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    print(
        f"{count} images: reading {1000 * read / count:.2f} ms each and {(memory - before) / 1024:.0f} MB more;"
        f" search {1000 * search / count:.2f} ms each (CPU {1000 * cpu / count:.2f});"
        f" {len(copies & found)} of {len(copies)} copies found, {len(found - copies)} other pairs;"
        f" {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most, {len(findings.pairs)} pairs"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generated", type=int, nargs="+", help="numbers of generated images")
    counts = parser.parse_args().generated
    if not counts:
        compare_reading(Path(os.environ["SEGTOOL_DATA"]))
    for count in counts or []:
        measure(count)


if __name__ == "__main__":
    main()
