"""`predict`: whose predictions an image gets, what is written, and that neither batches nor workers change it."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Type
from PIL import Image

from segtool.commands import predict
from segtool.core.predictions.folder import Predictions, open_predictions
from segtool.core.predictions.probability_maps import decide, read_probs

NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0"
TRAIN = f"train tiny {NETWORK} --batch 2 --epochs 2"
PREDICT = "predict tiny --threads 1"


@pytest.fixture
def folder(tiny: Path, typed: Type) -> Path:
    """The test's folder with `tiny` and two runs of it: fold0 has not seen the even images, fold1 not the odd ones."""
    lines = [f"train_{i},{i % 2}\n" for i in range(8)]
    (tiny.parent / "folds.csv").write_text("image_id,fold\n" + "".join(lines))
    for fold in (0, 1):
        assert typed(f"{TRAIN} --folds folds.csv --fold {fold} --seed {fold} -o fold{fold}").status == 0
    return tiny.parent


def opened(typed: Type, line: str) -> Predictions:
    """What a `predict` line writes."""
    ended = typed(line)
    assert ended.status == 0, ended.stderr
    return open_predictions(Path(line.split()[-1]))


def probs(predictions: Predictions, image_id: str) -> np.ndarray:
    return read_probs(predictions.probs_path(image_id))


def meta(predictions: Predictions) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((predictions.path / "meta.json").read_text())
    return content


def test_out_of_fold_takes_for_each_image_the_run_that_did_not_see_it(folder: Path, typed: Type) -> None:
    oof = opened(typed, f"{PREDICT} --run fold0 --run fold1 --subset oof -o oof")
    alone = [opened(typed, f"{PREDICT} --run fold{fold} --subset valid -o alone{fold}") for fold in (0, 1)]
    assert oof.ids == [f"train_{i}" for i in range(8)]
    assert oof.oof == set(oof.ids) == set(meta(oof)["out_of_fold"])
    for fold, single in enumerate(alone):
        other = alone[1 - fold]
        assert single.ids == [f"train_{i}" for i in range(fold, 8, 2)]
        assert single.oof == set(single.ids)
        for image_id in single.ids:
            assert np.array_equal(probs(oof, image_id), probs(single, image_id))
            assert np.array_equal(oof.read_mask(image_id), single.read_mask(image_id))
        assert not set(single.ids) & set(other.ids)
    by_the_other = opened(typed, f"{PREDICT} --run fold1 --subset train -o seen")
    assert not np.array_equal(probs(oof, "train_0"), probs(by_the_other, "train_0"))
    assert by_the_other.oof == {f"train_{i}" for i in range(1, 8, 2)}
    assert [member["run"] for member in meta(oof)["members"]] == ["fold0", "fold1"]
    # What was not seen may be scored as it is.
    assert typed("evaluate tiny oof -o scores").status == 0
    assert typed("evaluate tiny seen -o scores_seen").status == 2


def test_the_order_of_the_runs_does_not_decide_who_predicts_what(folder: Path, typed: Type) -> None:
    one = opened(typed, f"{PREDICT} --run fold0 --run fold1 --subset oof -o one")
    other = opened(typed, f"{PREDICT} --run fold1 --run fold0 --subset oof -o other")
    for image_id in one.ids:
        assert np.array_equal(probs(one, image_id), probs(other, image_id))


def test_an_image_is_known_by_its_pixels_not_by_its_name(folder: Path, typed: Type) -> None:
    """A copy of a training image under another id is a training image."""
    (folder / "tiny" / "images" / "train_0.png").write_bytes((folder / "tiny" / "images" / "train_1.png").read_bytes())
    ended = typed(f"{PREDICT} --run fold0 --subset valid -o valid")
    assert (ended.status, "train_0" in ended.stderr) == (0, False)
    assert open_predictions(Path("valid")).ids == ["train_2", "train_4", "train_6"]
    ended = typed(f"{PREDICT} --run fold0 --subset oof -o oof")
    assert (ended.status, "'train_0'" in ended.stderr) == (2, True)


