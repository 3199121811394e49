from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.crop.annotations import AnnotatedImage
from components.crop.config import FormatName
from components.crop.formats import recognise
from components.crop.formats.masks import class_of
from components.dataset import list_folder
from components.errors import UserError
from tests.components.crop.conftest import Boards


def read(root: Path, setting: FormatName = "auto", join: int = 0) -> tuple[str, list[AnnotatedImage], list[str]]:
    """Format, images and problems of a folder."""
    files = [file.path for file in list_folder(root, "dataset")]
    form, found = recognise(setting, root.name, root, files)
    images = [form.read(root.name, root, item, join) for item in found.images]
    problems = [*found.problems, *(p for image in images for p in image.problems)]
    return form.name, images, [str(p) for p in problems]


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


PHOTO = np.full((40, 60), 128, np.uint8)
MASK = np.zeros((40, 60), np.uint8)
MASK[10:20, 5:15] = MASK[30:35, 40:50] = 255
BOXES = [(5, 10, 15, 20), (40, 30, 50, 35)]


def test_deeppcb_boxes_become_defects_and_templates_are_not_read(boards: Boards) -> None:
    template = boards.root / "group1" / "g1" / "000_temp.png"
    save(template, PHOTO)
    boards.add("good", [])
    boards.add("commas", ["1,2,31,42,3"])
    name, images, problems = read(boards.root)
    assert (name, len(images), problems) == ("deeppcb", 14, [])
    by_name = {Path(i.path).name: i for i in images}
    assert [(d.defect, d.box) for d in by_name["000_test.png"].defects] == [
        ("open", (20, 30, 40, 60)),
        ("pin-hole", (100, 100, 130, 120)),
    ]
    assert by_name["good_test.png"].defects == ()
    assert [(d.defect, d.box, d.area) for d in by_name["commas_test.png"].defects] == [
        ("mousebite", (1, 2, 31, 42), 1200)
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("20 30 40 60 7", "kind 7 is unknown; known: 1 open"),
        ("20 30 40 60", "five whole numbers"),
        ("20 30 40 60 open", "five whole numbers"),
        ("40 30 20 60 1", "empty or its corners are swapped"),
        ("20 30 20 60 1", "empty or its corners are swapped"),
        ("150 100 201 120 1", "leaves the image, which is 200 × 160 pixels"),
        ("-1 100 20 120 1", "leaves the image"),
    ],
)
def test_a_wrong_deeppcb_line_is_named_with_its_number(boards: Boards, line: str, message: str) -> None:
    boards.add("bad", ["1 2 30 40 1", line])
    _, images, problems = read(boards.root)
    assert len(problems) == 1
    assert problems[0].startswith("group1/g1_not/bad.txt:2: ")
    assert message in problems[0]
    assert len({Path(i.path).name: i for i in images}["bad_test.png"].defects) == 1


def test_deeppcb_halves_are_reported(boards: Boards) -> None:
    boards.add("lonely", None)
    boards.add("gone", ["1 2 30 40 1"]).unlink()
    _, images, problems = read(boards.root)
    assert len(images) == 12
    assert [p.split(":")[0] for p in problems] == [
        "group1/g1/lonely_test.png",
        "group1/g1_not/gone.txt",
    ]
    assert "it should be group1/g1_not/lonely.txt" in problems[0]


def test_a_mask_beside_its_image_in_another_format(tmp_path: Path) -> None:
    save(tmp_path / "MT_Blowhole" / "Imgs" / "a.jpg", PHOTO)
    save(tmp_path / "MT_Blowhole" / "Imgs" / "a.png", MASK)
    save(tmp_path / "MT_Free" / "Imgs" / "b.jpg", PHOTO)
    save(tmp_path / "MT_Free" / "Imgs" / "b.png", MASK * 0)
    name, images, problems = read(tmp_path)
    assert (name, problems) == ("masks", [])
    assert [i.path for i in images] == ["MT_Blowhole/Imgs/a.jpg", "MT_Free/Imgs/b.jpg"]
    assert [(d.defect, d.box) for d in images[0].defects] == [("MT_Blowhole", box) for box in BOXES]
    assert images[1].defects == ()
    mask = images[0].defects[0].mask
    assert mask is not None
    np.testing.assert_array_equal(mask.read(), MASK > 0)


