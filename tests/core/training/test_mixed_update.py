"""Images mixed from two: both masks reach the loss, and cutting an update into pieces changes nothing."""

import pytest
import torch
from test_update import after, assert_same, data, part, updater

from segtool.core.data.batches import Batch
from segtool.core.training.distributed import World


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
