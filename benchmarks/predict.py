"""Prediction speed: segtool against the usual loops and against the bare forward passes.

All sides take turns on the same images, a few at a time, in one process; ratios are medians over the turns. Needs a
trained run (that of examples/camvid) and its data set. MONAI takes part where it is installed.

    python benchmarks/predict.py --data DATA --run RUN [--subset valid]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import ttach
from torch import nn
from torch.utils.data import DataLoader, Dataset

from segtool.commands.predict import predict_groups
from segtool.core.dataset.dataset import Record
from segtool.core.geometry import round_up, starts
from segtool.core.inference.job import Job, read_job
from segtool.core.inference.predictor import Member, Predictor
from segtool.core.inference.tta import make_views
from segtool.core.inference.windows import profile
from segtool.core.models.build import DIVISOR, NetworkSpec
from segtool.core.models.checkpoint import load_checkpoint, restore_network
from segtool.core.runtime.distributed import World
from segtool.settings.common import OutputSettings
from segtool.settings.inference import ViewSettings, WindowSettings, parse_tta
from segtool.settings.predict import PredictSettings
from segtool.values import Size

Side = Callable[[Sequence[Record]], None]


class PlainImages(Dataset):
    """What everyone writes: read, normalise to a float tensor, pad to a multiple of 32."""

    def __init__(self, records: Sequence[Record], spec: NetworkSpec) -> None:
        self.records, self.spec = records, spec

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int, str]:
        record = self.records[index]
        image = cv2.cvtColor(cv2.imread(str(record.image)), cv2.COLOR_BGR2RGB)
        pixels = (image.astype(np.float32) / 255 - np.float32(self.spec.mean)) / np.float32(self.spec.std)
        height, width = image.shape[:2]
        padding = (0, round_up(width, DIVISOR) - width, 0, round_up(height, DIVISOR) - height)
        return F.pad(torch.from_numpy(pixels.transpose(2, 0, 1).copy()), padding), height, width, record.image_id


class Softmax(nn.Module):
    """ttach merges what the model gives: it must be probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x).softmax(1)


TRANSFORMS = {
    1: ("", []),
    2: ("hflip", [ttach.HorizontalFlip()]),
    8: ("d4", [ttach.HorizontalFlip(), ttach.Rotate90([0, 90, 180, 270])]),
}


def ttach_loop(spec: NetworkSpec, network: nn.Module, views: int, folder: Path) -> Side:
    """The loop people write around ttach's wrapper; one worker reads, the masks are written as PNG."""
    asked = Softmax(network)
    model = ttach.SegmentationTTAWrapper(asked, ttach.Compose(TRANSFORMS[views][1])) if views > 1 else asked

    def side(records: Sequence[Record]) -> None:
        loader = DataLoader(PlainImages(records, spec), batch_size=1, num_workers=1)
        with torch.no_grad():
            for pixels, height, width, name in loader:
                mask = model(pixels).argmax(1)[0, : int(height), : int(width)]
                cv2.imwrite(str(folder / f"{name[0]}.png"), mask.numpy().astype(np.uint8))

    return side


def bare_forward(spec: NetworkSpec, network: nn.Module, views: int, records: Sequence[Record]) -> Side:
    """Forward passes alone, on normalised images in channels-last memory that lie ready, every view of them."""
    images = PlainImages(records, spec)
    turns = [view.turn for view in make_views(parse_tta(TRANSFORMS[views][0]) if views > 1 else ())]
    ready = {
        record.image_id: [turn(images[i][0][None]).contiguous(memory_format=torch.channels_last) for turn in turns]
        for i, record in enumerate(records)
    }

    def side(records: Sequence[Record]) -> None:
        with torch.inference_mode():
            for record in records:
                for pixels in ready[record.image_id]:
                    network(pixels)

    return side


def segtool_predict(job: Job, member: Member, views: ViewSettings, windows: WindowSettings, folder: Path) -> Side:
    """What `segtool predict --no-probs` does with its groups of images: read, predict, decide, write."""
    (names,) = set(job.members.values())
    predictors = {names: Predictor([member], "cpu", views, windows)}
    settings = PredictSettings(
        output=OutputSettings(out=folder, quiet=True), data=job.dataset.path, run=(Path(),), probs=False
    )
    groups = {group.records[0].image_id: group for group in job.groups(predictors)}

    def side(records: Sequence[Record]) -> None:
        chosen = [groups[record.image_id] for record in records]
        predict_groups(chosen, (), job, predictors, settings, time.monotonic(), World())

    return side


