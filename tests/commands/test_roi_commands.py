"""`segtool roi crop` and `roi paste`: crops as a data set, and pasted back."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import Type
from PIL import Image

from segtool.commands import roi_crop
from segtool.core import images
from segtool.core.dataset.dataset import Dataset, load_dataset
from segtool.core.dataset.image_identity import identify
from segtool.core.dataset.seen_images import read_samples, write_samples
from segtool.core.predictions.folder import open_predictions
from segtool.core.predictions.probability_maps import decide, read_probs
from segtool.core.roi.crops import CroppedImage, read_boxes
from segtool.core.tables import read_csv

Floats = npt.NDArray[np.float32]


def full(number: int) -> Floats:
    """Probabilities of an image of 32x32: a box of class 1, and in every second image a stripe of class 2."""
    mask = np.zeros((32, 32), np.uint8)
    mask[4 + number : 14 + number, 6:20] = 1
    if number % 2:
        mask[:, 28:] = 2
    noise = np.random.default_rng(number).dirichlet(np.ones(3), (32, 32)).transpose(2, 0, 1)
    return (0.2 * noise + 0.8 * (mask == np.arange(3)[:, None, None])).astype(np.float32)


@pytest.fixture
def coarse(tiny: Path, typed: Type) -> Path:
    """Prediction folders of `tiny`: `coarse` of the test images, `oof` of train_0 to train_3."""
    for folder, part, count in (("test", "test", 2), ("train", "train", 4)):
        Path("arrays", folder).mkdir(parents=True)
        for number in range(count):
            np.save(f"arrays/{folder}/{part}_{number}.npy", full(number))
    assert typed("import preds arrays/test --data tiny --oof -o coarse").status == 0
    assert typed("import preds arrays/train --data tiny --subset oof --oof --partial -o oof").status == 0
    return Path("coarse")


def read_cropped(folder: str) -> dict[str, CroppedImage]:
    return {cropped.image_id: cropped for cropped in read_boxes(Path(folder, "boxes.csv"))}


def predict_crops(typed: Type, crops: str, options: str, out: str) -> dict[str, Floats]:
    """What a model would say of each crop, as a prediction folder of the crops' data set."""
    made = {}
    for number, crop in enumerate(crop for cropped in read_cropped(crops).values() for crop in cropped.crops):
        random = np.random.default_rng(100 + number)
        made[crop.crop_id] = random.dirichlet(np.ones(3), crop.size).transpose(2, 0, 1).astype(np.float32)
        path = Path("arrays", out, f"{crop.crop_id}.npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, made[crop.crop_id])
    ended = typed(f"import preds arrays/{out} --data {crops} {options} -o {out}")
    assert ended.status == 0, ended.stderr
    return made


def test_crops_of_a_coarse_prediction(coarse: Path, typed: Type) -> None:
    ended = typed("roi crop tiny --preds coarse --margin 0.2 -o crops")
    assert ended.status == 0, ended.stderr
    assert ended.stdout.endswith("crops/dataset.yaml: 3 crops of 2 images\n")
    cropped = read_cropped("crops")["test_1"]
    assert [(crop.crop_id, *crop[1:6]) for crop in cropped.crops] == [
        ("test_1_0", 27, 0, 5, 32, "stripe"),
        ("test_1_1", 3, 3, 20, 14, "box"),
    ]
    probs, mask = full(1), decide(full(1))
    assert [crop.score for crop in cropped.crops] == pytest.approx(
        [probs[n][mask == n].mean() for n in (2, 1)], abs=1e-4
    )
    dataset, source = load_dataset(Path("crops")), load_dataset(Path("tiny"))
    assert (dataset.classes, dataset.train, len(dataset.test)) == (source.classes, (), 3)
    assert [record.group for record in dataset.test] == ["test_0", "test_1", "test_1"]
    for record, crop in zip(dataset.test[1:], cropped.crops, strict=True):
        image = source.read_image(source.test[1])
        assert np.array_equal(dataset.read_image(record), image[crop.place])
        assert record.mask is None
    assert typed("roi crop tiny --preds coarse --margin 0.2 -o crops").stdout == "crops is up to date\n"


def test_crops_of_masks_carry_masks_groups_and_ignored_pixels(tiny: Path, typed: Type) -> None:
    rows = (tiny / "train.csv").read_text().splitlines()
    weighted = [rows[0] + ",weight", *(f"{row},{n % 2 + 1}" for n, row in enumerate(rows[1:]))]
    (tiny / "train.csv").write_text("\n".join(weighted) + "\n")
    assert typed("roi crop tiny --masks --margin 1 --classes box -o crops").status == 0
    dataset, source = load_dataset(Path("crops")), load_dataset(tiny)
    assert len(dataset.train) == 8
    for record, whole in zip(dataset.train, source.train, strict=True):
        (crop,) = read_cropped("crops")[whole.image_id].crops
        assert (record.image_id, record.group, record.weight) == (f"{whole.image_id}_0", whole.group, whole.weight)
        pair = [part[crop.place] for part in source.read_pair(whole)]
        for found, expected in zip(dataset.read_pair(record), pair, strict=True):
            assert np.array_equal(found, expected)
    masks = [dataset.read_mask(record) for record in dataset.train]
    assert any((mask == 255).any() for mask in masks)
    assert {cropped.oof for cropped in read_cropped("crops").values()} == {False}
    # The four groups of the images are whole again in the crops' folds.
    assert typed("split crops --kind group --n-folds 4 -o folds.csv").status == 0
    folds = {row["image_id"]: row["fold"] for row in read_csv(Path("folds.csv"))}
    assert len({(record.group, folds[record.image_id]) for record in dataset.train}) == 4


def test_images_without_a_group_are_their_own(tiny: Path, typed: Type) -> None:
    lines = [line.rpartition(",")[0] for line in (tiny / "train.csv").read_text().splitlines()]
    (tiny / "train.csv").write_text("\n".join(lines) + "\n")
    assert typed("roi crop tiny --masks -o crops").status == 0
    assert {r.image_id.rpartition("_")[0]: r.group for r in load_dataset(Path("crops")).train} == {
        f"train_{n}": f"train_{n}" for n in range(8)
    }


def test_boxes_from_a_file(tiny: Path, typed: Type) -> None:
    entry = {"image_id": "test_1", "category_id": 1, "bbox": [2, 3, 10, 10], "score": 0.9}
    entries = [entry, {**entry, "score": 0.2}, {**entry, "category_id": 2, "bbox": [20, 20, 99, 5]}]
    Path("found.json").write_text(json.dumps(entries))
    ended = typed("roi crop tiny --boxes found.json --min-score 0.5 --margin 0 -o crops")
    assert ended.status == 0, ended.stderr
    assert ended.stdout.endswith("2 crops of 1 images; 1 without a box: test_0\n")
    assert [crop[1:] for crop in read_cropped("crops")["test_1"].crops] == [
        (2, 3, 10, 10, "box", 0.9),
        (20, 20, 12, 5, "stripe", 0.9),
    ]
    assert [cropped.oof for cropped in read_cropped("crops").values()] == [False, False]
    assert read_cropped("crops")["test_0"].crops == ()
    assert typed("roi crop tiny --boxes found.json --classes stripe --oof -o other").status == 0
    assert [crop.label for crop in read_cropped("other")["test_1"].crops] == ["stripe"]
    assert {cropped.oof for cropped in read_cropped("other").values()} == {True}


def test_cropped_and_pasted_back(coarse: Path, typed: Type) -> None:
    """What crops of an image's own probabilities say, pasted over a base of nonsense, is the image within them."""
    assert typed("roi crop tiny --preds coarse -o crops").status == 0
    for cropped in read_cropped("crops").values():
        for crop in cropped.crops:
            Path("arrays/own").mkdir(exist_ok=True)
            rows, columns = crop.place
            np.save(f"arrays/own/{crop.crop_id}.npy", full(int(cropped.image_id[-1]))[:, rows, columns])
    assert typed("import preds arrays/own --data crops --oof -o own").status == 0
    ended = typed("roi paste own --crops crops -o pasted")
    assert ended.status == 0, ended.stderr
    assert ended.stdout == "pasted: 2 images (test) of 3 crops\n"
    preds = open_predictions(Path("pasted"))
    assert (preds.ids, preds.subset, preds.oof) == (["test_0", "test_1"], "test", {"test_0", "test_1"})
    for number, cropped in enumerate(read_cropped("crops").values()):
        inside = np.zeros(cropped.size, bool)
        for crop in cropped.crops:
            inside[crop.place] = True
        assert inside.any() and not inside.all()
        found = read_probs(preds.probs_path(cropped.image_id))
        expected = np.where(inside, full(number), np.array([1, 0, 0], np.float32)[:, None, None])
        assert np.abs(found - expected).max() < 3e-5
        assert np.array_equal(preds.read_mask(cropped.image_id), decide(found))
    assert typed("roi paste own --crops crops -o pasted").stdout == "pasted is up to date\n"
    assert typed("submit pasted -o sub.csv").status == 0


def test_overlaps_are_averaged_over_a_base(coarse: Path, typed: Type) -> None:
    entry = {"image_id": "test_0", "category_id": 1, "bbox": [2, 3, 10, 10], "score": 0.9}
    Path("found.json").write_text(json.dumps([entry, {**entry, "bbox": [7, 8, 20, 10]}]))
    assert typed("roi crop tiny --boxes found.json --margin 0 -o crops").status == 0
    made = predict_crops(typed, "crops", "--oof", "refined")
    assert typed("roi paste refined --crops crops --base coarse -o pasted").status == 0
    preds = open_predictions(Path("pasted"))
    total, count = np.zeros((3, 32, 32)), np.zeros((32, 32))
    for name, rows, columns in (("test_0_0", slice(3, 13), slice(2, 12)), ("test_0_1", slice(8, 18), slice(7, 27))):
        total[:, rows, columns] += made[name]
        count[rows, columns] += 1
    assert count.max() == 2
    expected = np.where(count > 0, total / np.maximum(count, 1), full(0))
    assert np.abs(read_probs(preds.probs_path("test_0")) - expected).max() < 3e-5
    # No crop: the base, as it is.
    assert Path("pasted/masks/test_1.png").read_bytes() == Path("coarse/masks/test_1.png").read_bytes()
    assert np.abs(read_probs(preds.probs_path("test_1")) - full(1)).max() < 3e-5
    # Nobody has said that the detector did not see these images.
    assert preds.oof == frozenset()
    assert {member["run"] for member in preds.members} == {"refined", "found.json", "test"}


def test_boxes_from_masks_are_never_out_of_fold(tiny: Path, typed: Type, caplog: pytest.LogCaptureFixture) -> None:
    assert typed("roi crop tiny --masks -o crops").status == 0
    predict_crops(typed, "crops", "--subset oof --oof", "refined")
    assert typed("roi paste refined --crops crops -o pasted").status == 0
    assert "8 images do not count as out-of-fold" in caplog.text
    refused = typed("evaluate tiny pasted -o scores")
    assert refused.status == 2


def test_boxes_from_out_of_fold_predictions_give_a_score(coarse: Path, typed: Type) -> None:
    assert typed("roi crop tiny --preds oof -o crops").status == 0
    assert {cropped.oof for cropped in read_cropped("crops").values()} == {True}
    predict_crops(typed, "crops", "--subset oof --oof", "refined")
    assert typed("roi paste refined --crops crops --base oof -o pasted").status == 0
    scored = typed("evaluate tiny pasted -o scores")
    assert (scored.status, "4 images of the subset oof; out-of-fold, as claimed" in scored.stdout) == (0, True)


def test_a_crop_counts_as_its_image(tiny: Path, typed: Type) -> None:
    """Else a model trained on crops of an image would pass for one that has never seen other crops of it."""
    assert typed("roi crop tiny --masks --margin 0.2 -o one").status == 0
    assert typed("roi crop tiny --masks --margin 0.5 -o other").status == 0
    one, other, whole = (load_dataset(Path(name)) for name in ("one", "other", "tiny"))
    write_samples(Path("samples.csv"), one, [r for r in one.train if r.image_id.startswith("train_0_")], [])
    trained = read_samples(Path("samples.csv")).trained
    for dataset in (one, other, whole):
        seen = [record.image_id for record in dataset.train if identify(record.files).among(trained)]
        assert seen
        assert all(image_id.startswith("train_0") for image_id in seen)
    assert identify(other.train[0].files) == identify(whole.train[0].files)
    # Crops of crops, too; and a twin among the training images is left out.
    assert typed("roi crop other --masks -o third").status == 0
    assert identify(load_dataset(Path("third")).train[0].files).among(trained)
    assert write_samples(Path("samples.csv"), other, other.train[:1], whole.train[:1]) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "give exactly one of --preds, --masks, --boxes and --detector, not 0"),
        ("--masks --preds coarse", "not 2"),
        ("--masks --subset train", "--subset has no effect without --boxes or --detector"),
        ("--preds coarse --oof", "--oof has no effect without --boxes"),
        ("--masks --annotations a.json", "--annotations has no effect without --boxes"),
        ("--masks --min-score 0.5", "--min-score cannot be combined with --masks"),
        ("--boxes found.json --min-area 5", "--min-area cannot be combined with --boxes"),
        ("--masks --classes bx", "--classes bx: tiny/dataset.yaml has no such class; did you mean box?"),
        ("--boxes found.json --subset train", "found.json has no box in any of these images"),
    ],
)
def test_what_makes_no_sense_is_refused(coarse: Path, typed: Type, options: str, said: str) -> None:
    entry = {"image_id": "test_1", "category_id": 1, "bbox": [2, 3, 10, 10], "score": 0.9}
    Path("found.json").write_text(json.dumps([entry]))
    ended = typed(f"roi crop tiny {options} -o crops")
    assert (ended.status, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not Path("crops").exists()


def test_bad_content_is_one_line(coarse: Path, typed: Type) -> None:
    ended = typed("roi crop tiny --masks --min-area 1025 -o crops")
    assert (ended.status, Path("crops").exists()) == (1, False)
    assert ended.stderr.endswith("none of 8 images has a box, so there is nothing to cut out\n")
    Image.new("RGB", (31, 32)).save("tiny/test_images/test_0.png")
    ended = typed("roi crop tiny --preds coarse -o crops")
    assert (ended.status, Path("crops").exists()) == (1, False)
    assert ended.stderr.endswith("coarse is 32x32 (HxW), but its image tiny/test_images/test_0.png is 32x31\n")


def test_pasting_what_does_not_fit(coarse: Path, typed: Type) -> None:
    assert typed("roi crop tiny --preds coarse -o crops").status == 0
    predict_crops(typed, "crops", "--oof", "refined")
    for line, status, said in (
        (
            "roi paste refined --crops coarse -o p",
            2,
            "coarse is an output of `segtool import preds`, not `segtool roi crop`",
        ),
        ("roi paste coarse --crops crops -o p", 1, "'test_0' is not one of the crops"),
        ("roi paste refined --crops crops --base oof -o p", 2, "--base oof is of the subset oof, refined of test"),
        ("roi paste refined --crops tiny -o p", 1, "tiny is not a folder of crops"),
    ):
        ended = typed(line)
        assert (ended.status, ended.stdout, Path("p").exists()) == (status, "", False)
        assert said in ended.stderr


def test_killed_and_resumed(coarse: Path, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed("roi crop tiny --masks -o whole").status == 0
    real, written = images.write_image, []

    def interrupted(path: Path, *rest: object) -> None:
        written.append(path.name)
        if len(written) == 4:
            raise KeyboardInterrupt
        real(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(roi_crop.images, "write_image", interrupted)
    assert typed("roi crop tiny --masks -o crops").status == 130
    (kept,) = Path("crops/images").glob("train_0_0.png")
    kept.write_bytes(kept.read_bytes()[:50])
    assert typed("roi crop tiny --masks -o crops").status == 0
    # The one that was cut short, and those that were not there.
    assert written[4:] == ["train_0_0.png", *written[3:4], *written[5 + 1 :]]
    files = sorted(path.relative_to("whole") for path in Path("whole").rglob("*.*") if path.name != "done.json")
    assert len(files) > 20
    for file in files:
        assert Path("crops", file).read_bytes() == Path("whole", file).read_bytes()


def test_pasting_resumes_after_a_kill(coarse: Path, typed: Type) -> None:
    assert typed("roi crop tiny --preds coarse -o crops").status == 0
    predict_crops(typed, "crops", "--oof", "refined")
    assert typed("roi paste refined --crops crops -o pasted").status == 0
    before = {path: path.read_bytes() for path in Path("pasted").rglob("*.*") if path.name != "done.json"}
    stamp = json.loads(Path("pasted/done.json").read_text())
    Path("pasted/begun.json").write_text(json.dumps(stamp))
    Path("pasted/done.json").unlink()
    probs = Path("pasted/probs/test_1.b2nd")
    probs.write_bytes(probs.read_bytes()[:500])
    untouched = Path("pasted/probs/test_0.b2nd").stat().st_mtime_ns
    assert typed("roi paste refined --crops crops -o pasted").status == 0
    assert {path: path.read_bytes() for path in before} == before
    assert Path("pasted/probs/test_0.b2nd").stat().st_mtime_ns == untouched


def test_channels_and_palette_are_carried_over(tiny: Path, typed: Type) -> None:
    text = (tiny / "dataset.yaml").read_text().replace("channels: 3", "channels: 1\npalette: [[1,2,3],[4,5,6],[7,8,9]]")
    (tiny / "dataset.yaml").write_text(text)
    assert typed("roi crop tiny --masks -o crops").status == 0
    dataset: Dataset = load_dataset(Path("crops"))
    assert (dataset.channels, dataset.palette) == (1, ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    record = dataset.train[0]
    assert Image.open(record.image).mode == "L"
    assert record.mask and images.read_palette(record.mask)[:2] == [(1, 2, 3), (4, 5, 6)]  # type: ignore[index]
