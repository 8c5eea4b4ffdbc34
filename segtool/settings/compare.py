"""Settings of `segtool compare`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from segtool.errors import UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class CompareSettings:
    """Hold runs against a baseline: what differs, by how much, and whether that is more than noise."""

    example: ClassVar[str] = "segtool compare runs/0 swa=runs/0-swa -o ledger.md"

    output: OutputSettings
    entries: tuple[str, ...] = option(
        argument=True,
        metavar="[NAME=]RUN|SCORES",
        help="Run folders, or those of `segtool evaluate`; the first is the baseline, seeds of a setting are one row",
    )
    metric: Literal["miou", "image_miou", "dice", "image_dice"] = option("miou", help="Score to compare")
    exclude: tuple[str, ...] = option((), help="Class to leave out of the means; repeatable")
    steps: bool = option(False, flags="--steps", help="Hold each row against the one before instead of the first")
    common: bool = option(False, flags="--common", help="Compare on the images that all have scored, if they differ")
    format: Literal["table", "csv", "md", "html"] | None = option(
        None, help="Form of FILE (default: by its suffix .csv, .md or .html, else a plain table)"
    )
    lb: tuple[str, ...] = option(
        (), metavar="NAME=0.713", help="Leaderboard score of a row, kept in ledger.csv beside FILE; repeatable"
    )

    def __post_init__(self) -> None:
        if len(self.entries) < 2:
            raise UsageError(f"{self.entries[0]} alone: give a baseline and at least one other to compare it with")
