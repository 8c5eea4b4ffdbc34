"""`predict` with classes that overlap: the files it writes, and every way to the same probabilities."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Type
from overlapping import CLASSES, write_overlapping, write_run
from PIL import Image

from segtool.core.models.checkpoint import load_checkpoint, restore_network
from segtool.core.planes import read_planes
from segtool.core.predictions import probability_maps
from segtool.core.predictions.folder import open_predictions
from segtool.core.predictions.probability_maps import read_probs
from segtool.core.tables import read_csv

PREDICT = "predict multi --run run --threads 1 --workers 0"


@pytest.fixture
def folder(tmp_path: Path, typed: Type) -> Path:
    """The test's folder, with a data set and a run."""
    write_overlapping(tmp_path / "multi")
    write_run(tmp_path / "run")
    return tmp_path


def plain(folder: Path, image_id: str, run: str = "run") -> np.ndarray:
    """The sigmoid of the logits, computed without the predictor, float64 (C, H, W)."""
    _, network = restore_network(load_checkpoint(folder / run / "best.pt"), folder)
    pixels = np.asarray(Image.open(folder / "multi" / "images" / f"{image_id}.png"))
    values = torch.from_numpy((pixels / 255.0 - 0.4) / 0.2).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = network(values)[0].double().numpy()
    return 1 / (1 + np.exp(-logits))


def test_probabilities_are_sigmoids_and_masks_those_from_one_half(folder: Path, typed: Type) -> None:
    ended = typed(f"{PREDICT} -o out")
    assert ended.status == 0, ended.stderr
    preds = open_predictions(folder / "out")
    assert preds.labels == "multi" and preds.classes == CLASSES
    for image_id in ("test_0", "test_1"):
        probs = read_probs(preds.probs_path(image_id))
        expected = plain(folder, image_id)
        assert np.abs(probs - expected).max() < 2e-5
        assert np.abs(probs.sum(0) - 1).max() > 0.01, "not divided by their sum"
        mask = preds.read_mask(image_id)
        assert mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 1}
        clear = np.abs(expected - 0.5) > 1e-4
        assert np.array_equal(mask[clear], (expected >= 0.5)[clear])
        written = read_planes(folder / "out" / "masks" / f"{image_id}.json", CLASSES)
        assert np.array_equal(written.expand(), mask)
    assert "up to date" in typed(f"{PREDICT} -o out").stdout


def maps(folder: Path, name: str) -> dict[str, np.ndarray]:
    preds = open_predictions(folder / name)
    return {image_id: read_probs(preds.probs_path(image_id)).astype(np.float64) for image_id in preds.ids}


def done(typed: Type, line: str) -> None:
    ended = typed(line)
    assert ended.status == 0, ended.stderr


def test_several_runs_are_averaged_class_by_class(folder: Path, typed: Type) -> None:
    write_run(folder / "other", seed=1)
    done(typed, f"{PREDICT} --run other -o both")
    for image_id, probs in maps(folder, "both").items():
        average = (plain(folder, image_id) + plain(folder, image_id, "other")) / 2
        assert np.abs(probs - average).max() < 2e-5


@pytest.mark.parametrize("merge", ["mean", "max", "min", "gmean", "tsharpen"])
def test_views_are_merged_class_by_class(folder: Path, typed: Type, merge: str) -> None:
    done(typed, f"{PREDICT} --tta hflip --merge {merge} -o views")
    _, network = restore_network(load_checkpoint(folder / "run" / "best.pt"), folder)
    for image_id, probs in maps(folder, "views").items():
        pixels = np.asarray(Image.open(folder / "multi" / "images" / f"{image_id}.png"))
        values = torch.from_numpy((pixels / 255.0 - 0.4) / 0.2).float().permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = [network(values), network(values.flip(3)).flip(3)]
        p = np.stack([1 / (1 + np.exp(-one[0].double().numpy())) for one in logits])
        expected = {
            "mean": p.mean(0),
            "max": p.max(0),
            "min": p.min(0),
            "gmean": np.sqrt(p[0] * p[1]) / (np.sqrt(p[0] * p[1]) + np.sqrt((1 - p[0]) * (1 - p[1]))),
            "tsharpen": np.sqrt(p).sum(0) / (np.sqrt(p).sum(0) + np.sqrt(1 - p).sum(0)),
        }[merge]
        assert np.abs(probs - expected).max() < 3e-5


