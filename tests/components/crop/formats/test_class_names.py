"""Names of classes that can stand in no prompt, file or log: every format refuses them, and so do the settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
from PIL import Image

from components.crop.class_names import LONGEST
from components.crop.config import CropConfig, FormatName
from components.crop.formats import FORMATS
from components.crop.survey import census
from components.errors import UserError
from components.settings import decode
from tests.components.crop.formats.reading import read

BAD = {
    "a colour": ("\x1b[31mdent", r"'\x1b[31mdent' holds control characters or is no valid text"),
    "half a surrogate pair": ("\ud800", r"'\ud800' holds control characters or is no valid text"),
    "another line": ("dent\u2028error: x", r"'dent\u2028error: x' holds control characters"),
    "a direction": ("\u202etned", r"'\u202etned' holds control characters"),
    "C1": ("dent\x9b2J", r"'dent\x9b2J' holds control characters"),
    "too long": ("d" * (LONGEST + 1), "is longer than 200 characters"),
}


def coco(root: Path, name: str) -> None:
    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": name}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 8, 8]}],
    }
    (root / "a.json").write_text(json.dumps(data))


def labelme(root: Path, name: str) -> None:
    shape = {"label": name, "points": [[2, 2], [9, 9]], "shape_type": "rectangle"}
    (root / "a.json").write_text(json.dumps({"shapes": [shape], "imagePath": "a.png"}))


def voc(root: Path, name: str) -> None:
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    size = "<size><width>30</width><height>20</height></size>"
    text = f"<annotation>{size}<object><name>{escape(name)}</name>{box}</object></annotation>"
    (root / "a.xml").write_text(text, "utf-8")


def yolo(root: Path, name: str) -> None:
    (root / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text(f"names: {{0: {json.dumps(name)}}}")


def csv(root: Path, name: str) -> None:
    (root / "boxes.csv").write_text(f"image,class,x0,y0,x1,y1\na.png,{name},2,2,9,9\n", "utf-8")


def drawn(path: Path) -> None:
    path.parent.mkdir(parents=True)
    Image.fromarray(np.eye(20, 30, dtype=np.uint8) * 255).save(path)


def masks(root: Path, name: str) -> None:
    (root / "images").mkdir()
    (root / "a.png").rename(root / "images" / "a.png")
    drawn(root / "masks" / name / "a.png")


def mvtec(root: Path, name: str) -> None:
    (root / "test" / name).mkdir(parents=True)
    (root / "a.png").rename(root / "test" / name / "a.png")
    drawn(root / "ground_truth" / name / "a_mask.png")


#: Format → writes a data set of one image with one class. DeepPCB's classes are numbers.
WRITERS: dict[FormatName, Callable[[Path, str], None]] = {
    "coco": coco,
    "csv": csv,
    "labelme": labelme,
    "masks": masks,
    "mvtec": mvtec,
    "voc": voc,
    "yolo": yolo,
}
#: What no file of the format can hold: text is UTF-8, and XML knows no colours. Such a file is damaged altogether.
IMPOSSIBLE = {("half a surrogate pair", form) for form in ("csv", "masks", "mvtec", "voc")} | {("a colour", "voc")}
CASES = [(bad, form) for bad in BAD for form in WRITERS if (bad, form) not in IMPOSSIBLE]


def test_every_format_is_tried() -> None:
    assert WRITERS.keys() | {"deeppcb"} == FORMATS.keys()


@pytest.mark.parametrize(("bad", "form"), CASES)
def test_a_name_that_can_be_written_nowhere_is_a_problem_of_its_file(
    bad: str, form: FormatName, tmp_path: Path
) -> None:
    name, message = BAD[bad]
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    WRITERS[form](tmp_path, name)
    _, images, problems = read(tmp_path, form)
    assert not any(image.defects for image in images)
    assert any(message in problem for problem in problems), problems
    assert all(problem.isprintable() and len(problem) < 1000 for problem in problems)
    assert census(form, "data", tmp_path).defects == {}


@pytest.mark.parametrize("form", WRITERS)
def test_other_names_are_taken(form: FormatName, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    WRITERS[form](tmp_path, "Lötstelle #1 خط\u200cخوردگی")
    _, images, problems = read(tmp_path, form)
    assert problems == []
    assert [d.defect for image in images for d in image.defects] == ["Lötstelle #1 خط\u200cخوردگی"]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("settings", [lambda name: {"classes": [name]}, lambda name: {"prompts": {name: "x"}}])
def test_such_a_name_in_the_settings_is_refused_with_its_key(bad: str, settings: Callable[[str], dict]) -> None:
    with pytest.raises(UserError) as caught:
        decode(CropConfig, settings(BAD[bad][0]), "crop")
    assert str(caught.value).startswith(("crop.classes: ", "crop.prompts: ", r"crop.prompts.\ud800: "))
    assert all(line.isprintable() for line in str(caught.value).splitlines())
