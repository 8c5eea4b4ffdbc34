"""Settings of `segtool submit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.errors import UsageError
from segtool.settings.common import DecisionSettings, OutputSettings
from segtool.settings.options import option
from segtool.settings.run_lengths import RunLengthSettings, has_field
from segtool.values import Size, parse_size


def parse_resize(text: str) -> Size | None:
    """`256x320` → Size(256, 320); `original`, the masks' own size, → None."""
    return None if text.strip() == "original" else parse_size(text)


@dataclass(frozen=True)
class RowSettings:
    """Which rows or entries there are."""

    panel: ClassVar[str] = "Rows"

    sample: Path | None = option(
        None,
        needs=("format rle or format pixels",),
        help="The competition's sample submission: its header, rows, order and ids, with or without image suffix",
    )
    per: Literal["image", "class", "object"] | None = option(
        None,
        needs=("format rle or format coco",),
        help="Rows of rle and coco: one per image, per class in it, or per connected object (8 neighbours)",
    )
    class_: tuple[str, ...] = option(
        (),
        flags="--class",
        needs=("format rle or format coco",),
        metavar="NAME",
        help="Class to submit; repeat for several (default: all but the first, the background)",
    )
    id_format: str | None = option(
        None,
        needs=("format rle",),
        metavar="TEMPLATE",
        help="How ids are written, such as '{id}_{class}' or '{id}.jpg' (default: the image_id, or as in --sample)",
    )
    empty: str = option("", needs=("format rle",), help="Text of an empty mask")

    def __post_init__(self) -> None:
        if self.id_format is not None and not has_field(self.id_format, "id"):
            raise UsageError(f"--id-format {self.id_format!r} lacks {{id}}: write it as '{{id}}_{{class}}'")


@dataclass(frozen=True)
class SubmitRunLengthSettings(RunLengthSettings):
    """The numbers of pixels, of --format rle."""

    needs: ClassVar[tuple[str, ...]] = ("format rle",)


@dataclass(frozen=True)
class SubmitSettings:
    """Write the file a competition asks for: all pixels, run lengths, COCO results or a zip of masks."""

    example: ClassVar[str] = "segtool submit preds/test --format rle --per class -o submission.csv"

    output: OutputSettings
    preds: Path = option(argument=True, help="Finished prediction folder")
    format: Literal["pixels", "rle", "coco", "png"] = option(
        "pixels",
        help="pixels: all class ids; rle: run lengths; coco: results with scores; png: a zip of masks",
    )
    size: Size | None = option(
        None,
        flags="--resize --size",
        parse=parse_resize,
        metavar="HxW|original",
        help="Resize masks before writing by OpenCV's INTER_NEAREST, as competitions do (default: original)",
    )
    annotations: Path | None = option(
        None,
        needs=("format coco",),
        help="The competition's COCO JSON, whose ids are written (default: image_id and class id)",
    )
    values: str | None = option(
        None,
        metavar="0=a,128=b|FILE",
        file_or_word=True,
        needs=("format png",),
        excludes=("colors",),
        help="Grey value of each class in the masks, as in `import folders` (default: the class id)",
    )
    colors: str | None = option(
        None,
        metavar="FILE|voc|cityscapes",
        file_or_word=True,
        needs=("format png",),
        help="Colour of each class in the masks, as in `import folders`",
    )
    rows: RowSettings = RowSettings()
    run_lengths: SubmitRunLengthSettings = SubmitRunLengthSettings()
    decision: DecisionSettings = DecisionSettings()
