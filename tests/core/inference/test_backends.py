"""Other engines answer as PyTorch does, are caught where they do not, and are asked for only where they work."""

import logging
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from segtool.core.inference import backends, packages
from segtool.core.inference.backends import accelerate
from segtool.core.inference.predictor import to_probs
from segtool.core.models.build import NetworkSpec, build_network
from segtool.errors import SegtoolError, UsageError

SPEC = NetworkSpec("linknet", "tu-test_efficientnet", ("a", "b", "c"), 3, (0.5,) * 3, (0.5,) * 3, None, "fp32")
PACKAGES = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}


@pytest.fixture(params=sorted(PACKAGES))
def backend(request: pytest.FixtureRequest) -> str:
    for package in PACKAGES[request.param]:
        pytest.importorskip(package, reason=f"the optional package {package} is not installed")
    return request.param


def network(outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    net = build_network(SPEC.arch, SPEC.encoder, 3, outputs).eval()
    for parameter in net.segmentation_head.parameters():
        # Probabilities far from uniform, so that differences show.
        nn.init.normal_(parameter, std=0.3)
    return net.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("outputs", [3, 1])
def test_any_size_and_batch_gives_what_pytorch_gives(backend: str, outputs: int) -> None:
    net = network(outputs)
    forward = accelerate(net, SPEC, backend, compiled=False, device="cpu")
    with torch.inference_mode():
        for count, height, width in [(1, 64, 96), (3, 64, 96), (1, 32, 32), (2, 96, 64), (1, 64, 96)]:
            pixels = torch.randn(count, 3, height, width)
            wanted = net(pixels)
            for given in (pixels, pixels.contiguous(memory_format=torch.channels_last)):
                logits = forward(given)
                assert logits.shape == (count, outputs, height, width)
                assert logits.dtype == torch.float32
                torch.testing.assert_close(to_probs(logits), to_probs(wanted), atol=1e-4, rtol=0)


@pytest.mark.parametrize("multi", [False, True])
def test_outputs_are_compared_as_the_probabilities_they_become(multi: bool) -> None:
    """All logits one higher: of a softmax the same, of a sigmoid for each class not."""
    net = network()
    engine = backends._Checked(net, "--compile", lambda given, _: lambda x: given(x) + 1, multi=multi)
    pixels = torch.randn(1, 3, 32, 32)
    if not multi:
        engine(pixels)
        return
    with pytest.raises(SegtoolError, match="differ from PyTorch's"):
        engine(pixels)


def test_an_answer_stays_as_it_is_when_the_next_is_asked_for(backend: str) -> None:
    forward = accelerate(network(), SPEC, backend, compiled=False, device="cpu")
    with torch.inference_mode():
        first = forward(torch.randn(1, 3, 32, 32))
        kept = first.clone()
        forward(torch.randn(1, 3, 32, 32))
    assert torch.equal(first, kept)


def test_the_making_is_logged_once_and_leaves_no_files(backend: str, tmp_path, monkeypatch, caplog, capsys) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with caplog.at_level(logging.INFO, backends.__name__), torch.inference_mode():
        forward = accelerate(network(), SPEC, backend, compiled=False, device="cpu")
        for size in (32, 64):
            forward(torch.randn(1, 3, size, size))
    assert [r.message.split(":")[0] for r in caplog.records if r.name == backends.__name__] == [f"--backend {backend}"]
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""


class Baked(nn.Module):
    """Reads its input's size as a Python number, so that tracing takes it for a constant."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (int(x.shape[3]) / 32)


def test_a_size_baked_into_the_export_is_caught_at_the_next_size(backend: str) -> None:
    forward = accelerate(Baked(), SPEC, backend, compiled=False, device="cpu")
    forward(torch.randn(1, 3, 32, 32))
    with pytest.raises(SegtoolError, match=rf"--backend {backend}.* 1x3x32x128 differ from PyTorch's by 0\.\d+"):
        forward(torch.randn(1, 3, 32, 128))


class Inexportable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.lstsq(x, x).solution


def test_a_network_that_cannot_be_exported_is_one_line(backend: str, capsys) -> None:
    forward = accelerate(Inexportable(), SPEC, backend, compiled=False, device="cpu")
    with pytest.raises(SegtoolError, match=f"--backend {backend}: fails on this network.*--backend torch") as caught:
        forward(torch.randn(1, 3, 32, 32))
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("wrong", [0.1, float("nan")])
@pytest.mark.parametrize("option", ["--compile", "--backend onnx"])
def test_a_wrong_answer_is_caught_at_whichever_shape_it_comes(option: str, wrong: float, monkeypatch) -> None:
    net = network()

    def make(_: nn.Module, __: torch.Tensor):
        return lambda x: net(x) + (wrong * torch.tensor([1.0, -1, 0]).view(1, 3, 1, 1) if x.shape[2] == 64 else 0)

    monkeypatch.setattr(backends, "_compile" if option == "--compile" else "_onnx", make)
    monkeypatch.setattr(packages, "find_spec", lambda _: True)
    backend = "torch" if option == "--compile" else "onnx"
    forward = accelerate(net, SPEC, backend, compiled=option == "--compile", device="cpu")
    forward(torch.randn(1, 3, 32, 32))
    for _ in range(2):
        with pytest.raises(SegtoolError, match=re.escape(f"{option}: probabilities for an input of 1x3x64x32 differ")):
            forward(torch.randn(1, 3, 64, 32))


def test_being_out_of_memory_is_left_to_the_caller_who_halves_the_batch(monkeypatch) -> None:
    def engine(x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(backends, "_compile", lambda *_: engine)
    with pytest.raises(torch.OutOfMemoryError):
        accelerate(network(), SPEC, "torch", compiled=True, device="cpu")(torch.randn(2, 3, 32, 32))


def test_compile_is_asked_for_fixed_shapes_and_its_answers_are_used(monkeypatch) -> None:
    asked, calls = [], []
    compiler = torch.compile

    def watch(graph, _):
        def run(*inputs: torch.Tensor):
            calls.append(1)
            return graph(*inputs)

        return run

    def compile_without_generating_code(net: nn.Module, **options: object):
        asked.append(options)
        return compiler(net, backend=watch, **options)

    monkeypatch.setattr(torch, "compile", compile_without_generating_code)
    net = network()
    forward = accelerate(net, SPEC, "torch", compiled=True, device="cpu")
    with torch.inference_mode():
        for size in (32, 32, 64):
            before = len(calls)
            pixels = torch.randn(1, 3, size, size)
            torch.testing.assert_close(forward(pixels), net(pixels))
            assert len(calls) > before
    assert asked == [{"dynamic": False}]


def test_plain_pytorch_is_the_network_itself_in_any_precision_on_any_device() -> None:
    net = network()
    assert accelerate(net, replace(SPEC, precision="fp16"), "torch", compiled=False, device="cuda") is net


@pytest.mark.parametrize(
    ("backend", "compiled", "precision", "device", "message"),
    [
        ("onnx", False, "fp16", "cpu", "--backend onnx takes networks of --precision fp32 only"),
        ("torch", True, "bf16", "cpu", "--compile takes networks of --precision fp32 only"),
        ("openvino", False, "fp32", "cuda", "--backend openvino is for the CPU"),
        ("openvino", True, "fp32", "cpu", "--compile works with PyTorch only"),
    ],
)
def test_what_does_not_go_together_is_refused(backend, compiled, precision, device, message) -> None:
    with pytest.raises(UsageError, match=message):
        accelerate(network(), replace(SPEC, precision=precision), backend, compiled=compiled, device=device)


@pytest.mark.parametrize(("backend", "package"), [("onnx", "onnxruntime"), ("onnx", "onnx"), ("openvino", "openvino")])
def test_a_missing_package_is_named_with_what_installs_it(backend: str, package: str, monkeypatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: name != package)
    with pytest.raises(UsageError) as caught:
        accelerate(network(), SPEC, backend, compiled=False, device="cpu")
    assert str(caught.value) == (f"--backend {backend} needs the package {package}: pip install 'segtool[{backend}]'")


def test_the_packages_are_loaded_only_when_asked_for() -> None:
    code = "import sys, segtool.core.inference.backends; print(*{'onnx', 'onnxruntime', 'openvino'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
