"""What each format may say, beyond the drawn set."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.crop.annotations import AnnotatedImage
from components.crop.config import FormatName
from components.crop.formats.locating import Images
from components.crop.formats.reading import Wrong
from components.crop.formats.runs import expanded_counts
from components.crop.formats.shapes import pixel_box
from components.errors import UserError
from tests.components.crop.formats import drawn
from tests.components.crop.formats.reading import read
from tests.components.crop.formats.test_damaged import HEIGHT, WIDTH, picture, write


def defects(image: AnnotatedImage) -> list[tuple[str, tuple[int, int, int, int], int]]:
    return [(d.defect, d.box, d.area) for d in image.defects]


@pytest.mark.parametrize(
    ("edges", "box"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4)),
        ((0.9, 2.2, 3.4, 3.6), (1, 2, 3, 4)),
        ((-0.9, -0.3, 60.8, 40.5), (0, 0, 60, 40)),
        ((5.6, 5.6, 6.4, 6.4), (5, 5, 6, 6)),  # rounded, it would be empty
        ((59.8, 39.9, 60.2, 40), (59, 39, 60, 40)),
    ],
)
def test_a_box_lies_on_the_nearest_pixels(edges: tuple[float, ...], box: tuple[int, ...]) -> None:
    assert pixel_box(edges, (WIDTH, HEIGHT)) == box


@pytest.mark.parametrize("seed", range(5))
def test_compressed_run_lengths_are_pycocotools_own(seed: int) -> None:
    from pycocotools import mask as coco_mask

    rng = np.random.default_rng(seed)
    pixels = np.asfortranarray(rng.random((300, 217)) < rng.random() ** 3, np.uint8)
    counts = expanded_counts(coco_mask.encode(pixels)["counts"].decode())
    runs = np.repeat(np.arange(len(counts)) % 2, counts).reshape(pixels.shape, order="F")
    np.testing.assert_array_equal(runs, pixels)


@pytest.mark.parametrize(
    ("name", "near", "expected"),
    [
        ("a.png", "x/notes.json", "x/a.png"),
        ("..\\y\\a.png", "x/notes.json", "y/a.png"),
        ("y/a.png", "x/notes.json", "y/a.png"),
        (".\\b.png", "notes.json", "deep/down/b.png"),
        ("C:\\data\\set\\down\\b.png", "x/notes.json", "deep/down/b.png"),
        ("/home/ada/y/a.png", "x/notes.json", "y/a.png"),
        ("c.png", "annotations/instances_val.json", "images/val/c.png"),
        ("c.png", "images/train/notes.json", "images/train/c.png"),
    ],
)
def test_an_image_is_found_by_what_an_annotation_calls_it(name: str, near: str, expected: str) -> None:
    files = ["x/a.png", "y/a.png", "deep/down/b.png", "images/train/c.png", "images/val/c.png", "notes.json"]
    assert Images(files).locate(name, near) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train/b.png", "not among"),  # the folder that it names is another
        ("a.png", "may be any of x/a.png, y/a.png"),
        ("/elsewhere/a.png", "may be any of"),
        ("notes.json", "not among"),
        ("", "not among"),
        ("..", "not among"),
    ],
)
def test_an_image_is_not_guessed(name: str, message: str) -> None:
    with pytest.raises(Wrong, match=message):
        Images(["x/a.png", "y/a.png", "deep/b.png", "notes.json"]).locate(name, "z/notes.json")


def test_coco_in_several_files_about_the_same_image(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for i, name in enumerate(("dent", "scratch")):
        data = {
            "images": [{"id": "first", "file_name": "a.png"}],
            "categories": [{"id": 90 + i, "name": name}],
            "annotations": [{"id": 1, "image_id": "first", "category_id": 90 + i, "bbox": [i, 2.0, 5.4, 6]}],
        }
        write(tmp_path / "annotations" / f"{name}.json", data)
    picture(tmp_path / "unlisted.png")
    form, images, problems = read(tmp_path)
    assert (form, problems, len(images)) == ("coco", [], 1)
    assert defects(images[0]) == [("dent", (0, 2, 5, 8), 30), ("scratch", (1, 2, 6, 8), 30)]


def test_coco_masks_of_one_class_are_shown_together(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    parts = [[[1, 1, 6, 1, 6, 6, 1, 6], [10, 1, 14, 1, 14, 6, 10, 6]], [[20, 20, 30, 20, 30, 30, 20, 30]]]
    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "dent"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": part} for part in parts],
    }
    write(tmp_path / "a.json", data)
    _, (image,), problems = read(tmp_path)
    assert problems == []
    assert defects(image) == [("dent", (1, 1, 14, 6), 45), ("dent", (20, 20, 30, 30), 100)]
    assert image.defects[0].mask == image.defects[1].mask
    assert image.defects[0].mask is not None
    pixels = image.defects[0].mask.read()
    assert (pixels.shape, pixels.dtype, pixels.sum()) == ((HEIGHT, WIDTH), bool, 145)


def test_an_outline_between_the_pixels_has_no_area_and_is_left_out_as_too_small(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "dent"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [[9.1, 9.1, 9.2, 9.1, 9.2, 9.2]]}],
    }
    write(tmp_path / "a.json", data)
    _, (image,), problems = read(tmp_path)
    assert (defects(image), image.defects[0].mask, problems) == ([("dent", (9, 9, 10, 10), 0)], None, [])


def labelme(root: Path, *shapes: dict) -> AnnotatedImage:
    picture(root / "a.png")
    write(root / "a.json", {"shapes": list(shapes), "imagePath": "a.png", "imageData": "not read"})
    form, (image,), problems = read(root)
    assert (form, problems) == ("labelme", [])
    return image


def test_labelme_circles_are_round_and_end_at_the_edge(tmp_path: Path) -> None:
    whole = {"label": "pore", "shape_type": "circle", "points": [[20, 20], [20, 30]]}
    half = {"label": "rim", "shape_type": "circle", "points": [[60, 20], [50, 20]]}
    image = labelme(tmp_path, whole, half)
    assert [d[:2] for d in defects(image)] == [("pore", (10, 10, 30, 30)), ("rim", (50, 10, 60, 30))]
    assert image.defects[0].area == pytest.approx(np.pi * 100, rel=0.02)
    assert image.defects[1].area == pytest.approx(np.pi * 50, rel=0.02)


def test_labelme_shapes_of_one_group_are_one_defect(tmp_path: Path) -> None:
    def rectangle(label: str, x: int, group: int | None) -> dict:
        return {"label": label, "shape_type": "rectangle", "points": [[x, 9], [x + 4, 5]], "group_id": group}

    corners = [[0, 20], [8, 20], [8, 28], [1, 28]]
    outline = {"label": "c", "shape_type": "polygon", "points": corners, "group_id": 1}
    image = labelme(
        tmp_path, rectangle("a", 1, 1), rectangle("a", 9, 1), rectangle("a", 20, None), outline, rectangle("c", 30, 1)
    )
    assert [d[:2] for d in defects(image)] == [("a", (1, 5, 13, 9)), ("a", (20, 5, 24, 9)), ("c", (0, 5, 34, 28))]
    assert [d.mask is None for d in image.defects] == [True, True, False]
    assert image.defects[0].area == 32


def test_labelme_painted_masks(tmp_path: Path) -> None:
    painted = np.zeros((5, 7), np.uint8)
    painted[1:4, 2:6] = 1
    file = io.BytesIO()
    Image.fromarray(painted * 255).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    image = labelme(tmp_path, {"label": "x", "shape_type": "mask", "points": [[10, 20], [16, 24]], "mask": text})
    assert defects(image) == [("x", (12, 21, 16, 24), 12)]


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("image,class,x0,y0,x1,y1\na.png,dent,1,2,9,8\n", (1, 2, 9, 8)),
        ("filename;width;height;class;xmin;ymin;xmax;ymax\na.png;60;40;dent;1;2;9;8\n", (1, 2, 9, 8)),
        ("Label\tX\tY\tWidth\tHeight\tImage Path\ndent\t1\t2\t8\t6\tphotos/a.png\n", (1, 2, 9, 8)),
        ("\ufeffimage,x1,y1,x2,y2,class\r\n\r\n/data/photos/a.png,1.0,2.0,9.0,8.0,dent\r\n", (1, 2, 9, 8)),
        ("\n\nimage,class,x0,y0,x1,y1\na.png,dent,1,2,9,8\n", (1, 2, 9, 8)),
        ('image,label,left,top,w,h\n"a.png","dent", 1, 2, 8, 6\n', (1, 2, 9, 8)),
    ],
)
def test_tables_of_several_tools(text: str, box: tuple[int, ...], tmp_path: Path) -> None:
    picture(tmp_path / "photos" / "a.png")
    picture(tmp_path / "photos" / "good.png")
    header = text.lstrip().splitlines()[0]
    delimiter = max(",;\t", key=header.count)
    good = ["photos/good.png" if "image" in c.lower() or "file" in c else "" for c in header.split(delimiter)]
    write(tmp_path / "found.csv", text.encode() + delimiter.join(good).encode() + b"\n")
    form, images, problems = read(tmp_path)
    assert (form, problems) == ("csv", [])
    assert [(Path(i.path).name, [d[:2] for d in defects(i)]) for i in images] == [
        ("a.png", [("dent", box)]),
        ("good.png", []),
    ]


def test_yolo_names_hold_for_their_folder_and_missing_texts_are_good_images(tmp_path: Path) -> None:
    for line in ("one", "two"):
        write(tmp_path / line / "classes.txt", f"{line} dent\n{line} scratch\n")
        picture(tmp_path / line / "images" / "a.png")
        picture(tmp_path / line / "images" / "good.png")
        write(tmp_path / line / "labels" / "a.txt", "1 0.5 0.5 0.1 0.2\n\n")
    form, images, problems = read(tmp_path)
    assert (form, problems) == ("yolo", [])
    assert [(i.path, defects(i)) for i in images] == [
        ("one/images/a.png", [("one scratch", (27, 16, 33, 24), 48)]),
        ("one/images/good.png", []),
        ("two/images/a.png", [("two scratch", (27, 16, 33, 24), 48)]),
        ("two/images/good.png", []),
    ]


def test_yolo_oriented_boxes_are_polygons(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    write(tmp_path / "a.txt", "0 0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5\n")
    write(tmp_path / "data.yaml", "names:\n  0: dent\n")
    _, (image,), problems = read(tmp_path)
    assert problems == []
    # A diamond: its corners left and right reach the pixels' centres half a row later.
    assert image.defects[0].box == (16, 10, 44, 30)
    assert image.defects[0].area == pytest.approx(300, rel=0.05)


def test_captions_beside_images_are_no_yolo(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    write(tmp_path / "a.txt", "a photo of a dent")
    with pytest.raises(UserError, match="no annotated images"):
        read(tmp_path)


def test_voc_finds_images_by_stem_whatever_filename_says(tmp_path: Path) -> None:
    text = (
        "<annotation><filename>IMG_1.jpg</filename><size><width>60</width><height>40</height></size><object>"
        "<name>dent</name><bndbox><xmin>0</xmin><ymin>1</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>"
    )
    for line in ("one", "two"):
        picture(tmp_path / line / "a.png")
        write(tmp_path / line / "a.xml", text)
    write(tmp_path / "Annotations" / "b.xml", text)
    picture(tmp_path / "JPEGImages" / "b.png")
    form, images, problems = read(tmp_path)
    assert (form, problems) == ("voc", [])
    assert [i.path for i in images] == ["JPEGImages/b.png", "one/a.png", "two/a.png"]
    assert {d.box for i in images for d in i.defects} == {(0, 0, 9, 8)}


def test_several_products_and_several_masks_in_mvtecs_layout(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:9, 4:12] = 255
    for product, places in (("bottle", ["000_mask.png"]), ("screw", ["000/000.png", "000/001.png"])):
        picture(tmp_path / product / "train" / "good" / "000.png")
        picture(tmp_path / product / "test" / "good" / "000.png")
        picture(tmp_path / product / "test" / "crack" / "000.png")
        for place in places:
            path = tmp_path / product / "ground_truth" / "crack" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(mask, 20 * ("001" in place), axis=1)).save(path)
    form, images, problems = read(tmp_path)
    assert (form, problems, len(images)) == ("mvtec", [], 6)
    assert {i.path: defects(i) for i in images if i.defects} == {
        "bottle/test/crack/000.png": [("bottle_crack", (4, 3, 12, 9), 48)],
        "screw/test/crack/000.png": [("screw_crack", (4, 3, 12, 9), 48), ("screw_crack", (24, 3, 32, 9), 48)],
    }


def test_masks_in_ground_truth_and_in_folders_of_their_class(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:9, 4:12] = 255
    for place, image in (("dent/a_mask.png", "a.png"), ("Anomaly/b.png", "Anomaly/b.png")):
        picture(tmp_path / "images" / image)
        (tmp_path / "ground_truth" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "ground_truth" / place)
    form, images, problems = read(tmp_path)
    assert (form, problems) == ("masks", [])
    assert [(i.path, i.defects[0].defect) for i in images] == [
        ("images/Anomaly/b.png", "Anomaly"),
        ("images/a.png", "dent"),
    ]


def test_a_table_beside_masks_of_the_same_images_gives_way(tmp_path: Path) -> None:
    drawn.masks(tmp_path)
    drawn.table(tmp_path)
    form, images, problems = read(tmp_path)
    assert (form, problems, len(images)) == ("masks", [], 8)
    assert all(d.mask is not None for i in images for d in i.defects)
    assert read(tmp_path, "csv")[0] == "csv"


def test_a_table_of_other_images_does_not_give_way(tmp_path: Path) -> None:
    drawn.masks(tmp_path)
    picture(tmp_path / "more" / "z.png")
    write(tmp_path / "boxes.csv", "image,class,x0,y0,x1,y1\nmore/z.png,dent,1,2,9,9\n")
    with pytest.raises(UserError, match=r"set crop\.format to one of csv, masks"):
        read(tmp_path)


def test_two_formats_are_not_chosen_between(tmp_path: Path) -> None:
    drawn.EXACT["voc"][0](tmp_path / "one")
    drawn.EXACT["yolo darknet"][0](tmp_path / "two")
    with pytest.raises(UserError, match=r"set crop\.format to one of voc, yolo"):
        read(tmp_path)


def test_damage_in_two_formats_is_told_of_each(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    write(tmp_path / "a.xml", "")
    write(tmp_path / "boxes.csv", "image,class,x0,y0\na.png,dent,1,2\n")
    with pytest.raises(UserError, match="no annotation that can be read; repair it, or set crop.format") as caught:
        read(tmp_path)
    assert "  - as csv: boxes.csv: no column x0,y0,x1,y1" in str(caught.value)
    assert "  - as voc: a.xml: no Pascal VOC annotation, or damaged" in str(caught.value)


@pytest.mark.parametrize("form", ["coco", "csv", "labelme", "voc", "yolo"])
def test_files_of_other_things_are_no_annotations(form: FormatName, tmp_path: Path) -> None:
    drawn.masks(tmp_path)
    write(tmp_path / "info.json", json.dumps({"camera": 3}))
    write(tmp_path / "measured.csv", "image,seconds\na.png,3\n")
    write(tmp_path / "plan.xml", "<plan/>")
    write(tmp_path / "README.txt", "Boards of May.\n")
    write(tmp_path / "setup.yaml", "exposure: 3\n")
    assert read(tmp_path)[0] == "masks"
    with pytest.raises(UserError, match=f"arrange them as one of\n    {form}:"):
        read(tmp_path, form)
