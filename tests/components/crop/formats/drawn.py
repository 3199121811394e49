"""The drawn set of `fixtures/`, laid out as each format wants it, with images to go with it."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from components.crop.regions import Region, regions
from tests.components.crop.conftest import textured

FIXTURES = Path(__file__).parent / "fixtures"
WIDTH, HEIGHT = 160, 120
STEMS = [f"part-{i}" for i in range(8)]
CLASSES = ["scratch", "dent", "pin hole"]
VALIDATION = ("part-2", "part-5")


def truth(stem: str) -> dict[str, np.ndarray]:
    """Class → boolean mask."""
    masks = {}
    for path in sorted(FIXTURES.glob(f"masks/*/{stem}.png")):
        with Image.open(path) as image:
            masks[path.parent.name] = np.asarray(image.convert("L")) > 0
    return masks


def boxes(stem: str) -> list[tuple[str, Region]]:
    """Class and region of every defect."""
    return [(name, region) for name, mask in truth(stem).items() for region in regions(mask)]


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(textured(WIDTH, HEIGHT, zlib.crc32(path.stem.encode()))).save(path)


def _in_one_folder(root: Path, folder: str, fixture: str) -> None:
    shutil.copytree(FIXTURES / fixture, root, dirs_exist_ok=True)
    for stem in STEMS:
        write_image(root / folder / f"{stem}.png")


def _by_subset(root: Path, fixture: str, folder: str = "images/{}") -> None:
    shutil.copytree(FIXTURES / fixture, root, dirs_exist_ok=True)
    for stem in STEMS:
        write_image(root / folder.format("val" if stem in VALIDATION else "train") / f"{stem}.png")


def masks(root: Path) -> None:
    _in_one_folder(root, "images", "masks")
    for folder in CLASSES:
        (root / "masks").mkdir(exist_ok=True)
        (root / folder).rename(root / "masks" / folder)


def mvtec(root: Path) -> None:
    """As the data set's paper and download have it: one class an image, so that each has a copy for each class."""
    for stem in STEMS:
        for name, mask in truth(stem).items():
            write_image(root / "test" / name / f"{stem}.png")
            path = root / "ground_truth" / name / f"{stem}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    for i in range(3):
        write_image(root / "train" / "good" / f"part-{i}.png")


def coco_compressed(root: Path) -> None:
    """Run lengths as pycocotools itself writes them, in category ids with holes and sub folders in file names."""
    images: list[dict] = []
    annotations: list[dict] = []
    for i, stem in enumerate(STEMS):
        write_image(root / "images" / "line 1" / f"{stem}.png")
        images.append({"id": 100 - i, "file_name": f"line 1\\{stem}.png", "width": WIDTH, "height": HEIGHT})
        for name, region in boxes(stem):
            x0, y0, x1, y1 = region.box
            alone = np.zeros((HEIGHT, WIDTH), np.uint8)
            alone[y0:y1, x0:x1] = truth(stem)[name][y0:y1, x0:x1]
            rle = coco_mask.encode(np.asfortranarray(alone))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 - i,
                    "category_id": 7 * CLASSES.index(name) + 3,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 7 * i + 3, "name": name} for i, name in enumerate(CLASSES)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (root / "defects.json").write_text(json.dumps(data))


def table(root: Path) -> None:
    """Columns in another order, and among others."""
    lines = ["class,image,y0,x0,y1,x1,inspector"]
    for stem in STEMS:
        write_image(root / "images" / f"{stem}.png")
        for name, region in boxes(stem):
            x0, y0, x1, y1 = region.box
            lines.append(f'"{name}",images/{stem}.png,{y0},{x0},{y1},{x1},ada')
    (root / "boxes.csv").write_text("\n".join(lines) + "\n")


Layout = Callable[[Path], None]

# Those that say the very pixels of each defect's box; the value says whether they say those of its mask too.
EXACT: dict[str, tuple[Layout, str, bool]] = {
    "mvtec": (mvtec, "mvtec", True),
    "coco compressed": (coco_compressed, "coco", True),
    "coco runs": (lambda root: _by_subset(root, "coco-runs"), "coco", True),
    "coco boxes": (lambda root: _by_subset(root, "coco-boxes"), "coco", False),
    "voc": (lambda root: _in_one_folder(root, "JPEGImages", "voc-from-1"), "voc", False),
    "yolo darknet": (lambda root: _by_subset(root, "yolo-darknet", "obj_{}_data"), "yolo", False),
    "yolo ultralytics": (lambda root: _by_subset(root, "yolo-ultralytics"), "yolo", False),
    "csv": (table, "csv", False),
}
# Those of outlines, which agree with the mask but for pixels on its edge.
OUTLINED: dict[str, tuple[Layout, str]] = {
    "coco polygons": (lambda root: _by_subset(root, "coco-polygons"), "coco"),
    "labelme": (lambda root: _in_one_folder(root, "images", "labelme"), "labelme"),
}


def write_voc_from_0(root: Path) -> None:
    _in_one_folder(root, "JPEGImages", "voc-from-0")


def write_yolo_polygons(root: Path) -> None:
    _in_one_folder(root, "images", "yolo-polygons")
