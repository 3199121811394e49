"""Damaged annotations of every format: each ends in a message that names the file, the place in it and the remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.crop.annotations import Problem
from components.crop.config import CropConfig, FormatName
from components.crop.formats import reading as formats_reading
from components.crop.formats.reading import Wrong
from components.crop.reading import refuse
from components.crop.survey import survey
from components.errors import UserError
from tests.components.crop.formats.reading import read

WIDTH, HEIGHT = 60, 40
BOX = [5, 6, 10, 8]
DOCTYPE = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;&x;&x;">]>'


def picture(path: Path, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (WIDTH, HEIGHT)).save(path)


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def coco(root: Path, damage: Callable[[dict[str, Any]], object]) -> None:
    """A good COCO file with something in it changed, or all of it replaced by what `damage` returns."""
    for stem in ("a", "b"):
        picture(root / "images" / f"{stem}.png")
    data: dict[str, Any] = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
            {"id": 2, "file_name": "b.png", "width": WIDTH, "height": HEIGHT},
        ],
        "categories": [{"id": 3, "name": "dent"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": BOX},
            {"id": 2, "image_id": 2, "category_id": 3, "bbox": BOX},
        ],
    }
    replaced = damage(data)
    write(root / "defects.json", data if replaced is None else replaced)


def changed(**fields: Any) -> Callable[[Path], None]:
    """The second annotation with other fields."""
    return lambda root: coco(root, lambda data: data["annotations"][1].update(fields))


def row(key: str, i: int, **fields: Any) -> Callable[[Path], None]:
    return lambda root: coco(root, lambda data: data[key][i].update(fields))


def without(key: str, i: int, field: str) -> Callable[[Path], None]:
    def damage(data: dict[str, Any]) -> None:
        del data[key][i][field]

    return lambda root: coco(root, damage)


def image_row(**fields: Any) -> Callable[[Path], None]:
    """The second image with another id, or with none, and no annotation that means the one it had."""

    def damage(data: dict[str, Any]) -> None:
        row = data["images"][1]
        data["images"][1] = {key: value for key, value in {**row, **fields}.items() if value is not None}
        del data["annotations"][1]

    return lambda root: coco(root, damage)


def segmented(segmentation: Any) -> Callable[[Path], None]:
    return changed(segmentation=segmentation)


def huge(root: Path) -> None:
    coco(root, lambda data: None)
    with (root / "defects.json").open("r+b") as file:
        file.truncate(formats_reading.LARGEST + 1)


RUNS = {"size": [HEIGHT, WIDTH]}
WHOLE = '{"images": [], "categories": [], "annotations": ['
COCO: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "truncated": (lambda r: coco(r, lambda d: json.dumps(d)[:-40]), "defects.json", "line 1, column"),
    "cut to a string": (lambda r: coco(r, lambda d: json.dumps(d)[:60]), "defects.json", "not valid JSON"),
    "not UTF-8": (lambda r: coco(r, lambda d: json.dumps(d).encode()[:-1] + b'"\xff"}'), "defects.json", "not UTF-8"),
    "nested": (lambda r: coco(r, lambda d: WHOLE + "[" * 200_000), "defects.json", "nested too deeply"),
    "digits": (lambda r: coco(r, lambda d: WHOLE + "9" * 5000 + "]}"), "defects.json", "not valid JSON"),
    "huge": (huge, "defects.json", "more than the 128 MB that are read; split it"),
    "lists without end": (
        lambda r: coco(r, lambda d: '{"images": [' + "[]," * 8_000_001 + "[]]}"),
        "defects.json",
        "more than 16,000,000 numbers, texts and lists, which is too much at once; split it by images",
    ),
    "a list of results": (
        lambda r: coco(r, lambda d: [{"image_id": 1, "category_id": 3, "bbox": BOX, "score": 1}]),
        "defects.json",
        "a list of detections without its images",
    ),
    "no categories": (lambda r: coco(r, lambda d: d.pop("categories") and None), "defects.json", "no 'categories'"),
    "images is no list": (lambda r: coco(r, lambda d: d.update(images={"a": 1})), "defects.json", "instead of a list"),
    "an annotation is no object": (
        lambda r: coco(r, lambda d: d["annotations"].append(5)),
        "defects.json:annotations[2]",
        "instead of an object",
    ),
    "image without id": (image_row(id=None), "defects.json:images[1]", "id is missing"),
    "image id of a wrong type": (image_row(id=[2]), "defects.json:images[1]", "id is [2]; give it a number"),
    "image without file_name": (without("images", 1, "file_name"), "defects.json:images[1]", "file_name is missing"),
    "image not there": (
        row("images", 1, file_name="c.png"),
        "defects.json:images[1]",
        "'c.png' is not among the files",
    ),
    "image outside": (row("images", 1, file_name="../../etc/x.png"), "defects.json:images[1]", "not among the files"),
    "image's size": (
        row("images", 1, width=61),
        "defects.json:images[1]",
        "says 61 × 40 pixels but images/b.png is 60",
    ),
    "image's size in words": (row("images", 1, width="wide"), "defects.json:images[1]", "width is 'wide', which is no"),
    "two images of one id": (image_row(id=1), "defects.json:images[1]", "id 1 is taken"),
    "two categories of one id": (
        lambda r: coco(r, lambda d: d["categories"].append({"id": 3, "name": "other"})),
        "defects.json:categories[1]",
        "id 3 is taken",
    ),
    "category without name": (row("categories", 0, name=None), "defects.json:categories[0]", "name is None"),
    "two annotations of one id": (changed(id=1), "defects.json:annotations[1]", "id 1 is taken by another annotation"),
    "unknown image": (changed(image_id=77), "defects.json:annotations[1]", "image_id 77 is not among the images"),
    "unknown category": (changed(category_id=4), "defects.json:annotations[1]", "known: 3 dent"),
    "NaN": (changed(bbox=[float("nan"), 1, 5, 5]), "defects.json:annotations[1]", "nan, which is no place in an image"),
    "infinity": (changed(bbox=[1e400, 1, 5, 5]), "defects.json:annotations[1]", "inf, which is no place"),
    "beyond floats": (changed(bbox=[10**400, 1, 5, 5]), "defects.json:annotations[1]", "inf, which is no place"),
    "very far": (changed(bbox=[1e308, 1, 1e308, 5]), "defects.json:annotations[1]", "1e+308, which is no place"),
    "polygon very far": (
        segmented([[1, 1, 9, 9, 1, 1e308]]),
        "defects.json:annotations[1]",
        "1e+308, which is no place",
    ),
    "text for a number": (changed(bbox=["5", 1, 5, 5]), "defects.json:annotations[1]", "'5', which is no number"),
    "three numbers": (changed(bbox=[1, 2, 3]), "defects.json:annotations[1]", "instead of [x, y, width, height]"),
    "negative width": (changed(bbox=[9, 9, -5, 5]), "defects.json:annotations[1]", "both must be above 0"),
    "outside": (changed(bbox=[50, 6, 20, 8]), "defects.json:annotations[1]", "leaves the image, which is 60 × 40"),
    "left of the image": (changed(bbox=[-5, 6, 20, 8]), "defects.json:annotations[1]", "leaves the image"),
    "neither box nor outline": (without("annotations", 1, "bbox"), "defects.json:annotations[1]", "neither bbox nor"),
    "polygon not in a list": (
        segmented([1, 2, 3, 4, 5, 6]),
        "defects.json:annotations[1]",
        "neither a list of polygons",
    ),
    "polygon of two points": (segmented([[1, 2, 3, 4]]), "defects.json:annotations[1]", "a polygon of 4 numbers"),
    "polygon far away": (segmented([[1, 1, 1e9, 1, 9, 9]]), "defects.json:annotations[1]", "point 1e+09 1 leaves"),
    "runs of another size": (
        segmented({"size": [WIDTH, HEIGHT], "counts": [0, 2400]}),
        "defects.json:annotations[1]",
        "but the image has [40, 60]",
    ),
    "runs too short": (
        segmented({**RUNS, "counts": [9, 9]}),
        "defects.json:annotations[1]",
        "run lengths of 18 pixels",
    ),
    "runs of text": (segmented({**RUNS, "counts": ["9"]}), "defects.json:annotations[1]", "neither text nor a list"),
    "no defect in runs": (segmented({**RUNS, "counts": [2400]}), "defects.json:annotations[1]", "the mask is empty"),
    "compressed, other letters": (segmented({**RUNS, "counts": "é"}), "defects.json:annotations[1]", "COCO's never"),
    "compressed, cut short": (segmented({**RUNS, "counts": "0o"}), "defects.json:annotations[1]", "cut short"),
    "compressed, too long": (segmented({**RUNS, "counts": "o" * 99}), "defects.json:annotations[1]", "beyond 64 bits"),
}


def voc(change: Callable[[str], str | bytes]) -> Callable[[Path], None]:
    text = (
        "<annotation>\n<filename>a.png</filename>\n<size><width>60</width><height>40</height></size>\n<object>\n"
        "<name>dent</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>15</xmax><ymax>14</ymax></bndbox>\n</object>\n"
        "</annotation>\n"
    )

    def build(root: Path) -> None:
        for stem in ("a", "b"):
            picture(root / "JPEGImages" / f"{stem}.png")
        write(root / "Annotations" / "b.xml", text.replace("a.png", "b.png"))
        write(root / "Annotations" / "a.xml", change(text))

    return build


def voc_with(**files: str) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        voc(lambda text: text)(root)
        for stem, text in files.items():
            write(root / "more" / f"{stem}.xml", text)

    return build


XML = "Annotations/a.xml"
VOC: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "truncated": (voc(lambda t: t[: t.index("</object>")]), XML, "not valid XML: no element found: line"),
    "truncated in a tag": (voc(lambda t: t[: t.index("ject>")]), XML, "not valid XML: unclosed token: line"),
    "not XML": (voc(lambda t: t.replace("</name>", "</nme>")), XML, "mismatched tag: line 5"),
    "bytes": (voc(lambda t: t.replace("dent", "d\xe9nt").encode("latin-1")), XML, "not valid XML"),
    "encoding": (voc(lambda t: f'<?xml version="1.0" encoding="x-none"?>{t}'), XML, "encoding"),
    "entities": (voc(lambda t: DOCTYPE + t.replace("dent", "&y;")), XML, "document type definition"),
    "nested": (voc(lambda t: t.replace("<object>", "<a>" * 200)), XML, "nested too deeply"),
    "wrapped": (voc(lambda t: f"<all>{t}</all>"), XML, "<all> instead of <annotation>"),
    "no size": (voc(lambda t: t.replace("size>", "sighs>")), XML, "no <size>"),
    "half a size": (voc(lambda t: t.replace("height>", "h>")), XML, "no <size><height>"),
    "another size": (voc(lambda t: t.replace(">40<", ">41<")), XML, "says 60 × 41 pixels"),
    "size in words": (voc(lambda t: t.replace(">40<", ">high<")), XML, "<height> is 'high', which is no number"),
    "no name": (voc(lambda t: t.replace("<name>dent</name>", "")), f"{XML}:4", "without <name>"),
    "no xmax": (voc(lambda t: t.replace("<xmax>15</xmax>", "")), f"{XML}:4", "no <bndbox><xmax>"),
    "swapped": (voc(lambda t: t.replace(">15<", ">3<")), f"{XML}:4", "its corners are swapped"),
    "NaN": (voc(lambda t: t.replace(">15<", ">nan<")), f"{XML}:4", "<xmax> is nan"),
    "outside": (voc(lambda t: t.replace(">15<", ">75<")), f"{XML}:4", "leaves the image"),
    "below 0": (voc(lambda t: t.replace(">5<", ">-9<")), f"{XML}:4", "leaves the image"),
    "very far": (voc(lambda t: t.replace(">15<", ">1e308<")), f"{XML}:4", "<xmax> is 1e+308, which is no place"),
    "a very large size": (voc(lambda t: t.replace(">40<", ">1e308<")), XML, "<height> is 1e+308, which is no place"),
    "elements without end": (
        voc(lambda t: t.replace("<object>", "<a/>" * 100_001 + "<object>")),
        XML,
        "more than 100,000 elements for one image",
    ),
    "a name without end": (voc(lambda t: t.replace("dent", "d" * 20_000_000)), f"{XML}:4", "is longer than 200"),
    "zero bytes": (voc(lambda t: ""), XML, "no Pascal VOC annotation, or damaged"),
    "image not there": (
        voc_with(z="<annotation><filename>z.jpg</filename></annotation>"),
        "more/z.xml",
        "'z.jpg' is not among the files",
    ),
    "two for one image": (voc_with(a="<annotation></annotation>"), XML, "more/a.xml annotates the same image"),
    "CVAT's own": (voc_with(cvat="<annotations></annotations>"), "more/cvat.xml", "export the task as COCO"),
}


def yolo(lines: str | bytes, **files: str | None) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        for stem in ("a", "b"):
            picture(root / "images" / f"{stem}.png")
        write(root / "labels" / "b.txt", "0 0.5 0.5 0.2 0.2\n")
        write(root / "labels" / "a.txt", lines)
        names = {"data.yaml": "names: [dent, scratch]\n", **{k.replace("__", "."): v for k, v in files.items()}}
        for name, text in names.items():
            if text is not None:
                write(root / name, text)

    return build


# Forty lists, each ten times the one before: a few hundred bytes for YAML, 10⁴⁰ names written out.
LAUGHS = "a0: &a0 [ha]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 40))
LAUGHS += "names: *a39\n"
GOOD = "0 0.5 0.5 0.2 0.2\n"
TXT = "labels/a.txt"
YOLO: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "unknown class": (yolo(GOOD + "2 0.5 0.5 0.2 0.2"), f"{TXT}:2", "class 2 has no name; known: 0 dent, 1 scratch"),
    "half a class": (yolo("0.5 0.5 0.5 0.2 0.2"), f"{TXT}:1", "class 0.5 has no name"),
    "class in words": (yolo("dent 0.5 0.5 0.2 0.2"), f"{TXT}:1", "the class is 'dent', which is no number"),
    "four columns": (yolo("0 0.5 0.5 0.2"), f"{TXT}:1", "4 columns instead of 5"),
    "with confidence": (yolo("0 0.5 0.5 0.2 0.2 0.9"), f"{TXT}:1", "6 columns instead of 5"),
    "pixels": (yolo("0 30 20 10 10"), f"{TXT}:1", "30 is not between 0 and 1"),
    "negative": (yolo("0 -0.5 0.5 0.2 0.2"), f"{TXT}:1", "-0.5 is not between 0 and 1"),
    "NaN": (yolo("0 nan 0.5 0.2 0.2"), f"{TXT}:1", "column 2 is nan"),
    "very far": (yolo("0 0.5 0.5 1e308 0.2"), f"{TXT}:1", "column 4 is 1e+308, which is no place"),
    "a very large class": (yolo("1e308 0.5 0.5 0.2 0.2"), f"{TXT}:1", "the class is 1e+308"),
    "lines without end": (yolo("\n" * ((8 << 20) + 1)), TXT, "8 MB, more than the 8 MB that are read"),
    "no width": (yolo("0 0.5 0.5 0 0.2"), f"{TXT}:1", "is empty"),
    "past the edge": (yolo("0 0.9 0.5 0.6 0.2"), f"{TXT}:1", "leaves the image"),
    "not UTF-8": (yolo(b"0 0.5 0.5 0.2 0.2 \xff"), TXT, "not UTF-8"),
    "no names": (yolo(GOOD, data__yaml=None), "labels/a.txt", "classes by number without names; add data.yaml"),
    "broken names": (yolo(GOOD, data__yaml="names: [dent\nnc: 2"), "data.yaml", "not valid YAML: line"),
    "a name that YAML reads as false": (
        yolo("0 0.5 0.5 0.2 0.2", data__yaml="names: [no, dent]"),
        "data.yaml",
        "the name of class 0 is False, which is no text; write it in quotes",
    ),
    "names without end": (
        yolo("0 0.5 0.5 0.2 0.2", data__yaml=LAUGHS),
        "data.yaml",
        "stands for more than 100,000 values",
    ),
    "a class between names": (
        yolo("1 0.5 0.5 0.2 0.2", data__yaml=None, classes__txt="dent\n\nscratch\n"),
        f"{TXT}:1",
        "class 1 has no name; known: 0 dent, 2 scratch",
    ),
    "names in words": (yolo(GOOD, data__yaml="names: dent"), "data.yaml", "names is 'dent' instead of a list"),
    "labels without image": (
        yolo(GOOD, **{"labels/z__txt": GOOD}),
        "labels/z.txt",
        "labels of an image that is not there; it should be images/z.*",
    ),
}


def labelme(damage: Callable[[dict[str, Any]], object], name: str = "a.json") -> Callable[[Path], None]:
    def build(root: Path) -> None:
        shape = {"label": "dent", "points": [[5, 6], [15, 14]], "shape_type": "rectangle", "group_id": None}
        data: dict[str, Any] = {"version": "5.5.0", "shapes": [shape, dict(shape)], "imagePath": "a.png"}
        data.update(imageData=None, imageWidth=WIDTH, imageHeight=HEIGHT)
        for stem in ("a", "b"):
            picture(root / f"{stem}.png")
        write(root / "b.json", data)
        write(root / "a.json", data)
        replaced = damage(data)
        write(root / name, data if replaced is None else replaced)

    return build


def shape(**fields: Any) -> Callable[[Path], None]:
    return labelme(lambda data: data["shapes"][1].update(fields))


SHAPE = "a.json:shapes[1]"
LABELME: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "truncated": (labelme(lambda d: json.dumps(d)[:-9]), "a.json", "cut short"),
    "zero bytes": (labelme(lambda d: ""), "a.json", "no LabelMe annotation, or damaged"),
    "no shapes": (labelme(lambda d: d.pop("shapes") and None), "a.json", "no list of 'shapes'"),
    "another size": (labelme(lambda d: d.update(imageWidth=99)), "a.json", "says 99 × 40 pixels but a.png is 60 × 40"),
    "no label": (shape(label=None), SHAPE, "label is None; name the class"),
    "shape is no object": (labelme(lambda d: d["shapes"].append("x")), "a.json:shapes[2]", "instead of an object"),
    "point": (shape(shape_type="point", points=[[5, 6]]), SHAPE, "a point has no area; draw a polygon"),
    "line strip": (shape(shape_type="linestrip"), SHAPE, "a linestrip has no area"),
    "unknown shape": (shape(shape_type="spline"), SHAPE, "known: polygon, rectangle, circle, mask"),
    "rectangle of one point": (shape(points=[[5, 6]]), SHAPE, "'rectangle' of 1 points"),
    "points": (shape(points=[5, 6]), SHAPE, "instead of [[x, y], …]"),
    "NaN": (shape(points=[[float("nan"), 6], [8, 8]]), SHAPE, "a point's x is nan"),
    "circle very far": (
        shape(shape_type="circle", points=[[5, 6], [1e308, 1e308]]),
        SHAPE,
        "1e+308, which is no place",
    ),
    "mask very far": (shape(shape_type="mask", points=[[1e308, 6], [9, 9]]), SHAPE, "1e+308, which is no place"),
    "shapes without end": (
        labelme(lambda d: '{"shapes": [' + "0," * 1_000_001 + "0]}"),
        "a.json",
        "more than 1,000,000 numbers",
    ),
    "empty": (shape(points=[[5, 6], [5, 14]]), SHAPE, "is empty"),
    "outside": (shape(points=[[5, 6], [5, 99], [9, 9]], shape_type="polygon"), SHAPE, "point 5 99 leaves the image"),
    "mask": (shape(shape_type="mask", mask="no base64"), SHAPE, "its mask is no PNG in base64"),
    "image not there": (
        labelme(lambda d: d.update(imagePath="..\\img\\z.png"), "z.json"),
        "z.json",
        "is not among the files",
    ),
    "no imagePath": (labelme(lambda d: d.update(imagePath=5), "z.json"), "z.json", "imagePath is 5, which names no"),
    "two for one image": (labelme(lambda d: None, "copy.json"), "copy.json", "a.json annotates the same image"),
}


def table(text: str | bytes, name: str = "boxes.csv") -> Callable[[Path], None]:
    def build(root: Path) -> None:
        for path in ("images/a.png", "one/same.png", "two/same.png"):
            picture(root / path)
        write(root / name, text)

    return build


HEADER = "image,class,x0,y0,x1,y1\n"
CSV: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "missing columns": (
        table("image,class,x0,y0\na.png,dent,1,2\n"),
        "boxes.csv",
        "no column x0,y0,x1,y1 in its first",
    ),
    "no class column": (table("image,x0,y0,x1,y1\na.png,1,2,9,9\n"), "boxes.csv", "no column class"),
    "no class": (table(f"{HEADER}a.png,,1,2,9,9\n"), "boxes.csv:2", "no class; name it"),
    "text": (table(f"{HEADER}a.png,dent,1,2,nine,9\n"), "boxes.csv:2", "the column x1 is 'nine', which is no number"),
    "short line": (table(f"{HEADER}a.png,dent,1,2\n"), "boxes.csv:2", "the column x1 is '', which is no number"),
    "swapped": (table(f"{HEADER}a.png,dent,1,2,3,9\na.png,dent,9,2,1,9\n"), "boxes.csv:3", "corners are swapped"),
    "outside": (table(f"{HEADER}a.png,dent,1,2,99,9\n"), "boxes.csv:2", "leaves the image"),
    "very far": (
        table(f"{HEADER}a.png,dent,1,2,1e308,9\n"),
        "boxes.csv:2",
        "the column x1 is 1e+308, which is no place",
    ),
    "lines without end": (table(HEADER + "\n" * 1_000_001), "boxes.csv", "more than 1,000,000 lines"),
    "lines of old Macs": (table(HEADER + "\r" * 1_000_001), "boxes.csv", "more than 1,000,000 lines"),
    "image not there": (table(f"{HEADER}a.png,d,1,2,9,9\nz.png,d,1,2,9,9\n"), "boxes.csv:3", "'z.png' is not among"),
    "image not clear": (table(f"{HEADER}same.png,dent,1,2,9,9\n"), "boxes.csv:2", "may be any of one/same.png, two/"),
    "not UTF-8": (table(HEADER.encode() + b"a.png,d\xe9nt,1,2,9,9\n"), "boxes.csv", "not UTF-8 (byte 31)"),
    "UTF-16": (table(f"{HEADER}a.png,dent,1,2,9,9\n".encode("utf-16")), "boxes.csv", "not UTF-8"),
    "endless field": (table(f'{HEADER}"{"x" * 200_000}'), "boxes.csv", "no table that can be read"),
}


def mvtec(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        for path in ("train/good/000.png", "test/crack/000.png", "test/crack/001.png"):
            picture(root / path)
        for stem in ("000", "001"):
            mask = root / "ground_truth" / "crack" / f"{stem}_mask.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8) * 255).save(mask)
        change(root)

    return build


MASK = "ground_truth/crack/001_mask.png"
MVTEC: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "no mask": (mvtec(lambda r: (r / MASK).unlink()), "test/crack/001.png", f"no mask; it should be {MASK}"),
    "no image": (
        mvtec(lambda r: (r / "test/crack/001.png").unlink()),
        MASK,
        "a mask without its image; it should be test/crack/001.*",
    ),
    "no picture": (mvtec(lambda r: write(r / MASK, b"no picture")), MASK, "not an image that can be read"),
    "another size": (mvtec(lambda r: Image.new("L", (9, 9)).save(r / MASK)), MASK, "the mask is 9 × 9 pixels"),
}

FORMATS: dict[FormatName, dict[str, tuple[Callable[[Path], None], str, str]]] = {
    "coco": COCO,
    "csv": CSV,
    "labelme": LABELME,
    "mvtec": MVTEC,
    "voc": VOC,
    "yolo": YOLO,
}
CASES = [(form, name) for form, cases in FORMATS.items() for name in cases]


@pytest.mark.parametrize(("form", "case"), CASES)
def test_damage_is_named_with_place_and_remedy(form: FormatName, case: str, tmp_path: Path) -> None:
    build, place, message = FORMATS[form][case]
    build(tmp_path)
    _, _, problems = read(tmp_path, form)
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"{place}: ")
    assert message in problems[0]
    with pytest.raises(UserError, match="1 problems in the data; repair them, or leave them out"):
        survey(CropConfig(resolution=64, format=form), str(tmp_path))


@pytest.mark.parametrize(("form", "case"), CASES)
def test_damage_that_is_skipped_leaves_the_rest(form: FormatName, case: str, tmp_path: Path) -> None:
    FORMATS[form][case][0](tmp_path)
    _, images, problems = read(tmp_path, form)
    assert len(problems) == 1
    assert all(
        0 <= d.box[0] < d.box[2] <= WIDTH and 0 <= d.box[1] < d.box[3] <= HEIGHT for i in images for d in i.defects
    )
    if not any(image.defects for image in images):
        # Nothing is left of a data set of one file.
        assert "json" in problems[0] or "csv" in problems[0] or "yaml" in problems[0] or case == "no names"


def test_the_cases_reach_distinct_branches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Branches, not inputs: the lines of the formats that make a message."""
    reached: set[tuple[str, int]] = set()

    def recording(made: Any) -> None:
        original = made.__init__

        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            caller = sys._getframe(1)
            path = Path(caller.f_code.co_filename)
            # What only passes a message on is no branch of its own.
            if path.parent.name == "formats" and "tests" not in path.parts and sys.exc_info()[0] not in (Wrong,):
                reached.add((path.name, caller.f_lineno))
            original(self, *args, **kwargs)

        monkeypatch.setattr(made, "__init__", __init__)

    recording(Wrong)
    recording(Problem)
    for i, (form, case) in enumerate(CASES):
        FORMATS[form][case][0](tmp_path / str(i))
        read(tmp_path / str(i), form)
    print(f"{len(CASES)} kinds of damage reach {len(reached)} branches")
    assert len(reached) >= 60


