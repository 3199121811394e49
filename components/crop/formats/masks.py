"""Binary masks: an image file of the same size as the photograph, bright where the defect is.

Three layouts, which may be mixed:

    images/a.png + masks/scratch/a.png      the class is the folder below masks/ (or ground_truth/)
    MT_Blowhole/Imgs/a.jpg + a.png          the same stem, lossless format: that one is the mask
    scratch/a.png + scratch/a_mask.png      the stem with _mask

In the last two the class is the nearest folder above whose name says more than "images" or "train";
the data set's own name where there is none. An empty mask, or none, means a good image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from components.crop.annotations import Annotated, AnnotatedImage, Defect, Format, Found, Problem
from components.crop.budget import PIXELS
from components.crop.formats.reading import Wrong, class_name
from components.crop.images import Unreadable, displayed_size, is_image, mask_memory, read_mask
from components.crop.regions import Scattered, regions
from components.crop.regions import memory as regions_memory

# Folder names that say what kind of files they hold, not what they show.
_GENERIC = {
    *("image", "images", "img", "imgs", "jpegimages", "jpg", "png", "photo", "photos", "picture", "pictures"),
    *("data", "dataset", "train", "training", "test", "testing", "val", "valid", "validation", "raw", "all"),
    *("mask", "masks", "label", "labels", "ground_truth", "gt"),
}
_APART = {"masks", "ground_truth"}
# Which of two files of one stem is the mask: the first of these formats. Lossy ones never are.
_MASK_EXTENSIONS = ("png", "bmp", "gif", "tif", "tiff")


@dataclass(frozen=True)
class MaskFile:
    """A mask in a file of its own (`components.crop.annotations.Mask`)."""

    path: Path

    def read(self) -> np.ndarray:
        return read_mask(self.path)

    def memory(self) -> int:
        return mask_memory(self.path)


class Masks(Format):
    name = "masks"
    layout = """\
