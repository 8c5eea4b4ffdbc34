"""`predict` with classes that overlap: the files it writes, and every way to the same probabilities."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Type
from overlapping import CLASSES, write_overlapping, write_run

from segtool.core.models.checkpoint import load_checkpoint, restore_network
from segtool.core.planes import read_planes
from segtool.core.predictions.folder import open_predictions
from segtool.core.predictions.probability_maps import read_probs

PREDICT = "predict multi --run run --threads 1 --workers 0"


@pytest.fixture
def folder(tmp_path: Path, typed: Type) -> Path:
    """The test's folder, with a data set and a run."""
    write_overlapping(tmp_path / "multi")
    write_run(tmp_path / "run")
    return tmp_path


def plain(folder: Path, image_id: str, run: str = "run") -> np.ndarray:
    """The sigmoid of the logits, computed without the predictor, float64 (C, H, W)."""
    from PIL import Image

    _, network = restore_network(load_checkpoint(folder / run / "best.pt"), folder)
    pixels = np.asarray(Image.open(folder / "multi" / "images" / f"{image_id}.png"))
    values = torch.from_numpy((pixels / 255.0 - 0.4) / 0.2).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = network(values)[0].double().numpy()
    return 1 / (1 + np.exp(-logits))


def test_probabilities_are_sigmoids_and_masks_those_from_one_half(folder: Path, typed: Type) -> None:
    ended = typed(f"{PREDICT} -o out")
    assert ended.status == 0, ended.stderr
    preds = open_predictions(folder / "out")
    assert preds.labels == "multi" and preds.classes == CLASSES
    for image_id in ("test_0", "test_1"):
        probs = read_probs(preds.probs_path(image_id))
        expected = plain(folder, image_id)
        assert np.abs(probs - expected).max() < 2e-5
        assert np.abs(probs.sum(0) - 1).max() > 0.01, "not divided by their sum"
        mask = preds.read_mask(image_id)
        assert mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 1}
        clear = np.abs(expected - 0.5) > 1e-4
        assert np.array_equal(mask[clear], (expected >= 0.5)[clear])
        written = read_planes(folder / "out" / "masks" / f"{image_id}.json", CLASSES)
        assert np.array_equal(written.expand(), mask)
    assert "up to date" in typed(f"{PREDICT} -o out").stdout
