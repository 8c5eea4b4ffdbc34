"""What the shell completes: values of the options that take names, none of which loads torch."""

import re
from collections.abc import Callable, Iterable

from segtool.settings import augmentation, inference
from segtool.settings.loss import TERMS
from segtool.settings.synonyms import ARCHITECTURES


def completed(field: str) -> Callable[[str], list[str]] | None:
    """Return what completes the value of a settings field, None for a field that takes no names."""
    names = _NAMES.get(field)
    if names is None:
        return None

    def complete(incomplete: str) -> list[str]:
        # Of `ce+di` or `hflip,sc`, the last name is completed.
        before = re.match(r"(?:.*[+,*])?", incomplete)[0] if field in _LISTS else ""  # type: ignore[index]
        return [before + name for name in names(incomplete) if (before + name).startswith(incomplete)]

    return complete


def _encoders(incomplete: str) -> Iterable[str]:
    from segtool.core.models.names import ENCODERS, timm_models

    return (f"tu-{name}" for name in sorted(timm_models())) if incomplete.startswith("tu-") else (*ENCODERS, "tu-")


# Options whose value is a list or a sum of names.
_LISTS = ("loss", "tta")
_NAMES: dict[str, Callable[[str], Iterable[str]]] = {
    "arch": lambda _: ARCHITECTURES,
    "encoder": _encoders,
    "encoder_weights": lambda _: ("imagenet", "none"),
    "loss": lambda _: TERMS,
    "augment": lambda _: augmentation.PRESETS,
    "tta": lambda _: ("hflip", "vflip", "rot90", "scale:", *inference.PRESETS),
    "checkpoint": lambda _: ("best", "last", "ema", "swa", "epoch:", "last:"),
}
