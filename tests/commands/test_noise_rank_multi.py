"""`segtool noise-rank` of classes that overlap: a row for each image and class."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Type
from overlapping import CLASSES, draw_planes, write_noisy_predictions, write_overlapping

from segtool.core.planes import Planes, write_planes
from segtool.core.tables import read_csv


@pytest.fixture
def wrong(tmp_path: Path) -> None:
    """Predictions of right labels, and then the ring of image 2 is left out; nail is unknown in image 1."""
    dataset = write_overlapping(tmp_path / "multi", train=6, unknown=1)
    write_noisy_predictions(tmp_path / "preds", dataset, scale=0.1)
    planes = draw_planes(2)
    planes[1, 1:] = 0
    write_planes(tmp_path / "multi/masks/train_2.json", Planes.of(planes), CLASSES)


@pytest.mark.usefixtures("wrong")
def test_the_forgotten_object_comes_first_with_its_class(typed: Type) -> None:
    ended = typed("noise-rank multi preds -o t.csv --sort score --sheet s.png --keep k.csv --drop-worst 1")
    assert ended.status == 0, ended.stderr
    rows = read_csv(Path("t.csv"))
    assert len(rows) == 6 * 3
    first = rows[0]
    assert (first["image_id"], first["class"], first["suspicion"]) == ("train_2", "ring", "object")
    assert (first["region_label"], first["region_pred"]) == ("not ring", "ring")
    # No pixel of an unknown plane counts.
    assert (rows[-1]["image_id"], rows[-1]["class"], rows[-1]["note"]) == ("train_1", "nail", "all pixels ignored")
    assert Path("s.png").stat().st_size > 1000
    assert [row["image_id"] for row in read_csv(Path("k.csv"))] == [f"train_{n}" for n in (0, 1, 3, 4, 5)]


@pytest.mark.usefixtures("wrong")
def test_miou_is_of_the_class_and_the_rest(typed: Type) -> None:
    assert typed("noise-rank multi preds -o t.csv").status == 0
    rows = {(row["image_id"], row["class"]): row for row in read_csv(Path("t.csv"))}
    from segtool.core.predictions.folder import open_predictions

    preds = open_predictions(Path("preds"))
    for number, index in ((0, 0), (3, 1), (5, 2)):
        truth = draw_planes(number)[index]
        pred, scored = preds.read_mask(f"train_{number}")[index], truth != 255
        values = [
            np.float64((scored & (truth == side) & (pred == side)).sum())
            / (scored & ((truth == side) | (pred == side))).sum()
            for side in (0, 1)
        ]
        assert float(rows[f"train_{number}", CLASSES[index]]["miou"]) == pytest.approx(np.mean(values), abs=1e-5)