def window_loop(spec: NetworkSpec, network: nn.Module, window: int, stride: int, folder: Path) -> Side:
    """A plain loop over windows, gaussian weights, the same network in channels-last memory."""
    shape = torch.from_numpy(profile(window, "gaussian"))
    share = torch.outer(shape, shape)

    def side(records: Sequence[Record]) -> None:
        with torch.inference_mode():
            for pixels, height, width, name in DataLoader(PlainImages(records, spec), batch_size=1, num_workers=1):
                total = torch.zeros(1, len(spec.classes), *pixels.shape[2:])
                weight = torch.zeros(pixels.shape[2:])
                for top in starts(pixels.shape[2], window, stride):
                    for left in starts(pixels.shape[3], window, stride):
                        place = slice(top, top + window), slice(left, left + window)
                        piece = pixels[:, :, *place].contiguous(memory_format=torch.channels_last)
                        total[:, :, *place] += network(piece).softmax(1) * share
                        weight[place] += share
                mask = (total / weight).argmax(1)[0, : int(height), : int(width)]
                cv2.imwrite(str(folder / f"{name[0]}.png"), mask.numpy().astype(np.uint8))

    return side


def monai_windows(spec: NetworkSpec, network: nn.Module, window: int, stride: int, folder: Path) -> Side | None:
    """MONAI's sliding_window_inference, gaussian weights, one window at a time, which is its fastest here."""
    try:
        from monai.inferers import sliding_window_inference
    except ImportError:
        return None
    asked = Softmax(network)

    def side(records: Sequence[Record]) -> None:
        with torch.inference_mode():
            for pixels, height, width, name in DataLoader(PlainImages(records, spec), batch_size=1, num_workers=1):
                probs = sliding_window_inference(
                    pixels.contiguous(memory_format=torch.channels_last),
                    (window, window),
                    1,
                    asked,
                    overlap=1 - stride / window,
                    mode="gaussian",
                )
                mask = probs.argmax(1)[0, : int(height), : int(width)]
                cv2.imwrite(str(folder / f"{name[0]}.png"), mask.numpy().astype(np.uint8))

    return side


def compare(title: str, sides: dict[str, Side | None], records: Sequence[Record], turns: int, count: int) -> None:
    """Let the sides take turns and print images/s and the ratio of segtool to each."""
    running = {name: side for name, side in sides.items() if side}
    for side in running.values():
        side(records[:2])
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for turn in range(turns):
        some = [records[(turn * count + i) % len(records)] for i in range(count)]
        for name, side in running.items():
            started = time.perf_counter()
            side(some)
            seconds[name].append(time.perf_counter() - started)
    print(f"{title} (images/s and segtool's ratio, medians of {turns} turns of {count} images)")
    for name, values in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(values, seconds["segtool"], strict=True)]
        spread = (
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if name != "segtool" else ""
        )
        print(f"  {name:16} {count / statistics.median(values):6.2f}   {spread}", flush=True)


def main() -> None:
    """Time all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--subset", default="valid")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--images", type=int, default=12, help="per turn")
    parser.add_argument("--views", type=int, nargs="*", default=[1, 2, 8])
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--stride", type=int, default=128)
    args = parser.parse_args()
    job = read_job(args.data, [args.run], "best", args.subset)
    checkpoint = args.run / "best.pt"
    spec, plain = restore_network(load_checkpoint(checkpoint), checkpoint)
    _, network = restore_network(load_checkpoint(checkpoint), checkpoint)
    member = Member(spec, network.to(memory_format=torch.channels_last))
    print(f"{spec.arch} {spec.encoder}, {job.dataset.path.name} {args.subset}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for views in args.views:
            tta = ViewSettings(tta=parse_tta(TRANSFORMS[views][0]) if views > 1 else None)
            sides: dict[str, Side | None] = {
                "segtool": segtool_predict(job, member, tta, WindowSettings(), folder),
                "ttach loop": ttach_loop(spec, plain, views, folder),
                "forward alone": bare_forward(spec, member.network, views, job.records),
            }
            compare(f"{views} view(s)", sides, job.records, args.turns, args.images)
        windows = WindowSettings(window=Size(args.window, args.window), stride=Size(args.stride, args.stride))
        asked = (spec, member.network, args.window, args.stride, folder)
        sides = {
            "segtool": segtool_predict(job, member, ViewSettings(), windows, folder),
            "window loop": window_loop(*asked),
            "MONAI": monai_windows(*asked),
        }
        compare(f"windows of {args.window}, stride {args.stride}", sides, job.records, args.turns, args.images)


if __name__ == "__main__":
    main()
