"""What a crop looks like, in a few numbers: whether it is sharp, blank or wrongly exposed, and a thumbnail.

Taken of every crop while its pixels are in memory; 5 ms for 512 × 512 pixels. Not covered: what is in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from PIL import Image, ImageFilter

#: Side of a thumbnail, pixels.
THUMBNAIL = 32

# Grey levels from the darkest to the brightest pixel below which a crop shows nothing.
_BLANK = 12
# Levels taken for black and white, and the share of pixels there from which detail is lost.
_BLACK, _WHITE = 5, 250
_CLIPPED = 0.4
# Half of the crops have more than this share of black and white pixels: scans and binary images, rightly so.
_TWO_TONE = 0.6
# Sharp crops of boards and of metal read 0.08 to 0.33; blurred by a Gaussian of 1.5 pixels 0.37 to 0.76, of 3 pixels
# 0.48 to 0.91. A crop is called blurred that also reads half as much again as the data set's median.
_SOFT, _SOFTER = 0.5, 1.5
_REACH = 4


@dataclass(frozen=True)
class Look:
    """Numbers of one crop, all of its grey levels (0 to 255)."""

    blur: float  #: blur measure of Crete et al., 0 (sharp) to 1
    contrast: int  #: from the darkest to the brightest pixel
    black: float  #: share of the pixels at or below level 5
    white: float  #: share of the pixels at or above level 250
    thumbnail: np.ndarray = field(compare=False, repr=False)  #: uint8 [32, 32], means of blocks


def look_at(image: Image.Image) -> Look:
    """Measure an RGB image."""
    grey = image.convert("L")
    histogram = np.asarray(grey.histogram())
    levels = np.flatnonzero(histogram)
    return Look(
        blur=blur_of(grey),
        contrast=int(levels[-1] - levels[0]),
        black=float(histogram[: _BLACK + 1].sum() / histogram.sum()),
        white=float(histogram[_WHITE:].sum() / histogram.sum()),
        thumbnail=np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)),
    )


def blur_of(grey: Image.Image) -> float:
    """How little a blur of 9 pixels takes from the differences of neighbours: 0 for noise, 1 for what is blurred.

    The larger of both directions; 1 where all pixels are the same. Crete et al. 2007, "The blur effect: perception and
    estimation with a new no-reference perceptual blur metric", doi:10.1117/12.702790.
    """
    pixels = np.asarray(grey, np.int16)
    found = []
    for axis, radius in ((1, (_REACH, 0)), (0, (0, _REACH))):
        blurred = np.asarray(grey.filter(ImageFilter.BoxBlur(radius)), np.int16)
        before, after = np.abs(np.diff(pixels, axis=axis)), np.abs(np.diff(blurred, axis=axis))
        total = int(before.sum())
        found.append(1 - int(np.maximum(before - after, 0).sum()) / total if total else 1.0)
    return max(found)


def flaws(looks: Sequence[Look]) -> list[list[str]]:
    """For each crop of a data set what is wrong with it, mostly nothing: blank, blurred, under- or over-exposed."""
    two_tone = bool(looks) and median(look.black + look.white for look in looks) > _TWO_TONE
    softest = max(_SOFT, _SOFTER * usual_blur(looks))
    return [_flaws_of(look, softest, two_tone) for look in looks]


def _flaws_of(look: Look, softest: float, two_tone: bool) -> list[str]:
    if look.contrast < _BLANK:
        return ["blank"]
    wrong = {
        "blurred": look.blur > softest,
        "under-exposed": not two_tone and look.black > _CLIPPED,
        "over-exposed": not two_tone and look.white > _CLIPPED,
    }
    return [name for name, is_so in wrong.items() if is_so]


def usual_blur(looks: Sequence[Look]) -> float:
    """The median blur; 0 where there are no crops."""
    return median(look.blur for look in looks) if looks else 0.0


def soft_throughout(looks: Sequence[Look]) -> bool:
    """Whether the data set is blurred as a whole, so that no crop stands out."""
    return usual_blur(looks) > _SOFT
