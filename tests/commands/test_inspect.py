"""`segtool inspect`: what it prints and writes, its exit status, and its advice, typed as it stands."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Type
from drawn import draw, write_drawn
from PIL import Image

from segtool.core.dataset.dataset import load_dataset
from segtool.core.dataset.folds import read_folds
from segtool.core.tables import read_csv

TABLES = {"faults.csv", "images.csv", "classes.csv", "cooccurrence.csv", "duplicates.csv"}
PICTURES = {"class_shares.png", "sizes.png", "examples.png"}


def read(folder: Path) -> Any:
    return json.loads((folder / "inspect.json").read_text())


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Three videos of eight frames, the third goes on in the test part; one test image is a training image."""
    train, test = {}, {}
    for video in range(3):
        scene = draw(video, 200, 300)
        for number in range(8):
            train[f"v{video}_{number}"] = scene[number * 4 : number * 4 + 96, number * 4 : number * 4 + 128]
    for number in range(8, 12):
        test[f"v2_{number}"] = scene[number * 4 : number * 4 + 96, number * 4 : number * 4 + 128]
    write_drawn(tmp_path / "videos", train, {**test, "copy": train["v0_3"]})
    return tmp_path / "videos"


def test_without_output_nothing_is_written(typed: Type, tmp_path: Path, videos: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    ended = typed("inspect videos --workers 0")
    assert (ended.status, ended.stderr) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_leaks_sequences_and_advice(typed: Type, videos: Path) -> None:
    told = typed("inspect videos --workers 0").stdout
    assert "leak (1.00): v0_3 (train) and copy (test)" in told
    assert "train and test share 1 sequences: v2" in told
    assert "file names tell of" in told
    assert "which asks for groups" in told


def test_the_advised_split_can_be_typed_and_leaks_nothing(typed: Type, videos: Path, tmp_path: Path) -> None:
    told = typed("inspect videos --workers 0").stdout
    (line,) = [line for line in told.splitlines() if line.startswith("- split: segtool ")]
    assert "--kind stratified-group --group-by sequences --n-folds 3" in line
    assert typed(shlex.join(shlex.split(line)[3:])).status == 0
    folds = read_folds(tmp_path / "folds.csv", load_dataset(videos))
    assert len({folds[f"v{video}_{number}"] for video in range(3) for number in range(8)}) == 3
    assert all(len({folds[f"v{video}_{number}"] for number in range(8)}) == 1 for video in range(3))
    assert "across folds" not in typed("inspect videos --workers 0 --folds folds.csv").stdout


def test_where_all_images_are_near_duplicates_the_advised_split_can_be_typed(typed: Type, tmp_path: Path) -> None:
    scene = draw(5, 110, 140)
    write_drawn(tmp_path / "one", {name: scene[shift : shift + 96, :128] for shift, name in enumerate("abcd")})
    told = typed("inspect one --workers 0").stdout
    (line,) = [line for line in told.splitlines() if line.startswith("- split: segtool ")]
    assert "near-duplicates form 1 groups in train, the largest of 4 images" in told
    assert typed(shlex.join(shlex.split(line)[3:])).status == 0


def test_one_image_gets_no_advice_to_split(typed: Type, tmp_path: Path) -> None:
    write_drawn(tmp_path / "one", {"a": draw(5)}, classes=("ground", "never", "box"))
    told = typed("inspect one --workers 0").stdout
    assert "- add images: one cannot be split" in told
    assert "segtool split" not in told
    # To remove it from dataset.yaml would make the boxes another class.
    assert "- add images of classes that never occur, or import again without them, by --map: box" in told


def test_leaks_across_folds(typed: Type, videos: Path) -> None:
    warned = typed("split videos -o mixed.csv --kind kfold --n-folds 2").stdout
    assert "warning: 3 numbered sequences are in more than one fold (v0, v1, v2)" in warned
    told = typed("inspect videos --workers 0 --folds mixed.csv").stdout
    assert "across folds" in told
    assert "make the folds again" in told


def test_what_is_written(typed: Type, videos: Path, tmp_path: Path) -> None:
    ended = typed("inspect videos --workers 0 -o report")
    assert ended.status == 0
    folder = tmp_path / "report"
    written = {path.name for path in folder.iterdir()}
    assert written == TABLES | PICTURES | {"duplicates.png", "inspect.json", "report.txt", "done.json"}
    for name in PICTURES | {"duplicates.png"}:
        assert Image.open(folder / name).size[0] > 100
    found = read(folder)
    assert (found["trainable"], found["faults"], found["train"]["images"]) == (True, [], 24)
    assert found["sequences"]["names"] == {"copy": [0, 1], "v0": [8, 0], "v1": [8, 0], "v2": [8, 4]}
    assert found["pairs"]["exact"] == 1
    (copy,) = [row for row in read_csv(folder / "duplicates.csv") if row["kind"] == "exact"]
    assert (copy["first"], copy["second"], copy["part"], copy["other_part"]) == ("v0_3", "copy", "train", "test")
    images = read_csv(folder / "images.csv")
    assert (len(images), images[0]["pixels of box"]) == (29, "600.0")
    assert (folder / "report.txt").read_text() in ended.stdout.replace("\n\nreport written to report\n", "\n")


def test_again_differing_and_overwritten(typed: Type, videos: Path) -> None:
    first = typed("inspect videos --workers 0 -o report").stdout
    again = typed("inspect videos --workers 2 -o report")
    assert again.status == 0
    assert "report is up to date" in again.stdout
    assert first.splitlines()[:20] == again.stdout.splitlines()[:20]
    Image.fromarray(draw(60)).save(videos / "train" / "v0_3.png")
    assert typed("inspect videos --workers 0 -o report").status == 2
    assert typed("inspect videos --workers 0 -o report --overwrite").status == 0


def test_faults_are_all_told_and_written_without_a_stamp(typed: Type, videos: Path, tmp_path: Path) -> None:
    (videos / "train" / "v0_0.png").unlink()
    whole = (videos / "test" / "copy.png").read_bytes()
    (videos / "test" / "copy.png").write_bytes(whole[:300])
    Image.fromarray(np.full((96, 128), 9, np.uint8)).save(videos / "masks" / "v1_1.png")
    ended = typed("inspect videos --workers 0 -o report")
    assert (ended.status, ended.stderr) == (1, "")
    for text in ("v0_0.png is missing", "copy.png", "holds the value 9", "- fix unreadable image (2: v0_0, copy)"):
        assert text in ended.stdout
    folder = tmp_path / "report"
    assert [row["kind"] for row in read_csv(folder / "faults.csv")] == [
        "unreadable image",
        "values that are no class",
        "unreadable image",
    ]
    assert read(folder)["trainable"] is False
    assert not (folder / "done.json").exists()

    Image.fromarray(draw(0)).save(videos / "train" / "v0_0.png")
    (videos / "test" / "copy.png").write_bytes(whole)
    Image.fromarray(np.eye(96, 128, dtype=np.uint8)).save(videos / "masks" / "v1_1.png")
    assert typed("inspect videos --workers 0 -o report").status == 0
    assert read(folder)["trainable"] is True
    assert (folder / "done.json").exists()


@pytest.mark.parametrize(
    ("line", "error", "status"),
    [
        ("inspect nowhere", "nowhere is missing; `segtool import`", 1),
        ("inspect videos --folds nowhere.csv", "nowhere.csv is missing", 1),
        ("inspect videos --overwrite", "--overwrite has no effect without --out", 2),
        ("inspect videos -o videos", "contains files that segtool did not write", 2),
    ],
)
def test_errors_are_one_line(typed: Type, videos: Path, line: str, error: str, status: int) -> None:
    ended = typed(line)
    assert ended.status == status
    assert error in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_quiet_prints_nothing(typed: Type, videos: Path) -> None:
    assert typed("inspect videos --workers 0 --quiet")[:2] == (0, "")


def test_camvid(typed: Type, data_dir: Path, tmp_path: Path) -> None:
    """Ten frames of each sequence in a row: no pair of two sequences, and the shared sequence is named."""
    frames = {part: sorted((data_dir / "camvid" / part).glob("*.jpg")) for part in ("train", "test")}
    rows: dict[str, list[str]] = {"train": [], "test": []}
    for part, paths in frames.items():
        for name in dict.fromkeys(path.name.split("_")[0] for path in paths):
            for path in [path for path in paths if path.name.startswith(name)][-10:]:
                mask = data_dir / "camvid" / f"{part}annot" / f"{path.stem}.png"
                rows[part].append(f"{path.stem},{path},{mask if part == 'train' else ''}")
    for part, lines in rows.items():
        (tmp_path / f"{part}.csv").write_text("\n".join(["image_id,image,mask", *lines]) + "\n")
    classes = [f"c{number}" for number in range(11)]
    (tmp_path / "dataset.yaml").write_text(
        f"classes: [{', '.join(classes)}]\nignore_index: 11\ntrain: train.csv\ntest: test.csv\n"
    )
    told = typed("inspect . -o report").stdout
    assert "train and test share 1 sequences: 0001TP" in told
    assert "--group-by sequences --n-folds 3" in told
    pairs = read_csv(tmp_path / "report" / "duplicates.csv")
    assert len(pairs) > 10
    assert all(pair["first"].split("_")[0] == pair["second"].split("_")[0] for pair in pairs)


def test_a_missing_band_is_a_finding(typed: Type, tmp_path: Path) -> None:
    for band in "rn":
        Image.fromarray(draw(ord(band))[..., 0]).save(tmp_path / f"a_{band}.png")
    Image.fromarray(draw(1)[..., 0] // 128).save(tmp_path / "mask.png")
    (tmp_path / "train.csv").write_text("image_id,image,image_2,mask\na,a_r.png,a_n.png,mask.png\n")
    (tmp_path / "dataset.yaml").write_text("classes: [ground, box]\nchannels: 2\ntrain: train.csv\n")
    assert typed("inspect . -o out --workers 0").status == 0
    (tmp_path / "a_n.png").unlink()
    ended = typed("inspect . -o out --workers 0 --overwrite")
    assert (ended.status, ended.stderr) == (1, "")
    (fault,) = [fault for fault in read(tmp_path / "out")["faults"] if fault["image_id"]]
    assert (fault["kind"], "a_n.png" in fault["text"]) == ("unreadable image", True)
