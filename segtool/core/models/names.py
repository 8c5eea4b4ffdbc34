"""Names of encoders, known without the libraries that build them, whose import takes seconds."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from segtool.errors import UsageError, did_you_mean
from segtool.settings.model import check_arch
from segtool.settings.synonyms import ARCHITECTURES

# Segmentation-models' own encoders; a test compares them with the installed version.
_SERIES = {
    "resnet": "18 34 50 101 152",
    "resnext": "50_32x4d 101_32x4d 101_32x8d 101_32x16d 101_32x32d 101_32x48d",
    "dpn": "68 68b 92 98 107 131",
    "vgg": "11 11_bn 13 13_bn 16 16_bn 19 19_bn",
    "senet": "154",
    "se_": "resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x4d",
    "densenet": "121 169 201 161",
    "inception": "resnetv2 v4",
    "efficientnet-b": "0 1 2 3 4 5 6 7",
    "mobilenet_v": "2",
    "xception": "",
    "timm-efficientnet-": "b0 b1 b2 b3 b4 b5 b6 b7 b8 l2",
    "timm-tf_efficientnet_lite": "0 1 2 3 4",
    "timm-sk": "resnet18 resnet34 resnext50_32x4d",
    "mit_b": "0 1 2 3 4 5",
    "mobileone_s": "0 1 2 3 4",
}
ENCODERS = tuple(start + end for start, ends in _SERIES.items() for end in ends.split() or [""])

_MODEL = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
_DEPRECATED = re.compile(r"^register_model_deprecations\(__name__, \{(.*?)^\}\)", re.MULTILINE | re.DOTALL)
_KEY = re.compile(r"""^\s*['"]([\w.]+)['"]\s*:""", re.MULTILINE)


def check_names(arch: str, encoder: str) -> None:
    """Raise UsageError, with similar names, if there is no such architecture or encoder."""
    check_arch(arch)
    check_encoder(encoder)


def check_encoder(encoder: str) -> None:
    """Raise UsageError, with similar names, if neither segmentation-models nor timm has such an encoder.

    Whether timm has the weights of `tu-NAME.WEIGHTS` is not known here.
    """
    if encoder in ENCODERS:
        return
    if not encoder.startswith("tu-"):
        raise UsageError(f"--encoder: unknown encoder {encoder!r}{_alike(encoder)}; tu-NAME takes any of timm's")
    name = encoder.removeprefix("tu-").partition(".")[0]
    if timm_models() and name not in timm_models():
        raise UsageError(f"--encoder: timm has no model {name!r}{_alike(encoder)}")


@cache
def timm_models() -> frozenset[str]:
    """Return the names of timm's models, old ones included, as its source registers them; empty if it is not there."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        return frozenset()
    names: set[str] = set()
    for path in (Path(spec.origin).parent / "models").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        names.update(_MODEL.findall(source))
        for block in _DEPRECATED.findall(source):
            names.update(_KEY.findall(block))
    return frozenset(names)


def _alike(encoder: str) -> str:
    """Suggest an encoder: timm's of this name, else those that begin with it, else the most similar."""
    name = encoder.removeprefix("tu-").removeprefix("timm/")
    if name in timm_models():
        return f"; did you mean tu-{name}?"
    if name.lower() in ARCHITECTURES:
        return f"; {name.lower()} is an architecture: --arch {name.lower()}"
    own = () if encoder.startswith("tu-") else ENCODERS
    known = [*own, *(f"tu-{model}" for model in sorted(timm_models()))]
    if longer := [model for model in known if model.removeprefix("tu-").startswith(name)]:
        return f"; did you mean {' or '.join(sorted(longer, key=len)[:3])}?"
    return did_you_mean(encoder, known)
