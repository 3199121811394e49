"""Whatever the boxes, masks and image sizes: no crop leaves its image, stretches, loses its mask or crosses the split.

Each image is a picture of its own coordinates (red: column, green: row, blue: which image), so that the crops' pixels
themselves say where they were cut.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.artifacts import SPLITS, Crop
from components.crop.annotations import AnnotatedImage
from components.crop.config import CropConfig
from components.crop.cutting import Made, cut_crops
from components.crop.formats.polygons import polygon_instance
from components.crop.formats.shapes import Instance, box_instance, defects_of, mask_instance
from components.crop.plan import Area, Planned, plan_crops, split_of
from components.crop.window import Box

SIDE = 200


@dataclass(frozen=True)
class Drawn:
    """A data set of images that show their own coordinates."""

    config: CropConfig
    images: list[AnnotatedImage]


@st.composite
def instances(draw: st.DrawFn, width: int, height: int) -> Instance:
    """A defect of one of two classes: a box, a polygon or scattered pixels."""
    name = draw(st.sampled_from(["dent", "scratch"]))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    kind = draw(st.sampled_from(["box", "polygon", "pixels"]))
    if kind == "box":
        return box_instance(name, (x0, y0, x1, y1), (width, height))
    if kind == "polygon":
        corners = st.tuples(st.floats(x0, x1), st.floats(y0, y1))
        points = draw(st.lists(corners, min_size=3, max_size=6))
        return polygon_instance(name, [[value for point in points for value in point]], (width, height))
    pixels = np.zeros((height, width), bool)
    density = draw(st.sampled_from([0.02, 0.3, 1.0]))
    pixels[y0:y1, x0:x1] = np.random.default_rng(draw(st.integers(0, 99))).random((y1 - y0, x1 - x0)) < density
    pixels[y0, x0] = True
    return mask_instance(name, pixels, (0, 0), (width, height))


@st.composite
def data_sets(draw: st.DrawFn) -> Drawn:
    config = CropConfig(
        resolution=draw(st.sampled_from([32, 64])),
        context=draw(st.sampled_from([0.0, 0.25, 1.3])),
        min_context=draw(st.sampled_from([0, 11])),
        large=draw(st.sampled_from(["reduce", "tile"])),
        join_boxes=draw(st.booleans()),
        normal_per_image=draw(st.integers(0, 2)),
        min_area=draw(st.sampled_from([0, 1, 9])),
        same_part=draw(st.sampled_from([None, r"part\d+"])),
        split_seed=draw(st.integers(0, 9)),
    )
    images = []
    for i in range(draw(st.integers(2, 5))):
        width, height = draw(st.integers(1, SIDE)), draw(st.integers(1, SIDE))
        # One image on each side at least, with both classes: without them the step refuses the data.
        side = SPLITS[i % 2]
        path = next(p for j in range(100) if split_of(p := f"part{j}-{i}.png", config) == side)
        found = draw(st.lists(instances(width, height), max_size=4))
        if i < 2:
            whole = np.ones((height, width), bool)
            found += [mask_instance(name, whole, (0, 0), (width, height)) for name in ("dent", "scratch")]
        images.append(AnnotatedImage(path, (width, height), defects_of(found, (width, height))))
    if any(image.size[0] * image.size[1] < config.min_area for image in images[:2]):
        config = config.model_copy(update={"min_area": 0})
    return Drawn(config, images)


def write(root: Path, images: list[AnnotatedImage]) -> None:
    for number, image in enumerate(images):
        width, height = image.size
        pixels = np.empty((height, width, 3), np.uint8)
        pixels[..., 0], pixels[..., 1], pixels[..., 2] = np.arange(width), np.arange(height)[:, None], number
        Image.fromarray(pixels).save(root / image.path)


def reflected(start: int, stop: int, extent: int) -> np.ndarray:
    """The column (or row) of an image of `extent` that shows at each place from `start` to `stop`."""
    if extent == 1:
        return np.zeros(stop - start, int)
    there = np.arange(start, stop) % (2 * extent - 2)
    return np.minimum(there, 2 * extent - 2 - there)


def require_shows_its_window(pixels: np.ndarray, crop: Crop, image: AnnotatedImage, number: int) -> None:
    x0, y0, x1, y1 = crop.window
    assert x1 - x0 == y1 - y0
    for low, high, extent in ((x0, x1, image.size[0]), (y0, y1, image.size[1])):
        # Past its edges only where the image is smaller than the window.
        assert (low >= 0 and high <= extent) or (low <= 0 and extent <= high)
    columns, rows = reflected(x0, x1, image.size[0]), reflected(y0, y1, image.size[1])
    assert (pixels[..., 2] == number).all()
    if x1 - x0 == len(pixels):
        np.testing.assert_array_equal(pixels[..., 0], np.broadcast_to(columns, pixels.shape[:2]))
        np.testing.assert_array_equal(pixels[..., 1], np.broadcast_to(rows[:, None], pixels.shape[:2]))
        return
    # Reduced: along a straight ramp the mean stays; both axes by the same factor. Not where it turns or ends.
    scale = (x1 - x0) / len(pixels)
    centres = (np.arange(len(pixels)) + 0.5) * scale - 0.5
    for values, shown in ((columns, pixels[len(pixels) // 2, :, 0]), (rows, pixels[:, len(pixels) // 2, 1])):
        reach = int(np.ceil(3 * scale)) + 1
        turns = np.flatnonzero(np.diff(values, 2)) + 1 if len(values) > 2 else np.empty(0, int)
        ends = np.concatenate([turns, [0, len(values) - 1]])
        straight = np.abs(centres[:, None] - ends).min(axis=1) > reach
        expected = np.interp(centres, np.arange(len(values)), values)
        assert (np.abs(shown[straight] - expected[straight]) <= 1).all()


def require_keeps_its_mask(mask: np.ndarray, source: np.ndarray, crop: Crop, size: tuple[int, int]) -> None:
    """Every pixel of the mask in the window is in a pixel of the crop that is set, or beside one."""
    x0, y0, x1, y1 = crop.window
    columns, rows = reflected(x0, x1, size[0]), reflected(y0, y1, size[1])
    there = source[np.ix_(rows, columns)]
    if len(there) == len(mask):
        np.testing.assert_array_equal(mask, there)
        return
    near = np.zeros_like(mask)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near |= np.roll(np.pad(mask, 1), (dy, dx), (0, 1))[1:-1, 1:-1]
    # A pixel on the border between two of the crop is the first one's.
    y, x = (-((2 * v + 1) * -len(mask) // (2 * len(there))) - 1 for v in np.nonzero(there))
    assert near[y, x].all()
    left, top, right, bottom = crop.box
    assert mask[top:bottom, left:right].any()


def overlap(a: Box, b: Box) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def require_shows_its_defect(planned: Planned, crop: Crop, config: CropConfig, folder: Path) -> None:
    x0, y0, x1, y1 = crop.window
    whole = x0 <= planned.defect.box[0] < planned.defect.box[2] <= x1
    whole &= y0 <= planned.defect.box[1] < planned.defect.box[3] <= y1
    # A tile shows a part, at the image's own resolution.
    assert whole or (
        config.large == "tile" and x1 - x0 == config.resolution and overlap(planned.defect.box, crop.window)
    )
    assert (crop.mask_file_name is None) == (planned.defect.mask is None)
    if planned.defect.mask is not None:
        with Image.open(folder / planned.split / f"masks/{planned.file}") as file:
            mask = np.asarray(file)
        assert set(np.unique(mask)) <= {0, 255}
        size = planned.defect.mask.read().shape[::-1]
        require_keeps_its_mask(mask > 0, planned.defect.mask.read(), crop, size)


def require_are_covered(image: AnnotatedImage, config: CropConfig, planned: list[Planned]) -> None:
    """Every defect that is used lies in one window, or in several together but for parts below `min_area`."""
    for defect in image.defects:
        if defect.area < config.min_area:
            continue
        x0, y0, x1, y1 = defect.box
        missing = np.ones((y1 - y0, x1 - x0), bool) if defect.mask is None else defect.mask.read()[y0:y1, x0:x1].copy()
        windows = [p.window for p in planned if p.defect.defect == defect.defect]
        for left, top, right, bottom in windows:
            missing[max(0, top - y0) : max(0, bottom - y0), max(0, left - x0) : max(0, right - x0)] = False
        assert missing.sum() <= (max(1, config.min_area) - 1) * 9 * (config.large == "tile")


@settings(max_examples=150, deadline=None)
@given(data_sets())
def test_no_crop_leaves_its_image_stretches_loses_its_mask_or_crosses_the_split(drawn: Drawn) -> None:
    by_path = {image.path: (number, image) for number, image in enumerate(drawn.images)}
    plan = plan_crops(drawn.config, drawn.images)
    parts: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write(root, drawn.images)
        cut = cut_crops(drawn.config, root, plan, root / "out")
        made: list[Made[Planned] | Made[Area]] = [*cut.made, *cut.normal]
        assert (cut.problems, len(made)) == ([], len(plan.crops) + len(plan.normal))
        assert len({m.path for m in made}) == len(made)
        for m in made:
            number, image = by_path[m.crop.source]
            part = m.crop.source.split("-")[0] if drawn.config.same_part else m.crop.source
            parts.setdefault(part, set()).add(m.planned.split)
            with Image.open(root / "out" / m.path) as file:
                assert (file.mode, file.size) == ("RGB", (drawn.config.resolution,) * 2)
                require_shows_its_window(np.asarray(file).astype(int), m.crop, image, number)
            if isinstance(m.planned, Planned):
                require_shows_its_defect(m.planned, m.crop, drawn.config, root / "out")
            else:
                assert all(overlap(defect.box, m.crop.window) == 0 for defect in image.defects)
        for image in drawn.images:
            require_are_covered(image, drawn.config, [p for p in plan.crops if p.source == image.path])
    assert all(len(sides) == 1 for sides in parts.values())
