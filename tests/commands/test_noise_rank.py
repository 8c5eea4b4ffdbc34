"""`segtool noise-rank`: wrong labels come first, the sheet, the list of images to keep, and errors."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from segtool.commands.noise_rank import run
from segtool.core import images
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, write_dataset
from segtool.core.dataset.masks import mask_path
from segtool.core.dataset.synthetic import CLASSES, draw, make_scene
from segtool.core.files import write_json
from segtool.core.predictions.folder import probs_path
from segtool.core.predictions.probability_maps import decide, write_probs
from segtool.core.tables import write_csv
from segtool.errors import SegtoolError, UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.noise_rank import NoiseRankSettings
from segtool.values import parse_amount

Type = Callable[[str], tuple[int, str, str]]
COUNT, DROPPED, SHIFTED, VOID = 9, 2, 5, 8


def believed(mask: np.ndarray, seed: int) -> np.ndarray:
    """What a network might say of the true mask: blurred, uneven, never quite sure; float32 (C, H, W)."""
    random = np.random.default_rng(seed)
    ids = np.where(mask == images.IGNORE, 0, mask)
    planes = [cv2.GaussianBlur((ids == c).astype(np.float32), (0, 0), 1.5) for c in range(len(CLASSES))]
    unevenness = cv2.resize(random.uniform(0.6, 1, (4, 4)).astype(np.float32), mask.shape[::-1])
    return (np.stack(planes) * unevenness + (1 - unevenness) / len(CLASSES)).astype(np.float32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Nine drawn images: in one the largest object is not marked, one mask is shifted, one is ignored wholly."""
    folder, records = tmp_path / "data", []
    for index in range(COUNT):
        image, mask = draw(make_scene(1, 0, index, 64), 0)
        record = Record(f"i{index}", folder / f"i{index}.png", folder / f"m{index}.png")
        predict(folder.parent / "oof", record.image_id, believed(mask, index))
        predict(folder.parent / "other", record.image_id, believed(np.roll(mask, 2 if index else 0, 1), index))
        if index == DROPPED:
            largest = np.bincount(mask[(mask != 0) & (mask != 255)]).argmax()
            mask[mask == largest] = 0
        mask = np.roll(mask, 6, 0) if index == SHIFTED else np.full_like(mask, 255) if index == VOID else mask
        folder.mkdir(exist_ok=True)
        images.Image.fromarray(image).save(str(record.image))
        images.write_mask(folder / f"m{index}.png", mask)
        records.append(record)
    dataset = Dataset(folder / "dataset.yaml", CLASSES, train=tuple(records))
    write_dataset(folder, dataset)
    for name in ("oof", "other"):
        finish(tmp_path / name, dataset)
    return folder


def predict(folder: Path, image_id: str, probs: np.ndarray) -> None:
    write_probs(probs_path(folder, image_id), probs)
    images.write_mask(mask_path(folder, image_id), decide(probs))


def finish(folder: Path, dataset: Dataset, seen: tuple[str, ...] = (), ids: slice = slice(None)) -> None:
    sizes = {r.image_id: images.image_size(r.image) for r in dataset.train[ids]}
    rows = [(i, *size, int(i not in seen)) for i, size in sizes.items()]
    write_csv(folder / "index.csv", ("image_id", "height", "width", "oof"), rows)
    write_json(folder / "meta.json", {"classes": dataset.classes, "subset": "oof", "members": []})
    write_json(folder / "done.json", {"command": "predict"})


def rank(data: Path, **options: object) -> list[dict[str, str]]:
    """The rows of the table."""
    folder = data.parent
    overwrite = bool(options.pop("overwrite", False))
    output = OutputSettings(out=folder / "noise.csv", quiet=True, overwrite=overwrite)
    run(NoiseRankSettings(output=output, data=data, preds=folder / "oof", **options))  # type: ignore[arg-type]
    return rows_of(folder / "noise.csv")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_wrong_labels_come_first_with_the_right_kind_of_mistake(data: Path) -> None:
    rows = rank(data, sort="score")
    assert {rows[0]["image_id"], rows[1]["image_id"]} == {f"i{DROPPED}", f"i{SHIFTED}"}
    by_id = {row["image_id"]: row for row in rows}
    dropped, shifted = by_id[f"i{DROPPED}"], by_id[f"i{SHIFTED}"]
    assert (dropped["suspicion"], dropped["region_label"]) == ("object", "background")
    truth = draw(make_scene(1, 0, DROPPED, 64), 0)[1]
    largest = int(np.bincount(truth[(truth != 0) & (truth != 255)]).argmax())
    assert dropped["region_pred"] == CLASSES[largest]
    ys, xs = np.nonzero(truth == largest)
    box = [int(dropped[f"region_{side}"]) for side in ("left", "top", "width", "height")]
    assert min(xs) <= box[0] <= box[0] + box[2] <= max(xs) + 1
    assert min(ys) <= box[1] <= box[1] + box[3] <= max(ys) + 1
    assert (shifted["suspicion"], shifted["shift_x"], shifted["shift_y"]) == ("shift", "0", "-6")
    assert rows[-1]["image_id"] == f"i{VOID}"
    assert (rows[-1]["note"], rows[-1]["miou"], rows[-1]["score"]) == ("all pixels ignored", "", "")


def test_the_order_is_that_of_a_column_worst_first(data: Path) -> None:
    for column, sign in (("miou", 1), ("softmin", 1), ("region_share", -1)):
        rows = rank(data, sort=column, overwrite=True)
        values = [sign * float(row[column]) for row in rows[:-1]]
        assert values == sorted(values)
        assert rows[-1]["image_id"] == f"i{VOID}"