def test_a_mask_beside_its_image_with_a_suffix(tmp_path: Path) -> None:
    save(tmp_path / "scratch" / "a.png", PHOTO)
    save(tmp_path / "scratch" / "a_mask.png", MASK)
    save(tmp_path / "scratch" / "good.png", PHOTO)
    _, images, problems = read(tmp_path)
    assert problems == []
    assert [(i.path, len(i.defects)) for i in images] == [("scratch/a.png", 2), ("scratch/good.png", 0)]
    assert images[0].defects[0].defect == "scratch"


@pytest.mark.parametrize("top", ["", "line 3/"])
def test_masks_in_folders_of_their_class(tmp_path: Path, top: str) -> None:
    save(tmp_path / f"{top}images" / "a.png", PHOTO)
    save(tmp_path / f"{top}images" / "good.png", PHOTO)
    save(tmp_path / f"{top}masks" / "open" / "a.png", MASK)
    save(tmp_path / f"{top}masks" / "short" / "a.png", MASK)
    _, images, problems = read(tmp_path)
    assert problems == []
    assert [(Path(i.path).name, len(i.defects)) for i in images] == [("a.png", 4), ("good.png", 0)]
    assert {d.defect for d in images[0].defects} == {"open", "short"}


def test_masks_in_folders_like_those_of_the_images(tmp_path: Path) -> None:
    root = tmp_path / "scratches"
    save(root / "images" / "train" / "a.jpg", PHOTO)
    save(root / "masks" / "train" / "a.png", MASK)
    _, images, problems = read(root)
    assert problems == []
    assert [d.defect for d in images[0].defects] == ["scratches", "scratches"]


def test_wrong_masks_are_reported(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", PHOTO)
    save(tmp_path / "masks" / "open" / "a.png", MASK[:, :30])
    save(tmp_path / "masks" / "short" / "a.png", np.arange(60, dtype=np.uint8) * np.ones((40, 1), np.uint8))
    save(tmp_path / "masks" / "open" / "lonely.png", MASK)
    (tmp_path / "masks" / "spur").mkdir()
    (tmp_path / "masks" / "spur" / "a.png").write_bytes(b"no image")
    _, images, problems = read(tmp_path)
    assert images[0].defects == ()
    assert [p.split(":")[0] for p in problems] == [
        "masks/open/lonely.png",
        "masks/open/a.png",
        "masks/short/a.png",
        "masks/spur/a.png",
    ]
    for problem, said in zip(
        problems, ("images/lonely.*", "30 × 40 pixels but images/a.png is 60 × 40", "binary", "damaged")
    ):
        assert said in problem


def test_an_ambiguous_mask_is_reported(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.bmp", "b.jpg", "b.png"):
        save(tmp_path / "spot" / name, MASK)
    _, images, problems = read(tmp_path)
    assert len(images) == 1
    assert "which of" in problems[0]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("MT_Blowhole/Imgs/a.png", "MT_Blowhole"),
        ("scratch/train/images/a.png", "scratch"),
        ("images/a.png", "screws"),
        ("a.png", "screws"),
        ("masks/dent/deep/a.png", "dent"),
        ("head/masks/a.png", "head"),
        ("head/masks/train/a.png", "head"),
    ],
)
def test_the_class_is_the_nearest_folder_that_names_one(path: str, expected: str) -> None:
    assert class_of(path, "screws") == expected
    assert class_of("images/a.png", "data") == "defect"


def test_nothing_recognised_shows_what_would_be(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", PHOTO)
    (tmp_path / "plan.xml").write_text("<plan/>")
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    message = str(caught.value)
    for said in ("1 .jpg", "1 .xml", "deeppcb:", "x1 y1 x2 y2 kind", "masks:", "masks/scratch/a.png"):
        assert said in message


def test_two_formats_at_once_are_refused_unless_one_is_chosen(boards: Boards) -> None:
    save(boards.root / "scratch" / "a.png", PHOTO)
    save(boards.root / "scratch" / "a_mask.png", MASK)
    with pytest.raises(UserError, match=r"set crop\.format to one of deeppcb, masks"):
        read(boards.root)
    assert read(boards.root, "deeppcb")[0] == "deeppcb"


def test_hidden_files_are_not_data(tmp_path: Path) -> None:
    save(tmp_path / "scratch" / "a.jpg", PHOTO)
    save(tmp_path / "scratch" / "a.png", MASK)
    for name in (".a.jpg", "__MACOSX/scratch/._b.png", "Thumbs.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    _, images, problems = read(tmp_path)
    assert (len(images), problems) == (1, [])