def test_so_much_is_wrong_that_not_all_of_it_is_kept(tmp_path: Path) -> None:
    coco(tmp_path, lambda data: '{"images": [' + "0," * 150_000 + '0], "categories": [], "annotations": []}')
    _, _, problems = read(tmp_path, "coco")
    assert len(problems) == formats_reading.MOST_PROBLEMS + 1
    assert any("all after it was not read, so much is wrong" in problem for problem in problems)


def test_damage_in_deeppcbs_lines_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    for i in range(3):
        picture(folder / "00041" / f"0{i}_test.jpg")
    for i, text in enumerate(("9" * 4000 + " 1 9 9 1\n", "1 1 1e308 9 1\n", "\n" * ((8 << 20) + 1))):
        write(folder / "00041_not" / f"0{i}.txt", text)
    _, images, problems = read(tmp_path, "deeppcb")
    assert len(images) == len(problems) == 3
    assert "five whole numbers" in problems[0]
    assert "five whole numbers" in problems[1]
    assert "8 MB, more than the 8 MB that are read" in problems[2]


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    lines = "9 0.5 0.5 0.2 0.2\n0 0.5\n0 7 7 7 7\n"
    yolo(lines)(tmp_path)
    _, _, problems = read(tmp_path)
    assert [p.split(": ")[0] for p in problems] == ["labels/a.txt:1", "labels/a.txt:2", "labels/a.txt:3"]
    with pytest.raises(UserError) as caught:
        refuse([Problem(*p.split(": ", 1)) for p in problems])
    assert str(caught.value).count("\n") == 3
