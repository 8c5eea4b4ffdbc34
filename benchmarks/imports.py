"""`segtool import` against the loops that are usually written, whole commands in turn.

    SEGTOOL_DATA=<folder> python benchmarks/imports.py [--turns 5] [--times 4]

CamVid's masks (`import folders`, ids copied and 11 made 255) and the recycling trash's polygons (`import coco`), each
`--times` over under other names, because a second of a command is its start. Each loop is one process, as it stands in
notebooks: Pillow and NumPy for the masks, pycocotools' `annToMask` for the polygons. Both sides check that image and
mask are of one size, and must write the same pixels.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CAMVID = "sky,building,pole,road,sidewalk,tree,sign,fence,car,pedestrian,bicyclist"
FOLDERS_LOOP = """
import sys, csv
from pathlib import Path
import numpy as np
from PIL import Image
images, masks, out = map(Path, sys.argv[1:])
(out / "masks").mkdir(parents=True)
rows = []
for path in sorted(images.glob("*.jpg")):
    mask = np.array(Image.open(masks / (path.stem + ".png")))
    assert Image.open(path).size == mask.shape[::-1]
    assert mask.max() <= 11
    mask[mask == 11] = 255
    Image.fromarray(mask).save(out / "masks" / (path.stem + ".png"))
    rows.append((path.stem, path))
csv.writer(open(out / "train.csv", "w")).writerows(rows)
"""
COCO_LOOP = """
import sys, csv, contextlib, io
from pathlib import Path
import numpy as np
from PIL import Image
from pycocotools.coco import COCO
file, images, out = map(Path, sys.argv[1:])
(out / "masks").mkdir(parents=True)
with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO(str(file))
rows = []
for image_id in coco.getImgIds():
    info = coco.loadImgs(image_id)[0]
    assert Image.open(images / info["file_name"]).size == (info["width"], info["height"])
    mask = np.zeros((info["height"], info["width"]), np.uint8)
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
    for annotation in sorted(annotations, key=lambda one: one["area"], reverse=True):
        mask[coco.annToMask(annotation) == 1] = annotation["category_id"]
    name = Path(info["file_name"]).name + ".png"
    Image.fromarray(mask).save(out / "masks" / name)
    rows.append((info["file_name"], images / info["file_name"]))
csv.writer(open(out / "train.csv", "w")).writerows(rows)
"""


def copy_camvid(source: Path, folder: Path, times: int) -> None:
    """Copy images and masks under several names each."""
    for name, kind in (("train", "images"), ("trainannot", "masks")):
        (folder / kind).mkdir(parents=True)
        for path in sorted((source / name).iterdir()):
            for number in range(times):
                shutil.copy(path, folder / kind / f"{number}-{path.name}")


def copy_trash(source: Path, folder: Path, times: int) -> None:
    """Write one COCO file that has every image and annotation several times, and copy the images."""
    (folder / "image").mkdir(parents=True)
    given = json.loads((source / "train.json").read_text())
    images, annotations = [], []
    for number in range(times):
        for image in given["images"]:
            path = source / image["file_name"]
            name = f"image/{number}-{path.name}"
            shutil.copy(path, folder / name)
            images.append(image | {"id": image["id"] + 100_000 * number, "file_name": name})
        annotations += [
            one | {"id": len(annotations) + index, "image_id": one["image_id"] + 100_000 * number}
            for index, one in enumerate(given["annotations"])
        ]
    (folder / "train.json").write_text(json.dumps(given | {"images": images, "annotations": annotations}))


def timed(*arguments: object) -> float:
    start = time.perf_counter()
    subprocess.run(list(map(str, arguments)), check=True)
    return time.perf_counter() - start


def compare(name: str, loop: list[object], command: list[object], folder: Path, images: int, turns: int) -> None:
    """Time both in turn, check that they wrote the same masks, and print images per second and the ratio."""
    loops, commands = [], []
    for turn in range(turns):
        theirs, ours = folder / f"loop{turn}", folder / f"segtool{turn}"
        loops.append(timed(sys.executable, "-c", *loop, theirs))
        commands.append(timed("segtool", *command, "-o", ours, "--quiet"))
    same = sum(
        np.array_equal(np.array(Image.open(path)), np.array(Image.open(theirs / "masks" / path.name)))
        for path in (ours / "masks").rglob("*.png")
    )
    ratios = [theirs / ours for theirs, ours in zip(loops, commands, strict=True)]
    print(
        f"{name}: {images} images, {same} masks equal; loop {images / statistics.median(loops):.0f} images/s,"
        f" segtool {images / statistics.median(commands):.0f}; ratio {statistics.median(ratios):.2f}"
        f" ({min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--times", type=int, default=4, help="how often CamVid is taken; trash ten times as often")
    given = parser.parse_args()
    source = Path(os.environ["SEGTOOL_DATA"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_camvid(source / "camvid", folder / "camvid", given.times)
        images, masks = folder / "camvid/images", folder / "camvid/masks"
        command = ["import", "folders", "--images", images, "--masks", masks, "--classes", CAMVID]
        count = len(list(images.iterdir()))
        compare(
            "folders", [FOLDERS_LOOP, images, masks], [*command, "--ignore-index", 11], folder / "f", count, given.turns
        )
        copy_trash(source / "trash", folder / "trash", 10 * given.times)
        file, images = folder / "trash/train.json", folder / "trash"
        count = len(json.loads(file.read_text())["images"])
        command = ["import", "coco", file, "--images", images]
        compare("coco", [COCO_LOOP, file, images], command, folder / "c", count, given.turns)


if __name__ == "__main__":
    main()
