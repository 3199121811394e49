"""The folder layout of MVTec AD (Bergmann et al. 2019, "MVTec AD — A Comprehensive Real-World Dataset"), one product
or several.

    [bottle/]train/good/000.png                     good images
    [bottle/]test/crack/003.png                     a defect of the class crack
    [bottle/]ground_truth/crack/003_mask.png        its binary mask

or several masks in ``ground_truth/crack/003/`` as in MVTec LOCO. The class is the folder's name, with the product
before it where there are several.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from components.crop.annotations import Annotated, AnnotatedImage, Defect, Format, Found, Problem
from components.crop.formats.masks import defects_of_mask
from components.crop.images import displayed_size, is_image

_GOOD = "good"
_PLACE = re.compile(
    r"(?P<top>.*/)?(?P<part>train|validation|test|ground_truth)/(?P<kind>[^/]+)/(?P<rest>[^/]+(/[^/]+)?)"
)

Key = tuple[str, str, str]  # folder of the product, class, stem


class MVTec(Format):
    name = "mvtec"
    layout = """\
train/good/000.png                      good images, as in MVTec AD
test/crack/003.png                      an image with a defect of the class crack
ground_truth/crack/003_mask.png         its binary mask"""

    def find(self, dataset: str, root: Path, files: Sequence[str]) -> Found:
        images: dict[str, Key] = {}
        masks: dict[Key, list[str]] = defaultdict(list)
        for path in files:
            place = _PLACE.fullmatch(path)
            if place is None or not is_image(path):
                continue
            top, kind, rest = place["top"] or "", place["kind"], PurePosixPath(place["rest"])
            if place["part"] == "ground_truth":
                stem = rest.stem if len(rest.parts) == 1 else rest.parts[0]
                masks[top, kind, stem.removesuffix("_mask")].append(path)
            elif len(rest.parts) == 1:
                # A number counts within its folder: only those of test/ have masks.
                images[path] = (top, kind, rest.stem if place["part"] == "test" else "")
        tops = {key[0] for key in masks} & {key[0] for key in images.values()}
        images = {path: key for path, key in images.items() if key[0] in tops}
        if not any(key in masks for key in images.values()):
            return Found()
        several = len(tops) > 1
        items = sorted(Annotated(path, tuple(sorted(masks.get(key, ()))), several) for path, key in images.items())
        bad = [item for item in items if images[item.image][1] != _GOOD]
        problems = [
            Problem(item.image, f"no mask; it should be {_mask_place(images[item.image])}")
            for item in bad
            if not item.annotations
        ] + [
            Problem(path, f"a mask without its image; it should be {key[0]}test/{key[1]}/{key[2]}.*")
            for key in set(masks) - set(images.values())
            for path in masks[key]
        ]
        usable = [item for item in items if item.annotations or images[item.image][1] == _GOOD]
        summary = f"{len(usable)} images, {len(usable) - len(bad)} of them good"
        if several:
            summary += f", of {len(tops)} products"
        return Found(usable, sorted(problems), summary)

    def read(self, dataset: str, root: Path, item: Annotated, join: int) -> AnnotatedImage:
        size = displayed_size(root / item.image)
        place = _PLACE.fullmatch(item.image)
        assert place is not None
        product = PurePosixPath(place["top"] or "").name
        name = f"{product}_{place['kind']}" if item.content else place["kind"]
        defects: list[Defect] = []
        problems: list[Problem] = []
        for annotation in item.annotations:
            found = defects_of_mask(root, annotation, name, item.image, size, join)
            if isinstance(found, Problem):
                problems.append(found)
            else:
                defects += found
        return AnnotatedImage(item.image, size, tuple(defects), tuple(problems))


def _mask_place(key: Key) -> str:
    return f"{key[0]}ground_truth/{key[1]}/{key[2] or '<name>'}_mask.png"
