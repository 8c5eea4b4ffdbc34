"""Which image a name means: by its path, or by an end that one image alone has."""

import pytest

from segtool.core.dataset.image_names import ImageNames, match_names
from segtool.errors import SegtoolError


def test_match_names() -> None:
    ids = ["a/1", "b/1.jpg", "b/2.v1", "3.PNG"]
    found = match_names(["a/1.png", "b/1", "x/2.v1.png", "C:\\data\\3", "4", "2"], ids, "t.csv")
    assert found == {
        "a/1.png": "a/1",
        "b/1": "b/1.jpg",
        "x/2.v1.png": "b/2.v1",
        "C:\\data\\3": "3.PNG",
        "4": None,
        "2": None,
    }
    with pytest.raises(SegtoolError, match=r"^t\.csv: 'c/1\.jpg' could be 'a/1' or 'b/1\.jpg'"):
        match_names(["c/1.jpg"], ids, "t.csv")


def test_a_name_is_known_whatever_its_suffix() -> None:
    names = ImageNames(["a/1.jpg"])
    assert ("a/1" in names, "a/1.png" in names, "1" in names) == (True, True, False)
