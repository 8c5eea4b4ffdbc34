"""`train --aux-head` and `predict --gate`: what the head learns, where its scores stand, and what the gate does."""

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import Type
from PIL import Image

from segtool.core.predictions import probability_maps
from segtool.core.predictions import writer as prediction_writer
from segtool.core.predictions.folder import open_predictions
from segtool.core.predictions.probability_maps import read_probs

NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0"
TRAIN = f"train tiny {NETWORK} --batch 2 --scale 1,1"
PREDICT = "predict tiny --run run --subset train --threads 1"


@pytest.fixture
def folder(tiny: Path, typed: Type) -> Path:
    """The test's folder with a run that has a head."""
    assert typed(f"{TRAIN} --aux-head 1 --epochs 40 --lr 0.01 -o run").status == 0
    return tiny.parent


def scores(folder: Path) -> dict[str, np.ndarray]:
    with (folder / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ("presence_ground", "presence_box", "presence_stripe")
    return {row["image_id"]: np.array([float(row[name]) for name in names], np.float32) for row in rows}


def test_the_head_learns_what_images_hold_and_its_scores_stand_in_the_index(folder: Path, typed: Type) -> None:
    assert typed(f"{PREDICT} -o preds").status == 0
    said = scores(Path("preds"))
    # Class 2, the stripe, is in every second image.
    with_stripe, without = ([said[f"train_{i}"][2] for i in range(8) if i % 2 == odd] for odd in (1, 0))
    assert np.median(with_stripe) > max(without)
    assert (np.median([score[:2] for score in said.values()], axis=0) > 0.9).all()
    # Scores of images that were there already are not lost on the way.
    before = Path("preds/index.csv").read_bytes()
    Path("preds/done.json").rename("preds/begun.json")
    Path("preds/index.csv").unlink()
    Path("preds/masks/train_0.png").unlink()
    assert typed(f"{PREDICT} -o preds").status == 0
    assert Path("preds/index.csv").read_bytes() == before


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_the_gate_takes_out_what_the_head_does_not_see(threshold: float, folder: Path, typed: Type) -> None:
    assert typed(f"{PREDICT} -o plain").status == 0
    assert typed(f"{PREDICT} --gate {threshold} -o gated").status == 0
    plain, gated = open_predictions(Path("plain")), open_predictions(Path("gated"))
    for image_id, said in scores(Path("plain")).items():
        open_ = said >= threshold
        open_[0] = True
        expected = read_probs(plain.probs_path(image_id)) * open_[:, None, None]
        # Where all that is left was stored as 0, the background is certain.
        expected[0][expected.sum(0) == 0] = 1
        left = expected.sum(0)
        # Probabilities are stored in steps of 1/65535, which count for more where little is left.
        error = np.abs(read_probs(gated.probs_path(image_id)) - expected / left)
        assert (error <= (2 / left + 1) / 65535).all()
        assert set(np.unique(gated.read_mask(image_id))) <= set(np.flatnonzero(open_))
    assert scores(Path("gated")).keys() == scores(Path("plain")).keys()


def test_large_images_are_gated_once_their_last_window_has_spoken(
    folder: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("images", "masks"):
        path = Path("tiny", kind, "train_1.png")
        Image.open(path).resize((40, 150), Image.Resampling.NEAREST).save(path)
    way = "--gate 0.5 --window 32 --tta hflip"
    assert typed(f"{PREDICT} {way} -o whole").status == 0
    monkeypatch.setattr(probability_maps, "BAND_BYTES", 4 * 3 * 40 * 9)
    assert typed(f"{PREDICT} {way} -o banded").status == 0
    assert Path("banded/index.csv").read_bytes() == Path("whole/index.csv").read_bytes()
    for image_id in ("train_0", "train_1"):
        whole, banded = (read_probs(open_predictions(Path(name)).probs_path(image_id)) for name in ("whole", "banded"))
        np.testing.assert_allclose(banded, whole, atol=3e-4)
    assert not list(Path("banded").rglob(".tmp-*"))
    assert prediction_writer.PRESENCE in Image.open("banded/masks/train_1.png").info


def test_the_gate_is_refused_without_a_head(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} --epochs 1 -o run").status == 0
    ended = typed(f"{PREDICT} --gate 0.5 -o preds")
    assert (ended.status, "run has no auxiliary head" in ended.stderr) == (2, True)
    assert typed(f"{PREDICT} -o preds").status == 0
    assert Path("preds/index.csv").read_text().splitlines()[0] == "image_id,height,width,oof"
