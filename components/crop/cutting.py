"""Make planned crops: read each source image once, cut its crops, write them as PNG.

One image is in memory for each worker. The files do not depend on the number of workers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

from components.artifacts import Crop
from components.crop.annotations import Mask, Problem
from components.crop.config import CropConfig
from components.crop.images import Unreadable, read_rgb
from components.crop.plan import Planned
from components.crop.window import box_in_crop, cut_image, cut_mask
from components.parallel import parallel
from components.progress import Progress

# Files of nearly the size that level 6 makes, in two thirds of the time.
_PNG_LEVEL = 3

#: Side of the small grey version of a crop, pixels.
SMALL = 32


@dataclasses.dataclass(frozen=True)
class Made:
    """One crop that was written."""

    planned: Planned
    crop: Crop
    digest: str  #: sha256 of its pixels, its mask's pixels and its metadata
    #: `SMALL` × `SMALL` grey levels, taken while the crop is in memory, so that none is decoded again
    small: np.ndarray = dataclasses.field(compare=False, repr=False)


def cut_crops(
    config: CropConfig, root: Path, planned: Sequence[Planned], folder: Path, workers: int
) -> tuple[list[Made], list[Problem]]:
    """Write the crops to ``folder/<split>/images`` and ``masks``.

    Returns:
        the crops in the order planned, and the images that could not be read (theirs are missing).
    """
    by_source = [
        (source, list(group))
        for source, group in groupby(sorted(planned, key=lambda p: p.source), key=lambda p: p.source)
    ]
    for parent in {
        folder / p.split / kind / Path(p.file).parent
        for p in planned
        for kind in (("images", "masks") if p.defect.mask else ("images",))
    }:
        parent.mkdir(parents=True, exist_ok=True)

    def work(item: tuple[str, list[Planned]]) -> list[Made] | Problem:
        source, crops = item
        try:
            return _cut_image(config, root / source, crops, folder)
        except Unreadable as error:
            return Problem(source, str(error))

    results = parallel(work, by_source, workers, Progress("crop", len(by_source), unit="image"))
    made = [m for result in results if not isinstance(result, Problem) for m in result]
    made.sort(key=lambda m: m.planned.order)
    return made, [result for result in results if isinstance(result, Problem)]


def _cut_image(config: CropConfig, path: Path, planned: Sequence[Planned], folder: Path) -> list[Made]:
    image = read_rgb(path)
    masks: dict[Mask, np.ndarray] = {}
    made = []
    for p in planned:
        cropped = cut_image(image, p.window, config.resolution)
        mask = None
        if p.defect.mask is not None:
            if p.defect.mask not in masks:
                masks[p.defect.mask] = p.defect.mask.read()
            mask = cut_mask(masks[p.defect.mask], p.window, config.resolution)
        crop = Crop(
            file_name=f"images/{p.file}",
            text=config.prompt_of(p.defect.defect),
            defect=p.defect.defect,
            source=p.source,
            window=p.window,
            box=box_in_crop(p.defect.box, p.window, config.resolution),
            mask_file_name=None if mask is None else f"masks/{p.file}",
        )
        cropped.save(folder / p.split / crop.file_name, compress_level=_PNG_LEVEL)
        if mask is not None:
            mask.save(folder / p.split / f"masks/{p.file}", compress_level=_PNG_LEVEL)
        small = np.asarray(cropped.convert("L").resize((SMALL, SMALL), Image.Resampling.BOX))
        made.append(Made(p, crop, _digest(crop, cropped, mask), small))
    return made


def _digest(crop: Crop, image: Image.Image, mask: Image.Image | None) -> str:
    # Pixels, not files: PNG bytes depend on the version of zlib.
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(crop), sort_keys=True).encode())
    digest.update(image.tobytes())
    if mask is not None:
        digest.update(mask.tobytes())
    return digest.hexdigest()
