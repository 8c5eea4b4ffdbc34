"""Values typed in a form of their own: sizes, resizes, shards, amounts, durations and lists."""

import math
import re
from typing import NamedTuple


class Size(NamedTuple):
    """Height and width in pixels, typed as `HxW` (or `N` for a square)."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    def of(self, size: "Size") -> "Size":
        """Return the size that an image of `size` is resized to: this one."""
        return self


class Scale(NamedTuple):
    """A resize that keeps the aspect, typed as a factor `0.5`, or as the longer or shorter side, `long:1024`.

    by: factor, long or short; number: the factor, or the pixels of that side.
    """

    by: str
    number: float

    def __str__(self) -> str:
        # A factor keeps its decimal point: `2` is a size.
        return repr(float(self.number)) if self.by == "factor" else f"{self.by}:{self.number:g}"

    def of(self, size: Size) -> Size:
        """Return the size that an image of `size` is resized to."""
        side = {"long": max(size), "short": min(size), "factor": 1}[self.by]
        return Size(*(max(1, round(length * self.number / side)) for length in size))


Resize = Size | Scale


class Shard(NamedTuple):
    """Part `number` (from 1) of `total`, typed as `K/N`."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


class Amount(NamedTuple):
    """A number or percentage of things, typed as `20` or `5%`."""

    number: float
    percent: bool

    def __str__(self) -> str:
        return f"{self.number:g}{'%' if self.percent else ''}"

    def of(self, total: int) -> int:
        """Return the amount as a number out of `total`; a percentage gives at least one."""
        return max(1, round(total * self.number / 100)) if self.percent else int(self.number)


def parse_size(text: str) -> Size:
    """`256x320` → Size(256, 320); `256` → Size(256, 256)."""
    match = re.fullmatch(r"0*([1-9][0-9]{,6})(?:[xX]0*([1-9][0-9]{,6}))?", text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a size: write HEIGHTxWIDTH in pixels (1 to 9999999), such as 256x320")
    return Size(int(match[1]), int(match[2] or match[1]))


def parse_resize(text: str) -> Resize:
    """`256x320` → Size(256, 320); `0.5` → half of both sides; `long:1024`, `short:512` → that side, aspect kept."""
    text = text.strip()
    if match := re.fullmatch(r"(long|short):0*([1-9][0-9]{,6})", text):
        return Scale(match[1], int(match[2]))
    if re.fullmatch(r"[0-9]{,3}\.[0-9]{,6}", text) and text != "." and float(text):
        return Scale("factor", float(text))
    try:
        return parse_size(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a resize: write HEIGHTxWIDTH in pixels, a factor with a decimal point, such as 0.5, or"
            " the longer or shorter side, such as long:1024 or short:512"
        ) from None


def parse_shard(text: str) -> Shard:
    """`2/4` → Shard(2, 4)."""
    match = re.fullmatch(r"([0-9]{1,7})/([0-9]{1,7})", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"{text!r} is not a shard: write K/N with K from 1 to N, such as 2/4")
    return Shard(int(match[1]), int(match[2]))


def parse_amount(text: str) -> Amount:
    """`20` → Amount(20, False), `5%` → Amount(5, True)."""
    match = re.fullmatch(r"([0-9]{1,9})|([0-9]+(?:\.[0-9]+)?) ?%", text.strip())
    number = float(match[1] or match[2]) if match else 0.0
    if not match or not number or (match[2] and number > 100):
        raise ValueError(f"{text!r} is neither a number of images from 1, such as 20, nor a share, such as 5%")
    return Amount(number, match[1] is None)


def parse_duration(text: str) -> float:
    """`90`, `90s`, `30m`, `1.5h`, `1h30m` → seconds."""
    text = text.strip().lower()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        text += "s"
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([hms])", text)
    if not parts or "".join(a + b for a, b in parts) != text or not any(float(a) for a, _ in parts):
        raise ValueError(f"{text!r} is not a duration: write 90s, 30m or 1h30m")
    return sum(float(amount) * {"h": 3600, "m": 60, "s": 1}[unit] for amount, unit in parts)


def parse_names(text: str) -> tuple[str, ...]:
    """`a, b,c` → ("a", "b", "c")."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError(f"{text!r} contains an empty name")
    return names


def parse_floats(text: str) -> tuple[float, ...]:
    """`0.5,0.5,0.5` → (0.5, 0.5, 0.5)."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{text!r} is not a comma-separated list of numbers")
    return numbers
