"""The forward pass by PyTorch, ONNX Runtime and OpenVINO, and by torch.compile when asked for.

    [PYTHONPATH=...] python benchmarks/backends.py [--run RUN] [--network unet:tu-resnet18] [--compile]

Batches of noise in channels-last memory, logits and softmax, all sides in turn within each repeat, so many passes each,
of which the first is not counted: every engine first has to wait until the threads of the one before have gone to
sleep. Without --run the weights are random. A side whose package is missing is left out.
"""

import argparse
import logging
import statistics
import time
from pathlib import Path

import torch

from segtool.core.inference.backends import Forward, accelerate
from segtool.core.inference.predictor import to_probs
from segtool.core.models.build import NetworkSpec, build_network
from segtool.core.models.checkpoint import load_checkpoint, restore_network
from segtool.errors import UsageError

SHAPES = ((1, 384, 480), (1, 256, 256), (8, 256, 256))
CLASSES = tuple("abcdefghijk")


def load(options: argparse.Namespace) -> tuple[NetworkSpec, torch.nn.Module]:
    """The network to time, in eval mode and channels-last memory."""
    if options.run:
        spec, network = restore_network(load_checkpoint(options.run / "best.pt"), options.run / "best.pt")
    else:
        arch, encoder = options.network.split(":")
        torch.manual_seed(0)
        spec = NetworkSpec(arch, encoder, CLASSES, 3, (0.5,) * 3, (0.5,) * 3, None, "fp32")
        network = build_network(arch, encoder, 3, len(CLASSES)).eval()
    return spec, network.to(memory_format=torch.channels_last)


def make_sides(spec: NetworkSpec, network: torch.nn.Module, *, compiled: bool) -> dict[str, Forward]:
    """The network by every engine that is there."""
    sides: dict[str, Forward] = {"torch": network}
    for backend in ("onnx", "openvino"):
        try:
            sides[backend] = accelerate(network, spec, backend, compiled=False, device="cpu")
        except UsageError as error:
            print(error)
    if compiled:
        sides["compile"] = accelerate(network, spec, "torch", compiled=True, device="cpu")
    return sides


def seconds(forward: Forward, pixels: torch.Tensor, passes: int) -> float:
    """Seconds of one pass, the mean of so many."""
    to_probs(forward(pixels))
    started = time.perf_counter()
    for _ in range(passes):
        to_probs(forward(pixels))
    return (time.perf_counter() - started) / passes


def compare(sides: dict[str, Forward], pixels: torch.Tensor, repeats: int, passes: int) -> None:
    """Time every side and print a line for each."""
    wanted = to_probs(sides["torch"](pixels))
    print("x".join(map(str, pixels.shape)))
    first, differences = {}, {}
    for name, forward in sides.items():
        started = time.perf_counter()
        differences[name] = (to_probs(forward(pixels)) - wanted).abs().max().item()
        first[name] = time.perf_counter() - started
    turns = [{name: seconds(forward, pixels, passes) for name, forward in sides.items()} for _ in range(repeats)]
    for name in sides:
        rate = len(pixels) / statistics.median(turn[name] for turn in turns)
        ratios = [turn["torch"] / turn[name] for turn in turns]
        print(
            f"  {name:9}{rate:6.2f} images/s, {statistics.median(ratios):5.2f} x torch ({min(ratios):.2f} to"
            f" {max(ratios):.2f}), first call {first[name]:5.1f} s, differs by {differences[name]:.1g}"
        )


def main() -> None:
    """Time the engines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a trained run of --precision fp32")
    parser.add_argument("--network", default="unet:tu-tf_efficientnet_lite0", help="without --run: ARCH:ENCODER")
    parser.add_argument("--compile", action="store_true", help="torch.compile too: about a minute for each shape")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--passes", type=int, default=3)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    spec, network = load(options)
    sides = make_sides(spec, network, compiled=options.compile)
    print(
        f"{spec.arch} {spec.encoder}, fp32, torch {torch.__version__}, {torch.get_num_threads()} threads,"
        f" {options.repeats} turns of {options.passes} passes"
    )
    with torch.inference_mode():
        for count, height, width in SHAPES:
            pixels = torch.randn(count, spec.channels, height, width).contiguous(memory_format=torch.channels_last)
            compare(sides, pixels, options.repeats, options.passes)


if __name__ == "__main__":
    main()
