"""The columns of CSVs of run lengths, by the headers that competitions have had."""

from pathlib import Path

import pytest

from segtool.core.formats.rle_table import make_pattern, read_rle_table
from segtool.errors import SegtoolError, UsageError


def columns(tmp_path: Path, header: str, **given: str) -> tuple[str | None, ...]:
    (tmp_path / "t.csv").write_text(header + "\n" + ",".join("x" for _ in header.split(",")) + "\n")
    table = read_rle_table(tmp_path / "t.csv", **given)
    return table.id_column, table.rle_column, table.class_column, table.id_format


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("ImageId,EncodedPixels", ("ImageId", "EncodedPixels", None, None)),
        ("ImageId,ClassId,EncodedPixels", ("ImageId", "EncodedPixels", "ClassId", None)),
        ("ImageId_ClassId,EncodedPixels", ("ImageId_ClassId", "EncodedPixels", None, "{id}_{class}")),
        ("Image_Label,EncodedPixels", ("Image_Label", "EncodedPixels", None, "{id}_{class}")),
        ("ImageId,EncodedPixels,Height,Width,ClassId", ("ImageId", "EncodedPixels", "ClassId", None)),
        ("img,rle_mask", ("img", "rle_mask", None, None)),
        ("id,rle", ("id", "rle", None, None)),
        ("id,encoding", ("id", "encoding", None, None)),
        ("id,class,segmentation", ("id", "segmentation", "class", None)),
        ("id,annotation,width,height,cell_type", ("id", "annotation", None, None)),
        ("ID,ImageWidth,ImageHeight,PredictionString", ("ID", "PredictionString", None, None)),
        ("id,image_id,mask_rle", ("image_id", "mask_rle", None, None)),
        ("runs,filename", ("filename", "runs", None, None)),
        ("wo,was", ("wo", "was", None, None)),
    ],
)
def test_headers(tmp_path: Path, header: str, found: tuple[str | None, ...]) -> None:
    assert columns(tmp_path, header) == found


def test_what_is_given_counts(tmp_path: Path) -> None:
    assert columns(tmp_path, "ImageId,EncodedPixels,b", rle_column="b", id_column="EncodedPixels")[:2] == (
        "EncodedPixels",
        "b",
    )
    assert columns(tmp_path, "ImageId,class,rle", id_format="{id}-{class}")[2:] == (None, "{id}-{class}")
    with pytest.raises(UsageError, match=r"--rle-column: .* has no column 'rl'; did you mean rle"):
        columns(tmp_path, "ImageId,rle", rle_column="rl")
    with pytest.raises(SegtoolError, match=r"It has: a, b, c; name it by --rle-column$"):
        columns(tmp_path, "a,b,c")


def test_ids_that_hold_a_class() -> None:
    assert make_pattern("{id}_{class}").split("a_b_3", "row 1") == ("a_b", "3")
    assert make_pattern("{class}/{id}", ["big_rock", "rock"]).split("big_rock/a/b", "row 1") == ("a/b", "big_rock")
    assert make_pattern("{id}_{class}", ["rock", "big_rock"]).split("a_big_rock", "row 1") == ("a", "big_rock")
    assert make_pattern("{id}.jpg", ["rock"]).split("a.jpg", "row 1") == ("a", None)
    with pytest.raises(SegtoolError, match=r"^row 1 has the id 'a_5x', which is not of the form '\{id\}_\{class\}'"):
        make_pattern("{id}_{class}", ["rock"]).split("a_5x", "row 1")
