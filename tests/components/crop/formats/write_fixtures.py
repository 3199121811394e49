"""Writes `fixtures/`: one small set of defects in every format, by the tools that users have.

    python -m venv /tmp/writers
    /tmp/writers/bin/pip install datumaro==1.13.12 supervision==0.31.2 labelme==6.3.1
    /tmp/writers/bin/python tests/components/crop/formats/write_fixtures.py

Datumaro writes COCO (polygons; uncompressed run lengths; boxes), Pascal VOC counted from 0, and YOLO (Darknet's and
Ultralytics' layout); supervision writes Pascal VOC counted from 1 and YOLO polygons; LabelMe its own files. Compressed
run lengths, which need pycocotools alone, are written by the tests. The outlines are drawn here, as an annotator would
draw them, and a pixel is the defect's where its centre is inside. The images are not part of the fixtures: the tests
make them (`drawn.py`).
"""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import datumaro
import labelme._label_file
import numpy as np
import supervision
from PIL import Image

HERE = Path(__file__).parent / "fixtures"
WIDTH, HEIGHT, IMAGES = 160, 120, 8
CLASSES = ["scratch", "dent", "pin hole"]
# One defect in some of these cells, so that none touch.
CELLS = [(40, 30), (120, 30), (40, 90), (120, 90)]


@dataclass(frozen=True)
class Drawn:
    defect: str
    polygon: list[float]

    @property
    def mask(self) -> np.ndarray:
        """Even-odd rule at the centres of pixels."""
        x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
        inside = np.zeros((HEIGHT, WIDTH), bool)
        points = list(zip(self.polygon[::2], self.polygon[1::2]))
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
            if y0 != y1:
                crosses = (y0 > y) != (y1 > y)
                inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        return inside

    @property
    def box(self) -> tuple[int, int, int, int]:
        rows, columns = np.nonzero(self.mask)
        return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def draw(image: int) -> list[Drawn]:
    rng = np.random.default_rng([4, image])
    drawn = []
    for cell in rng.permutation(4)[: 2 + image % 3]:
        radius = rng.uniform(14, 23)
        waves = [(k, rng.uniform(0, 0.12), rng.uniform(0, 2 * math.pi)) for k in (2, 3, 5, 7)]
        polygon = []
        for angle in np.linspace(0, 2 * math.pi, 40, endpoint=False):
            r = radius * (1 + sum(a * math.sin(k * angle + phase) for k, a, phase in waves))
            x, y = CELLS[cell][0] + r * math.cos(angle), CELLS[cell][1] + r * math.sin(angle)
            polygon += [round(min(max(x, 0), WIDTH), 2), round(min(max(y, 0), HEIGHT), 2)]
        drawn.append(Drawn(CLASSES[int(rng.integers(3))], polygon))
    return drawn


DRAWN = {f"part-{i}": draw(i) for i in range(IMAGES)}


def subset(stem: str) -> str:
    return "val" if stem in ("part-2", "part-5") else "train"


def write_truth() -> None:
    for stem, of in DRAWN.items():
        for name in {d.defect for d in of}:
            mask = np.any([d.mask for d in of if d.defect == name], axis=0)
            path = HERE / "masks" / name / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)


def export(folder: str, form: str, annotation: str, keep: tuple[str, ...]) -> None:
    """Let Datumaro write the set, and keep its annotation files."""

    def annotated(d: Drawn) -> datumaro.Annotation:
        label = CLASSES.index(d.defect)
        if annotation == "polygon":
            return datumaro.Polygon(d.polygon, label=label)
        if annotation == "mask":
            # Datumaro writes masks as run lengths where they are a crowd, as CVAT does for painted ones.
            return datumaro.Mask(d.mask.astype(np.uint8), label=label, attributes={"is_crowd": True})
        x0, y0, x1, y1 = d.box
        return datumaro.Bbox(x0, y0, x1 - x0, y1 - y0, label=label)

    items = [
        datumaro.DatasetItem(
            id=stem,
            subset=subset(stem),
            media=datumaro.Image.from_numpy(np.zeros((HEIGHT, WIDTH, 3), np.uint8), ext=".png"),
            annotations=[annotated(d) for d in of],
        )
        for stem, of in DRAWN.items()
    ]
    dataset = datumaro.Dataset.from_iterable(items, categories=CLASSES)
    with tempfile.TemporaryDirectory() as temporary:
        dataset.export(temporary, form, save_media=True, image_ext=".png")
        for path in sorted(Path(temporary).rglob("*")):
            if path.suffix in keep and path.name not in ("train.txt", "valid.txt", "val.txt"):
                target = HERE / folder / path.relative_to(temporary)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)


def write_with_supervision() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        annotations = {}
        paths = []
        for stem, of in DRAWN.items():
            path = Path(temporary) / f"{stem}.png"
            Image.new("RGB", (WIDTH, HEIGHT)).save(path)
            paths.append(str(path))
            annotations[str(path)] = supervision.Detections(
                xyxy=np.asarray([d.box for d in of], float),
                mask=np.asarray([d.mask for d in of]),
                class_id=np.asarray([CLASSES.index(d.defect) for d in of]),
            )
        supervision.DetectionDataset(CLASSES, paths, annotations).as_yolo(
            annotations_directory_path=str(HERE / "yolo-polygons" / "labels"),
            data_yaml_path=str(HERE / "yolo-polygons" / "data.yaml"),
        )
        boxes = {path: supervision.Detections(xyxy=d.xyxy, class_id=d.class_id) for path, d in annotations.items()}
        supervision.DetectionDataset(CLASSES, paths, boxes).as_pascal_voc(
            annotations_directory_path=str(HERE / "voc-from-1")
        )


def write_labelme() -> None:
    folder = HERE / "labelme" / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    for stem, of in DRAWN.items():
        shapes: list[dict] = []
        for i, d in enumerate(of):
            x0, y0, x1, y1 = d.box
            points = [[x1, y1], [x0, y0]] if i else list(map(list, zip(d.polygon[::2], d.polygon[1::2])))
            kind = "rectangle" if i else "polygon"
            shapes.append({"label": d.defect, "points": points, "shape_type": kind, "group_id": None, "flags": {}})
        labelme._label_file.LabelFile().save(
            filename=str(folder / f"{stem}.json"),
            shapes=shapes,
            image_path=f"..\\images\\{stem}.png",
            image_height=HEIGHT,
            image_width=WIDTH,
        )


if __name__ == "__main__":
    shutil.rmtree(HERE, ignore_errors=True)
    write_truth()
    export("coco-polygons", "coco_instances", "polygon", (".json",))
    export("coco-runs", "coco_instances", "mask", (".json",))
    export("coco-boxes", "coco_instances", "box", (".json",))
    export("voc-from-0", "voc_detection", "box", (".xml",))
    export("yolo-darknet", "yolo", "box", (".txt", ".names", ".data"))
    export("yolo-ultralytics", "yolo_ultralytics", "box", (".txt", ".yaml"))
    write_with_supervision()
    write_labelme()
