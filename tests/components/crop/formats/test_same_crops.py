"""One set in every format gives the same crops; outlines agree with the pixels they were drawn around."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from components.artifacts import SPLITS, CropSet, read_crops
from components.crop.annotations import AnnotatedImage
from components.crop.formats.polygons import polygon_instance
from tests.components.crop.formats import drawn
from tests.components.crop.formats.drawn import EXACT, OUTLINED, STEMS, boxes, truth
from tests.components.crop.formats.reading import read

Run = Callable[..., tuple[Path, CropSet]]
Pixels = dict[tuple[str, str, tuple[int, ...]], tuple[bytes, bytes | None]]


def cut(run: Run, root: Path) -> Pixels:
    """(class, image's stem, window) → pixels of the crop and of its mask."""
    # Every image on the side that it has in another layout too.
    folder, _ = run(root, join=0, same_part=r"part-\d+", split_seed=3)
    made: Pixels = {}
    for split in SPLITS:
        for crop in read_crops(folder, split):
            with Image.open(folder / split / crop.file_name) as image:
                pixels = image.tobytes()
            mask = None
            if crop.mask_file_name:
                with Image.open(folder / split / crop.mask_file_name) as image:
                    mask = image.tobytes()
            made[crop.defect, f"{split} {PurePosixPath(crop.source).stem}", (*crop.window, *crop.box)] = pixels, mask
    shutil.rmtree(folder)
    return made


@pytest.mark.parametrize("name", EXACT)
def test_the_same_crops_pixel_for_pixel(name: str, run: Run, tmp_path: Path) -> None:
    drawn.masks(tmp_path / "masks")
    expected = cut(run, tmp_path / "masks")
    assert len(expected) == sum(len(boxes(stem)) for stem in STEMS) == 23
    layout, form, with_masks = EXACT[name]
    layout(tmp_path / "data")
    assert read(tmp_path / "data")[0] == form
    made = cut(run, tmp_path / "data")
    assert made.keys() == expected.keys()
    for key, (pixels, mask) in made.items():
        assert pixels == expected[key][0], key
        assert mask == (expected[key][1] if with_masks else None), key


@pytest.mark.parametrize("name", OUTLINED)
def test_outlines_agree_with_the_pixels(name: str, tmp_path: Path) -> None:
    layout, form = OUTLINED[name]
    layout(tmp_path)
    found, images, problems = read(tmp_path)
    assert (found, problems, len(images)) == (form, [], len(STEMS))
    overlaps = [overlap for image in images for overlap in overlaps_of(image)]
    assert len(overlaps) >= 8
    assert min(overlaps) >= 0.98
    for image in images:
        for defect in image.defects:
            assert any(
                name == defect.defect and np.abs(np.subtract(region.box, defect.box)).max() <= 1
                for name, region in boxes(Path(image.path).stem)
            )


def overlaps_of(image: AnnotatedImage) -> list[float]:
    """Intersection over union with the true mask, for each defect that has one, within its box."""
    masks = truth(Path(image.path).stem)
    overlaps = []
    for defect in image.defects:
        if defect.mask is not None:
            x0, y0, x1, y1 = defect.box
            window = np.s_[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2]
            mine, true = defect.mask.read()[window], masks[defect.defect][window]
            overlaps.append(float((mine & true).sum() / (mine | true).sum()))
    return overlaps


def test_contours_through_the_centres_of_pixels_are_known_as_such(tmp_path: Path) -> None:
    """What supervision writes: OpenCV's contours, which as outlines would lose half a pixel all around."""
    drawn.write_yolo_polygons(tmp_path)
    found, images, problems = read(tmp_path)
    assert (found, problems, len(images)) == ("yolo", [], len(STEMS))
    for image in images:
        assert min(overlaps_of(image)) >= 0.999
        assert {(d.defect, d.box) for d in image.defects} == {(n, r.box) for n, r in boxes(Path(image.path).stem)}


@pytest.mark.parametrize(
    ("polygon", "area"),
    [
        ([4, 5, 9, 5, 9, 10, 4, 10], 25),  # edges of a square
        ([4, 5, 9, 5, 9, 8, 6, 8, 6, 10, 4, 10], 19),  # edges of an L
        ([4, 5, 8, 5, 9, 6, 9, 10, 4, 10], 35),  # pixels: a square of six without a corner
        ([4, 5, 8, 5, 9.4, 6.4, 9, 10, 4, 10], 25),  # drawn by hand
    ],
)
def test_edges_and_pixels_are_told_apart(polygon: list[float], area: int) -> None:
    assert polygon_instance("x", [polygon], (20, 20)).area == area


def test_yolo_polygons_of_the_outlines_agree_with_the_pixels(tmp_path: Path) -> None:
    """The polygons that Datumaro wrote, as fractions."""
    drawn.OUTLINED["coco polygons"][0](tmp_path / "coco")
    _, images, _ = read(tmp_path / "coco")
    reference = {Path(i.path).stem: i for i in images}
    drawn.write_yolo_polygons(tmp_path / "yolo")
    for part in ("train", "val"):
        data = json.loads((tmp_path / "coco" / "annotations" / f"instances_{part}.json").read_text())
        stems = {row["id"]: Path(row["file_name"]).stem for row in data["images"]}
        for stem in stems.values():
            lines = []
            for row in data["annotations"]:
                if stems[row["image_id"]] == stem:
                    points = np.reshape(row["segmentation"][0], (-1, 2)) / (drawn.WIDTH, drawn.HEIGHT)
                    lines.append(f"{row['category_id'] - 1} " + " ".join(f"{v:.6f}" for v in points.ravel()))
            (tmp_path / "yolo" / "labels" / f"{stem}.txt").write_text("\n".join(lines))
    _, images, problems = read(tmp_path / "yolo")
    assert problems == []
    for image in images:
        assert min(overlaps_of(image)) >= 0.98
        assert [d.box for d in image.defects] == [d.box for d in reference[Path(image.path).stem].defects]


@pytest.mark.parametrize("seed", range(20))
def test_a_polygon_covers_what_a_finer_drawing_of_it_covers(seed: int) -> None:
    """Against Pillow at sixteen times the size: irregular, concave outlines of a few hundred pixels and more."""
    rng = np.random.default_rng(seed)
    radius, scale = rng.uniform(16, 48), 16
    angles = np.sort(rng.uniform(0, 2 * np.pi, 30))
    r = radius * rng.uniform(0.55, 1.0, 30)
    points = np.stack([50 + r * np.cos(angles), 50 + r * np.sin(angles)], axis=1)
    fine = Image.new("L", (100 * scale, 100 * scale))
    ImageDraw.Draw(fine).polygon([tuple(p) for p in points * scale], fill=1)
    cover = np.asarray(fine).reshape(100, scale, 100, scale).mean(axis=(1, 3))
    instance = polygon_instance("x", [points.ravel().tolist()], (100, 100))
    mine = coco_mask.decode(instance.rle).astype(bool)
    at_centres = cover >= 0.5
    assert (mine & at_centres).sum() / (mine | at_centres).sum() >= 0.98, radius


def test_pascal_voc_counted_from_0_is_a_pixel_larger(tmp_path: Path) -> None:
    """Datumaro's boxes: read as counted from 1, they reach one pixel further to the left and the top."""
    drawn.write_voc_from_0(tmp_path)
    _, images, problems = read(tmp_path)
    assert problems == []
    for image in images:
        grown = {
            (name, (max(0, r.box[0] - 1), max(0, r.box[1] - 1), *r.box[2:])) for name, r in boxes(Path(image.path).stem)
        }
        assert {(d.defect, d.box) for d in image.defects} == grown