def test_bands_and_windows_write_what_the_whole_does(
    folder: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window as large as the image is the image; smaller bands of smaller windows change no byte."""
    done(typed, f"{PREDICT} -o whole")
    done(typed, f"{PREDICT} --window 32 -o window")
    done(typed, f"{PREDICT} --window 16x32 --stride 8x32 -o windows")
    monkeypatch.setattr(probability_maps, "BAND_BYTES", 4 * 3 * 32 * 5)
    done(typed, f"{PREDICT} --window 16x32 --stride 8x32 -o bands")
    for one, other in (("whole", "window"), ("windows", "bands")):
        for image_id, probs in maps(folder, one).items():
            assert np.array_equal(probs, maps(folder, other)[image_id])
            files = [folder / name / "masks" / f"{image_id}.json" for name in (one, other)]
            assert files[0].read_bytes() == files[1].read_bytes()


def test_a_plain_folder_is_predicted_by_a_bundle(folder: Path, typed: Type) -> None:
    done(typed, "bundle run -o run.zip")
    done(typed, "predict multi/images --run run.zip --threads 1 -o photos")
    assert open_predictions(folder / "photos").multi
    done(typed, f"{PREDICT} -o out")
    for image_id, probs in maps(folder, "out").items():
        assert np.array_equal(probs, maps(folder, "photos")[image_id])


def test_labels_of_network_and_data_set_must_be_the_same(folder: Path, typed: Type) -> None:
    write_run(folder / "single", "single")
    ended = typed("predict multi --run single --threads 1 -o out")
    assert ended.status == 1
    for said in ("labels: single", "labels: multi", "single/best.pt", "multi/dataset.yaml"):
        assert said in ended.stderr


def test_an_interrupted_prediction_is_resumed(folder: Path, typed: Type) -> None:
    done(typed, f"{PREDICT} -o out")
    before = {path.relative_to(folder): path.read_bytes() for path in (folder / "out").rglob("*.*") if path.is_file()}
    (folder / "out/done.json").rename(folder / "out/begun.json")
    (folder / "out/masks/test_1.json").unlink()
    torn = folder / "out/probs/test_0.b2nd"
    with torn.open("r+b") as file:
        file.seek(torn.stat().st_size // 3)
        file.write(bytes(torn.stat().st_size // 3))
    done(typed, f"{PREDICT} -o out")
    for path, content in before.items():
        if path.name != "done.json":
            assert (folder / path).read_bytes() == content, path


def test_the_gate_and_a_resize_work(folder: Path, typed: Type) -> None:
    write_run(folder / "head", aux_head=True)
    line = "predict multi --run head --threads 1 --workers 0"
    done(typed, f"{line} --resize 64x64 -o plain")
    done(typed, f"{line} --resize 64x64 --gate 0.5 -o gated")
    rows = read_csv(folder / "plain/index.csv", ("image_id",))
    for row in rows:
        closed = np.array([float(row[f"presence_{name}"]) < 0.5 for name in CLASSES])
        before, after = (maps(folder, name)[row["image_id"]] for name in ("plain", "gated"))
        assert np.array_equal(after, before * ~closed[:, None, None])


# Named by its text: a category of rasterio would be imported before the test can be skipped.
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_geotiffs_have_a_channel_for_each_class(folder: Path, typed: Type) -> None:
    rasterio = pytest.importorskip("rasterio")
    done(typed, f"{PREDICT} --geo -o out")
    with rasterio.open(folder / "out/geo/test_0.tif") as image:
        assert image.descriptions == CLASSES
        assert np.array_equal(image.read(), open_predictions(folder / "out").read_mask("test_0"))
