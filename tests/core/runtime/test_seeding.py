"""Random streams: the same for the same key, another for any other key or use."""

import numpy as np
import torch

from segtool.core.runtime.seeding import permutation, sample_generators, seed_torch

KEYS = [(0,), (0, 0), (0, 0, 0, 0), (0, 1), (1, 0), (0, 0, 0, 1)]


def torch_draw(*key: int) -> float:
    seed_torch(*key)
    return float(torch.rand((), dtype=torch.float64))


def test_equal_keys_give_equal_streams_and_zeros_behind_a_key_another_one() -> None:
    draws = (
        lambda *key: tuple(permutation(50, *key)),
        lambda *key: sample_generators(*key)[0].random(),
        lambda *key: sample_generators(*key)[1].random(),
        torch_draw,
    )
    for draw in draws:
        assert [draw(*key) for key in KEYS] == [draw(*key) for key in KEYS]
        assert len({draw(*key) for key in KEYS}) == len(KEYS)


def test_order_and_augmentation_do_not_share_a_stream() -> None:
    own = permutation(50, 3, 4)
    assert sample_generators(3, 4)[0].permutation(50).tolist() != own
    assert sorted(own) == np.arange(50).tolist()
