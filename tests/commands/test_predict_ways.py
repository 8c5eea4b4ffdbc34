"""`predict` in other ways than plainly: views, windows, sizes, epochs, parts of the images, stopping and going on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Type
from PIL import Image

from segtool.core.predictions.folder import Predictions, open_predictions
from segtool.core.predictions.probability_maps import read_probs

NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0"
PREDICT = "predict tiny --run run --subset train --threads 1"


@pytest.fixture
def folder(tiny: Path, typed: Type) -> Path:
    """The test's folder with `tiny`, images of several sizes, and a run of it that has kept two epochs."""
    for index, size in enumerate([(32, 32), (47, 33), (90, 70), (33, 95)]):
        for kind in ("images", "masks"):
            path = tiny / kind / f"train_{index}.png"
            Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)
    assert typed(f"train tiny {NETWORK} --crop 32 --batch 2 --epochs 3 --keep-last 2 -o run").status == 0
    return tiny.parent


def opened(typed: Type, line: str) -> Predictions:
    ended = typed(line)
    assert ended.status == 0, ended.stderr
    return open_predictions(Path(line.split()[-1]))


def content(folder: Path) -> dict[str, bytes]:
    """All masks, probabilities and the index of a prediction folder."""
    files = [*folder.glob("masks/*"), *folder.glob("probs/*"), folder / "index.csv", folder / "meta.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


WAYS = [
    "",
    "--tta d4,scale:0.75/1.25",
    "--tta hflip --merge gmean --window 32 --stride 20x16",
    "--resize 48x40 --merge tsharpen --tta flip",
    "--window 64x32 --window-weight uniform --batch 3",
    "--checkpoint last:2 --batch 3",
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_probabilities_at_the_images_own_size(way: str, folder: Path, typed: Type) -> None:
    preds = opened(typed, f"{PREDICT} {way} -o preds")
    assert len(preds.ids) == 8
    for image_id in preds.ids:
        probs = read_probs(preds.probs_path(image_id))
        assert probs.shape == (3, *preds.sizes[image_id])
        np.testing.assert_allclose(probs.sum(0), 1, atol=3 / 65535)
        assert preds.read_mask(image_id).shape == preds.sizes[image_id]
    if way:
        assert (
            content(preds.path)["probs/train_2.b2nd"]
            != content(opened(typed, f"{PREDICT} -o plain").path)["probs/train_2.b2nd"]
        )
    assert typed(f"{PREDICT} {way} -o preds").stdout == "preds is up to date\n"


@pytest.mark.parametrize("way", WAYS)
def test_shards_give_what_one_process_gives(way: str, folder: Path, typed: Type) -> None:
    whole = opened(typed, f"{PREDICT} {way} -o whole")
    for number, missing in ((3, "1, 2"), (1, "2")):
        ended = typed(f"{PREDICT} {way} --shard {number}/3 -o parts")
        assert (ended.status, f"shards {missing} are missing" in ended.stdout) == (0, True)
        refused = typed("evaluate tiny parts -o scores")
        assert refused.status == 1
        assert "missing; run" in refused.stderr
    again = typed(f"{PREDICT} {way} --shard 1/3 -o parts")
    assert again.stdout == "parts is up to date; shards 2 are missing\n"
    assert content(opened(typed, f"{PREDICT} {way} --shard 2/3 -o parts").path) == content(whole.path)
    for shard in ("", "--shard 1/3", "--shard 1/2"):
        assert typed(f"{PREDICT} {way} {shard} -o parts").stdout == "parts is up to date\n"


def test_two_processes_give_what_one_gives(folder: Path, typed: Type) -> None:
    way = "--tta hflip --window 32 --batch 1 --workers 1"
    whole = opened(typed, f"{PREDICT} {way} -o whole")
    # torchrun takes --run for an option of its own unless something ends its options.
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "segtool",
        "--",
    ]
    for text in ("preds: 8 images (train) by 1 network(s) in 2 view(s): identity, hflip\n", "preds is up to date\n"):
        command = [*launch, *PREDICT.split(), *way.split(), "-o", "preds"]
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert (ended.returncode, ended.stdout) == (0, text), ended.stderr
    assert content(Path("preds")) == content(whole.path)


def test_max_time_stops_in_good_order_and_goes_on(folder: Path, typed: Type) -> None:
    whole = opened(typed, f"{PREDICT} --batch 1 -o whole")
    for done in range(1, 8):
        ended = typed(f"{PREDICT} --batch 1 --max-time 0.0001s -o preds")
        assert ended.status == 1
        assert f"{8 - done} of 8 batches are left; run the same command to resume" in ended.stderr
        assert len(list(Path("preds/masks").iterdir())) == done
        assert not Path("preds/done.json").exists()
    # The time is no setting that must stay as it was.
    assert content(opened(typed, f"{PREDICT} --batch 1 --max-time 10m -o preds").path) == content(whole.path)


def test_epochs_are_averaged_in_probabilities(folder: Path, typed: Type) -> None:
    both = opened(typed, f"{PREDICT} --checkpoint last:2 -o both")
    alone = [opened(typed, f"{PREDICT} --checkpoint epoch:{epoch} -o alone{epoch}") for epoch in (2, 3)]
    for image_id in both.ids:
        maps = [read_probs(single.probs_path(image_id)) for single in alone]
        np.testing.assert_allclose(read_probs(both.probs_path(image_id)), sum(maps) / 2, atol=2 / 65535)
        assert not np.allclose(*maps, atol=1e-3)
    members = json.loads((both.path / "meta.json").read_text())["members"]
    assert [member["checkpoint"] for member in members] == ["epoch_002.pt", "epoch_003.pt"]


def test_copies_beside_the_epochs_checkpoints_are_no_epochs(folder: Path, typed: Type) -> None:
    for name in ("epoch_mycopy", "epoch_3_old", "epoch_٤", "epoch_³", "epoch_0004", "epoch_"):
        shutil.copy("run/epoch_003.pt", f"run/{name}.pt")
    opened(typed, f"{PREDICT} --checkpoint last:2 -o both")
    members = json.loads(Path("both/meta.json").read_text())["members"]
    assert [member["checkpoint"] for member in members] == ["epoch_002.pt", "epoch_003.pt"]


def test_a_run_of_another_size_is_asked_at_the_size_that_is_typed(folder: Path, typed: Type) -> None:
    assert typed(f"train tiny {NETWORK} --resize 40x32 --batch 2 --epochs 1 -o small").status == 0
    line = "predict tiny --run small --subset train --threads 1"
    own, same, other = (
        opened(typed, f"{line} {way} -o p{i}") for i, way in enumerate(("", "--resize 40x32", "--resize 64"))
    )
    assert np.array_equal(read_probs(own.probs_path("train_2")), read_probs(same.probs_path("train_2")))
    assert not np.allclose(read_probs(own.probs_path("train_2")), read_probs(other.probs_path("train_2")), atol=1e-3)


def test_a_resize_that_shrinks_objects_away_is_told(
    folder: Path, typed: Type, caplog: pytest.LogCaptureFixture
) -> None:
    for way, told in (("--resize 64", False), ("", False), ("--resize 16", True)):
        caplog.clear()
        assert typed(f"{PREDICT} {way} --overwrite -o preds").status == 0
        assert ("shrinks small objects away" in caplog.text) is told
    assert "box 6 (12)" in caplog.text
    assert "stripe 2 (4)" in caplog.text


def test_a_resize_to_another_shape_is_told(folder: Path, typed: Type, caplog: pytest.LogCaptureFixture) -> None:
    """Training compares with the images, predicting with what the networks were trained on."""
    train = f"train tiny {NETWORK} --batch 2 --epochs 1 -o"
    for way, run in (("--resize 64x32", "flat"), ("--resize 32x40", "wide"), ("", "plain")):
        caplog.clear()
        assert typed(f"{train} {run} {way}").status == 0
        told = "resizing to 64x32 stretches 6 of 6 images, by up to 2.85 (33x47, HxW); --crop trains on crops"
        assert (told in caplog.text) is (run == "flat")
        assert ("images, by up to" in caplog.text) is (run == "flat")
    for run, way, expected in (
        ("flat", "", False),
        ("flat", "--resize 96x48", False),
        ("flat", "--resize 32", True),
        ("plain", "", False),
        ("plain", "--resize 128x64", True),
    ):
        caplog.clear()
        assert typed(f"predict tiny --run {run} --subset train --threads 1 {way} --overwrite -o preds").status == 0
        assert ("the networks were trained on another shape" in caplog.text) is expected, (run, way)


def test_what_was_changed_since_is_made_again_even_if_it_is_whole(folder: Path, typed: Type) -> None:
    preds = opened(typed, f"{PREDICT} -o preds")
    before = content(preds.path)
    Image.fromarray(np.full((32, 32), 2, np.uint8)).save(preds.mask_path("train_0"), compress_level=0)
    cut = preds.mask_path("train_1")
    # Pillow does without a PNG's last bytes, others do not.
    cut.write_bytes(cut.read_bytes()[:-20])
    assert content(opened(typed, f"{PREDICT} -o preds").path) == before


def test_training_masks_are_not_needed_to_predict(folder: Path, typed: Type) -> None:
    for mask in (folder / "tiny" / "masks").iterdir():
        mask.unlink()
    ended = typed("predict tiny --run run --threads 1 --resize 16 -o preds")
    assert ended.status == 0, ended.stderr


def test_views_are_printed(folder: Path, typed: Type) -> None:
    ended = typed(f"{PREDICT} --tta hflip,vflip,rot90 -o preds")
    assert "in 8 view(s): identity, rot90:90, rot90:180, rot90:270, vflip" in ended.stdout
    members = json.loads(Path("preds/meta.json").read_text())["members"]
    assert len(members[0]["views"]) == 8


@pytest.mark.parametrize(
    ("way", "status", "told"),
    [
        ("--tta hflip --tta-weights 1,2,3", 2, "has 3 numbers for 2 views: identity, hflip"),
        ("--tta hflip --tta-weights 0,0", 2, "one must be above 0"),
        ("--tta hflip --merge max --tta-weights 1,2", 2, "--tta-weights cannot be combined with --merge max"),
        ("--tta flop", 2, "unknown transform 'flop'"),
        ("--stride 8", 2, "--stride has no effect without --window"),
        ("--window-weight uniform", 2, "--window-weight has no effect without --window"),
        ("--tta hflip --sharpen 2", 2, "--sharpen has no effect without --merge tsharpen"),
        ("--window 32 --stride 33", 2, "larger than --window"),
        ("--window 0", 2, "is not a size"),
        ("--shard 0/3", 2, "K from 1 to N"),
        ("--shard 4/3", 2, "K from 1 to N"),
        ("--batch -1", 2, "neither a whole number"),
        ("--checkpoint worst", 2, "is not a checkpoint"),
        ("--checkpoint epoch:1", 2, "it has kept 2, 3"),
        ("--checkpoint last:3", 2, "it has kept 2, 3"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    way: str, status: int, told: str, folder: Path, typed: Type
) -> None:
    ended = typed(f"{PREDICT} {way} -o preds")
    (line,) = (line for line in ended.stderr.splitlines() if line.startswith("error:"))
    assert (ended.status, told in line) == (status, True), line
    assert not Path("preds").exists()
