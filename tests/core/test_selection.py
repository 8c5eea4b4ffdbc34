"""Which runs predict which images, and for whom a score is out-of-fold."""

import pytest

from segtool.core.selection import members_for, out_of_fold
from segtool.errors import UsageError

# Three images by id and content; run 0 held out a, run 1 held out b; both were trained on c.
DIGESTS = {"a": "A", "b": "B", "c": "C", "new": "N"}
RUNS = {"0": {"train": {"B", "C"}, "valid": {"A"}}, "1": {"train": {"A", "C"}, "valid": {"B"}}}


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
