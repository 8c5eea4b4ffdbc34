"""`segtool split`: its output and report, independence of the order of the rows, and errors."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import draw, write_drawn
from PIL import Image

from segtool.commands import split
from segtool.core.dataset import dataset as catalog
from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.folds import read_folds
from segtool.core.documents import read_json
from segtool.core.images import write_mask
from segtool.core.reporting.tables import Result
from segtool.core.tables import read_csv, write_csv
from segtool.errors import SegtoolError, UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.split import SplitSettings

KINDS = ("holdout", "kfold", "stratified", "group", "stratified-group")


def run(data: Path, *, overwrite: bool = False, **options: Any) -> Result:
    out = OutputSettings(data / "folds.csv", overwrite=overwrite, quiet=True)
    return split.run(SplitSettings(out, data, **{"n_folds": 2, **options}))


def folds_of(data: Path) -> dict[str, int]:
    return read_folds(data / "folds.csv", catalog.load_dataset(data))


def edit_train(data: Path, change: Any) -> None:
    """Rewrite train.csv with `change(rows)`."""
    rows = change(read_csv(data / "train.csv"))
    write_csv(data / "train.csv", list(rows[0]), [list(row.values()) for row in rows])


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_gets_one_fold(tiny: Path, kind: str) -> None:
    result = run(tiny, kind=kind, valid=0.25)
    folds = folds_of(tiny)
    assert sorted(folds.values()) == ([-1] * 6 + [0] * 2 if kind == "holdout" else [0] * 4 + [1] * 4)
    assert result.status == 0
    assert result.tables[0].frame[""].tolist() == ["images", "groups", "with ground", "with box", "with stripe"]
    assert read_json(tiny / "folds.csv.done.json", dict)["settings"]["kind"] == kind


@pytest.mark.parametrize("kind", ["group", "stratified-group"])
def test_groups_are_in_one_fold(tiny: Path, kind: str) -> None:
    result = run(tiny, kind=kind)
    folds = folds_of(tiny)
    sides: dict[str, set[int]] = {}
    for record in catalog.load_dataset(tiny).train:
        sides.setdefault(record.group, set()).add(folds[record.image_id])
    assert all(len(side) == 1 for side in sides.values())
    assert "no group is in more than one fold" in result.summary


@pytest.mark.parametrize("kind", ["holdout", "kfold", "stratified"])
def test_torn_groups_cause_a_warning(tiny: Path, kind: str) -> None:
    edit_train(tiny, lambda rows: [{**row, "group": "one video"} for row in rows])
    assert "warning: 1 groups are in more than one fold" in run(tiny, kind=kind).summary


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_rows_does_not_matter(tiny: Path, tmp_path: Path, kind: str) -> None:
    turned = tmp_path / "turned"
    shutil.copytree(tiny, turned)
    edit_train(turned, lambda rows: rows[::-1])
    run(tiny, kind=kind, seed=3)
    run(turned, kind=kind, seed=3)
    assert (tiny / "folds.csv").read_bytes() == (turned / "folds.csv").read_bytes()


def test_stratified_spreads_the_class_of_every_second_image(tiny: Path) -> None:
    counts = run(tiny, kind="stratified").tables[0]
    assert counts.frame.iloc[-1].tolist() == ["with stripe", 2, 2]


def test_a_class_that_never_occurs_and_an_ignored_mask_are_no_obstacle(tiny: Path) -> None:
    Image.new("L", (32, 32), 255).save(tiny / "masks" / "train_0.png")
    yaml = (tiny / "dataset.yaml").read_text().replace("stripe]", "stripe, unicorn]")
    (tiny / "dataset.yaml").write_text(yaml)
    result = run(tiny)
    assert "class unicorn is in 0 images" in result.summary
    assert len(folds_of(tiny)) == 8


def test_images_without_a_mask_are_never_held_out(tiny: Path) -> None:
    edit_train(tiny, lambda rows: [{**rows[0], "mask": ""}, *rows[1:]])
    result = run(tiny, kind="kfold", n_folds=7)
    folds = folds_of(tiny)
    assert folds["train_0"] == -1
    assert sorted(folds.values()) == [-1, 0, 1, 2, 3, 4, 5, 6]
    assert "1 images have no mask" in result.summary


def test_unusual_ids_come_through(tmp_path: Path) -> None:
    ids = ["001", "NA", "1e5", "video 1/프레임 1", "a,b", 'say "x"']
    mask = tmp_path / "masks" / "m.png"
    mask.parent.mkdir()
    write_mask(mask, np.eye(4, dtype=np.uint8))
    records = tuple(Record(image_id, mask, mask) for image_id in ids)
    catalog.write_dataset(tmp_path, Dataset(tmp_path, ("a", "b"), train=records))
    run(tmp_path, n_folds=3)
    assert set(folds_of(tmp_path)) == set(ids)
    with (tmp_path / "folds.csv").open(encoding="utf-8", newline="") as file:
        assert [row["image_id"] for row in csv.DictReader(file)] == sorted(ids)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"kind": "kfold", "n_folds": 9}, "--n-folds 9: .*tiny has only 8 images with a mask; use at most 8"),
        ({"kind": "stratified", "n_folds": 9}, "only 8 images with a mask"),
        ({"kind": "stratified-group", "n_folds": 5}, "--n-folds 5: .*tiny has only 4 groups; use at most 4"),
    ],
)
def test_more_folds_than_images_or_groups(tiny: Path, options: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        run(tiny, **options)
    assert not list(tiny.glob("folds.csv*"))


def test_a_kind_with_groups_needs_groups(tiny: Path) -> None:
    edit_train(tiny, lambda rows: [{**row, "group": ""} for row in rows])
    with pytest.raises(UsageError, match=r"--kind group: .* has no groups"):
        run(tiny, kind="group")


@pytest.mark.parametrize("kind", ["holdout", "kfold", "stratified"])
def test_one_image_cannot_be_split(tiny: Path, kind: str) -> None:
    edit_train(tiny, lambda rows: rows[:1])
    with pytest.raises(UsageError, match=f"has 1 images with a mask; --kind {kind} needs at least 2"):
        run(tiny, kind=kind)


def test_nothing_to_split(tiny: Path) -> None:
    edit_train(tiny, lambda rows: [{**row, "mask": ""} for row in rows])
    with pytest.raises(SegtoolError, match="no training image with a mask"):
        run(tiny)


def test_a_broken_mask_leaves_nothing_and_its_repair_needs_no_overwrite(tiny: Path) -> None:
    mask = tiny / "masks" / "train_3.png"
    whole = mask.read_bytes()
    mask.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SegtoolError, match=r"train_3\.png"):
        run(tiny)
    assert not (tiny / "folds.csv").exists()
    mask.write_bytes(whole)
    run(tiny)
    assert len(folds_of(tiny)) == 8


def test_up_to_date_differing_and_overwritten(segtool: Any, tiny: Path) -> None:
    command = ("split", "tiny", "-o", "out/folds.csv", "--n-folds", "2")
    assert "8 images, 2 folds (stratified, seed 0)" in segtool(*command).stdout
    again = segtool(*command)
    assert (again.returncode, again.stdout, again.stderr) == (0, "out/folds.csv is up to date\n", "")
    other = segtool(*command, "--seed", "5")
    assert other.returncode == 2
    assert "seed (0, now 5)" in other.stderr
    assert other.stderr.count("\n") == 1
    assert segtool(*command, "--seed", "5", "--overwrite").returncode == 0
    assert read_json(tiny.parent / "out" / "folds.csv.done.json", dict)["settings"]["seed"] == 5


def grow(data: Path, count: int, group: str = "") -> None:
    """Add images to the data set: copies of train_0 under new names."""

    def added(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return rows + [{**rows[0], "image_id": f"new_{number}", "group": group} for number in range(count)]

    edit_train(data, added)


@pytest.mark.parametrize("kind", KINDS)
def test_kept_folds_move_no_image(tiny: Path, tmp_path: Path, kind: str) -> None:
    run(tiny, kind=kind, valid=0.25)
    before = folds_of(tiny)
    (tiny / "folds.csv").rename(tmp_path / "old.csv")
    (tiny / "folds.csv.done.json").unlink()
    grow(tiny, 4)
    result = run(tiny, kind=kind, valid=0.25, keep=tmp_path / "old.csv")
    after = folds_of(tiny)
    assert {image_id: after[image_id] for image_id in before} == before
    assert "8 images stay in their fold" in result.summary
    # 12 images: 6 in each of two folds, or 3 held out of which there were 2.
    assert sorted(after.values()) == ([-1] * 9 + [0] * 3 if kind == "holdout" else [0] * 6 + [1] * 6)


@pytest.mark.parametrize("kind", KINDS)
def test_new_images_go_to_the_fold_of_their_group(tiny: Path, tmp_path: Path, kind: str) -> None:
    old = tmp_path / "old.csv"
    rows = [(f"train_{index}", index // 2 % 2 if kind != "holdout" else -(index // 2 % 2)) for index in range(8)]
    write_csv(old, ("image_id", "fold"), rows)
    grow(tiny, 5, group="scene1")
    run(tiny, kind=kind, keep=old)
    after = folds_of(tiny)
    assert {after[f"new_{number}"] for number in range(5)} == {dict(rows)["train_2"]}


def test_images_that_are_gone_are_no_obstacle(tiny: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "old.csv", ("image_id", "fold"), [("gone", 1), *((f"train_{i}", 0) for i in range(4))])
    run(tiny, keep=tmp_path / "old.csv")
    after = folds_of(tiny)
    assert [after[f"train_{index}"] for index in range(8)] == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
    ("rows", "options", "line"),
    [
        ([("train_0", 2)], {}, "--keep .*old.csv has 3 folds, and --n-folds is 2"),
        ([("train_0", 1)], {"kind": "holdout"}, "has 2 folds, and --kind holdout makes 1"),
        ([("other", 1)], {}, "lists no image of .*tiny"),
        ([("train_0", "x")], {}, "the fold of 'train_0' is 'x', not a whole number"),
    ],
)
def test_folds_that_cannot_be_kept(
    tiny: Path, tmp_path: Path, rows: list[tuple[str, object]], options: dict[str, Any], line: str
) -> None:
    write_csv(tmp_path / "old.csv", ("image_id", "fold"), rows)
    with pytest.raises(SegtoolError, match=line):
        run(tiny, keep=tmp_path / "old.csv", **options)
    assert not (tiny / "folds.csv").exists()


def test_the_output_itself_cannot_be_kept(tiny: Path) -> None:
    run(tiny)
    with pytest.raises(UsageError, match="is the output itself"):
        run(tiny, keep=tiny / "folds.csv", overwrite=True)


def test_near_duplicates_become_groups(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures = {f"{name}{copy}": draw(seed) for seed, name in enumerate("abcdef") for copy in "xy"}
    write_drawn(tmp_path, {**pictures, "odd": draw(50)})
    caplog.set_level("INFO", "segtool")
    result = run(tmp_path, kind="stratified-group", group_by="near-duplicates", n_folds=3)
    folds = folds_of(tmp_path)
    assert all(folds[f"{name}x"] == folds[f"{name}y"] for name in "abcdef")
    assert sorted(np.bincount(list(folds.values())).tolist()) == [4, 4, 5]
    assert "--group-by near-duplicates: 7 groups, the largest of 2 images" in caplog.text
    assert "no group is in more than one fold" in result.summary


def test_near_duplicates_join_the_groups_of_the_table(tmp_path: Path) -> None:
    pictures = {"a": draw(0), "b": draw(0), "c": draw(1), "d": draw(2), "e": draw(3), "f": draw(4)}
    write_drawn(tmp_path, pictures, groups={"a": "x", "b": "y", "c": "y", "d": "z"})
    run(tmp_path, kind="group", group_by="near-duplicates")
    folds = folds_of(tmp_path)
    assert folds["a"] == folds["b"] == folds["c"]


def test_sequences_become_groups(tiny: Path) -> None:
    edit_train(tiny, lambda rows: [{**row, "group": "", "image_id": f"v{i % 4}_{i}"} for i, row in enumerate(rows)])
    run(tiny, kind="group", group_by="sequences")
    folds = folds_of(tiny)
    assert all(folds[f"v{i}_{i}"] == folds[f"v{i}_{i + 4}"] for i in range(4))
    with pytest.raises(UsageError, match="has only 4 groups by sequences; use at most 4"):
        run(tiny, kind="group", group_by="sequences", n_folds=5, overwrite=True)


def test_sequences_in_more_than_one_fold_cause_a_warning(tiny: Path) -> None:
    edit_train(tiny, lambda rows: [{**row, "group": "", "image_id": f"v{i % 2}_{i}"} for i, row in enumerate(rows)])
    assert "warning: 2 numbered sequences are in more than one fold (v0, v1)" in run(tiny).summary


def test_groups_are_made_only_for_kinds_that_use_them(segtool: Any, tiny: Path) -> None:
    ended = segtool("split", "tiny", "-o", "f.csv", "--group-by", "near-duplicates")
    assert ended.returncode == 2
    assert "--group-by has no effect without --kind group or --kind stratified-group" in ended.stderr


def test_no_model_library_is_loaded(tiny: Path) -> None:
    code = (
        "import sys; from segtool.cli import app; app(sys.argv[1:], standalone_mode=False);"
        "print([m for m in ('torch', 'sklearn', 'scipy') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, "split", str(tiny), "-o", str(tiny / "f.csv"), "--n-folds", "2", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr
