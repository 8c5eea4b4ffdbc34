"""Which runs predict which images, and for whom a score is out-of-fold."""

from pathlib import Path

import pytest

from segtool.core.catalog import Dataset, Record, load_dataset
from segtool.core.files import digest_file, read_csv, write_csv
from segtool.core.selection import (
    COLUMNS,
    Samples,
    members_for,
    merge_samples,
    out_of_fold,
    read_samples,
    select,
    without_twins,
    write_samples,
)
from segtool.errors import SegtoolError, UsageError
from segtool.settings.data import FoldSettings

# Three images by id and content; run 0 held out a, run 1 held out b; both were trained on c.
DIGESTS = {"a": "A", "b": "B", "c": "C", "new": "N"}
RUNS = {
    "0": Samples(frozenset("BC"), frozenset({("a", "A")})),
    "1": Samples(frozenset("AC"), frozenset({("b", "B")})),
}


def only(*ids: str) -> dict[str, str]:
    return {image_id: DIGESTS[image_id] for image_id in ids}


@pytest.mark.parametrize(
    ("subset", "ids", "members", "unseen"),
    [
        ("oof", "a b", {"a": ("0",), "b": ("1",)}, {"a", "b"}),
        ("oof", "a new", {"a": ("0",), "new": ("0", "1")}, {"a", "new"}),
        ("test", "a new", {"a": ("0", "1"), "new": ("0", "1")}, {"new"}),
        ("train", "a c", {"a": ("0", "1"), "c": ("0", "1")}, set()),
    ],
)
def test_members_and_whom_they_have_not_seen(
    subset: str, ids: str, members: dict[str, tuple[str, ...]], unseen: set[str]
) -> None:
    digests = only(*ids.split())
    assert members_for(subset, digests, RUNS) == members
    assert out_of_fold(members, digests, RUNS) == unseen


def test_valid_is_what_the_run_held_out() -> None:
    members = members_for("valid", DIGESTS, {"0": RUNS["0"]})
    assert members == {"a": ("0",)}
    assert out_of_fold(members, DIGESTS, RUNS) == {"a"}


@pytest.mark.parametrize(
    ("subset", "ids", "runs", "words"),
    [
        ("oof", "a b c", "01", "'c'"),
        ("valid", "a b", "01", "'a'"),
        ("valid", "c new", "0", "held out no image"),
    ],
)
def test_a_leak_is_refused(subset: str, ids: str, runs: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        members_for(subset, only(*ids.split()), {name: RUNS[name] for name in runs})


def test_an_image_is_known_by_its_content_not_its_name() -> None:
    with pytest.raises(UsageError, match="renamed"):
        members_for("oof", {"renamed": "C"}, RUNS)


def test_a_training_image_with_a_validation_images_content_is_a_twin(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"2"), ("copy", b"1"), ("c", b"3")):
        (tmp_path / name).write_bytes(content)
    record = {name: Record(name, tmp_path / name) for name in ("a", "b", "copy", "c")}
    dataset = Dataset(tmp_path / "dataset.yaml", ("x", "y"))
    path = tmp_path / "samples.csv"
    train = [record["copy"], record["b"], record["c"]]
    assert write_samples(path, dataset, train, [record["a"]]) == 1
    assert without_twins(path, dataset, train) == [record["b"], record["c"]]
    samples = read_samples(path)
    # The score of `valid` is that of the history: the twin is neither trained on nor scored.
    digests = {name: digest_file(tmp_path / name) for name in record}
    assert members_for("valid", digests, {"run": samples}) == {"a": ("run",)}
    assert digests["copy"] not in samples.trained


def test_only_some_images_are_trained_on_and_validation_stays(tiny: Path, tmp_path: Path) -> None:
    dataset, path = load_dataset(tiny), tmp_path / "keep.csv"
    train, valid = select(dataset, FoldSettings())
    kept = [train[0].image_id, train[2].image_id, valid[0].image_id]
    write_csv(path, ("image_id",), [[image_id] for image_id in kept])
    fewer, same = select(dataset, FoldSettings(only=path))
    assert fewer == [train[0], train[2]]
    assert same == valid
    write_csv(path, ("image_id",), [["train_0"], ["other"], ["third"]])
    with pytest.raises(SegtoolError, match=r"keep.csv names 'other', which .* has not \(2 such ids\)"):
        select(dataset, FoldSettings(only=path))
    write_csv(path, ("image_id",), [[valid[0].image_id]])
    with pytest.raises(SegtoolError, match=r"keep.csv names none of the training images"):
        select(dataset, FoldSettings(only=path))


def test_a_model_of_several_has_seen_what_any_of_them_was_trained_on(tmp_path: Path) -> None:
    one = [
        ("d", "a", "train"),
        ("d", "b", "valid"),
        ("d", "c", "valid"),
        ("d", "c2", "twin"),
        ("extra 1", "e", "train"),
    ]
    other = [("d", "a", "train"), ("d", "b", "train"), ("d", "c", "valid"), ("d", "f", "valid")]
    for name, rows in (("one", one), ("other", other)):
        # c2 has the content of c.
        write_csv(tmp_path / name, COLUMNS, [(*row, row[1][0]) for row in rows])
    merge_samples(tmp_path / "merged", [tmp_path / "one", tmp_path / "other"])
    merged = [(row["source"], row["image_id"], row["role"]) for row in read_csv(tmp_path / "merged")]
    assert merged == [
        ("d", "a", "train"),
        ("d", "b", "train"),
        ("d", "c", "valid"),
        ("d", "c2", "twin"),
        ("extra 1", "e", "train"),
        ("d", "f", "valid"),
    ]
    assert read_samples(tmp_path / "merged") == Samples(frozenset("abe"), frozenset({("c", "c"), ("f", "f")}))
