"""Maps of classes: renamed, merged, dropped and ignored."""

import pytest

from segtool.core.dataset.class_map import apply_renames, read_class_map
from segtool.errors import SegtoolError

CLASSES = ("background", "cat", "dog", "van", "ignore")


def test_classes_are_renamed_merged_dropped_and_ignored():
    renames = {"cat": "animal", "dog": "animal", "van": "drop", "background": "ignore"}
    mapped = apply_renames(CLASSES, renames)
    assert mapped.classes == ("animal", "ignore")
    # A class of that name which the map does not mention stays a class.
    assert mapped.ids == (255, 0, 0, None, 1)
    # A dropped class becomes what class 0 becomes, not what happens to be class 0 now.
    assert [mapped.value(class_id) for class_id in range(5)] == [255, 0, 0, 255, 1]


def test_an_earlier_class_may_become_a_later_one():
    assert apply_renames(("a", "b", "c"), {"a": "c"}).ids == (0, 1, 0)
    assert apply_renames(("a", "b", "c"), {"a": "c"}).classes == ("c", "b")


@pytest.mark.parametrize(("name", "text"), [("m.csv", "theirs,ours\ncat,animal\n"), ("m.yaml", "cat: animal\n")])
def test_both_forms_are_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_class_map(tmp_path / name, CLASSES).classes[1] == "animal"
    assert read_class_map(None, CLASSES).classes == CLASSES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kat: animal\n", "there is no class 'kat'; did you mean cat"),
        ("{background: x, cat: drop, dog: ignore, ignore: x, van: x}\n", "leaves 1 classes"),
        ("background: drop\n", "class 0, 'background', is what dropped classes become"),
        ("cat: no\n", "put it in quotes"),
    ],
)
def test_what_cannot_be_mapped_is_named(tmp_path, text, message):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(SegtoolError, match=message):
        read_class_map(tmp_path / "m.yaml", CLASSES)
