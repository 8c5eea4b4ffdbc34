"""The auxiliary head: what it learns from, its loss, and that a network with it trains and reloads."""

import math

import pytest
import torch

from segtool.core.losses.image_labels import image_label_loss, image_label_targets
from segtool.core.models.build import build_network
from segtool.core.models.outputs import read_output


def test_targets_are_the_classes_that_have_a_pixel() -> None:
    masks = torch.tensor([[[0, 2], [255, 2]], [[255, 255], [255, 255]], [[1, 1], [1, 3]]], dtype=torch.uint8)
    assert image_label_targets(masks, 4).tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 1]]


def test_the_loss_is_its_formula_and_images_without_a_valid_pixel_do_not_count() -> None:
    logits = torch.tensor([[0.5, -1.0], [30.0, 30.0], [2.0, 0.0]], dtype=torch.float16, requires_grad=True)
    masks = torch.tensor([[[0]], [[255]], [[1]]], dtype=torch.uint8)
    weights = torch.tensor([1.0, 1.0, 3.0])
    targets = image_label_targets(masks, 2)

    def entropy(x: float, y: float) -> float:
        p = 1 / (1 + math.exp(-x))
        return -(y * math.log(p) + (1 - y) * math.log(1 - p))

    rows = [(entropy(0.5, 1) + entropy(-1, 0)) / 2, (entropy(2, 0) + entropy(0, 1)) / 2]
    loss = image_label_loss(logits, targets, masks, weights)
    assert float(loss.detach()) == pytest.approx((rows[0] + 3 * rows[1]) / 2, abs=1e-3)
    loss.backward()
    assert not logits.grad[1].any()
    nothing = image_label_loss(logits, targets, torch.full_like(masks, 255), weights)
    assert float(nothing) == 0


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_network_with_the_head_answers_both(outputs: int) -> None:
    network = build_network("linknet", "tu-test_efficientnet", 3, outputs, aux_outputs=3)
    answer = read_output(network(torch.zeros(2, 3, 32, 64)))
    assert answer.logits.shape == (2, outputs, 32, 64)
    assert answer.image_logits is not None
    assert answer.image_logits.shape == (2, 3)
    plain = build_network("linknet", "tu-test_efficientnet", 3, outputs)
    assert read_output(plain(torch.zeros(2, 3, 32, 64))).image_logits is None
