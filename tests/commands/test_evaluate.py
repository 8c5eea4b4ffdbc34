"""`segtool evaluate`: its tables, and the scores that it must refuse."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Type

from segtool.commands.evaluate import FILES, run
from segtool.core import images
from segtool.core.dataset.dataset import Dataset, load_dataset, write_dataset
from segtool.core.dataset.masks import mask_path
from segtool.core.files import write_json
from segtool.core.tables import write_csv
from segtool.errors import SegtoolError, UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.evaluate import EvaluateSettings

Make = Callable[..., Path]


@pytest.fixture
def predict(tiny: Path, tmp_path: Path) -> Make:
    """Write a finished prediction folder of `tiny`: the true masks, all but the last with class 2 taken for 0."""

    def make(subset: str = "valid", ids: int = 4, seen: tuple[str, ...] = (), classes: tuple[str, ...] = ()) -> Path:
        dataset, folder = load_dataset(tiny), tmp_path / f"preds {subset}"
        records = dataset.train[:ids] if subset != "test" else dataset.test
        for record in records:
            truth = images.read_indices(record.mask or dataset.train[0].mask)
            pred = np.where(np.isin(truth, [2, 255]) & (record != records[-1]), 0, np.where(truth == 255, 0, truth))
            images.write_mask(mask_path(folder, record.image_id), pred.astype(np.uint8))
        rows = [(r.image_id, 32, 32, int(r.image_id not in seen)) for r in records]
        write_csv(folder / "index.csv", ("image_id", "height", "width", "oof"), rows)
        write_json(folder / "meta.json", {"classes": classes or dataset.classes, "subset": subset, "members": []})
        write_json(folder / "done.json", {"command": "predict"})
        return folder

    return make


def evaluate(data: Path, preds: Path, out: Path, **options: object) -> str:
    output = OutputSettings(out=out, quiet=True, overwrite=bool(options.pop("overwrite", False)))
    return run(EvaluateSettings(output=output, data=data, preds=preds, **options)).text()  # type: ignore[arg-type]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_tables_agree_with_each_other(tiny: Path, predict: Make, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    text = evaluate(tiny, predict(), out)
    assert {path.name for path in out.iterdir()} == {*FILES, "done.json"}
    summary = json.loads((out / "summary.json").read_text())
    per_class = {row["class"]: row for row in rows(out / "per_class.csv")}
    # Stripes are in the images 1 and 3; only that of the last was predicted.
    assert summary["iou"]["stripe"] == pytest.approx(0.5)
    assert summary["iou"]["box"] == 1.0
    assert float(per_class["stripe"]["recall"]) == pytest.approx(0.5)
    assert summary["miou"] == pytest.approx(np.mean(list(summary["iou"].values())))
    assert (summary["images"], summary["pixels"], summary["subset"]) == (4, 4 * 31 * 32, "valid")
    per_image = rows(out / "per_image.csv")
    assert [row["image_id"] for row in per_image] == [f"train_{n}" for n in range(4)]
    assert (per_image[0]["iou_stripe"], per_image[1]["iou_stripe"], per_image[3]["iou_stripe"]) == ("", "0.0", "1.0")
    assert summary["image_miou"] == pytest.approx(np.mean([float(row["miou"]) for row in per_image]))
    matrix = [[int(row[name]) for name in ("ground", "box", "stripe")] for row in rows(out / "confusion.csv")]
    assert np.sum(matrix) == summary["pixels"]
    assert matrix[2][0] == matrix[2][2] == int(per_class["stripe"]["pixels"]) // 2
    assert {row["class"] for row in rows(out / "by_size.csv")} == {"box", "stripe"}, "the background is no object"
    assert summary["size_bins"] == [1024, 9216]
    assert "Objects by size (under 1024, under 9216, more pixels), and the share found" in text
    sizes = [row for row in rows(out / "by_size.csv") if row["class"] == "stripe"]
    assert [row["size"] for row in sizes] == ["small", "medium", "large"]
    assert (sizes[0]["objects"], sizes[0]["recall"], sizes[0]["iou"]) == ("2", "0.5", "0.5")
    assert (sizes[2]["objects"], sizes[2]["recall"]) == ("0", "")
    assert f"{summary['miou']:.4f}" in text
    assert "4 images of the subset valid" in text


def test_size_bins(tiny: Path, predict: Make, typed: Type) -> None:
    """A border between the areas of the stripes, 124, and of the boxes, 144; what is no list of areas is refused."""
    ended = typed(f"evaluate tiny '{predict()}' -o s --size-bins 130")
    assert "Objects by size (under 130, more pixels), and the share found" in ended.stdout
    found = [(row["class"], row["size"], row["objects"]) for row in rows(Path("s/by_size.csv"))]
    bins = ("under 130", "130 and more")
    assert found == [("box", bins[0], "0"), ("box", bins[1], "4"), ("stripe", bins[0], "2"), ("stripe", bins[1], "0")]
    assert json.loads(Path("s/summary.json").read_text())["size_bins"] == [130]
    for wrong in ("9,9", "9,5", "0", "", "a,9", "1.5", "-3", "²"):
        ended = typed(f"evaluate tiny tiny/masks -o t '--size-bins={wrong}'")
        assert (ended.status, "is not a list of increasing areas" in ended.stderr) == (2, True), wrong


def test_excluded_classes(tiny: Path, predict: Make, tmp_path: Path) -> None:
    preds = predict()
    evaluate(tiny, preds, tmp_path / "s", exclude=("ground", "box"))
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert summary["miou"] == summary["iou"]["stripe"] == pytest.approx(0.5)
    assert summary["excluded"] == ["ground", "box"]
    with pytest.raises(UsageError, match=r"--exclude strip: .* did you mean stripe\?"):
        evaluate(tiny, preds, tmp_path / "t", exclude=("strip",))
    with pytest.raises(UsageError, match="no class to score"):
        evaluate(tiny, preds, tmp_path / "t", exclude=("ground", "box", "stripe"))


def test_same_command_again(tiny: Path, predict: Make, tmp_path: Path) -> None:
    preds, out = predict(), tmp_path / "s"
    evaluate(tiny, preds, out)
    before = (out / "summary.json").stat().st_mtime_ns
    assert "up to date" in evaluate(tiny, preds, out)
    assert (out / "summary.json").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="exclude"):
        evaluate(tiny, preds, out, exclude=("ground",))
    images.write_mask(mask_path(preds, "train_0"), np.zeros((32, 32), np.uint8))
    with pytest.raises(UsageError, match="inputs: predictions"):
        evaluate(tiny, preds, out)
    assert "Scores" in evaluate(tiny, preds, out, overwrite=True)


def test_killed_half_way_starts_again(tiny: Path, predict: Make, tmp_path: Path) -> None:
    preds, out = predict(), tmp_path / "s"
    evaluate(tiny, preds, out)
    whole = {name: (out / name).read_bytes() for name in FILES}
    (out / "done.json").rename(out / "begun.json")
    (out / "summary.json").unlink()
    (out / "per_image.csv").write_text("half")
    evaluate(tiny, preds, out)
    assert {name: (out / name).read_bytes() for name in FILES} == whole


def test_images_a_model_saw_are_refused(tiny: Path, predict: Make, tmp_path: Path) -> None:
    valid = predict(seen=("train_1",))
    with pytest.raises(UsageError, match=r"trained on 1 of its 4 images \(train_1.*--subset oof"):
        evaluate(tiny, valid, tmp_path / "s")
    train = predict("train", seen=("train_0", "train_2"))
    with pytest.raises(UsageError, match=r"trained on 2 of its 4 images.*--subset train"):
        evaluate(tiny, train, tmp_path / "s")
    with pytest.raises(UsageError, match="trained on"):  # nor by naming the masks inside
        evaluate(tiny, train / "masks", tmp_path / "s")
    assert not (tmp_path / "s").exists()
    text = evaluate(tiny, train, tmp_path / "s", subset="train")
    assert "TRAINING images, not a validation score: the model saw 2 of these 4 images" in text


def test_subset_must_be_the_one_predicted(tiny: Path, predict: Make, tmp_path: Path) -> None:
    preds = predict()
    with pytest.raises(UsageError, match=r"--subset oof: .* of the subset valid"):
        evaluate(tiny, preds, tmp_path / "s", subset="oof")
    assert "subset valid" in evaluate(tiny, preds, tmp_path / "s", subset="valid")


def test_unfinished_predictions(tiny: Path, predict: Make, tmp_path: Path) -> None:
    preds = predict()
    (preds / "done.json").rename(preds / "begun.json")
    with pytest.raises(SegtoolError, match="not finished: run its `segtool predict` again") as caught:
        evaluate(tiny, preds, tmp_path / "s")
    assert caught.value.status == 1


def test_other_classes(tiny: Path, predict: Make, tmp_path: Path) -> None:
    with pytest.raises(SegtoolError, match=r"classes x, y, z; .* ground, box, stripe"):
        evaluate(tiny, predict(classes=("x", "y", "z")), tmp_path / "s")


def test_test_images_without_answers(tiny: Path, predict: Make, tmp_path: Path) -> None:
    preds = predict("test")
    with pytest.raises(SegtoolError, match=r"'test_0' has no mask in .*nothing to score it against"):
        evaluate(tiny, preds, tmp_path / "s")
    dataset = load_dataset(tiny)
    test = tuple(replace(record, mask=dataset.train[0].mask) for record in dataset.test)
    write_dataset(tmp_path / "answers", replace(dataset, test=test))
    assert "subset test" in evaluate(tmp_path / "answers", preds, tmp_path / "s")


def test_another_data_set(tiny: Path, predict: Make, tmp_path: Path) -> None:
    preds, dataset = predict(), load_dataset(tiny)
    write_dataset(tmp_path / "other", replace(dataset, train=dataset.train[1:]))
    with pytest.raises(SegtoolError, match=r"'train_0' was predicted but is not in .*other"):
        evaluate(tmp_path / "other", preds, tmp_path / "s")


def test_broken_predictions_are_named(tiny: Path, predict: Make, tmp_path: Path) -> None:
    preds = predict()
    path = mask_path(preds, "train_2")
    images.write_mask(path, np.full((32, 32), 255, np.uint8))
    with pytest.raises(SegtoolError, match=r"train_2\.png holds the value 255"):
        evaluate(tiny, preds, tmp_path / "s")
    images.write_mask(path, np.zeros((16, 32), np.uint8))
    with pytest.raises(SegtoolError, match=r"train_2\.png is 16x32 \(HxW\), but 32x32"):
        evaluate(tiny, preds, tmp_path / "s", overwrite=True)
    path.unlink()
    with pytest.raises(SegtoolError, match=r"train_2\.png"):
        evaluate(tiny, preds, tmp_path / "t")
    assert not list(tmp_path.glob("[st]/*.csv"))


def test_plain_folder_of_masks(tiny: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    for image_id in ("train_1", "train_6"):
        images.write_mask(plain / f"{image_id}.png", np.zeros((32, 32), np.uint8))
    text = evaluate(tiny, plain, tmp_path / "s")
    assert "2 of 8 images with a mask" in text
    assert [row["image_id"] for row in rows(tmp_path / "s" / "per_image.csv")] == ["train_1", "train_6"]
    with pytest.raises(UsageError, match="not a prediction folder"):
        evaluate(tiny, plain, tmp_path / "t", subset="valid")
    images.write_mask(plain / "stranger.png", np.zeros((32, 32), np.uint8))
    with pytest.raises(SegtoolError, match=r"stranger\.png matches no image"):
        evaluate(tiny, plain, tmp_path / "t")


def test_the_same_folders_by_another_path(
    tiny: Path, predict: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tmp_path / "plain"
    images.write_mask(plain / "train_1.png", np.zeros((32, 32), np.uint8))
    for name, folder in (("s", predict()), ("t", plain)):
        evaluate(tiny, folder, tmp_path / name)
        monkeypatch.chdir(tmp_path)
        assert "up to date" in evaluate(Path(tiny.name), Path(folder.name), Path(name))


def test_ignored_and_absent_classes_give_empty_cells(tmp_path: Path) -> None:
    """One image, nothing but ignored pixels: no score at all, and no crash."""
    folder = tmp_path / "void"
    images.write_mask(folder / "m.png", np.full((5, 7), 255, np.uint8))
    images.write_mask(folder / "i.png", np.zeros((5, 7), np.uint8))
    (folder / "train.csv").write_text("image_id,image,mask\na b/한,i.png,m.png\n")
    (folder / "dataset.yaml").write_text("classes: ['no', 'yes']\nignore_index: 255\nchannels: 1\ntrain: train.csv\n")
    images.write_mask(tmp_path / "plain" / "a b" / "한.png", np.ones((5, 7), np.uint8))
    text = evaluate(folder, tmp_path / "plain", tmp_path / "s")
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert summary["miou"] is summary["image_miou"] is summary["dice"] is summary["image_dice"] is None
    assert rows(tmp_path / "s" / "per_image.csv")[0] == {
        "image_id": "a b/한", "miou": "", "pixel_accuracy": "", "dice": "", "iou_no": "", "iou_yes": ""
    }  # fmt: skip
    assert "1 of 1 images" in text


def test_class_names_that_yaml_takes_for_something_else(tiny: Path, tmp_path: Path) -> None:
    path = tiny / "dataset.yaml"
    path.write_text(path.read_text().replace("box", "no"))
    with pytest.raises(SegtoolError, match="reads a class name as False; put it in quotes"):
        evaluate(tiny, tiny / "masks", tmp_path / "s")


def test_command_line(segtool: Callable, tiny: Path, predict: Make) -> None:
    preds = predict(seen=("train_1",))
    refused = segtool("evaluate", tiny, preds, "-o", "s")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1
    done = segtool("evaluate", tiny, predict(), "-o", "s", "--exclude", "ground")
    assert (done.returncode, done.stderr) == (0, "")
    assert "means without ground" in done.stdout


def test_scores_need_no_masks_of_other_images(tiny: Path, predict: Make, tmp_path: Path) -> None:
    """Only what is scored is read: a broken mask elsewhere in the data set does not matter."""
    dataset: Dataset = load_dataset(tiny)
    preds = predict(ids=2)
    assert dataset.train[5].mask
    dataset.train[5].mask.write_bytes(b"broken")
    evaluate(tiny, preds, tmp_path / "s")


def test_boundary_scores_stand_beside_the_others(tiny: Path, predict: Make, tmp_path: Path) -> None:
    preds = predict()
    text = evaluate(tiny, preds, tmp_path / "scores", boundary=True, tolerance=1.0)
    assert "NSD at 1 pixels" in text and "HD95 in pixels" in text
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    images = rows(tmp_path / "scores" / "per_image.csv")
    classes = {row["class"]: row for row in rows(tmp_path / "scores" / "per_class.csv")}
    # The last image is predicted as it is; in the second the stripe is not found.
    assert (float(images[-1]["nsd"]), float(images[-1]["hd95"])) == (1, 0)
    assert float(classes["stripe"]["nsd"]) == 0.5 and 0 < summary["nsd"] < 1 and summary["tolerance"] == 1
    assert summary["hd95"] == pytest.approx(np.mean([float(row["hd95"]) for row in images]))
    evaluate(tiny, preds, tmp_path / "plain")
    assert "nsd" not in rows(tmp_path / "plain" / "per_image.csv")[0]
