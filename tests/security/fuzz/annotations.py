"""Annotation files of data sets that the tests draw, as targets: one file of each format is changed."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from components.crop.config import CropConfig, FormatName
from components.crop.plan import plan_crops
from components.crop.reading import read_folder
from tests.components.crop.conftest import Boards
from tests.components.crop.formats import drawn
from tests.security.fuzz.target import Target


class _Place(NamedTuple):
    layout: Callable[[Path], None]
    form: FormatName
    file: str  #: the annotation file, below the data set
    others: tuple[bytes, ...] = ()  #: more good contents of it, of kinds that the layout has none of


def _boards(root: Path) -> None:
    Boards(root, images=8)


def _shapes() -> bytes:
    """LabelMe's kinds of shapes, of which the layout has polygons alone; two of them are one defect."""
    painted = io.BytesIO()
    Image.new("L", (6, 5), 255).save(painted, "PNG")
    mask = base64.b64encode(painted.getvalue()).decode()
    shapes = [
        {"label": "dent", "shape_type": "rectangle", "points": [[1, 1], [9, 9]], "group_id": 1},
        {"label": "dent", "shape_type": "circle", "points": [[20, 20], [25, 20]], "group_id": 1},
        {"label": "scratch", "shape_type": "mask", "points": [[40, 40], [46, 45]], "mask": mask},
    ]
    return json.dumps({"shapes": shapes, "imagePath": "part-0.png", "imageWidth": 160, "imageHeight": 120}).encode()


_SIZED = b"filename;label;x;y;width;height\nimages/part-0.png;dent;10;10;20;20\nimages/part-1.png;;;;;\n"

PLACES = {
    "coco": _Place(drawn.EXACT["coco runs"][0], "coco", "annotations/instances_val.json"),
    "coco-compressed": _Place(drawn.coco_compressed, "coco", "defects.json"),
    "coco-polygons": _Place(drawn.OUTLINED["coco polygons"][0], "coco", "annotations/instances_val.json"),
    "voc": _Place(drawn.EXACT["voc"][0], "voc", "part-0.xml"),
    "yolo": _Place(drawn.EXACT["yolo ultralytics"][0], "yolo", "labels/train/part-0.txt"),
    "yolo-names": _Place(drawn.EXACT["yolo ultralytics"][0], "yolo", "data.yaml"),
    "labelme": _Place(drawn.OUTLINED["labelme"][0], "labelme", "annotations/part-0.json", (_shapes(),)),
    "csv": _Place(drawn.table, "csv", "boxes.csv", (_SIZED,)),
    "deeppcb": _Place(_boards, "deeppcb", "group1/g1_not/000.txt"),
    "mask": _Place(drawn.masks, "masks", "masks/dent/part-0.png"),
}


def reading(place: _Place) -> Target:
    def read_data_set(data: bytes, folder: Path) -> object:
        root = folder / "data"
        if not root.exists():
            place.layout(root)
        (root / place.file).write_bytes(data)
        found = read_folder(place.form, "data", root, 0)
        return plan_crops(CropConfig(resolution=64), found.images)

    def seeds() -> list[bytes]:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            place.layout(Path(folder))
            return [(Path(folder) / place.file).read_bytes(), *place.others]

    return Target(read_data_set, seeds, "at least one of each is needed")
