"""The rows of a submission in CSV: from the predicted images, or as a competition's sample lists them."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from segtool.core.dataset.image_names import match_names
from segtool.core.formats.rle_table import RleTable, make_pattern, read_rle_table
from segtool.errors import SegtoolError, did_you_mean

log = logging.getLogger(__name__)


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
        by_class: whether each row is of one class.
        names: the image that each row names; none where it is a header alone.
        class_texts: the class that each row names, if `by_class`.
    """

    table: RleTable
    by_class: bool
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
        if not self.names:
            return self._below_header(ids, classes, wanted)
        columns: list[str] = self.table.frame.columns.tolist()
        at = columns.index(self.table.rle_column)
        found = {text: self._class_id(text, classes) for text in dict.fromkeys(self.class_texts)}
        groups: list[tuple[int, ...]] = [(found[text],) for text in self.class_texts]
        if unlisted := [classes[index] for index in wanted if self.by_class and (index,) not in groups]:
            log.warning("%s lists no rows of the class %s", self.table.path, ", ".join(unlisted))
        groups = groups or [tuple(wanted)] * len(self.names)
        rows: dict[tuple[str, tuple[int, ...]], Row] = {}
        lines = self.table.frame.itertuples(index=False, name=None)
        for number, (cells, image_id, group) in enumerate(zip(lines, self._image_ids(ids), groups, strict=True), 1):
            if (image_id, group) in rows and not repeated:
                raise SegtoolError(f"{self.table.path}, row {number} is the second of image {image_id!r}")
            rows.setdefault((image_id, group), Row(image_id, cells[:at], cells[at + 1 :], group))
        return Layout(tuple(columns), tuple(rows.values()))

    def _below_header(self, ids: Sequence[str], classes: Sequence[str], wanted: Sequence[int]) -> Layout:
        """Return rows of all images below the header of a sample without rows."""
        table, columns = self.table, self.table.frame.columns.tolist()
        known = [column for column in (table.id_column, table.class_column) if column]
        if odd := [column for column in columns if column not in (*known, table.rle_column)]:
            raise SegtoolError(f"{table.path} has no rows, which would say what stands in its column {odd[0]!r}")
        at = columns.index(table.rle_column)
        rows = []
        for row in make_layout(ids, classes, wanted, each=self.by_class, template=table.id_format).rows:
            by_column = dict(zip(known, row.before, strict=True))
            cells = tuple(by_column.get(column, "") for column in columns)
            rows.append(Row(row.image_id, cells[:at], cells[at + 1 :], row.classes))
        return Layout(tuple(columns), tuple(rows))

    def _image_ids(self, ids: Sequence[str]) -> list[str]:
        """Return the image_id of each row."""
        path = self.table.path
        found = match_names(self.names, ids, path)
        if unknown := [name for name, image_id in found.items() if image_id is None]:
            hint = "" if self.by_class else "; if its ids hold a class, say how by --id-format"
            raise SegtoolError(f"{path} lists {len(unknown)} images that are not predicted: {_some(unknown)}{hint}")
        listed = set(found.values())
        if lacking := [image_id for image_id in ids if image_id not in listed]:
            raise SegtoolError(f"{path} lacks {len(lacking)} images that are predicted: {_some(lacking)}")
        return [found[name] or "" for name in self.names]

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
    table = read_rle_table(path, id_format=id_format, sample=True)
    ids = table.frame[table.id_column].str.strip().tolist()
    by_class = by_class and bool(table.class_column or "{class}" in (table.id_format or ""))
    texts: Sequence[str | None] = ()
    if by_class and table.class_column:
        texts = table.frame[table.class_column].str.strip().tolist()
    elif table.id_format and (by_class or id_format):
        pattern = make_pattern(table.id_format, classes)
        pairs = [pattern.split(text, f"{path}, row {number}") for number, text in enumerate(ids, 1)]
        ids, texts = [name for name, _ in pairs], [text for _, text in pairs]
    return Sample(table, by_class, tuple(ids), tuple(text for text in texts if text is not None))


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
