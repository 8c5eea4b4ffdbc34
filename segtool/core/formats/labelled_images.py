"""Images with their outlines or run lengths, as the imports of several formats find them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segtool.core.formats.coco import Annotation
from segtool.values import Size


@dataclass(frozen=True)
class LabelledImage:
    """An image and what is marked in it.

    Attributes:
        image: the file.
        labels: the file that labels it alone, if there is one.
        count: number of objects.
        read: returns the objects, given the size of the image.
        size: the image's size, if what labels it says so; `where` names that in errors.
    """

    image: Path
    labels: Path | None = None
    count: int = 0
    read: Callable[[Size], Sequence[Annotation]] = lambda size: ()
    size: Size | None = None
    where: str = ""


@dataclass(frozen=True)
class LabelledImages:
    """Names of categories by position, and the images of training, validation and test by image_id.

    Several categories may have the same name; they are one class.
    """

    names: tuple[str, ...]
    train: Mapping[str, LabelledImage]
    valid: Mapping[str, LabelledImage] = field(default_factory=dict)
    test: Mapping[str, LabelledImage] = field(default_factory=dict)
