"""Settings of `segtool push`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from segtool.settings.options import option


@dataclass(frozen=True)
class PushSettings:
    """Upload a run or bundle to the Hugging Face hub, from where `--run hf:user/name` takes it."""

    example: ClassVar[str] = "segtool push runs/0 user/name"

    run: Path = option(argument=True, metavar="RUN|BUNDLE.zip", help="Folder of a trained run, or a file of bundle")
    repo: str = option(argument=True, metavar="USER/NAME", help="Repository; created if it does not exist")
    private: bool = option(False, flags="--private", help="Create the repository as a private one")
    quiet: bool = option(False, flags="--quiet", affects_result=False, help="Print errors only")
