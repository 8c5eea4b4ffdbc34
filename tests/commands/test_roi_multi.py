"""`segtool roi` of classes that overlap: crops of planes, and pasting what is predicted in them."""

from pathlib import Path

import numpy as np
from conftest import Type
from overlapping import CLASSES, draw_planes, write_overlapping, write_run

from segtool.core.dataset.dataset import load_dataset
from segtool.core.predictions.folder import open_predictions
from segtool.core.predictions.objects import component_boxes
from segtool.core.predictions.probability_maps import ProbReader, read_probs, write_probs
from segtool.core.roi.crops import read_boxes


def done(typed: Type, line: str) -> None:
    ended = typed(line)
    assert ended.status == 0, ended.stderr


def test_objects_are_components_of_all_classes_together(tmp_path: Path) -> None:
    planes = np.zeros((3, 8, 12), np.uint8)
    planes[0, 1:5, 1:5], planes[1, 3:7, 4:6], planes[2, 0:2, 9:12] = 1, 1, 1
    planes[:, 7] = 255
    probs = np.zeros((3, 8, 12), np.float32)
    probs[0, 1:5, 1:5], probs[1, 3:7, 4:6], probs[2, 0:2, 9:12] = 0.6, 0.9, 0.7
    write_probs(tmp_path / "x.b2nd", probs)
    boxes = component_boxes(planes, CLASSES, [0, 1, 2], 1, ProbReader(tmp_path / "x.b2nd"))
    assert [(box[:4], box.label) for box in boxes] == [((1, 1, 5, 6), "hand"), ((9, 0, 3, 2), "nail")]
    # Of the most probable class at each of 22 pixels, 8 of them in a ring.
    assert np.allclose([box.score for box in boxes], [(14 * 0.6 + 8 * 0.9) / 22, 0.7], atol=1e-4)
    assert [box.label for box in component_boxes(planes, CLASSES, [1], 1)] == ["ring"]
    assert component_boxes(planes, CLASSES, [2], 7) == []


def test_crops_have_the_planes_of_their_place(tmp_path: Path, typed: Type) -> None:
    write_overlapping(tmp_path / "multi", unknown=1)
    done(typed, "roi crop multi --masks --margin 0.1 -o crops")
    crops = load_dataset(tmp_path / "crops")
    assert crops.multi and crops.classes == CLASSES
    for image in read_boxes(tmp_path / "crops/boxes.csv"):
        planes = draw_planes(int(image.image_id[-1]))
        if image.image_id == "train_1":
            planes[2] = 255
        for crop in image.crops:
            mask = crops.read_mask(crops.by_id[crop.crop_id])
            assert np.array_equal(mask, planes[:, *crop.place])
    assert "up to date" in typed("roi crop multi --masks --margin 0.1 -o crops").stdout


def test_predicted_crops_are_pasted_and_outside_is_no_class(tmp_path: Path, typed: Type) -> None:
    write_overlapping(tmp_path / "multi")
    write_run(tmp_path / "run")
    done(typed, "roi crop multi --masks --classes hand -o crops")
    done(typed, "predict crops --run run --subset train --threads 1 --workers 0 -o parts")
    done(typed, "roi paste parts --crops crops -o pasted")
    pasted, parts = (open_predictions(tmp_path / name) for name in ("pasted", "parts"))
    assert pasted.multi
    for image in read_boxes(tmp_path / "crops/boxes.csv"):
        expected = np.zeros((3, 32, 32))
        (crop,) = image.crops
        expected[:, *crop.place] = read_probs(parts.probs_path(crop.crop_id))
        probs = read_probs(pasted.probs_path(image.image_id))
        assert np.abs(probs - expected).max() < 1e-6
        assert np.array_equal(pasted.read_mask(image.image_id), np.round(probs * 65535) >= 32767)
    done(typed, "roi crop multi --preds pasted -o again")
    assert load_dataset(tmp_path / "again").multi