def test_several_runs_are_averaged_in_probabilities(folder: Path, typed: Type) -> None:
    both = opened(typed, f"{PREDICT} --run fold0 --run fold1 -o both")
    alone = [opened(typed, f"{PREDICT} --run fold{fold} -o alone{fold}") for fold in (0, 1)]
    assert both.ids == ["test_0", "test_1"]
    for image_id in both.ids:
        mean = (probs(alone[0], image_id) + probs(alone[1], image_id)) / 2
        # Each map is rounded to 1/65535 as it is written.
        np.testing.assert_allclose(probs(both, image_id), mean, atol=2 / 65535)
        np.testing.assert_allclose(mean.sum(0), 1, atol=3 / 65535)
        # The mask is decided before the rounding, which may make ties.
        stored, mask = probs(both, image_id), both.read_mask(image_id)
        chosen = np.take_along_axis(stored, mask[None].astype(np.intp), axis=0)[0]
        assert (chosen >= stored.max(0) - 1.01 / 65535).all()
        assert (mask == decide(stored)).mean() > 0.99
    assert not np.allclose(probs(alone[0], "test_0"), probs(alone[1], "test_0"), atol=1e-3)


def mixed_sizes(data: Path) -> None:
    for index, (height, width) in enumerate(
        [(32, 32), (33, 47), (33, 47), (1, 1), (47, 33), (5, 200), (5, 200), (1, 9)]
    ):
        for kind in ("images", "masks"):
            path = data / kind / f"train_{index}.png"
            Image.open(path).resize((width, height), Image.Resampling.NEAREST).save(path)


@pytest.mark.parametrize("resize", ["", "--resize 40x32", "--resize long:40"])
def test_images_of_any_size_alone_or_in_batches(resize: str, tiny: Path, typed: Type) -> None:
    mixed_sizes(tiny)
    assert typed(f"{TRAIN} {resize} -o run").status == 0
    alone = opened(typed, f"{PREDICT} --run run --subset train --workers 0 -o alone")
    batched = opened(typed, f"{PREDICT} --run run --subset train --batch 3 --workers 2 -o batched")
    views = opened(typed, f"{PREDICT} --run run --subset train --tta hflip,vflip -o views")
    assert alone.ids == batched.ids == [f"train_{i}" for i in range(8)]
    for image_id in alone.ids:
        with Image.open(tiny / "images" / f"{image_id}.png") as image:
            assert (alone.sizes[image_id].width, alone.sizes[image_id].height) == image.size
            assert probs(views, image_id).shape == (3, image.height, image.width)
        np.testing.assert_allclose(probs(alone, image_id), probs(batched, image_id), atol=1e-4)
        assert alone.read_mask(image_id).shape == alone.sizes[image_id]
    assert not np.allclose(probs(alone, "train_1"), probs(views, "train_1"), atol=1e-4)


def test_a_plain_folder_of_images_is_predicted_as_the_data_set_is(folder: Path, typed: Type) -> None:
    photos = folder / "my photos" / "deep"
    photos.mkdir(parents=True)
    for path in (folder / "tiny" / "test_images").iterdir():
        (photos / path.name.upper()).write_bytes(path.read_bytes())
    (photos / ".DS_Store").write_bytes(b"x")
    known = opened(typed, f"{PREDICT} --run fold0 -o known")
    found = opened(typed, "predict 'my photos' --threads 1 --run fold0 -o preds")
    assert found.ids == ["deep/TEST_0", "deep/TEST_1"] and found.data is None
    for name, other in zip(known.ids, found.ids, strict=True):
        assert (known.read_mask(name) == found.read_mask(other)).all()
    one = opened(typed, "predict 'my photos/deep/TEST_1.PNG' --threads 1 --run fold0 -o one")
    assert one.ids == ["TEST_1"]
    assert "up to date" in typed("predict 'my photos/deep/TEST_1.PNG' --threads 1 --run fold0 -o one").stdout
    inside = "predict 'my photos' --threads 1 --run fold0 -o 'my photos/preds'"
    for _ in range(2):
        assert typed(inside).status == 0
        assert open_predictions(Path("my photos/preds")).ids == found.ids
    refused = typed("predict 'my photos' --run fold0 --subset valid -o v")
    assert (refused.status, "its images can only be predicted as test images" in refused.stderr) == (2, True)
    (folder / "empty").mkdir()
    refused = typed("predict empty --run fold0 -o e")
    assert (refused.status, "empty contains no images" in refused.stderr) == (1, True)


def test_without_probabilities_the_masks_are_the_same(folder: Path, typed: Type) -> None:
    whole = opened(typed, f"{PREDICT} --run fold0 -o whole")
    masks = opened(typed, f"{PREDICT} --run fold0 --no-probs -o masks")
    assert not (masks.path / "probs").exists()
    for image_id in whole.ids:
        assert masks.mask_path(image_id).read_bytes() == whole.mask_path(image_id).read_bytes()


