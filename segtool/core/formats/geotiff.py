"""Masks as GeoTIFF, with the georeference of their images; rasterio is an extra, imported when it is needed."""

import warnings
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from segtool.core.files import atomic
from segtool.core.images import IGNORE, IGNORE_COLOUR, Array
from segtool.errors import SegtoolError, UsageError


def geo_path(folder: Path, image_id: str) -> Path:
    """Return the path of an image's GeoTIFF in a prediction folder."""
    return folder / "geo" / f"{image_id}.tif"


def require_rasterio() -> None:
    """Raise UsageError if rasterio is not installed."""
    if not find_spec("rasterio"):
        raise UsageError("--geo needs the package rasterio: pip install 'segtool[geo]'")


def write_geotiff(
    path: Path, bands: Iterable[tuple[str, Array]], image: Path, palette: Sequence[Sequence[int]] | None = None
) -> bool:
    """Write a mask with coordinate system and transform of its image.

    Args:
        bands: the name and the values of each channel, uint8 (H, W) with 255 as nodata: class ids without a name, or
            a plane of each class.

    Returns:
        Whether the image has a georeference.

    Raises:
        SegtoolError: GDAL cannot read the image.
    """
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        # Whether there is a georeference is returned.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        place = _read_place(image)
        _write(path, list(bands), place, palette)
    return bool(place)


def _read_place(image: Path) -> dict[str, Any]:
    import rasterio
    from rasterio.errors import RasterioError, RasterioIOError

    try:
        with rasterio.Env(GDAL_PAM_ENABLED="NO"), rasterio.open(image) as source:
            return _place(source)
    except (RasterioError, RasterioIOError) as error:
        raise SegtoolError(f"--geo: cannot read the georeference of {image}: {error}") from error


def _write(
    path: Path, bands: Sequence[tuple[str, Array]], place: dict[str, Any], palette: Sequence[Sequence[int]] | None
) -> None:
    from rasterio.io import MemoryFile

    height, width = bands[0][1].shape
    kind = {"driver": "GTiff", "dtype": "uint8", "count": len(bands), "nodata": IGNORE, "compress": "deflate"}
    with MemoryFile() as memory:
        with memory.open(**kind, height=height, width=width, **place) as target:
            for number, (name, values) in enumerate(bands, 1):
                target.write(values, number)
                if name:
                    target.set_band_description(number, name)
            if palette and len(bands) == 1:
                target.write_colormap(1, dict(enumerate(map(tuple, palette))) | {IGNORE: IGNORE_COLOUR})
        with atomic(path, "wb", sync=False) as file:
            file.write(memory.read())


def _place(source: Any) -> dict[str, Any]:
    """Return where an image lies: by a transform, or by ground control points; empty if it does not say."""
    points, system = source.gcps
    if points:
        return {"gcps": points, "crs": system}
    if source.crs is None and source.transform.is_identity:
        return {}
    return {"crs": source.crs, "transform": source.transform}
