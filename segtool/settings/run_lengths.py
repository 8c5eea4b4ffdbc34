"""How the run lengths of competitions count pixels."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from segtool.settings.options import option


@dataclass(frozen=True)
class RunLengthSettings:
    """The numbers of pixels in run lengths `start length start length ...`."""

    panel: ClassVar[str] = "Run lengths"

    order: Literal["column", "row"] = option("column", help="Count pixels down the columns, or along the rows")
    base: int = option(1, min=0, max=1, help="Number of the first pixel")


def has_field(template: str, field: str) -> bool:
    """Return whether a template such as `{id}_{class}` has this field.

    >>> has_field("{id}_{class}", "class")
    True
    """
    return f"{{{field}}}" in template
