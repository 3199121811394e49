"""Make planned crops: read each source image once, cut its crops, write them as PNG.

One image, or one mask, is in memory for each worker, and fewer where they are large (`budget`). The files do not depend
on the number of workers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Generic, TypeVar

from components.artifacts import NORMAL, Crop
from components.crop.annotations import Mask, Problem
from components.crop.areas import fraction
from components.crop.budget import PIXELS
from components.crop.config import CropConfig
from components.crop.images import Unreadable, picture
from components.crop.looks import Look, look_at
from components.crop.plan import Area, Plan, Planned
from components.crop.window import box_in_crop, cut_image, cut_mask, cut_memory
from components.parallel import cores, parallel
from components.progress import Progress

# Files of nearly the size that level 6 makes, in two thirds of the time.
_PNG_LEVEL = 3

A = TypeVar("A", bound=Area)


@dataclass(frozen=True)
class Made(Generic[A]):
    """One crop that was written."""

    planned: A
    crop: Crop
    digest: str  #: sha256 of its pixels, its mask's pixels and its metadata
    pixels: str  #: sha256 of its pixels alone
    look: Look  #: taken while the crop is in memory, so that none is decoded again

    @property
    def path(self) -> str:
        """The image's path, relative to the step's output."""
        home = "" if isinstance(self.planned, Planned) else f"{NORMAL}/"
        return f"{home}{self.planned.split}/{self.crop.file_name}"


@dataclass(frozen=True)
class Cuttings:
    """What became of a plan."""

    made: list[Made[Planned]]  #: in the order planned
    normal: list[Made[Area]]  #: in the order planned
    problems: list[Problem]  #: images that could not be read; their crops are missing

    def without(self, paths: Collection[str]) -> Cuttings:
        """The same, but for crops at these paths."""
        return Cuttings([m for m in self.made if m.path not in paths], self.normal, self.problems)


def cut_crops(config: CropConfig, root: Path, plan: Plan, folder: Path) -> Cuttings:
    """Write the crops below ``folder/<split>`` and ``folder/normal/<split>``, in ``images`` and ``masks``."""
    areas = sorted([*plan.crops, *plan.normal], key=lambda area: area.source)
    by_source = [(source, list(group)) for source, group in groupby(areas, key=lambda area: area.source)]
    for parent in {(_home(folder, area) / kind / area.file).parent for area in areas for kind in _kinds(area)}:
        parent.mkdir(parents=True, exist_ok=True)

    def work(item: tuple[str, list[Area]]) -> list[Made[Area]] | Problem:
        source, of_image = item
        try:
            return _cut_image(config, root / source, of_image, folder)
        except Unreadable as error:
            return Problem(source, str(error))

    results = parallel(work, by_source, cores(), Progress("crop", len(by_source), unit="image"))
    by_area = {m.planned: m for result in results if not isinstance(result, Problem) for m in result}
    return Cuttings(
        [by_area[planned] for planned in plan.crops if planned in by_area],  # type: ignore[misc]
        [by_area[area] for area in plan.normal if area in by_area],
        [result for result in results if isinstance(result, Problem)],
    )


def _home(folder: Path, area: Area) -> Path:
    return folder / area.split if isinstance(area, Planned) else folder / NORMAL / area.split


def _kinds(area: Area) -> tuple[str, ...]:
    """Folders that a file of the crop is written to."""
    return ("images", "masks") if isinstance(area, Planned) and area.defect.mask is not None else ("images",)


def _cut_image(config: CropConfig, path: Path, areas: Sequence[Area], folder: Path) -> list[Made[Area]]:
    taken: list[tuple[Crop, str, Look]] = []
    digests = []
    masked: dict[Mask, list[int]] = {}
    beside = max(cut_memory(area.window, config.resolution) for area in areas)
    with picture(path, beside) as image:
        for i, area in enumerate(areas):
            cropped = cut_image(image, area.window, config.resolution)
            cropped.save(_home(folder, area) / "images" / area.file, compress_level=_PNG_LEVEL)
            # Pixels, not files: PNG bytes depend on the version of zlib.
            crop, pixels = _described(config, area), hashlib.sha256(cropped.tobytes()).hexdigest()
            taken.append((crop, pixels, look_at(cropped)))
            digests.append(hashlib.sha256(json.dumps([dataclasses.asdict(crop), pixels], sort_keys=True).encode()))
            if isinstance(area, Planned) and area.defect.mask is not None:
                masked.setdefault(area.defect.mask, []).append(i)
    # One after another and none beside the image, which may have a mask for each of many classes.
    for mask, of_mask in masked.items():
        with PIXELS.hold(mask.memory() + beside):
            whole = mask.read()
            for i in of_mask:
                cut = cut_mask(whole, areas[i].window, config.resolution)
                cut.save(_home(folder, areas[i]) / "masks" / areas[i].file, compress_level=_PNG_LEVEL)
                digests[i].update(cut.tobytes())
            del whole
    return [
        Made(area, crop, digest.hexdigest(), pixels, look)
        for area, (crop, pixels, look), digest in zip(areas, taken, digests)
    ]


def _described(config: CropConfig, area: Area) -> Crop:
    if not isinstance(area, Planned):
        nothing = (0, 0, 0, 0)
        return Crop(f"images/{area.file}", config.prompt_of_normal(), "", area.source, area.window, nothing)
    name = area.defect.defect
    prompts = config.prompts_of(name)
    return Crop(
        file_name=f"images/{area.file}",
        # By its file's name, which stays when images come or go.
        text=prompts[int(fraction(config.split_seed, "prompt", area.file) * len(prompts))],
        defect=name,
        source=area.source,
        window=area.window,
        box=box_in_crop(area.defect.box, area.window, config.resolution),
        mask_file_name=None if area.defect.mask is None else f"masks/{area.file}",
    )
