"""A data set of five bands of 16 bits through every command that looks at images."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from conftest import Type
from PIL import Image

from segtool.core.bands import WindowedImage
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, write_dataset
from segtool.core.dataset.image_identity import identify
from segtool.core.images import write_mask
from segtool.core.models.checkpoint import load_checkpoint
from segtool.core.predictions.folder import open_predictions
from segtool.core.predictions.probability_maps import read_probs

NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0 --batch 2"
TRAIN = f"train five {NETWORK} --epochs 2"


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Five bands of 12 bits, of which the last alone tells the box, and the mask."""
    random = np.random.default_rng(number)
    mask = np.zeros((32, 40), np.uint8)
    top, left = random.integers(0, 16, 2)
    mask[top : top + 14, left : left + 14] = 1
    pixels = random.normal(600, 40, (32, 40, 5))
    pixels[..., 4] += np.where(mask, 1500, 0)
    return pixels.astype(np.uint16), mask


def save(path: Path, pixels: np.ndarray, nodata: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = [(42113, "s", 0, nodata, True)] if nodata else []
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig", metadata=None, extratags=tags)
    return path


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """The folder of a data set: six images of five bands with masks, and two test images."""
    folder = tmp_path / "five"
    records = []
    for number in range(8):
        pixels, mask = scene(number)
        path = folder / "masks" / f"{number}.png"
        image = save(folder / "images" / f"{number}.tif", pixels)
        if number < 6:
            path.parent.mkdir(exist_ok=True)
            write_mask(path, mask)
        records.append(Record(str(number), image, path if number < 6 else None, f"g{number // 2}"))
    bands = ("blue", "green", "red", "near", "far")
    data = Dataset(folder / "dataset.yaml", ("ground", "box"), channels=5, bands=bands, dtype="uint16")
    write_dataset(folder, Dataset(**{**vars(data), "train": tuple(records[:6]), "test": tuple(records[6:])}))
    return folder


def done(typed: Type, line: str) -> str:
    ended = typed(line)
    assert ended.status == 0, ended.stderr
    return ended.stdout + ended.stderr


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def network(run: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((run / "config.json").read_text())["network"]
    return content


def test_train_predict_evaluate(five: Path, typed: Type, caplog: pytest.LogCaptureFixture) -> None:
    assert yaml.safe_load((five / "dataset.yaml").read_text())["channels"] == ["blue", "green", "red", "near", "far"]
    assert load_dataset(five).channels == 5
    done(typed, f"{TRAIN} -o run --augment medium --mixup 0.5 --cutmix 0.5 --crop 32")
    assert "without HueSaturationValue" in caplog.text
    assert re.search(r"values from [0-9]+ to [0-9]+, .* become 0 to 1", caplog.text)
    spec = network(Path("run"))
    trained = [row["image_id"] for row in rows_of("run/samples.csv") if row["role"] == "train"]
    pixels = np.concatenate([scene(int(image_id))[0].reshape(-1, 5) for image_id in trained]).astype(float)
    low, width = pixels.min(0), np.ptp(pixels, 0)
    assert (spec["channels"], spec["dtype"], spec["low"]) == (5, "uint16", low.tolist())
    assert spec["mean"] == pytest.approx(((pixels.mean(0) - low) / width).tolist())
    assert spec["std"] == pytest.approx((pixels.std(0) / width).tolist())
    assert load_checkpoint(Path("run/best.pt"))["network"] == spec
    done(typed, "predict five --run run --subset valid -o preds --threads 1")
    done(typed, "evaluate five preds -o scores")
    best = max(float(row["miou"]) for row in rows_of("run/history.csv"))
    assert json.loads(Path("scores/summary.json").read_text())["miou"] == pytest.approx(best, abs=1e-6)
    again = typed("predict five --run run --subset valid -o preds --threads 1")
    assert "up to date" in again.stdout
    done(typed, "predict five --run run -o ways --threads 1 --tta d4,scale:0.5 --window 32 --resize 64x64")
    done(typed, "bundle run -o run.zip")
    done(typed, "predict five --run run.zip -o bundled --threads 1 --subset valid")
    first, second = (open_predictions(Path(name)) for name in ("preds", "bundled"))
    assert all(np.array_equal(first.read_mask(i), second.read_mask(i)) for i in first.ids)


def test_windows_of_a_large_image_are_read_one_by_one(five: Path, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.concatenate([np.concatenate([scene(number)[0] for number in range(3)], 1)] * 3)
    tags = [(42113, "s", 0, "0", True)]
    pixels[:20, :20] = 0
    options = {"photometric": "minisblack", "planarconfig": "contig", "tile": (16, 16), "extratags": tags}
    tifffile.imwrite(five / "images" / "6.tif", pixels, metadata=None, compression="zlib", **options)
    done(typed, f"{TRAIN} -o run")
    line = "predict five --run run --threads 1 --window 32 --stride 24 --tta hflip"
    done(typed, f"{line} -o whole")
    opened: list[WindowedImage] = []
    real = WindowedImage.__init__

    def watched(self: WindowedImage, *args: Any) -> None:
        real(self, *args)
        opened.append(self)

    monkeypatch.setattr(WindowedImage, "__init__", watched)
    monkeypatch.setattr("segtool.core.bands.LARGE", 50_000)
    monkeypatch.setattr("segtool.core.raster_windows.KEPT_BYTES", 50_000)
    done(typed, f"{line} -o windows")
    assert [image.shape for image in opened] == [(96, 120, 5)]
    first, second = (read_probs(Path(folder) / "probs" / "6.b2nd") for folder in ("whole", "windows"))
    assert np.array_equal(first, second)
    done(typed, "predict five --run run --threads 1 --window 32 --resize 64x64 -o resized")
    assert len(opened) == 1


def test_a_resumed_run_keeps_its_intensity(five: Path, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    done(typed, f"{TRAIN} -o whole --intensity percentile")
    config = json.loads(Path("whole/config.json").read_text())
    assert config["network"]["clip"] is True
    (Path("whole") / "done.json").rename("whole/begun.json")

    def measured(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("segtool.core.training.context.measure_intensity", measured)
    done(typed, f"{TRAIN} -o whole --intensity percentile")
    assert json.loads(Path("whole/config.json").read_text()) == config


def test_another_kind_of_images_is_refused_in_a_line(five: Path, tiny: Path, typed: Type) -> None:
    done(typed, f"train five {NETWORK} --epochs 1 -o run")
    (five / "dataset.yaml").write_text((five / "dataset.yaml").read_text().replace("uint16", "float32"))
    ended = typed("predict five --run run -o preds")
    assert ended.status == 1
    assert "takes 5 channels of uint16, five/dataset.yaml has 5 of float32" in ended.stderr.splitlines()[-1]
    ended = typed(f"train five {NETWORK} -o more --extra tiny")
    assert (
        "--extra tiny/dataset.yaml has images of 3 channels, five/dataset.yaml of 5 channels of float32" in ended.stderr
    )
    ended = typed(f"train five {NETWORK} -o more --mean 0,0,0,0,0 --std 1,1,1,1,1")
    assert ended.status == 2
    assert "--mean and --std are for 8-bit images; those of five/dataset.yaml are float32" in ended.stderr
    (five / "dataset.yaml").write_text("classes: [a, b]\nchannels: 4\ndtype: uint16\ntrain: train.csv\n")
    ended = typed(f"train five {NETWORK} -o more")
    assert ended.status == 1
    assert "has 5 channels, and dataset.yaml declares 4: write `channels: 5`" in ended.stderr.splitlines()[-1]


def test_the_other_commands_take_five_bands(five: Path, typed: Type) -> None:
    done(typed, "split five -o folds.csv --kind kfold --n-folds 2")
    for fold in (0, 1):
        done(typed, f"{TRAIN} -o fold{fold} --folds folds.csv --fold {fold} --keep-last 2")
    done(typed, "predict five --run fold0 --run fold1 --subset oof -o oof --threads 1")
    assert open_predictions(Path("oof")).ids == [str(number) for number in range(6)]
    done(typed, "noise-rank five oof -o rank.csv --sheet sheet.png")
    assert len(np.unique(np.array(Image.open("sheet.png")).reshape(-1, 3), axis=0)) > 100
    done(typed, "swa fold0 --last 2 -o swa --threads 1 --workers 0")
    assert load_checkpoint(Path("swa/best.pt"))["network"] == network(Path("fold0"))
    done(typed, "pseudo oof --threshold 0.1 -o pseudo")
    made, source = load_dataset(Path("pseudo")), load_dataset(five)
    assert (made.kind, made.bands) == (source.kind, source.bands)
    done(typed, f"train five {NETWORK} --epochs 1 --fold all --extra pseudo --init fold0 -o tuned")
    assert network(Path("tuned"))["low"] == network(Path("fold0"))["low"]


def test_debug_draws_and_checks_five_bands(five: Path, typed: Type) -> None:
    ended = typed(f"debug five {NETWORK} -o debug --samples 6 --preview --intensity percentile")
    assert ended.status in (0, 3), ended.stderr
    assert "checkpoint reloads to equal outputs" in ended.stdout
    for name in ("sheet.png", "preview.png"):
        assert len(np.unique(np.array(Image.open(Path("debug") / name)).reshape(-1, 3), axis=0)) > 100


def test_crops_keep_every_band(five: Path, typed: Type) -> None:
    done(typed, "roi crop five --masks --margin 0 -o crops")
    crops, source = load_dataset(Path("crops")), load_dataset(five)
    assert (crops.channels, crops.bands, crops.dtype) == (5, source.bands, "uint16")
    for record, of in zip(crops.train, source.train, strict=True):
        pixels, mask = source.read_pair(of)
        (top, left), (bottom, right) = np.argwhere(mask).min(0), np.argwhere(mask).max(0) + 1
        assert np.array_equal(crops.read_image(record), pixels[top:bottom, left:right])
        assert identify(record.files) == identify(of.files)


@pytest.mark.parametrize("stated", [True, False])
def test_missing_pixels_are_missing_in_crops(five: Path, typed: Type, stated: bool) -> None:
    for number in range(6):
        pixels, mask = scene(number)
        pixels[mask.argmax() // 40, mask.argmax() % 40] = 7
        save(five / "images" / f"{number}.tif", pixels, "" if stated else "7")
    if stated:
        (five / "dataset.yaml").write_text((five / "dataset.yaml").read_text() + "nodata: 7\n")
    done(typed, "roi crop five --masks --margin 0 -o crops")
    crops = load_dataset(Path("crops"))
    assert crops.nodata == (7 if stated else None)
    for record in crops.train:
        assert tifffile.imread(record.image).dtype == np.uint16
        image = crops.read_image(record)
        assert np.isnan(image[0, 0]).all()
        assert np.isnan(image).sum() == 5


def test_a_detector_takes_five_bands(five: Path, typed: Type) -> None:
    done(
        typed,
        "roi crop five --detector --encoder tu-test_efficientnet --encoder-weights none --epochs 1 --batch 2"
        " --threads 1 --min-score 0 -o crops",
    )
    assert load_dataset(Path("crops")).channels == 5


def test_missing_pixels_are_ignored_where_it_is_asked_for(five: Path, typed: Type) -> None:
    for number in range(8):
        pixels, _ = scene(number)
        pixels[:, :10] = 0
        save(five / "images" / f"{number}.tif", pixels, "0")
    kept, path = load_dataset(five), five / "dataset.yaml"
    path.write_text(path.read_text() + "ignore_nodata: true\n")
    data = load_dataset(five)
    for record in data.train:
        image, mask = data.read_pair(record)
        assert np.isnan(image[:, :10]).all() and np.isfinite(image[:, 10:]).all()
        assert (mask[:, :10] == 255).all()
        assert np.array_equal(mask[:, 10:], kept.read_mask(record)[:, 10:])
        assert np.array_equal(data.read_mask(record), mask)
        assert 255 not in kept.read_mask(record)
    assert data.digests(data.train) != kept.digests(kept.train)
    done(typed, f"{TRAIN} -o run")
    spec = network(Path("run"))
    assert min(spec["low"]) > 300  # type: ignore[arg-type, call-overload]
    done(typed, "predict five --run run --subset valid -o preds --threads 1")
    done(typed, "evaluate five preds -o scores")
    matrix = np.loadtxt("scores/confusion.csv", delimiter=",", skiprows=1, usecols=(1, 2))
    assert matrix.sum() == len(open_predictions(Path("preds")).ids) * 32 * 30


def test_predictions_keep_the_georeference(five: Path, typed: Type) -> None:
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.transform.from_origin(500_000, 5_200_000, 10, 10)
    for number in range(8):
        pixels, _ = scene(number)
        options = {"driver": "GTiff", "height": 32, "width": 40, "count": 5, "dtype": "uint16"}
        with rasterio.open(five / "images" / f"{number}.tif", "w", crs="EPSG:32633", transform=transform,
                           **options) as file:  # fmt: skip
            file.write(np.moveaxis(pixels, -1, 0))
    assert np.array_equal(load_dataset(five).read_image(load_dataset(five).train[3]), scene(3)[0])
    done(typed, f"{TRAIN} -o run")
    done(typed, "predict five --run run -o preds --geo --threads 1")
    for image_id in ("6", "7"):
        with rasterio.open(f"preds/geo/{image_id}.tif") as file:
            assert (file.crs, file.transform, file.nodata) == ("EPSG:32633", transform, 255)
            assert np.array_equal(file.read(1), np.array(Image.open(f"preds/masks/{image_id}.png")))
    assert "up to date" in done(typed, "predict five --run run -o preds --geo --threads 1")


def test_import_folders_finds_channels_and_depth(five: Path, typed: Type, caplog: pytest.LogCaptureFixture) -> None:
    for number in (6, 7):
        (five / "images" / f"{number}.tif").unlink()
    done(typed, "import folders --images five/images --masks five/masks --classes ground,box -o data")
    data = load_dataset(Path("data"))
    assert (data.channels, data.dtype) == (5, "uint16")
    assert "images of 5 channel(s) of uint16: dataset.yaml says so" in caplog.text
    assert np.array_equal(data.read_image(data.train[2]), scene(2)[0])


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("float32", "nan"), ("int32", "-9999"), ("int16", "-9999"), ("uint8", "200"), ("int8", "")]
)
def test_import_folders_takes_masks_of_gis(five: Path, typed: Type, dtype: str, nodata: str) -> None:
    expected = {}
    (five / "gis").mkdir()
    for number in range(6):
        mask = scene(number)[1].copy()
        stored = mask.astype(dtype)
        if nodata:
            stored[:, :10] = float(nodata)
            mask[:, :10] = 255
        tags = [(42113, "s", 0, nodata, True)] if nodata else []
        tifffile.imwrite(five / "gis" / f"{number}.tif", stored, metadata=None, extratags=tags)
        expected[str(number)] = mask
    for number in (6, 7):
        (five / "images" / f"{number}.tif").unlink()
    done(typed, "import folders --images five/images --masks five/gis --classes ground,box,other -o data")
    data = load_dataset(Path("data"))
    for record in data.train:
        assert np.array_equal(data.read_mask(record), expected[record.image_id])


def test_a_folder_of_photos_has_the_kind_of_the_run(five: Path, typed: Type) -> None:
    done(typed, f"{TRAIN} -o run")
    done(typed, "predict five --run run -o listed --threads 1")
    (five / "photos").mkdir()
    for number in (6, 7):
        (five / "images" / f"{number}.tif").rename(five / "photos" / f"{number}.tif")
    done(typed, "predict five/photos --run run -o found --threads 1")
    for image_id in ("6", "7"):
        first, second = (read_probs(Path(name) / "probs" / f"{image_id}.b2nd") for name in ("listed", "found"))
        assert np.array_equal(first, second)
    (five / "others").mkdir()
    tifffile.imwrite(five / "others" / "x.tif", np.zeros((4, 32, 32), np.uint16), photometric="minisblack")
    refused = typed("predict five/others --run run -o refused --threads 1")
    assert (refused.status, "x.tif has 4 channels, but run was trained on 5" in refused.stderr) == (1, True)


def test_one_file_for_each_band(five: Path, typed: Type) -> None:
    rows = []
    for number in range(6):
        pixels, _ = scene(number)
        for band in range(5):
            tifffile.imwrite(five / "images" / f"{number}_{band}.tif", pixels[..., band])
        names = {f"image_{band + 1}" if band else "image": f"images/{number}_{band}.tif" for band in range(5)}
        rows.append({"image_id": str(number), **names, "mask": f"masks/{number}.png"})
    with (five / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    data = load_dataset(five)
    for number, record in enumerate(data.train):
        assert np.array_equal(data.read_image(record), scene(number)[0])
    write_dataset(five / "copy", data)
    assert load_dataset(five / "copy").train[0].files[4].resolve() == data.train[0].files[4].resolve()
    done(typed, f"{TRAIN} -o run")
    assert len({row["digest"] for row in rows_of("run/samples.csv")}) == 6
