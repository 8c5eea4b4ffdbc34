"""Encoder weights: whatever wraps their names they arrive, leftovers are told, a silent hub is not waited for."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants as hub
from safetensors.torch import load_file, save_file
from torch import nn

from segtool.core.models import pretrained
from segtool.core.models.build import build_network
from segtool.core.models.normalisation import normalisation
from segtool.core.models.pretrained import load_encoder_weights
from segtool.errors import SegtoolError, UsageError
from segtool.settings.model import ModelSettings

ENCODER = "tu-test_efficientnet"
Weights = dict[str, torch.Tensor]


def settings(weights: object, encoder: str = ENCODER, **colours: Any) -> ModelSettings:
    return ModelSettings(arch="linknet", encoder=encoder, encoder_weights=str(weights), **colours)


def network(channels: int = 3) -> nn.Module:
    torch.manual_seed(7)
    return build_network("linknet", ENCODER, channels, 3)


@pytest.fixture(scope="module")
def of_timm() -> Weights:
    """timm's own names, with the head that a segmentation encoder has no use for."""
    torch.manual_seed(1)
    weights: Weights = timm.create_model("test_efficientnet", pretrained=False).state_dict()
    return weights


def prefixed(prefix: str) -> Callable[[Weights], Any]:
    return lambda weights: {prefix + name: value for name, value in weights.items()}


WRAPPED = {
    "timm": prefixed(""),
    "segmentation-models encoder": prefixed("model."),
    "segmentation-models network": prefixed("encoder.model."),
    "DataParallel": prefixed("module."),
    "DataParallel of a backbone": prefixed("module.backbone."),
    "a training checkpoint": lambda weights: {"state_dict": prefixed("model.")(weights), "epoch": 3},
    "half precision": lambda weights: {n: v.half() if v.is_floating_point() else v for n, v in weights.items()},
}


def assert_loaded(encoder: nn.Module, weights: Weights, atol: float = 0) -> None:
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, weights[name.removeprefix("model.")], rtol=0, atol=atol)


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_weights_arrive_whatever_their_names_are_wrapped_in(wrapping: str, of_timm: Weights, tmp_path: Path) -> None:
    torch.save(WRAPPED[wrapping](of_timm), tmp_path / "w.pth")
    net = network()
    told = load_encoder_weights(net, settings(tmp_path / "w.pth"), 3)
    assert_loaded(net.encoder, of_timm, atol=1e-3 if "half" in wrapping else 0)
    assert "68 of 68 tensors from w.pth" in told
    # conv_head, bn2 and the classifier of the head.
    assert "8 of its tensors are not used" in told


