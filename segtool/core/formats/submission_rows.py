"""The rows of a submission in CSV: from the predicted images, or as a competition's sample lists them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from segtool.core.dataset.image_names import ImageNames
from segtool.core.formats.rle_table import RleTable, make_pattern, read_rle_table
from segtool.errors import SegtoolError, did_you_mean


@dataclass(frozen=True)
class Row:
    """One row: its image, the cells around the prediction, and the class ids whose union is predicted."""

    image_id: str
    before: tuple[str, ...]
    after: tuple[str, ...] = ()
    classes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The header and all rows, in the order of the file."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def image_ids(self) -> list[str]:
        """The image of each group of `by_image`."""
        return [image_id for image_id, _ in self.by_image()]

    def by_image(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield neighbouring rows of the same image together."""
        for image_id, rows in groupby(self.rows, key=lambda row: row.image_id):
            yield image_id, list(rows)


def make_layout(
    ids: Sequence[str], classes: Sequence[str], wanted: Sequence[int], *, each: bool, template: str | None = None
) -> Layout:
    """Return a row for every image, or for `each` wanted class of it.

    Args:
        template: how an id is made of {id} and {class}; without {class} a class has a column of its own.
    """
    template = template or "{id}"
    in_id = "{class}" in template
    header = ("ImageId_ClassId" if in_id else "ImageId", *(("Class",) if each and not in_id else ()), "EncodedPixels")
    groups: list[tuple[int, ...]] = [(index,) for index in wanted] if each else [tuple(wanted)]
    rows = [
        Row(image_id, _cells(template, image_id, classes[group[0]], separate=each and not in_id), classes=group)
        for image_id in ids
        for group in groups
    ]
    return Layout(header, tuple(rows))


def _cells(template: str, image_id: str, name: str, *, separate: bool) -> tuple[str, ...]:
    # {id} last: an image_id may hold braces.
    text = template.replace("{class}", name).replace("{id}", image_id)
    return (text, name) if separate else (text,)


@dataclass(frozen=True)
class Sample:
    """A competition's sample submission.

    Attributes:
        names: the image that each row names.
        class_texts: the class that each row names; empty where rows are of whole images.
    """

    table: RleTable
    names: tuple[str, ...]
    class_texts: tuple[str, ...]

    def layout(
        self, ids: Sequence[str], classes: Sequence[str], wanted: Sequence[int], *, repeated: bool = False
    ) -> Layout:
        """Return its rows with the images and classes they stand for.

        Args:
            ids: all predicted images.
            classes: class names; the sample has names or numbers.
            wanted: class ids of a row that states no class.
            repeated: rows of one image and class are taken once, as each object will have its own.

        Raises:
            SegtoolError: it lists images that are not predicted, or lacks predicted ones, or has an unknown class or
                one row twice.
        """
        columns: list[str] = self.table.frame.columns.tolist()
        at = columns.index(self.table.rle_column)
        found = {text: self._class_id(text, classes) for text in dict.fromkeys(self.class_texts)}
        groups: list[tuple[int, ...]] = [(found[text],) for text in self.class_texts]
        groups = groups or [tuple(wanted)] * len(self.names)
        rows: dict[tuple[str, tuple[int, ...]], Row] = {}
        lines = self.table.frame.itertuples(index=False, name=None)
        for number, (cells, image_id, group) in enumerate(zip(lines, self._image_ids(ids), groups, strict=True), 1):
            if (image_id, group) in rows and not repeated:
                raise SegtoolError(f"{self.table.path}, row {number} is the second of image {image_id!r}")
            rows.setdefault((image_id, group), Row(image_id, cells[:at], cells[at + 1 :], group))
        return Layout(tuple(columns), tuple(rows.values()))

    def _image_ids(self, ids: Sequence[str]) -> list[str]:
        """Return the image_id of each row."""
        path, names = self.table.path, ImageNames(ids)
        if unknown := list(dict.fromkeys(name for name in self.names if name not in names)):
            raise SegtoolError(f"{path} lists {len(unknown)} images that are not predicted: {_some(unknown)}")
        found = {name: names.find(name, where=f"{path}: {name!r}") for name in dict.fromkeys(self.names)}
        listed = set(found.values())
        if lacking := [image_id for image_id in ids if image_id not in listed]:
            raise SegtoolError(f"{path} lacks {len(lacking)} images that are predicted: {_some(lacking)}")
        return [found[name] for name in self.names]

    def _class_id(self, text: str, classes: Sequence[str]) -> int:
        if text in classes:
            return classes.index(text)
        if re.fullmatch("[0-9]{1,9}", text) and int(text) < len(classes):
            return int(text)
        raise SegtoolError(
            f"{self.table.path} lists the class {text!r}{did_you_mean(text, classes)} (predicted: {', '.join(classes)})"
        )


def read_sample(path: Path, classes: Sequence[str], id_format: str | None, *, by_class: bool) -> Sample:
    """Read a sample submission.

    Args:
        classes: class names that may be in its ids.
        id_format: how an id is made of {id} and {class}; by default as its header says.
        by_class: whether rows may be of one class each.

    Raises:
        SegtoolError: it is malformed, or an id is not of the form `id_format`.
    """
    table = read_rle_table(path, id_format=id_format)
    ids = table.frame[table.id_column].str.strip().tolist()
    if not by_class:
        return Sample(table, tuple(ids), ())
    if table.id_format:
        pattern = make_pattern(table.id_format, classes)
        pairs = [pattern.split(text, f"{path}, row {number}") for number, text in enumerate(ids, 1)]
        return Sample(table, tuple(name for name, _ in pairs), tuple(text for _, text in pairs if text is not None))
    texts = table.frame[table.class_column].str.strip().tolist() if table.class_column else ()
    return Sample(table, tuple(ids), tuple(texts))


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
