"""Counts of blends of planes from contested pixels alone: as counted over all pixels of all classes."""

from pathlib import Path

import numpy as np
import pytest

from segtool.core.predictions.bit_planes import decide_planes
from segtool.core.predictions.blending import PlanesBlend
from segtool.core.predictions.probability_maps import quantise
from segtool.core.tuning import contested_pixels
from segtool.core.tuning.contested_planes import ContestedPlanes

WANTED = [(1, 0, 0), (0, 1, 0), (1, 2, 1), (3, 1, 5)]


@pytest.mark.parametrize("mode", ["mean", "gmean", "tsharpen", "vote"])
def test_counts_are_those_of_all_pixels(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contested_pixels, "BLOCK_VALUES", 50)
    monkeypatch.setattr("segtool.core.tuning.contested_planes.BLOCK_VALUES", 50)
    random = np.random.default_rng(0)
    contested = ContestedPlanes(3, 2, PlanesBlend(mode, (1, 1, 1), 0.5), tmp_path)
    images = []
    for _ in range(2):
        truth = random.choice(np.uint8([0, 1, 255]), (2, 12, 9))
        truth[1, :, 5:] = 255
        common = random.random((2, 12, 9))
        levels = [quantise((0.6 * common + 0.4 * random.random((2, 12, 9))).astype(np.float32)) for _ in range(3)]
        images.append((truth, levels))
        for rows in (slice(0, 5), slice(5, 12)):
            bands = [one[:, rows] for one in levels]
            masks = np.stack([contested.decide(one) for one in bands])
            contested.add(truth[:, rows], bands, masks)
        contested.end_image()
    for number, (truth, levels) in enumerate(images):
        found = contested.counts(number, WANTED)
        for weights, counts in zip(WANTED, found, strict=True):
            used = [one for one, weight in zip(levels, weights, strict=True) if weight]
            merged = decide_planes(quantise(PlanesBlend(mode, weights, 0.5)(used)))
            for index in range(2):
                known = truth[index] != 255
                hits = (merged[index] & (truth[index] == 1)).sum()
                assert counts[:, index].tolist() == [hits, (truth[index] == 1).sum(), (merged[index] & known).sum()]
    assert not (found == 0).all()