def test_a_few_missing_tensors_are_listed_and_more_are_refused(
    of_timm: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [name for name in of_timm if name.startswith("blocks") and name.endswith(".weight")]
    few = {name: value for name, value in of_timm.items() if name not in names[:2]}
    save_file(few, tmp_path / "few.safetensors")
    told = load_encoder_weights(network(), settings(tmp_path / "few.safetensors"), 3)
    assert "66 of 68" in told
    assert all(f"model.{name}" in caplog.text for name in names[:2])
    many = {name: value for name, value in of_timm.items() if name not in names[:4]}
    save_file(many, tmp_path / "many.safetensors")
    with pytest.raises(SegtoolError, match=r"4 of its 68 tensors are missing"):
        load_encoder_weights(network(), settings(tmp_path / "many.safetensors"), 3)


@pytest.mark.parametrize(
    ("file", "other"),
    [
        ("test_efficientnet.safetensors", None),
        ("test_efficientnet.r160_in1k.safetensors", None),
        ("test_efficientnet-0aa007d2.safetensors", None),
        ("model.safetensors", None),
        ("my_resnet18.safetensors", None),
        ("tf_efficientnet_lite0.in1k.safetensors", "tu-tf_efficientnet_lite0"),
        ("test_efficientnet_ln.safetensors", "tu-test_efficientnet_ln"),
        ("resnet18-5c106cde.safetensors", "tu-resnet18"),
        ("mit_b2.safetensors", "mit_b2"),
    ],
)
def test_a_file_named_after_another_network_is_told(
    file: str, other: str | None, of_timm: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file(of_timm, tmp_path / file)
    load_encoder_weights(network(), settings(tmp_path / file), 3)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (other is not None)
    assert other is None or told[0].endswith(f"use --encoder {other}")


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 12])
def test_a_first_layer_for_colour_is_adapted_to_other_channels(channels: int, of_timm: Weights, tmp_path: Path) -> None:
    save_file(of_timm, tmp_path / "w.safetensors")
    net = network(channels)
    told = load_encoder_weights(net, settings(tmp_path / "w.safetensors"), channels)
    first, colour = net.encoder.state_dict()["model.conv_stem.weight"], of_timm["conv_stem.weight"]
    assert first.shape[1] == channels
    if channels == 1:
        torch.testing.assert_close(first, colour.sum(1, keepdim=True))
        assert told.endswith("those of the first layer are summed over the colours")
    else:
        for channel in range(channels):
            torch.testing.assert_close(first[:, channel], colour[:, channel % 3] * 3 / channels)
        assert told.endswith(f"those of the first layer are of the colours in turn, times 3/{channels}")
    assert torch.equal(net.encoder.state_dict()["model.bn1.weight"], of_timm["bn1.weight"])


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 12])
def test_an_encoder_of_segmentation_models_is_adapted_by_the_same_rule(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    colour = smp.encoders.get_encoder("resnet18", weights=None)
    save_file(colour.state_dict(), tmp_path / "resnet18.safetensors")

    build = smp.encoders.get_encoder

    def from_hub(name: str, in_channels: int, depth: int, weights: str) -> nn.Module:
        """As segmentation-models does once the file is there."""
        encoder: Any = build(name, depth=depth, weights=None)
        encoder.load_state_dict(colour.state_dict())
        encoder.set_in_channels(in_channels, pretrained=True)
        return encoder

    of_file, of_hub = (build_network("linknet", "resnet18", channels, 3) for _ in range(2))
    monkeypatch.setattr(pretrained.smp.encoders, "get_encoder", from_hub)
    load_encoder_weights(of_file, settings(tmp_path / "resnet18.safetensors", "resnet18"), channels)
    load_encoder_weights(of_hub, settings("imagenet", "resnet18"), channels)
    first = colour.conv1.weight
    expected = (
        first.sum(1, keepdim=True)
        if channels == 1
        else torch.stack([first[:, channel % 3] * 3 / channels for channel in range(channels)], 1)
    )
    for net in (of_file, of_hub):
        torch.testing.assert_close(net.encoder.state_dict()["conv1.weight"], expected)


def test_real_weights_of_timm_fill_the_whole_encoder() -> None:
    data = os.environ.get("SEGTOOL_DATA", "")
    path = Path(os.environ.get("SEGTOOL_WEIGHTS", Path(data, "..", "weights", "tf_efficientnet_lite0.safetensors")))
    if not path.is_file():
        pytest.skip("needs real weights: neither SEGTOOL_WEIGHTS nor SEGTOOL_DATA leads to any")
    net = build_network("unet", "tu-tf_efficientnet_lite0", 3, 11)
    chosen = settings(path, "tu-tf_efficientnet_lite0")
    told = load_encoder_weights(net, chosen, 3)
    assert_loaded(net.encoder, load_file(path))
    total = sum(not name.endswith("num_batches_tracked") for name in net.encoder.state_dict())
    assert f"{total} of {total} tensors" in told
    assert normalisation(chosen, 3).mean == normalisation(chosen, 3).std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("encoder", "mean"),
    [
        ("tu-hrnet_w18", 0.485),
        ("tu-vit_tiny_patch16_224", 0.5),
        ("resnet18", 0.485),
        ("xception", 0.5),
        ("timm-tf_efficientnet_lite0", 0.5),
    ],
)
def test_mean_and_std_are_those_of_the_weights(encoder: str, mean: float) -> None:
    found = normalisation(settings("imagenet", encoder), 3)
    assert (len(found.mean), len(found.std)) == (3, 3)
    assert found.mean[0] == pytest.approx(mean)
    grey = normalisation(settings("imagenet", encoder), 1)
    assert grey.mean == pytest.approx((sum(found.mean) / 3,))
    typed = settings("imagenet", encoder, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    assert normalisation(typed, 3).mean == (0.1, 0.2, 0.3)
    with pytest.raises(UsageError, match=r"--mean has 3 values, the images have 1"):
        normalisation(typed, 1)


class Answers:
    """A session with a hub that answers."""

    @staticmethod
    def head(*_: object, **__: object) -> None:
        return None


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a hub that nobody can reach."""
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_hub_that_does_not_answer_is_asked_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    create = timm.create_model

    def watched(*args: Any, **options: Any) -> nn.Module:
        if options.get("pretrained"):
            asked.append(hub.is_offline_mode())
        made: nn.Module = create(*args, **options)
        return made

    monkeypatch.setattr(pretrained.timm, "create_model", watched)
    with pytest.raises(SegtoolError, match=r"'tu-test_efficientnet' could not be downloaded.*--encoder-weights FILE"):
        load_encoder_weights(network(), settings("imagenet"), 3)
    assert asked == [True]
    assert not hub.is_offline_mode()


def test_a_file_in_the_cache_is_found_without_the_hub(cache: Path, of_timm: Weights) -> None:
    config = timm.get_pretrained_cfg("test_efficientnet")
    folder = cache / f"models--{config.hf_hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(of_timm, folder / "snapshots" / ("0" * 40) / "model.safetensors")
    net = network()
    assert "ImageNet" in load_encoder_weights(net, settings("imagenet"), 3)
    assert_loaded(net.encoder, of_timm)


def test_a_hub_that_answers_is_used(cache: Path, of_timm: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(name: str, *, pretrained: bool, in_chans: int) -> Any:
        assert (name, pretrained, in_chans) == ("test_efficientnet", True, 3)
        assert not hub.is_offline_mode()
        return SimpleNamespace(state_dict=lambda: of_timm)

    net = network()
    monkeypatch.setattr(pretrained, "get_session", lambda: Answers)
    monkeypatch.setattr(pretrained.timm, "create_model", fetched)
    load_encoder_weights(net, settings("imagenet"), 3)
    assert_loaded(net.encoder, of_timm)
