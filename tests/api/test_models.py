"""A model in Python predicts what `segtool predict` stores, of files and of pixels, and refuses what that refuses."""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image
from small_runs import make_demo, make_predictions, make_run

import segtool
from segtool.core.bands import write_bands
from segtool.core.dataset.dataset import Dataset, Record, write_dataset

# Half a stored level, and rounding of sums in other batches.
ROUNDING = 0.5 / 65535 + 1e-6


@pytest.fixture(scope="module")
def model(made: Path) -> segtool.Model:
    return segtool.load(made / "run", device="cpu", threads=1)


def same(predictions: list[segtool.Prediction], folder: Path, *, probs: float = ROUNDING) -> None:
    """Whether predictions are those of a folder: masks pixel by pixel, probabilities but for their rounding."""
    stored = segtool.read_predictions(folder)
    assert [one.image_id for one in predictions] == [one.image_id for one in stored]
    for ours, theirs in zip(predictions, stored, strict=True):
        assert ours.probs.dtype == np.float32
        assert ours.mask.dtype == theirs.mask.dtype
        np.testing.assert_array_equal(ours.mask, theirs.mask)
        np.testing.assert_allclose(ours.probs, theirs.probs, rtol=0, atol=probs)


def test_a_data_set_is_predicted_as_the_command_does(made: Path, model: segtool.Model) -> None:
    images = segtool.read_dataset(made / "demo")
    assert len({image.image.shape for image in images}) > 1
    same([model.predict(image) for image in images], made / "preds")
    for workers in (0, 2):
        same(list(model.predict_many(images, workers=workers)), made / "preds")


