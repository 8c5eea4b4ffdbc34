"""Which runs predict which images, and which scores are out-of-fold."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtool.core.dataset.dataset import Dataset, Record, load_dataset
from segtool.core.dataset.image_identity import Identity, identify
from segtool.core.dataset.seen_images import (
    COLUMNS,
    REQUIRED,
    Samples,
    members_for,
    merge_samples,
    out_of_fold,
    read_samples,
    refuse_trained,
    without_duplicates,
    write_samples,
)
from segtool.core.dataset.selection import select
from segtool.core.files import digest_file
from segtool.core.tables import read_csv, write_csv
from segtool.errors import SegtoolError, UsageError
from segtool.settings.data import FoldSettings

# Three images by id and content; run 0 held out a, run 1 held out b; both were trained on c.
DIGESTS = {"a": Identity("A", "pA"), "b": Identity("B", "pB"), "c": Identity("C", "pC"), "new": Identity("N", "pN")}
RUNS = {
    "0": Samples(frozenset("BC"), frozenset({("a", DIGESTS["a"])})),
    "1": Samples(frozenset("AC"), frozenset({("b", DIGESTS["b"])})),
}


def only(*ids: str) -> dict[str, Identity]:
    return {image_id: DIGESTS[image_id] for image_id in ids}


@pytest.mark.parametrize(
    ("subset", "ids", "members", "unseen"),
    [
        ("oof", "a b", {"a": ("0",), "b": ("1",)}, {"a", "b"}),
        ("oof", "a new", {"a": ("0",), "new": ("0", "1")}, {"a", "new"}),
    ],
)
def test_each_image_is_predicted_by_the_runs_that_did_not_see_it(
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
        members_for("oof", {"renamed": Identity("C", "pC")}, RUNS)
    with pytest.raises(UsageError, match="saved_again"):
        members_for("oof", {"saved_again": Identity("other", "pC")}, {"0": Samples(frozenset({"pC"}), frozenset())})


def test_a_training_image_with_the_content_of_a_validation_image_is_a_twin(tmp_path: Path) -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    for name, pixels, level in (("a", picture, 0), ("b", picture + 1, 0), ("copy", picture, 9), ("c", picture + 2, 0)):
        # The copy has the pixels of `a`, and other bytes.
        Image.fromarray(pixels).save(tmp_path / f"{name}.png", compress_level=level)
    assert digest_file(tmp_path / "a.png") != digest_file(tmp_path / "copy.png")
    record = {name: Record(name, tmp_path / f"{name}.png") for name in ("a", "b", "copy", "c")}
    dataset = Dataset(tmp_path / "dataset.yaml", ("x", "y"))
    path = tmp_path / "samples.csv"
    train = [record["copy"], record["b"], record["c"]]
    assert write_samples(path, dataset, train, [record["a"]]) == 1
    assert without_duplicates(path, dataset, train) == [record["b"], record["c"]]
    samples = read_samples(path)
    # The score of `valid` is that of the history: the twin is neither trained on nor scored.
    identities = {name: identify(record[name].files) for name in record}
    assert members_for("valid", identities, {"run": samples}) == {"a": ("run",)}
    assert not identities["copy"].among(samples.trained)


def test_what_a_run_starts_from_counts_as_seen(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    for value in range(4):
        Image.fromarray(pixels + value).save(tmp_path / f"{value}.png")
    record = [Record(str(value), tmp_path / f"{value}.png") for value in range(4)]
    dataset, first = Dataset(tmp_path / "dataset.yaml", ("x", "y")), tmp_path / "parent" / "samples.csv"
    second, third = tmp_path / "child" / "samples.csv", tmp_path / "grandchild.csv"
    write_samples(first, dataset, record[:2], record[2:3])
    write_samples(second, dataset, record[2:3], record[3:], init=first)
    identities = [identify(each.files) for each in record]
    assert [identity.among(read_samples(second).trained) for identity in identities] == [True, True, True, False]
    # A grandchild that is validated on what its grandparent was trained on.
    write_samples(third, dataset, record[3:], record[:1], init=second)
    assert [identity.among(read_samples(third).trained) for identity in identities] == [True] * 4
    with pytest.raises(UsageError, match="was trained on 1 of the validation images"):
        refuse_trained(third, second.parent)
    merge_samples(tmp_path / "merged.csv", [second])
    assert read_samples(tmp_path / "merged.csv") == read_samples(second)


def test_crops_whose_pixels_are_unknown_are_not_alike() -> None:
    assert not Identity("A", "").among(frozenset({"B", ""}))
    assert Identity("A", "").among(frozenset({"A"}))


def test_an_inherited_image_stays_inherited_in_an_average(tmp_path: Path) -> None:
    """Else swa would look for it among the records of the data set."""
    write_csv(tmp_path / "one.csv", COLUMNS, [("extra 1", "x", "train", "X", "pX")])
    write_csv(tmp_path / "other.csv", COLUMNS, [("init", "x", "init", "X", "pX"), ("d", "a", "train", "A", "pA")])
    merge_samples(tmp_path / "merged.csv", [tmp_path / "one.csv", tmp_path / "other.csv"])
    roles = [(row["source"], row["role"]) for row in read_csv(tmp_path / "merged.csv")]
    assert roles == [("extra 1", "train"), ("init", "init"), ("d", "train")]


def test_a_validation_image_that_another_run_was_trained_on_saved_again_counts_as_trained(tmp_path: Path) -> None:
    write_csv(tmp_path / "one.csv", COLUMNS, [("d", "v", "valid", "V", "pV")])
    write_csv(tmp_path / "other.csv", COLUMNS, [("e", "copy", "train", "C", "pV")])
    merge_samples(tmp_path / "merged.csv", [tmp_path / "one.csv", tmp_path / "other.csv"])
    assert [row["role"] for row in read_csv(tmp_path / "merged.csv")] == ["train", "train"]


def test_the_table_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    write_csv(tmp_path / "samples.csv", REQUIRED, [("d", "a", "train", "A"), ("d", "b", "valid", "B")])
    assert read_samples(tmp_path / "samples.csv") == Samples(frozenset("A"), frozenset({("b", Identity("B", ""))}))


def test_only_some_images_are_trained_on_and_validation_stays(tiny: Path, tmp_path: Path) -> None:
    dataset, path = load_dataset(tiny), tmp_path / "keep.csv"
    train, valid = select(dataset, FoldSettings())
    kept = [train[0].image_id, train[2].image_id, valid[0].image_id]
    write_csv(path, ("image_id",), [[image_id] for image_id in kept])
    fewer, same = select(dataset, FoldSettings(only=path))
    assert fewer == [train[0], train[2]]
    assert same == valid
    write_csv(path, ("image_id",), [["train_0"], ["other"], ["third"]])
    with pytest.raises(SegtoolError, match=r"keep.csv lists 'other', which is not in .* \(2 unknown ids\)"):
        select(dataset, FoldSettings(only=path))
    write_csv(path, ("image_id",), [[valid[0].image_id]])
    with pytest.raises(SegtoolError, match=r"keep.csv lists none of the training images"):
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
        write_csv(tmp_path / name, COLUMNS, [(*row, row[1][0], "p" + row[1][0]) for row in rows])
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
    assert read_samples(tmp_path / "merged") == Samples(
        frozenset({"a", "b", "e", "pa", "pb", "pe"}),
        frozenset({("c", Identity("c", "pc")), ("f", Identity("f", "pf"))}),
    )
