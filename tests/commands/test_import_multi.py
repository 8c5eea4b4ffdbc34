"""Every import with `--labels multi`: all that is marked at a pixel stays, without a background."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Type
from hypothesis import given
from hypothesis import strategies as st
from overlapping import CLASSES, write_overlapping, write_run
from PIL import Image
from pycocotools import mask as coco_mask

from segtool.core.dataset.dataset import load_dataset
from segtool.core.dataset.plane_masks import encode_region, join_regions
from segtool.core.planes import Planes, write_planes
from segtool.core.predictions.folder import open_predictions
from segtool.values import Size

SIZE = Size(8, 10)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", SIZE[::-1], (90, 120, 30)).save(folder / f"{name}.png")
    return folder


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    region = np.zeros(SIZE, np.uint8)
    region[top:bottom, left:right] = 1
    return region


def polygon(top: int, left: int, bottom: int, right: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def planes_of(folder: Path, image_id: str) -> np.ndarray:
    dataset = load_dataset(folder)
    assert dataset.multi
    return dataset.read_mask(dataset.by_id[image_id])


def test_coco(tmp_path: Path, typed: Type, pictures: Path) -> None:
    entries = [(1, polygon(0, 0, 4, 6), 0), (2, polygon(2, 3, 6, 9), 0), (1, polygon(6, 6, 8, 10), 0)]
    entries.append((2, polygon(0, 5, 3, 10), 1))
    annotations = [
        {"id": number, "image_id": 1, "category_id": category, "segmentation": region, "iscrowd": crowd}
        for number, (category, region, crowd) in enumerate(entries)
    ]
    names = [{"id": number, "name": name} for number, name in ((1, "hand"), (2, "ring"))]
    files = [{"id": n, "file_name": f"{name}.png", "width": 10, "height": 8} for n, name in ((1, "a"), (2, "b"))]
    content = {"images": files, "annotations": annotations, "categories": names}
    (tmp_path / "ann.json").write_text(json.dumps(content))
    done = typed("import coco ann.json --images images --labels multi -o out")
    assert done.status == 0, done.stderr
    assert load_dataset(tmp_path / "out").classes == ("hand", "ring")
    hand, ring = box(0, 0, 4, 6) | box(6, 6, 8, 10), box(2, 3, 6, 9)
    crowd = box(0, 5, 3, 10) == 1
    wanted = [np.where((plane == 0) & crowd, 255, plane) for plane in (hand, ring)]
    assert np.array_equal(planes_of(tmp_path / "out", "a.png"), wanted), (
        "a crowd is ignored where a class has no object"
    )
    assert not planes_of(tmp_path / "out", "b.png").any()
    (tmp_path / "map.csv").write_text("theirs,ours\nring,ignore\n")
    done = typed("import coco ann.json --images images --labels multi --map map.csv --crowd drop -o mapped")
    assert done.status == 0, done.stderr
    assert np.array_equal(planes_of(tmp_path / "mapped", "a.png"), [np.where((hand == 0) & (ring == 1), 255, hand)])
    (tmp_path / "map.csv").write_text("theirs,ours\nBackground,ignore\n")
    done = typed("import coco ann.json --images images --labels multi --map map.csv -o no")
    assert done.status == 1 and "the background is no class" in done.stderr


def test_labelme_and_yolo(tmp_path: Path, typed: Type, pictures: Path) -> None:
    shapes = [
        {"label": label, "points": points, "shape_type": "polygon"}
        for label, points in (("hand", [[0, 0], [6, 0], [6, 4], [0, 4]]), ("ring", [[3, 2], [9, 2], [9, 6], [3, 6]]))
    ]
    content = {"shapes": shapes, "imagePath": "a.png", "imageHeight": 8, "imageWidth": 10}
    (pictures / "a.json").write_text(json.dumps(content))
    done = typed("import labelme images --labels multi -o labelme")
    assert done.status == 0, done.stderr
    assert np.array_equal(planes_of(tmp_path / "labelme", "a"), [box(0, 0, 4, 6), box(2, 3, 6, 9)])
    (pictures / "a.json").unlink()
    (pictures / "a.txt").write_text("0 0 0 .6 0 .6 .5 0 .5\n1 .3 .25 .9 .25 .9 .75 .3 .75\n")
    (tmp_path / "names.txt").write_text("hand\nring\n")
    done = typed("import yolo images --images images --classes names.txt --labels multi -o yolo")
    assert done.status == 0, done.stderr
    assert np.array_equal(planes_of(tmp_path / "yolo", "a"), planes_of(tmp_path / "labelme", "a"))


def test_rle_and_masks_per_image(tmp_path: Path, typed: Type, pictures: Path) -> None:
    rows = {"hand": box(0, 0, 4, 6), "ring": box(2, 3, 6, 9)}
    lines = ["ImageId_ClassId,EncodedPixels"]
    for name, region in rows.items():
        flat = np.flatnonzero(np.diff(region.T.ravel(), prepend=0, append=0)).reshape(-1, 2)
        lines.append(f"a_{name}," + " ".join(f"{start + 1} {end - start}" for start, end in flat))
        (tmp_path / f"masks/{name}").mkdir(parents=True)
        Image.fromarray(region * 255).save(tmp_path / f"masks/{name}/a.png")
    Image.fromarray(box(0, 0, 0, 0)).save(tmp_path / "masks/ring/b.png")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    done = typed("import rle t.csv --images images --labels multi --classes hand,ring -o rle")
    assert done.status == 0, done.stderr
    done = typed(
        "import folders --images images/{id}.png --masks masks/{class}/{id}.png --masks-per-image --labels multi"
        " --classes hand,ring -o folders"
    )
    assert done.status == 0, done.stderr
    for name in ("rle", "folders"):
        assert load_dataset(tmp_path / name).classes == ("hand", "ring")
        assert np.array_equal(planes_of(tmp_path / name, "a"), list(rows.values()))
        assert not planes_of(tmp_path / name, "b").any()


def test_an_order_of_painting_has_no_effect_and_is_refused(typed: Type, pictures: Path) -> None:
    for line in (
        "import coco x.json --images images --paint file",
        "import rle t.csv --images images --paint category",
        "import folders --images images --masks images --classes a,b --masks-per-image --paint-order a,b",
    ):
        ended = typed(f"{line} --labels multi -o out")
        assert ended.status == 2 and "has no effect with --labels multi" in ended.stderr


def test_one_mask_for_each_image_cannot_overlap(tmp_path: Path, typed: Type, pictures: Path) -> None:
    done = typed("import folders --images images --masks images --classes a,b --labels multi -o out")
    assert done.status == 2 and "needs --masks-per-image" in done.stderr


@given(st.integers(0, 2**32 - 1))
def test_regions_of_a_class_are_joined(seed: int) -> None:
    random = np.random.default_rng(seed)
    values, regions = random.choice([0, 1, 2, 3, 255], 6), random.random((6, *SIZE)) < 0.3
    joined = join_regions([(int(v), encode_region(r)) for v, r in zip(values, regions, strict=True)], 3, SIZE).expand()
    for index in range(3):
        there = regions[values == index + 1].any(0)
        ignored = regions[values == 255].any(0) & ~there
        wanted = np.where(ignored, 255, there)
        assert np.array_equal(joined[index], wanted) or (ignored.all() and not there.any())


@pytest.mark.parametrize("options", ["--order column --base 1", "--order row --base 0"])
@pytest.mark.parametrize("seed", range(3))
def test_a_submission_comes_back_pixel_for_pixel(tmp_path: Path, typed: Type, options: str, seed: int) -> None:
    folder = tmp_path
    write_overlapping(folder / "multi")
    write_run(folder / "run")
    assert typed("predict multi --run run --threads 1 --workers 0 -o preds").status == 0
    preds, random = open_predictions(folder / "preds"), np.random.default_rng(seed)
    masks = {}
    for image_id in preds.ids:
        masks[image_id] = (random.random((len(CLASSES), *preds.sizes[image_id])) < random.random()).astype(np.uint8)
        masks[image_id][random.integers(len(CLASSES))] = 0
        write_planes(preds.mask_path(image_id), Planes.of(masks[image_id]), CLASSES)
    done = typed(f"submit preds -o s.csv --format rle --id-format {{id}}_{{class}} {options}")
    assert done.status == 0, done.stderr
    test = folder / "test"
    test.mkdir()
    for image_id in preds.ids:
        (test / f"{image_id}.png").write_bytes((folder / "multi/images" / f"{image_id}.png").read_bytes())
    done = typed(f"import rle s.csv --images test --labels multi --classes {','.join(CLASSES)} -o back {options}")
    assert done.status == 0, done.stderr
    for image_id, mask in masks.items():
        assert np.array_equal(planes_of(folder / "back", image_id), mask)


def test_what_a_pixel_with_one_class_needs_is_refused(tmp_path: Path, typed: Type) -> None:
    write_overlapping(tmp_path / "multi")
    write_run(tmp_path / "run")
    assert typed("predict multi --run run --threads 1 --workers 0 -o preds").status == 0
    for kind in ("pixels", "png"):
        done = typed(f"submit preds -o s --format {kind}")
        assert done.status == 2 and "has labels: multi; use rle or coco" in done.stderr
    done = typed("submit preds -o s.json --format coco --per class")
    assert done.status == 0, done.stderr
    entries, preds = json.loads((tmp_path / "s.json").read_text()), open_predictions(tmp_path / "preds")
    wanted = {}
    for image_id in preds.ids:
        for index, plane in enumerate(preds.read_mask(image_id)):
            if plane.any():
                own = preds.open_probs(image_id).probs()[index][plane == 1]
                wanted[image_id, index] = (plane, float(own.astype(np.float64).mean()))
    assert {(entry["image_id"], entry["category_id"]) for entry in entries} == wanted.keys() != set()
    for entry in entries:
        plane, score = wanted[entry["image_id"], entry["category_id"]]
        assert np.array_equal(coco_mask.decode(entry["segmentation"]), plane)
        assert entry["score"] == pytest.approx(score, abs=2e-6), "of the class's own pixels and probabilities"
