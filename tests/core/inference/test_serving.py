"""A graph for serving predicts what the predictor does, of all kinds of classes, images and sizes."""

import numpy as np
import pytest
import torch
from torch import nn

from segtool.core.inference.export import _as_read, make_images
from segtool.core.inference.predictor import Member, Predictor
from segtool.core.inference.serving import ServedModel, traceable
from segtool.core.models.build import NetworkSpec, build_network
from segtool.settings.inference import ViewSettings
from segtool.values import Scale, Size

COLOURS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
FIVE = {"channels": 5, "mean": (0.4, 0.5, 0.6, 0.5, 0.4), "std": (0.2,) * 5}
DEEP = {"low": (0.0, 10.0, 0.0, 5.0, 0.0), "high": (4000.0, 900.0, 65535.0, 10000.0, 300.0)}
KINDS = {
    "classes": {},
    "two classes": {"classes": ("a", "b")},
    "classes that overlap": {"labels": "multi"},
    "an auxiliary head": {"aux_head": True},
    "a size": {"resize": Size(96, 64)},
    "the longer side": {"resize": Scale("long", 100)},
    "the shorter side": {"resize": Scale("short", 70)},
    "half": {"resize": Scale("factor", 0.5)},
    "grey": {"channels": 1, "mean": (0.5,), "std": (0.25,)},
    "missing colours": {"nodata": 0.0},
    "five bands of 8 bits": {**FIVE, "low": (0.0,) * 5, "high": (255.0,) * 5},
    "five bands of 16 bits": {**FIVE, **DEEP, "dtype": "uint16"},
    "missing pixels of 16 bits, clipped": {**FIVE, **DEEP, "dtype": "uint16", "nodata": 7.0, "clip": True},
    "floats": {**FIVE, **DEEP, "dtype": "float32"},
    "floats and a size": {**FIVE, **DEEP, "dtype": "float32", "resize": Size(64, 64)},
}


def make_member(changes: dict[str, object], seed: int = 0) -> Member:
    torch.manual_seed(seed)
    values = {"arch": "linknet", "encoder": "tu-test_efficientnet", "classes": ("a", "b", "c"), "channels": 3}
    spec = NetworkSpec(**{**values, **COLOURS, "resize": None, "precision": "fp32", **changes})
    network = build_network(spec.arch, spec.encoder, spec.channels, spec.outputs, spec.aux_outputs).eval()
    for parameter in network.segmentation_head.parameters():
        # Probabilities far from uniform, so that differences show.
        nn.init.normal_(parameter, std=0.3)
    return Member(spec, network.to(memory_format=torch.channels_last))


def compare(members: list[Member], tta: tuple[str, ...] = (), *, largest: float = 1e-4, mean: float = 1e-5) -> None:
    spec = members[0].spec
    served, predictor = ServedModel(members, tta).eval(), Predictor(members, "cpu", ViewSettings(tta=tta or None))
    for count, height, width in ((2, 97, 131), (1, 128, 96), (1, 33, 70)):
        images = make_images(spec, count, height, width, seed=height)
        with torch.no_grad():
            probs, mask = (output.numpy() for output in served(torch.from_numpy(images)))
        theirs = np.stack(predictor([_as_read(image, spec) for image in images]))
        difference = np.abs(probs - theirs)
        assert probs.shape == (count, len(spec.classes), height, width)
        assert difference.max() <= largest
        assert difference.mean() <= mean
        if spec.multi:
            assert mask.dtype == np.bool_
            np.testing.assert_array_equal(mask, np.floor(probs * 65535 + 0.5) >= 32767)
        else:
            assert mask.dtype == np.uint8
            np.testing.assert_array_equal(mask, probs.argmax(1))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_is_predicted_alike(kind: str) -> None:
    rounded = "resize" in KINDS[kind] and "dtype" not in KINDS[kind]
    compare([make_member(KINDS[kind])], **({"largest": 0.05, "mean": 1e-3} if rounded else {}))


def test_the_views_and_runs_are_averaged() -> None:
    compare([make_member({})], ("hflip", "rot90:90/180/270"))
    compare([make_member({}), make_member({"mean": (0.5,) * 3}, seed=1)], ("vflip",))
    other = make_member({"resize": Scale("factor", 0.5)}, seed=1)
    compare([make_member({}), other], largest=0.05, mean=1e-3)


@pytest.mark.parametrize(
    ("arch", "encoder", "kind"),
    [("fpn", "tu-tf_efficientnet_lite0", "_StaticSame"), ("pspnet", "resnet18", "_AnyPspBlock")],
)
def test_layers_that_ask_for_sizes_are_replaced_by_their_equals(arch: str, encoder: str, kind: str) -> None:
    member = make_member({"arch": arch, "encoder": encoder})
    network = traceable(member.network, member.spec)
    assert any(type(module).__name__ == kind for module in network.modules())
    for height, width in ((64, 96), (160, 128)):
        pixels = torch.randn(2, 3, height, width)
        with torch.no_grad():
            torch.testing.assert_close(network(pixels), member.network(pixels), atol=1e-3, rtol=1e-3)