def test_members_that_disagree(data: Path) -> None:
    assert {row["disagreement"] for row in rank(data)} == {""}
    rows = {r["image_id"]: r for r in rank(data, member=(data.parent / "other",), overwrite=True)}
    assert float(rows["i0"]["disagreement"]) == 0
    assert float(rows["i1"]["disagreement"]) > 0.02
    masks = [images.read_indices(mask_path(data.parent / name, "i1")) for name in ("oof", "other")]
    counted = load_dataset(data).read_mask(load_dataset(data).by_id["i1"]) != 255
    assert float(rows["i1"]["disagreement"]) == pytest.approx((masks[0] != masks[1])[counted].mean())


def test_tolerance_and_confidence_change_what_they_should(data: Path) -> None:
    usual = rank(data)
    strict = rank(data, tolerance=0, overwrite=True)
    assert [row["tolerant_iou"] for row in strict] == [row["miou"] for row in strict]
    assert [row["tolerant_iou"] for row in usual] != [row["miou"] for row in usual]
    sure = rank(data, confident=1.0, overwrite=True)
    assert {row["region_area"] for row in sure} == {""}


def test_keep_lists_all_but_the_worst_and_train_reads_it(data: Path, tmp_path: Path) -> None:
    rows = rank(data, keep=tmp_path / "keep.csv", drop_worst=parse_amount("2"))
    kept = [row["image_id"] for row in rows_of(tmp_path / "keep.csv")]
    worst = {row["image_id"] for row in rows[:2]}
    assert kept == [f"i{n}" for n in range(COUNT) if f"i{n}" not in worst]
    # A share is one of the images, and the images of which nothing is known stay, as do those not predicted.
    rank(data, keep=tmp_path / "keep.csv", drop_worst=parse_amount("50%"), overwrite=True)
    assert len(rows_of(tmp_path / "keep.csv")) == COUNT - round(COUNT / 2)
    rank(data, keep=tmp_path / "keep.csv", drop_worst=parse_amount("100%"), overwrite=True)
    assert [row["image_id"] for row in rows_of(tmp_path / "keep.csv")] == [f"i{VOID}"]


def test_the_second_call_makes_only_what_is_missing(data: Path, tmp_path: Path, typed: Type) -> None:
    line = f"noise-rank {data} oof -o noise.csv --keep keep.csv --drop-worst 10% --sheet sheet.png --sheet-images 3"
    assert typed(line).stdout.count("up to date") == 0  # type: ignore[attr-defined]
    with images.Image.open(tmp_path / "sheet.png") as sheet:
        reds = (np.asarray(sheet) == (255, 0, 0)).all(axis=2).sum()
    assert reds > 100
    before = (tmp_path / "noise.csv").read_bytes()
    (tmp_path / "keep.csv").unlink()
    status, out, _ = typed(line)
    assert status == 0
    assert out.count("up to date") == 2
    assert (tmp_path / "keep.csv").exists()
    assert (tmp_path / "noise.csv").read_bytes() == before
    status, _, err = typed(line.replace("10%", "20%"))
    assert status == 2
    assert "drop-worst (10%, now 20%)" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--keep k.csv", "--keep has no effect without --drop-worst"),
        ("--drop-worst 5%", "--drop-worst has no effect without --keep"),
        ("--drop-worst 0 --keep k.csv", "is neither a number of images"),
        ("--sheet-images 3", "--sheet-images has no effect without --sheet"),
        ("--sort disagreement", "needs --member"),
        ("--sheet noise.csv", "name the same file"),
    ],
)
def test_what_makes_no_sense_is_refused(typed: Type, options: str, said: str) -> None:
    status, _, err = typed(f"noise-rank data oof -o noise.csv {options}")
    assert status == 2
    assert said in " ".join(err.split())


def test_images_that_a_model_has_seen_are_refused(data: Path) -> None:
    dataset = load_dataset(data)
    finish(data.parent / "oof", dataset, seen=("i3",))
    with pytest.raises(UsageError, match="trained on 1 of its 9 images"):
        rank(data)
    finish(data.parent / "oof", dataset)
    finish(data.parent / "other", dataset, seen=("i3",))
    with pytest.raises(UsageError, match="other: a model was trained on 1 of its 9 images"):
        rank(data, member=(data.parent / "other",))


def test_what_does_not_fit_is_named(data: Path) -> None:
    dataset, folder = load_dataset(data), data.parent
    finish(folder / "other", dataset, ids=slice(1, None))
    with pytest.raises(SegtoolError, match="'i0' is missing"):
        rank(data, member=(folder / "other",))
    finish(folder / "other", replace(dataset, classes=(*CLASSES[:-1], "squares")))
    with pytest.raises(SegtoolError, match="other classes"):
        rank(data, member=(folder / "other",))
    images.write_mask(data / "m0.png", np.zeros((3, 4), np.uint8))
    with pytest.raises(SegtoolError, match=r"m0.png is 3x4 \(HxW\), but"):
        rank(data)
    (probs_path(folder / "oof", "i0")).rename(folder / "aside")
    with pytest.raises(SegtoolError, match=r"i0\.b2nd"):
        rank(data)
    (folder / "oof" / "probs").rename(folder / "no probs")
    with pytest.raises(SegtoolError, match="predict without --no-probs"):
        rank(data)