WAYS = {
    "views": {"tta": "hflip,rot90:90"},
    "scales": {"tta": ("flip", "scale:0.75"), "merge": "gmean", "tta_weights": (2, 1, 1, 1, 1, 1, 1, 1)},
    "windows": {"window": 32, "stride": (16, 24)},
    "resize": {"resize": (64, 40), "batch": 1},
    "factor": {"resize": 0.5},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_that_of_the_command(way: str, made: Path, model: segtool.Model) -> None:
    folder = made / f"preds_{way}"
    make_predictions(made / "demo", folder, made / "run", **WAYS[way])
    same(list(model.predict_many(segtool.read_dataset(made / "demo"), **WAYS[way])), folder)


def test_several_runs_and_epochs_are_averaged(made: Path, tmp_path: Path) -> None:
    other = make_run(made / "demo", tmp_path / "other", seed=1, epochs=2, keep_last=2)
    both = make_predictions(made / "demo", tmp_path / "both", made / "run", other)
    images = segtool.read_dataset(made / "demo")
    together = segtool.load([made / "run", str(other)], device="cpu")
    assert [member["run"] for member in together.members] == [str(made / "run"), str(other)]
    same(list(together.predict_many(images)), both)
    epochs = make_predictions(made / "demo", tmp_path / "epochs", other, checkpoint="last:2")
    two = segtool.load(other, checkpoint="last:2", device="cpu")
    assert [member["checkpoint"] for member in two.members] == ["epoch_001.pt", "epoch_002.pt"]
    same(list(two.predict_many(images)), epochs)


def test_a_bundle_predicts_as_its_run(made: Path, tmp_path: Path) -> None:
    from segtool.commands import bundle
    from segtool.settings.bundle import BundleSettings
    from segtool.settings.options import from_values

    bundle.run(from_values(BundleSettings, {"out": tmp_path / "model.zip", "runs": [made / "run"]}))
    packed = segtool.load(str(tmp_path / "model.zip"), device="cpu")
    same(list(packed.predict_many(segtool.read_dataset(made / "demo"))), made / "preds")


def test_classes_that_overlap_are_bool_planes(tmp_path: Path) -> None:
    data = make_demo(tmp_path / "demo", labels="multi")
    run = make_run(data, tmp_path / "run", aux_head=0.1)
    folder = make_predictions(data, tmp_path / "preds", run)
    model = segtool.load(run, device="cpu")
    assert model.labels == "multi"
    predictions = list(model.predict_many(segtool.read_dataset(data)))
    same(predictions, folder)
    assert predictions[0].mask.dtype == np.bool_
    assert predictions[0].mask.shape == predictions[0].probs.shape
    # The probabilities of the image's labels stand in the index.
    heads = segtool.read_predictions(folder).index.filter(like="presence_").to_numpy()
    said = np.array([one.image_probs for one in predictions])
    np.testing.assert_allclose(said, heads, atol=1e-6)


def colours(height: int = 40, width: int = 33) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


PICTURES = {
    "grey": (colours()[:, :, 0], "png"),
    "grey of one channel": (colours()[:, :, :1], None),
    "black and white": (colours()[:, :, 0] > 100, "png"),
    "grey of 16 bits": (colours()[:, :, 0].astype(np.uint16) * 255, "png"),
    "colours": (colours(), "png"),
    "colours of 16 bits": (colours().astype(np.uint16) * 250, "tif"),
    "transparency": (np.dstack([colours(), colours()[:, :, :1]]), "png"),
    "grey with transparency": (np.dstack([colours()[:, :, 0], colours()[:, :, 1]]), "png"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pixels_of_pictures_are_converted_as_files_are(name: str, model: segtool.Model, tmp_path: Path) -> None:
    pixels, suffix = PICTURES[name]
    ours = model.predict(pixels)
    assert ours.image_id == ""
    assert ours.mask.shape == pixels.shape[:2]
    if suffix is None:
        theirs = model.predict(pixels[:, :, 0])
    elif suffix == "png":
        Image.fromarray(pixels).save(tmp_path / "picture.png")
        theirs = model.predict(tmp_path / "picture.png")
        assert theirs.image_id == "picture"
    else:
        import cv2

        cv2.imwrite(str(tmp_path / "picture.png"), pixels[:, :, ::-1])
        theirs = model.predict(tmp_path / "picture.png")
    np.testing.assert_array_equal(ours.probs, theirs.probs)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((9, 9, 5), np.uint8), np.zeros((9, 9, 3)), np.zeros((2, 9, 9, 3), np.uint8), np.zeros((0, 9), np.uint8)],
    ids=["five bands", "floats", "two images", "nothing"],
)
def test_pixels_that_are_no_picture_are_refused(pixels: npt.NDArray[np.generic], model: segtool.Model) -> None:
    with pytest.raises(segtool.SegtoolError, match=r"the image is .* a picture is HxW") as raised:
        model.predict(pixels)
    assert "\n" not in str(raised.value)


def test_images_of_several_bands_are_taken_as_they_are(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    records = []
    for index in range(3):
        image, mask = tmp_path / f"{index}.tif", tmp_path / f"{index}.png"
        write_bands(image, random.integers(0, 4000, (40, 33, 5)).astype(np.uint16), {}, "uint16")
        Image.fromarray(random.integers(0, 2, (40, 33), np.uint8)).save(mask)
        records.append(Record(str(index), image, mask))
    data = tmp_path / "bands"
    data.mkdir()
    write_dataset(data, Dataset(data, ("a", "b"), channels=5, dtype="uint16", nodata=7, train=tuple(records)))
    run = make_run(data, tmp_path / "run")
    folder = make_predictions(data, tmp_path / "preds", run)
    model = segtool.load(run, device="cpu")
    assert (model.channels, model.dtype) == (5, "uint16")
    images = segtool.read_dataset(data)
    same(list(model.predict_many(images)), folder)
    # Pixels as they stand in the file, where 7 marks missing ones.
    stored = tifffile.imread(tmp_path / "0.tif")
    stored = stored if stored.shape[2] == 5 else np.moveaxis(stored, 0, 2)
    stored[0, 0] = 7
    assert np.isfinite(model.predict(stored).probs).all()
    stored[0, 0] = images["0"].image[0, 0]
    np.testing.assert_array_equal(model.predict(stored).probs, model.predict(images["0"]).probs)
    with pytest.raises(segtool.SegtoolError, match=r"^the image is 40x33x4 of uint16; here images are HxWx5 of"):
        model.predict(stored[:, :, :4])
    with pytest.raises(segtool.SegtoolError, match="float64; here images are HxWx5 of uint16"):
        model.predict(stored.astype(float))
    Image.fromarray(colours()).save(tmp_path / "colours.png")
    with pytest.raises(segtool.SegtoolError, match=r"colours.png has 3 channels, but the model was trained on 5$"):
        model.predict(tmp_path / "colours.png")


def test_many_are_read_as_they_are_taken(made: Path, model: segtool.Model) -> None:
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield colours()

    predictions = model.predict_many(endless(), workers=1, batch=2)
    first = next(predictions)
    np.testing.assert_allclose(first.probs, model.predict(colours()).probs, atol=1e-6)
    assert len(taken) < 10
    predictions.close()


def test_an_image_that_is_missing_ends_the_iterator(made: Path, model: segtool.Model) -> None:
    good = made / "demo" / "images" / "scene000" / "frame0.png"
    predictions = model.predict_many([good, made / "gone.png", good], batch=1)
    assert next(predictions).image_id == "frame0"
    with pytest.raises(segtool.SegtoolError, match=r"gone.png is missing"):
        list(predictions)


WRONG = [
    (lambda model: model.predict(colours(), tta="spin"), "tta: unknown transform 'spin'"),
    (lambda model: model.predict(colours(), tta="flip", tta_weights=(1, 2)), "--tta-weights has 2 numbers for 4 views"),
    (lambda model: model.predict(colours(), window=(0, 4)), "window: '0x4' is not a size"),
    (lambda model: model.predict(colours(), stride=8), "--stride has no effect without --window"),
    (lambda model: model.predict(colours(), merge="median"), "merge is 'median'; it is one of mean, gmean"),
    (lambda model: model.predict(colours(), batch=0.5), "batch: '0.5' is neither"),
    (lambda model: model.predict(colours().tolist()), "an image is a path, a NumPy array or an image of read_dataset"),
    (lambda model: model.predict_many([], workers=-1), "workers is -1"),
    (lambda model: segtool.load([]), "runs is empty"),
    (lambda model: segtool.load("gone", checkpoint="worst"), "checkpoint: 'worst' is not a checkpoint"),
    (lambda model: segtool.load("gone", device="tpu"), "device is 'tpu'; it is one of auto, cpu, cuda"),
    (lambda model: segtool.load("gone", threads=-1), "threads is -1; it is a number from 0 to 4096"),
    (lambda model: segtool.load("gone", compile="yes"), "compile is 'yes'; it is True or False"),
]


@pytest.mark.parametrize(("call", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_is_wrong_in_a_call_is_a_usage_error(call, words: str, model: segtool.Model) -> None:
    with pytest.raises(segtool.UsageError, match=re.escape(words)):
        call(model)


def test_what_is_wrong_with_a_run_is_an_error(made: Path, tmp_path: Path) -> None:
    with pytest.raises(segtool.SegtoolError, match="gone"):
        segtool.load(tmp_path / "gone")
    other = make_run(make_demo(tmp_path / "demo", labels="multi"), tmp_path / "other")
    with pytest.raises(segtool.SegtoolError, match="was trained on labels: multi"):
        segtool.load([made / "run", other], device="cpu")
    with pytest.raises(segtool.UsageError, match="has not kept these epochs"):
        segtool.load(made / "run", checkpoint="epoch:7")


def test_the_palette_of_the_data_goes_with_the_run(made: Path, model: segtool.Model) -> None:
    assert model.palette == segtool.read_dataset(made / "demo").palette
    assert model.palette is not None
