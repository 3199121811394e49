"""Real images through the whole step: every annotated defect becomes a crop, whatever format says where it is."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from components.artifacts import SPLITS, CropSet, read_crops

Run = Callable[..., tuple[Path, CropSet]]
KINDS = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "copper", 6: "pin-hole"}


def lines_of(root: Path) -> list[tuple[str, list[int]]]:
    """Image and numbers of every line in DeepPCB's text files, without the reader that is tested."""
    found = []
    for path in sorted(root.glob("group*/*_not/*.txt")):
        image = path.parent.parent / path.parent.name.removesuffix("_not") / f"{path.stem}_test.jpg"
        for line in path.read_text().split("\n"):
            if line.strip():
                found.append((image.relative_to(root).as_posix(), [int(number) for number in line.split()]))
    return found


Pixels = dict[tuple[str, str, tuple[int, ...]], tuple[bytes, bytes | None]]


def contents(folder: Path) -> Pixels:
    """(split, source, window and box) → pixels of the crop and of its mask."""
    found: Pixels = {}
    for split in SPLITS:
        for crop in read_crops(folder, split):
            with Image.open(folder / split / crop.file_name) as image:
                pixels = image.tobytes()
            mask = None
            if crop.mask_file_name is not None:
                with Image.open(folder / split / crop.mask_file_name) as image:
                    mask = image.tobytes()
            found[split, crop.source, (*crop.window, *crop.box)] = pixels, mask
    return found


def total(crop_set: CropSet) -> dict[str, int]:
    return {name: sum(of.values()) for name, of in crop_set.counts.items()}


def link(root: Path, target: Path, pattern: str) -> None:
    """The images of `root` alone, at the same paths below `target`."""
    for path in root.glob(pattern):
        place = target / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)


def test_every_line_of_deeppcb_is_a_crop_and_a_table_gives_the_same(
    shared_data: Path, run: Run, tmp_path: Path
) -> None:
    root = shared_data / "deeppcb"
    lines = lines_of(root)
    folder, crop_set = run(root, lookalikes="keep")
    assert total(crop_set) == Counter(KINDS[numbers[4]] for _, numbers in lines)
    assert sum(total(crop_set).values()) == 2302
    expected = contents(folder)

    link(root, tmp_path / "table", "group*/*/*_test.jpg")
    with (tmp_path / "table" / "boxes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "x0", "y0", "x1", "y1", "class"])
        writer.writerows([image, *numbers[:4], KINDS[numbers[4]]] for image, numbers in lines)
    folder, crop_set = run(tmp_path / "table", format="csv", lookalikes="keep")
    assert total(crop_set) == Counter(KINDS[numbers[4]] for _, numbers in lines)
    assert contents(folder) == expected


def test_every_tile_with_a_mask_is_a_crop_and_its_run_lengths_give_the_same(
    shared_data: Path, run: Run, tmp_path: Path
) -> None:
    root = shared_data / "magnetic-tile"
    folder, crop_set = run(root, lookalikes="keep")
    # One blow-hole a tile: each of these masks is one piece.
    assert total(crop_set) == {"MT_Blowhole": len(list(root.glob("MT_Blowhole/Imgs/*.jpg")))} == {"MT_Blowhole": 115}
    expected = contents(folder)

    link(root, tmp_path / "coco", "*/Imgs/*.jpg")
    images, annotations = [], []
    for i, path in enumerate(sorted(root.glob("*/Imgs/*.jpg"))):
        with Image.open(path.with_suffix(".png")) as mask:
            pixels = np.asarray(mask.convert("L")) > 127
        size = {"width": pixels.shape[1], "height": pixels.shape[0]}
        images.append({"id": i, "file_name": path.relative_to(root).as_posix(), **size})
        if pixels.any():
            rle = coco_mask.encode(np.asfortranarray(pixels, np.uint8))
            runs = {"size": rle["size"], "counts": rle["counts"].decode()}
            annotations.append({"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "segmentation": runs})
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "MT_Blowhole"}]}
    (tmp_path / "coco" / "tiles.json").write_text(json.dumps(data))
    folder, crop_set = run(tmp_path / "coco", lookalikes="keep")
    assert total(crop_set) == {"MT_Blowhole": 115}
    assert contents(folder) == expected
    assert all(mask is not None for _, mask in expected.values())