images/a.png + masks/scratch/a.png      an image, and its binary mask for the class scratch
scratch/a.jpg + scratch/a.png           an image, and its mask: the same stem, lossless
scratch/a.png + scratch/a_mask.png      an image, and its mask: the stem with _mask"""

    def find(self, dataset: str, root: Path, files: Sequence[str]) -> Found:
        pictures = [f for f in files if is_image(f)]
        apart = [f for f in pictures if _apart(f)]
        found, problems = _find_apart(pictures, apart)
        beside, more = _find_beside([f for f in pictures if f not in set(apart) | set(found)])
        found.update(beside)
        masks = sum(len(m) for m in found.values())
        if not masks:
            return Found(problems=sorted(problems))
        items = sorted(Annotated(image, tuple(sorted(of))) for image, of in found.items())
        without = sum(not item.annotations for item in items)
        summary = f"{len(items)} images, {masks} binary masks"
        if without:
            summary += f"; {without} images without a mask are taken as good"
        return Found(items, sorted(problems + more), summary)

    def read(self, dataset: str, root: Path, item: Annotated, join: int) -> AnnotatedImage:
        size = displayed_size(root / item.image)
        defects: list[Defect] = []
        problems: list[Problem] = []
        for annotation in item.annotations:
            found = defects_of_mask(root, annotation, class_of(annotation, dataset), item.image, size, join)
            if isinstance(found, Problem):
                problems.append(found)
            else:
                defects += found
        return AnnotatedImage(item.image, size, tuple(defects), tuple(problems))


def defects_of_mask(
    root: Path, annotation: str, name: str, image: str, size: tuple[int, int], join: int
) -> list[Defect] | Problem:
    """The pieces in the mask file `annotation` as defects of the class `name`, or what is wrong with it."""
    mask = MaskFile(root / annotation)
    try:
        class_name(name)
        own = displayed_size(mask.path)
        if own != size:
            return Problem(
                annotation,
                f"the mask is {own[0]} × {own[1]} pixels but {image} is {size[0]} × {size[1]} as displayed; they must "
                "be alike",
            )
        with PIXELS.hold(mask.memory() + regions_memory(size[0] * size[1])):
            pieces = regions(mask.read(), join)
    except (Unreadable, Wrong) as error:
        return Problem(annotation, str(error))
    except Scattered as error:
        return Problem(annotation, f"{error}; a mask shows few defects: smooth it, or remove it")
    return [Defect(name, piece.box, piece.area, mask) for piece in pieces]


def class_of(path: str, dataset: str) -> str:
    """The defect class that a mask's place says; `dataset` is the data set's own name."""
    if split := _apart(path):
        below = split[1].split("/")
        if len(below) > 1 and below[0].lower() not in _GENERIC:
            return below[0]
    for folder in reversed(PurePosixPath(path).parts[:-1]):
        if folder.lower() not in _GENERIC:
            return folder
    return "defect" if dataset.lower() in _GENERIC else dataset


def _apart(path: str) -> tuple[str, str] | None:
    """What stands before and after the folder ``masks`` or ``ground_truth`` in a path."""
    parts = path.split("/")
    for i, part in enumerate(parts[:-1]):
        if part.lower() in _APART:
            return "/".join(parts[:i]), "/".join(parts[i + 1 :])
    return None


def _key(path: str) -> tuple[str, str]:
    """Folder and stem: what an image and its mask have in common."""
    pure = PurePosixPath(path)
    return str(pure.parent), pure.stem


def _find_apart(pictures: Sequence[str], masks: Sequence[str]) -> tuple[dict[str, list[str]], list[Problem]]:
    """Images below ``images/`` with their masks below the ``masks/`` next to it."""
    tops = {split[0] for mask in masks if (split := _apart(mask))}
    images: dict[tuple[str, str, str], str] = {}
    for picture in pictures:
        parts = picture.split("/")
        for i, part in enumerate(parts[:-1]):
            if part.lower() == "images" and (top := "/".join(parts[:i])) in tops:
                folder, stem = _key("/".join(parts[i + 1 :]))
                images[(top, folder, stem)] = picture
                break
    found: dict[str, list[str]] = {image: [] for image in images.values()}
    problems = []
    for mask in masks:
        top, below = _apart(mask) or ("", "")
        folder, stem = _key(below)
        # Below masks/ the first folder is the class, unless it is one like "train"; the others repeat
        # those below images/. Images may be in folders of their class too.
        below_masks = PurePosixPath(folder).parts
        named = bool(below_masks) and below_masks[0].lower() not in _GENERIC
        inner = str(PurePosixPath(*below_masks[named:]))
        places = [(top, of, name) for name in (stem, stem.removesuffix("_mask")) for of in (inner, folder)]
        image = next((images[place] for place in places if place in images), None)
        if image is None:
            place = "/".join(p for p in (top, "images", inner if inner != "." else "", f"{stem}.*") if p)
            problems.append(Problem(mask, f"a mask without its image; it should be {place}"))
        else:
            found[image].append(mask)
    return found, problems


def _find_beside(pictures: Sequence[str]) -> tuple[dict[str, list[str]], list[Problem]]:
    """Images with a mask in the same folder: the same stem in a lossless format, or ``<stem>_mask``."""
    stems: dict[tuple[str, str], list[str]] = defaultdict(list)
    for picture in pictures:
        stems[_key(picture)].append(picture)
    found: dict[str, list[str]] = {}
    problems = []
    for (folder, stem), group in stems.items():
        if stem.endswith("_mask"):
            if (folder, stem.removesuffix("_mask")) not in stems:
                problems.append(Problem(group[0], f"a mask without its image {stem.removesuffix('_mask')}.*"))
            continue
        marked = stems.get((folder, f"{stem}_mask"), [])
        ranked = sorted(group, key=_mask_rank)
        if len(group) + len(marked) > 2 or (len(group) == 2 and _mask_rank(ranked[0]) == _mask_rank(ranked[1])):
            names = ", ".join(PurePosixPath(p).name for p in (*group, *marked))
            problems.append(Problem(group[0], f"which of {names} is the mask? leave one image and one mask"))
        elif marked:
            found[group[0]] = marked
        elif len(group) == 2:
            found[ranked[1]] = [ranked[0]]
        else:
            found[group[0]] = []
    return found, problems


def _mask_rank(path: str) -> int:
    extension = path.rpartition(".")[2].lower()
    return _MASK_EXTENSIONS.index(extension) if extension in _MASK_EXTENSIONS else len(_MASK_EXTENSIONS)