def test_names_with_spaces_folders_and_hangul(tiny: Path, typed: Type) -> None:
    names = ["거리/장면 하나", "a b/c.png"]
    with (tiny / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("image_id", "image"), *((n, f"test_images/test_{i}.png") for i, n in enumerate(names))]
        )
    assert typed(f"{TRAIN} -o 'a run'").status == 0
    assert typed(f"{PREDICT} --run 'a run' -o '예측 1'").status == 0
    predictions = open_predictions(Path("예측 1"))
    assert predictions.ids == names
    for name in names:
        assert (Path("예측 1/masks") / f"{name}.png").is_file()
        assert probs(predictions, name).shape == (3, 32, 32)


def test_the_same_command_does_nothing_and_another_checkpoint_is_another_prediction(folder: Path, typed: Type) -> None:
    first = opened(typed, f"{PREDICT} --run fold0 -o preds")
    written = first.mask_path("test_0").stat().st_mtime_ns
    ended = typed(f"{PREDICT} --run fold0 -o preds")
    assert (ended.status, "up to date" in ended.stdout) == (0, True)
    assert first.mask_path("test_0").stat().st_mtime_ns == written
    last = typed(f"{PREDICT} --run fold0 --checkpoint last -o preds")
    assert (last.status, "checkpoint" in last.stderr) == (2, True)
    assert typed(f"{PREDICT} --run fold0 --checkpoint last --overwrite -o preds").status == 0
    assert meta(open_predictions(Path("preds")))["members"][0]["checkpoint"] == "last.pt"


def test_a_lost_mask_is_made_again_and_no_other(folder: Path, typed: Type) -> None:
    first = opened(typed, f"{PREDICT} --run fold0 -o preds")
    lost, kept = first.mask_path("test_0"), first.mask_path("test_1")
    before, written = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    assert typed(f"{PREDICT} --run fold0 -o preds").status == 0
    assert lost.read_bytes() == before
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("checkpoint", "epochs"), [("best", "epoch 1"), ("last", "epoch 2"), ("last:2", "epoch 1 and epoch 2")]
)
def test_a_run_that_has_not_ended_predicts_and_says_how_far_it_is(
    checkpoint: str, epochs: str, tiny: Path, typed: Type, caplog: pytest.LogCaptureFixture
) -> None:
    assert typed(f"{TRAIN} --keep-last 2 -o run").status == 0
    stamp = json.loads(Path("run/done.json").read_text())
    stamp["settings"]["epochs"] = 7
    Path("run/begun.json").write_text(json.dumps(stamp))
    Path("run/done.json").unlink()
    Path("run/best.pt").write_bytes(Path("run/epoch_001.pt").read_bytes())
    ended = typed(f"{PREDICT} --run run --checkpoint {checkpoint} -o preds")
    assert (ended.status, open_predictions(Path("preds")).ids) == (0, ["test_0", "test_1"])
    told = [text for record in caplog.records if "not finished" in (text := record.getMessage())]
    assert told == [f"run is not finished: predicting with the weights of {epochs} of 7"]
    # It trains on: what was predicted is of an earlier epoch.
    Path("run/best.pt").write_bytes(Path("run/epoch_002.pt").read_bytes())
    Path("run/last.pt").unlink()  # or epoch_002.pt, the same file, would change
    Path("run/last.pt").write_bytes(Path("run/epoch_001.pt").read_bytes())
    again = typed(f"{PREDICT} --run run --checkpoint {checkpoint} -o preds")
    assert (again.status, "made from different inputs: run 1" in again.stderr) == (
        (0, False) if ":" in checkpoint else (2, True)
    )


def test_a_checkpoint_that_training_writes_meanwhile_is_named(
    folder: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = predict.decision_digest

    def train_on(*args: Any) -> Any:
        Path("fold0/best.pt").write_bytes(Path("fold1/best.pt").read_bytes())
        return begin(*args)

    monkeypatch.setattr(predict, "decision_digest", train_on)
    ended = typed(f"{PREDICT} --run fold0 -o preds")
    assert (ended.status, "fold0/best.pt was overwritten while it was read" in ended.stderr) == (1, True)
    assert not Path("preds").exists()
