"""How a board looks to a camera: binarised scan, colour photograph of a solder-masked board, grey photograph.

Takes coverage masks in 0..1 and returns 8-bit RGB. What the masks hold is decided in `layout` and `defects`.
"""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.decoding import read
from pipelines.quickstart.canvas import FloatArray, blur, smooth_noise

Picture = NDArray[np.uint8]  # (size, size, 3)

# Solder masks: bare board under the mask, copper under the mask, as RGB.
MASKS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "green": ((16, 66, 42), (52, 132, 78)),
    "dark green": ((12, 42, 34), (40, 92, 66)),
    "blue": ((16, 44, 104), (48, 100, 172)),
    "red": ((110, 18, 26), (184, 62, 58)),
    "black": ((22, 23, 26), (62, 63, 68)),
    "white": ((188, 192, 190), (226, 229, 227)),
}
PADS = {"gold": (222, 178, 92), "tin": (186, 190, 194), "copper": (206, 124, 78)}


@dataclass
class Masks:
    """What covers the board where, each (size, size) float32 in 0..1."""

    copper: FloatArray
    exposed: FloatArray  # pads: copper free of solder mask
    holes: FloatArray
    silk: FloatArray


def finish_scan(rng: np.random.Generator, masks: Masks, inverted: bool = False) -> Picture:
    """A binarised scan: black copper on white (or the inverse), edges slightly ragged, kept as a JPEG as scanners do.

    The compression leaves grey specks along the edges; its quality is drawn from 70 to 95 of libjpeg's 100.
    """
    size = len(masks.copper)
    level = blur(masks.copper * (1 - masks.holes), 0.7)
    raggedness = float(rng.uniform(0.02, 0.12))
    level = level + raggedness * (0.6 * smooth_noise(rng, size, 1) + smooth_noise(rng, size, 4))
    dark = level > 0.5
    grey = np.where(dark != inverted, 0, 255).astype(np.uint8)
    return np.repeat(_as_jpeg(grey, int(rng.integers(70, 96)))[..., None], 3, axis=2)


def _as_jpeg(grey: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=quality)
    return np.asarray(read(file))


def lighting(rng: np.random.Generator, size: int, strength: float) -> FloatArray:
    """Uneven illumination around 1, (size, size): a gradient, a soft highlight and darker corners."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + strength * (np.cos(angle) * x + np.sin(angle) * y).astype(np.float32)
    cx, cy = rng.uniform(-1, 1, 2)
    light += strength * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.4)
    return (light - 0.5 * strength * (x * x + y * y)).astype(np.float32)


def relief(height: FloatArray, angle: float) -> FloatArray:
    """Light and shadow on the slopes of `height` lit from `angle` (radians)."""
    gy, gx = np.gradient(height)
    return (np.cos(angle) * gx + np.sin(angle) * gy).astype(np.float32)


def over(picture: FloatArray, colour: FloatArray | tuple[int, int, int], alpha: FloatArray) -> FloatArray:
    """Lay `colour` over the picture where `alpha` is 1."""
    return picture + (np.asarray(colour, dtype=np.float32) - picture) * alpha[..., None]


def to_bytes(picture: FloatArray) -> Picture:
    """Round and clip to 8 bits."""
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def finish_photo(rng: np.random.Generator, masks: Masks, mask_colour: str, pad_colour: str) -> Picture:
    """A colour photograph: solder mask over copper, metal pads, silk screen, uneven light, blur, sensor noise."""
    size = len(masks.copper)
    bare, covered = (np.asarray(c, dtype=np.float32) for c in MASKS[mask_colour])
    copper = masks.copper * (1 - masks.holes)
    picture: FloatArray = bare + (covered - bare) * copper[..., None]
    weave = smooth_noise(rng, size, (2, 5)) + smooth_noise(rng, size, (5, 2))
    cloth = 0.03 * weave * (1 - copper)
    picture = picture * (1 + cloth + 0.03 * smooth_noise(rng, size, 12))[..., None]
    angle = float(rng.uniform(0, 2 * np.pi))
    picture = picture + (70 * relief(blur(copper, 1.2), angle))[..., None]

    metal = np.asarray(PADS[pad_colour], dtype=np.float32)
    shine = 1 + 0.06 * smooth_noise(rng, size, (2, 9)) + 0.10 * smooth_noise(rng, size, 24)
    pads = np.minimum(masks.exposed, copper)
    picture = over(picture, metal * shine[..., None], pads)
    picture = picture + (60 * relief(blur(pads, 1.0), angle))[..., None]
    picture = over(picture, (226, 226, 218), masks.silk * (1 - pads) * (1 - masks.holes) * 0.92)
    picture = over(picture, (20, 17, 15), masks.holes)

    picture = picture * lighting(rng, size, float(rng.uniform(0.03, 0.16)))[..., None]
    picture = blur(picture, float(rng.uniform(0.45, 0.85)))
    grain = smooth_noise(rng, size, 1)[..., None] + 0.4 * rng.standard_normal(picture.shape, dtype=np.float32)
    picture = picture + float(rng.uniform(0.8, 3.0)) * grain
    return to_bytes(picture)


def finish_grey(rng: np.random.Generator, masks: Masks) -> Picture:
    """A grey photograph: a colour photograph's luminance with the contrast of one camera or another."""
    mask_colour = ["green", "dark green", "blue", "black"][int(rng.integers(4))]
    picture = finish_photo(rng, masks, mask_colour, "tin" if rng.random() < 0.6 else "gold")
    grey = picture.astype(np.float32) @ np.array([0.3, 0.59, 0.11], dtype=np.float32)
    low, high = np.percentile(grey, [1, 99])
    floor, ceiling = rng.uniform(10, 60), rng.uniform(170, 245)
    grey = floor + (grey - low) / max(high - low, 1) * (ceiling - floor)
    return to_bytes(np.repeat(grey[..., None], 3, axis=2))
