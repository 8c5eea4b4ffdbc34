"""SnapMix's weights of classes: maps, shares and targets against what is computed by hand, pixel by pixel."""

import numpy as np
import pytest
import torch
from torch import nn

from segtool.core.dataloading.batches import Sources
from segtool.core.models.build import NetworkSpec, build_network
from segtool.core.training.snapmix import class_maps, semantic_shares, snapmix_targets

SPEC = NetworkSpec("toy", "toy", ("a", "b", "c"), 3, (0.5,) * 3, (0.25,) * 3, None, "fp32", aux_head=True)
WEIGHTS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])


class Toy(nn.Module):
    """The last features are the means of blocks of 16x16 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.BatchNorm2d(3), nn.AvgPool2d(16))
        self.encoder.forward = lambda x: [x, self.encoder[1](self.encoder[0](x))]  # type: ignore[method-assign]
        head = nn.Linear(3, 3)
        head.weight.data = WEIGHTS.clone()
        self.classification_head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), head)


def share_by_pixels(cells: np.ndarray, box: tuple[int, ...], size: tuple[int, int]) -> float:
    """Of one map, each cell over 16x16 pixels, without padding."""
    pixels = np.kron(cells, np.ones((16, 16)))[: size[0], : size[1]]
    pixels = pixels - pixels.min()
    top, left, height, width = box
    return float(pixels[top : top + height, left : left + width].sum() / pixels.sum())


BOXES = [(3, 5, 20, 30), (0, 0, 40, 40), (17, 1, 1, 1)]


def test_shares_are_those_of_the_pixels_without_padding() -> None:
    maps = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 2, 4, 4)))
    # The smallest of all lies in the padding, and must not lift the others.
    maps[:, :, 3, 3] = -100
    size, sizes = (40, 40), torch.tensor([[40, 40]] * 3)
    shares = semantic_shares(maps, torch.tensor(BOXES), sizes, (64, 64))
    for image, box in enumerate(BOXES):
        for c in range(2):
            assert float(shares[image, c]) == pytest.approx(share_by_pixels(maps[image, c].numpy(), box, size))
    assert shares[1].tolist() == pytest.approx([1, 1])


def test_of_a_map_without_a_peak_the_share_is_that_of_the_area() -> None:
    flat = torch.full((1, 1, 2, 2), 3.0)
    assert float(semantic_shares(flat, torch.tensor([[1, 2, 10, 20]]), torch.tensor([[20, 24]]), (32, 32))) == (
        pytest.approx(200 / 480)
    )


def test_maps_are_the_heads_weights_times_the_last_features_in_eval_mode() -> None:
    network = Toy().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.encoder[0].running_mean.fill_(0.25)
    pixels = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    maps = class_maps(network, pixels)
    features = (pixels.double() - 0.25) / (1 + 1e-5) ** 0.5
    features = features.unflatten(2, (2, 16)).unflatten(4, (3, 16)).mean((3, 5))
    expected = torch.einsum("ck,nkhw->nchw", WEIGHTS.double(), features)
    assert torch.allclose(maps.double(), expected, atol=1e-5)
    assert not maps.requires_grad
    assert network.encoder.training and network.encoder[0].training
    network.encoder[0].running_mean.fill_(0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    # As with a frozen encoder.
    network.encoder.eval()
    class_maps(network, pixels)
    assert not network.encoder[0].training


def sources(seed: int = 0) -> Sources:
    """Three images of 32x48, padded to 32x64; SnapMix made the first and the third."""
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.integers(0, 256, (3, 2, 32, 64, 3), np.uint8))
    images[:, :, :, 48:] = 128
    present = torch.zeros((3, 2, 256), dtype=torch.bool)
    for slot, side, values in ((0, 0, [0, 1, 255]), (0, 1, [1]), (2, 0, [0, 2]), (2, 1, [255])):
        present[slot, side, values] = True
    boxes = torch.tensor([[[0, 0, 16, 30], [8, 4, 20, 40]], [[0] * 4] * 2, [[5, 6, 7, 8], [0, 0, 32, 48]]])
    return Sources(torch.tensor([True, False, True]), images, torch.tensor([[32, 48]] * 3), boxes, present)


def test_targets_are_what_stays_of_one_image_and_comes_with_the_other() -> None:
    network, made = Toy(), sources()
    targets = snapmix_targets(network, SPEC, made, "cpu")
    features = (made.images[:, :, :, :48].double() / 255 - 0.5) / 0.25 / (1 + 1e-5) ** 0.5
    features = features.unflatten(2, (2, 16)).unflatten(4, (3, 16)).mean((3, 5))
    cells = torch.einsum("ck,nshwk->nschw", WEIGHTS.double(), features).numpy()
    for row, slot in enumerate((0, 2)):
        one, other = (
            [share_by_pixels(cells[slot, side, c], tuple(made.boxes[slot, side].tolist()), (32, 48)) for c in range(2)]
            for side in (0, 1)
        )
        # The third class's weights are 0, so its map is flat.
        area = made.boxes[slot, :, 2:].prod(1) / (32 * 48)
        one, other = [*one, float(area[0])], [*other, float(area[1])]
        present = made.present[slot, :, :3].numpy()
        expected = [min(1.0, present[0, c] * (1 - one[c]) + present[1, c] * other[c]) for c in range(3)]
        assert targets[row].tolist() == pytest.approx(expected, abs=1e-5)
    # Held by neither; by the other image alone; a mask with nothing valid brings nothing.
    assert targets[0, 2] == 0
    assert 0 < targets[0, 1] <= 1
    assert targets[1, 1] == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("arch", "encoder"), [("linknet", "tu-test_efficientnet"), ("dpt", "tu-test_vit"), ("deeplabv3", "resnet18")]
)
def test_real_networks_give_targets_and_keep_their_gradients(arch: str, encoder: str, precision: str) -> None:
    torch.manual_seed(0)
    network = build_network(arch, encoder, 3, 3, aux_outputs=3).train()
    spec = NetworkSpec(**{**SPEC.__dict__, "arch": arch, "encoder": encoder, "precision": precision})
    made = sources()
    made = made._replace(images=made.images.repeat(1, 1, 3, 2, 1)[:, :, :96, :96], sizes=made.sizes * 2)
    targets = snapmix_targets(network, spec, made, "cpu")
    assert targets.shape == (2, 3)
    assert ((targets >= 0) & (targets <= 1)).all()
    assert ((targets > 0) == (made.present.any(1)[made.mixed][:, :3])).all()
