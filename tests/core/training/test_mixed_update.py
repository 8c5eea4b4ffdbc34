"""Images mixed from two: both masks reach the loss, and cutting an update into pieces changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_update import SPEC, after, assert_same, data, part, updater
from torch import nn

from segtool.core.dataloading.batches import Batch, Collate
from segtool.core.dataloading.mixing import Sample, snapmix
from segtool.core.geometry import Rectangle
from segtool.core.runtime.distributed import World
from segtool.core.training.snapmix import snapmix_targets
from segtool.core.training.update import Updater, split_micro_batches


def mixed(share: float) -> Batch:
    """Every second image mixed; of some pixels one mask or both are ignored."""
    batch = data(8)
    masks2 = batch.masks.flip(0).clone()
    masks2[:, :2] = 255
    return batch._replace(masks2=masks2, share=torch.tensor([0.0, share] * 4))


def pieces(batch: Batch, size: int) -> list[Batch]:
    assert batch.masks2 is not None
    assert batch.share is not None
    cut = []
    for start in range(0, len(batch.masks), size):
        which = slice(start, start + size)
        piece = part(batch, which)
        if batch.share[which].any():
            # As the loader gives them: without a mixed image there are no second masks.
            piece = piece._replace(masks2=batch.masks2[which], share=batch.share[which])
        cut.append(piece)
    return cut


@pytest.mark.parametrize("size", [1, 2, 4])
def test_accumulation_gives_the_single_update(size: int) -> None:
    batch = mixed(0.3)
    assert_same(after(updater(World()), [batch]), after(updater(World()), pieces(batch, size)))


def test_the_loss_goes_from_one_mask_to_the_other() -> None:
    batch = mixed(1.0)
    assert batch.masks2 is not None
    first = after(updater(World()), [mixed(0.0)], steps=1)[0][0]
    assert first == pytest.approx(after(updater(World()), [data(8)], steps=1)[0][0])
    # With all the weight on the second masks these could as well be the first.
    masks = batch.masks.clone()
    masks[1::2] = batch.masks2[1::2]
    other = after(updater(World()), [data(8)._replace(masks=masks)], steps=1)[0][0]
    assert after(updater(World()), [batch], steps=1)[0][0] == pytest.approx(other)
    assert first != pytest.approx(other, rel=1e-4)


# SnapMix.


class Toy(nn.Module):
    """Without batch norm; its auxiliary head stands on features of a quarter of the size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Tanh())
        self.encoder.forward = lambda x: [x, self.encoder[1](self.encoder[0](x))]  # type: ignore[method-assign]
        self.decoder = nn.ConvTranspose2d(8, 3, 4, stride=4)
        self.classification_head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.encoder(pixels)[-1]
        return self.decoder(features), self.classification_head(features)


def snap_updater(world: World, aux_weight: float = 0.5) -> Updater:
    network = Toy()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.9)
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    criterion = updater(World()).criterion
    spec = replace(SPEC, aux_head=True)
    more = {"clip": 0.0, "seed": 0, "device": "cpu", "world": world, "aux_weight": aux_weight}
    return Updater(network, spec, optimizer, criterion, **more)


def snapped() -> Batch:
    """Every second of eight images is made by SnapMix; all have the same number of valid pixels."""
    random = np.random.default_rng(0)

    def sample(number: int) -> Sample:
        image = random.integers(0, 256, (32, 32, 3), np.uint8)
        # One class each, and two with the partner.
        mask = np.full((32, 32), number % 3, np.uint8)
        mask[:3] = 255
        return Sample(image, mask, 1.0)

    boxes = Rectangle(4, 6, 20, 20), Rectangle(10, 8, 12, 16)
    samples = [sample(n) if n % 2 else snapmix(sample(n), sample(n + 1), *boxes) for n in range(8)]
    return Collate((128,) * 3, 32)(samples)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_accumulation_gives_the_single_update_of_snapmix(size: int) -> None:
    whole = after(snap_updater(World()), [snapped()])
    pieces = after(snap_updater(World()), split_micro_batches([snapped()], 8 // size))
    assert whole[0] == pytest.approx(pieces[0], rel=1e-5)
    for name, value in whole[1].items():
        assert torch.allclose(value, pieces[1][name], atol=1e-6), name
    assert not torch.equal(whole[1]["encoder.0.weight"], Toy().state_dict()["encoder.0.weight"])


def test_the_image_level_loss_is_the_cross_entropy_with_the_shares_of_the_classes() -> None:
    """And the mask's loss is that of the pixels' own labels, as without SnapMix."""
    batch = snapped()
    assert batch.sources is not None
    losses = [snap_updater(World(), aux_weight=weight).step([batch], 1.0, 0, 0) for weight in (0.0, 1.0)]
    plain = snap_updater(World(), aux_weight=0.0).step([batch._replace(sources=None)], 1.0, 0, 0)
    assert losses[0] == plain
    network = Toy()
    pixels = (batch.images.permute(0, 3, 1, 2).double() / 255 - 0.5) / 0.25
    logits = network.double()(pixels)[1].detach().numpy()
    targets = np.zeros((8, 3))
    for slot in range(8):
        targets[slot, [c for c in range(3) if (batch.masks[slot] == c).any()]] = 1
    shares = snapmix_targets(Toy(), replace(SPEC, aux_head=True), batch.sources, "cpu").numpy()
    targets[::2] = shares
    assert ((shares > 0.02) & (shares < 0.98)).sum() >= 8, "these targets tell nothing"
    probs = 1 / (1 + np.exp(-logits))
    entropy = -(targets * np.log(probs) + (1 - targets) * np.log(1 - probs)).mean(axis=1)
    assert losses[1] - losses[0] == pytest.approx(
        float(entropy @ batch.weights.numpy() / batch.weights.sum()), rel=1e-5
    )


def test_the_weights_of_classes_follow_the_network() -> None:
    moving = snap_updater(World())
    batch = snapped()
    assert batch.sources is not None
    first = snapmix_targets(moving.network, moving.spec, batch.sources, "cpu")
    after(moving, [batch])
    later = snapmix_targets(moving.network, moving.spec, batch.sources, "cpu")
    assert not torch.allclose(first, later, atol=1e-3)
