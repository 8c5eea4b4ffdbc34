"""Ensembles of stored predictions: images/s and peak memory, against the scripts that are usually written.

Makes softmax maps of smooth regions once, for each member and image, and stores them as prediction folders and as the
files of the other sides. Each side averages the members, takes the arg-max, and writes masks and mean probabilities, in
a process of its own:

    segtool         `segtool ensemble` with its defaults (uint16 in blosc2, merged in one thread, written in another)
    npz             np.savez_compressed, float32, read and written
    npy32, npy16    np.save, float32 or float16, read and written

The sides take turns: all of them once, then all of them again; ratios are medians over the turns.

    python benchmarks/ensemble.py [--members 5] [--images 200] [--sides segtool npz npy32 npy16] [--folder DIR]

Sides read files that have just been read once more, so that the disk, which is another one on every machine, counts
little; float32 npy of the full size is 11.5 GB, which has to fit into the page cache for that.
"""

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from segtool.core.files import write_json
from segtool.core.predictions.probability_maps import Probs
from segtool.core.predictions.writer import PredictionWriter, write_index
from segtool.values import Size

SIDES = ("segtool", "npz", "npy32", "npy16")

# What everyone writes, as lean as it goes: one image after the other, a running sum, one arg-max.
SCRIPT = """
import sys, pathlib, numpy as np, cv2
kind, root, members = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
out = root / f"out-{kind}"
out.mkdir()
for path in sorted((root / kind / "0").iterdir()):
    total = 0
    for member in range(members):
        found = np.load(root / kind / str(member) / path.name)
        total = total + (found["probs"] if kind == "npz" else found).astype(np.float32, copy=False)
    mean = total / np.float32(members)
    cv2.imwrite(str(out / f"{path.stem}.png"), mean.argmax(0).astype(np.uint8))
    if kind == "npz":
        np.savez_compressed(out / path.name, probs=mean)
    else:
        np.save(out / path.name, mean.astype(np.float16 if kind == "npy16" else np.float32))
"""


def softmax_map(classes: int, side: int, image: int, member: int) -> Probs:
    """Probabilities (C, side, side): regions that all members of an image share, and what each sees otherwise."""

    def noise(seed: tuple[int, ...], cells: int) -> np.ndarray:
        coarse = np.random.default_rng(seed).normal(size=(classes, cells, cells)).astype(np.float32)
        return np.stack([cv2.resize(c, (side, side), interpolation=cv2.INTER_CUBIC) for c in coarse])

    logits = 8 * noise((image,), 12) + 2 * noise((image, member), 24) + 0.3 * noise((image, member, 1), side // 2)
    powers = np.exp(logits - logits.max(0))
    return np.ascontiguousarray(powers / powers.sum(0), np.float32)


def store(root: Path, kinds: set[str], args: argparse.Namespace) -> None:
    """Write all members' maps in the forms of all sides."""
    size, classes = Size(args.side, args.side), [f"class_{index}" for index in range(args.classes)]
    ids = [f"image_{number:04}" for number in range(args.images)]
    for member in range(args.members):
        folder = root / "segtool" / str(member)
        for kind in kinds - {"segtool"}:
            (root / kind / str(member)).mkdir(parents=True)

        def maps(member: int = member) -> Iterator[tuple[str, Probs]]:
            with ThreadPoolExecutor(2) as pool:
                for start in range(0, args.images, 4):
                    some = range(start, min(start + 4, args.images))
                    made = pool.map(lambda number: softmax_map(args.classes, args.side, number, member), some)
                    yield from zip([ids[number] for number in some], made, strict=True)

        with PredictionWriter(folder, keep_probs=True, palette=None) as writer:
            for image_id, probs in maps():
                writer.write(image_id, size, 0, probs)
                if "npz" in kinds:
                    np.savez_compressed(root / "npz" / str(member) / f"{image_id}.npz", probs=probs)
                if "npy32" in kinds:
                    np.save(root / "npy32" / str(member) / f"{image_id}.npy", probs)
                if "npy16" in kinds:
                    np.save(root / "npy16" / str(member) / f"{image_id}.npy", probs.astype(np.float16))
        sizes = dict.fromkeys(ids, size)
        write_index(folder, sizes, (), classes=classes, subset="test", members=[{"run": str(member)}])
        write_json(folder / "done.json", {"command": "predict"})


def command(side: str, root: Path, members: int) -> tuple[list[str], Path]:
    """What runs a side, and where it writes."""
    if side != "segtool":
        return [sys.executable, "-c", SCRIPT, side, str(root), str(members)], root / f"out-{side}"
    folders = [str(root / "segtool" / str(member)) for member in range(members)]
    out = root / "out"
    return [sys.executable, "-m", "segtool", "ensemble", *folders, "--quiet", "-o", str(out)], out


class Measured(NamedTuple):
    """What a side took: its time, and the peak of its resident memory."""

    seconds: float
    megabytes: float


def measure(arguments: list[str]) -> Measured:
    """Run a command."""
    started = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} failed")
    return Measured(time.monotonic() - started, usage.ru_maxrss * 1024 / 1e6)


def warm(folder: Path) -> None:
    """Read all files of a folder, which brings them into the page cache where they fit into it."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.read_bytes()


def main() -> None:
    """Measure all sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--folder", type=Path, help="for all files; by default the system's for temporary ones")
    args = parser.parse_args()
    print(
        f"{args.members} members, {args.images} images of {args.classes} x {args.side} x {args.side}; whole processes"
    )
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        root = Path(name)
        # In a process of its own: what this one holds would count as the peak of those it starts.
        sides = list(dict.fromkeys(["segtool", *args.sides]))
        making = multiprocessing.get_context("spawn").Process(target=store, args=(root, set(sides), args))
        making.start()
        making.join()
        turns = []
        for _ in range(args.turns):
            turn = {}
            for side in sides:
                warm(root / side)
                arguments, out = command(side, root, args.members)
                turn[side] = measure(arguments)
                shutil.rmtree(out)
            turns.append(turn)
        print("  side        images/s   time, segtool's is 1   peak MB")
        for side in sides:
            seconds = statistics.median(turn[side].seconds for turn in turns)
            ratios = sorted(turn[side].seconds / turn["segtool"].seconds for turn in turns)
            memory = max(turn[side].megabytes for turn in turns)
            shown = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"  {side:10} {args.images / seconds:9.2f}   {shown:>20} {memory:9.0f}")


if __name__ == "__main__":
    main()
