"""The optional packages of inference engines and file formats. Loads none of them."""

from importlib.util import find_spec

from segtool.errors import UsageError

# An extra of segtool, and the packages it installs.
EXTRAS = {"torch": (), "onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}


def require_packages(extra: str, option: str) -> None:
    """Raise UsageError if a package of an extra is missing; `option` is what needs it."""
    for package in EXTRAS[extra]:
        if not find_spec(package):
            raise UsageError(f"{option} needs the package {package}: pip install 'segtool[{extra}]'")
