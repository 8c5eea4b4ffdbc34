"""Engines for a network's forward pass besides plain PyTorch: torch.compile, ONNX Runtime, OpenVINO."""

import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from segtool.core.inference.onnx_files import open_onnx, write_onnx
from segtool.core.inference.packages import require_packages
from segtool.core.inference.predictor import Forward, to_probs
from segtool.core.models.build import NetworkSpec
from segtool.core.models.outputs import MaskOnly
from segtool.core.runtime.memory import out_of_memory
from segtool.errors import SegtoolError, UsageError

log = logging.getLogger(__name__)

Backend = Literal["torch", "onnx", "openvino"]

# The largest difference in probability from plain PyTorch that counts as rounding.
TOLERANCE = 1e-3


def accelerate(network: nn.Module, spec: NetworkSpec, backend: Backend, *, compiled: bool, device: str) -> Forward:
    """Return the forward pass in another engine: float32 (N, channels, H, W) → logits float32 (N, K, H, W).

    `torch` without `compiled` is the network itself. Any other engine is built from its first input, takes all sizes
    and batches, and is compared with the network on the first input of each shape; it runs on
    `torch.get_num_threads()` threads, for one caller at a time.

    Raises:
        UsageError: a package is missing, or the options do not work together or with this network or device.
        SegtoolError: raised by the returned callable: the network cannot be exported, or the engine's output differs
            from PyTorch's.
    """
    if backend == "torch" and not compiled:
        return network
    option = "--compile" if backend == "torch" else f"--backend {backend}"
    if backend != "torch" and compiled:
        raise UsageError(f"--compile works with PyTorch only, not with {option}")
    if backend != "torch" and device != "cpu":
        raise UsageError(f"{option} is for the CPU: add --device cpu, or omit it on {device}")
    if spec.precision != "fp32":
        raise UsageError(
            f"{option} takes networks of --precision fp32 only: {spec.precision} rounds too much to check the outputs"
        )
    require_packages(backend, option)
    if spec.aux_head:
        network = MaskOnly(network)
    make = {"torch": _compile, "onnx": _onnx, "openvino": _openvino}[backend]
    return _Checked(network, option, make, multi=spec.multi)


class _Checked:
    """An engine that is built at the first input and compared with the network at every new shape."""

    def __init__(
        self, network: nn.Module, option: str, make: Callable[[nn.Module, torch.Tensor], Forward], *, multi: bool
    ) -> None:
        self.network, self.option, self.make = network, option, make
        self.to_probs = partial(to_probs, multi=multi)
        self.engine: Forward | None = None
        self.shapes: set[torch.Size] = set()

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        if pixels.shape not in self.shapes:
            self._check(pixels)
            self.shapes.add(pixels.shape)
        assert self.engine is not None
        return self.engine(pixels)

    @torch.no_grad()
    def _check(self, pixels: torch.Tensor) -> None:
        try:
            if self.engine is None:
                started = time.monotonic()
                self.engine = self.make(self.network, pixels)
                self.engine(pixels)
                log.info("%s: built in %.1f s", self.option, time.monotonic() - started)
            probs = self.to_probs(self.engine(pixels))
        except Exception as error:  # Each engine has its own kinds of error, without a common base.
            if out_of_memory(error):
                raise
            reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
            raise SegtoolError(
                f"{self.option}: fails on this network for {_shape(pixels)}; use --backend torch ({reason})"
            ) from error
        difference = (probs - self.to_probs(self.network(pixels))).abs().max().item()
        # Not `>`: NaN where PyTorch has a number is wrong too.
        if not difference <= TOLERANCE:
            raise SegtoolError(
                f"{self.option}: probabilities for {_shape(pixels)} differ from PyTorch's by {difference:.2g}, more"
                f" than {TOLERANCE:g}; use --backend torch"
            )


def _shape(pixels: torch.Tensor) -> str:
    return f"an input of {'x'.join(map(str, pixels.shape))}"


def _compile(network: nn.Module, pixels: torch.Tensor) -> Forward:
    # Generating code takes minutes for all shapes at once, and half a minute to a minute for one shape. After eight
    # shapes PyTorch generates no more, and runs others uncompiled.
    forward: Forward = torch.compile(network, dynamic=False)
    return forward


def _example(pixels: torch.Tensor) -> torch.Tensor:
    """Return the input for tracing: a real size, and two images, so that no axis of length one becomes a constant."""
    return pixels[:1].repeat(2, 1, 1, 1)


def _onnx(network: nn.Module, pixels: torch.Tensor) -> Forward:
    axes = {0: "batch", 2: "height", 3: "width"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(path, network, _example(pixels), {"pixels": axes}, {"logits": axes})
        session = open_onnx(path)
    return lambda x: torch.from_numpy(session.run(None, {"pixels": x.contiguous().numpy()})[0])


def _openvino(network: nn.Module, pixels: torch.Tensor) -> Forward:
    import openvino

    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        shape = openvino.PartialShape([-1, pixels.shape[1], -1, -1])
        model = openvino.convert_model(network, example_input=_example(pixels), input=[shape])
    # Its default is bfloat16 on processors that have it.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    engine = openvino.Core().compile_model(model, "CPU", options)
    return lambda x: torch.from_numpy(engine([x.contiguous().numpy()])[0])
