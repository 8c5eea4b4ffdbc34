"""Settings of `segtool export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from segtool.errors import UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.inference import parse_checkpoint, parse_tta
from segtool.settings.options import option

SUFFIXES = (".onnx", ".pt2")
OPSET = 17


def parse_turns(text: str) -> tuple[str, ...]:
    """Return the transforms of `--tta` without scales: `d4` → ("hflip", "rot90:90/180/270")."""
    transforms = parse_tta(text)
    if scale := next((name for name in transforms if name.startswith("scale")), None):
        raise ValueError(f"{scale} cannot be exported: write hflip, vflip, rot90:90/180/270, flip or d4")
    return transforms


@dataclass(frozen=True)
class ExportSettings:
    """Write runs as one ONNX (.onnx) or torch.export (.pt2) file that turns raw pixels into probabilities and mask.

    Images have any number and size; of a .pt2 file, more than 32 pixels a side.
    """

    example: ClassVar[str] = "segtool export runs/0 runs/1 -o model.onnx"

    output: OutputSettings
    runs: tuple[Path, ...] = option(
        argument=True, help="Folders of trained runs, or files of `segtool bundle`; several are averaged"
    )
    checkpoint: str = option(
        "best",
        parse=parse_checkpoint,
        metavar="best|last|ema|swa|epoch:N|last:N",
        help="Weights of each run; last:N: average the predictions of N epochs",
    )
    tta: tuple[str, ...] | None = option(
        None,
        parse=parse_turns,
        metavar="hflip,...",
        help="Views to average in the file: hflip, vflip, rot90:90/180/270, or a preset: flip, d4",
    )
    opset: int = option(OPSET, min=13, max=20, help="Version of ONNX's operators")

    def __post_init__(self) -> None:
        if self.suffix not in SUFFIXES:
            raise UsageError(
                f"--out {self.output.out}: the suffix says what is written: .onnx (ONNX) or .pt2 (torch.export)"
            )
        if self.suffix != ".onnx" and self.opset != OPSET:
            raise UsageError(f"--opset has no effect on {self.output.out}, which is no ONNX file")

    @property
    def suffix(self) -> str:
        """Return what decides the form of the file."""
        return self.output.out.suffix.lower()
