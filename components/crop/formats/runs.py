"""COCO's run lengths as they stand in files, checked before its library sees them."""

from __future__ import annotations

from collections.abc import Sequence

from pycocotools import mask as coco_mask

from components.crop.formats.reading import Wrong
from components.crop.formats.shapes import Instance, Size, rle_instance


def counts_instance(defect: str, counts: Sequence[int], size: Size) -> Instance:
    """A defect given by COCO's run lengths: background and defect in turn, column by column.

    Raises:
        Wrong: when they do not add up to the pixels of the image, or hold no defect.
    """
    # pycocotools itself shows whatever is in memory where the runs are too few.
    if min(counts, default=-1) < 0 or sum(counts) != size[0] * size[1]:
        raise Wrong(
            f"run lengths of {sum(counts)} pixels for an image of {size[0]} × {size[1]} = {size[0] * size[1]}; "
            "export it again"
        )
    rle = coco_mask.frPyObjects({"size": [size[1], size[0]], "counts": list(counts)}, size[1], size[0])
    return rle_instance(defect, rle)


def expanded_counts(text: str) -> list[int]:
    """The run lengths in COCO's compressed text: 5 bits and one for "more" a character, from the code of "0" on, each
    number from the third on as the difference to the one before the last (`maskApi.c`, ``rleFrString``).

    Raises:
        Wrong: for characters that it cannot have, or when it is cut short.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise Wrong(f"run lengths with the character {character!r}, which COCO's never have; export it again")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
        elif shift > 60:
            raise Wrong("run lengths with a number beyond 64 bits; export it again")
    if shift:
        raise Wrong("run lengths that are cut short; export it again")
    return counts
