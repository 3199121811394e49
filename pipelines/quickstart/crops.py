"""Training pictures of the base model: large drawn pictures, cached on disk, and random crops out of them.

All pictures are free of defects. Numpy and Pillow only.
"""

import json
import math
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.quickstart.boards import Drawing, draw_board
from pipelines.quickstart.corpus import caption_variants
from pipelines.quickstart.surfaces import SURFACES, draw_chips, draw_surface

SIZE = 64  # side of a crop, pixels
PICTURE = 640  # side of a drawn picture, pixels

# What is drawn, and its share. Scans are what most board data sets hold; photographic texture is what small models
# learn last.
MIX: dict[str, float] = {
    "scan": 0.28,
    "inverted scan": 0.06,
    "green photo": 0.09,
    "dark green photo": 0.03,
    "blue photo": 0.04,
    "red photo": 0.02,
    "black photo": 0.02,
    "white photo": 0.02,
    "grey photo": 0.10,
    "chips": 0.07,
    "metal tile": 0.13,
    "brushed metal": 0.06,
    "cast metal": 0.05,
    "ceramic tile": 0.03,
}


# Shares of what later cycles of training look at: mostly what quickstart data sets show.
FOCUS: dict[str, float] = {
    "scan": 0.54,
    "inverted scan": 0.06,
    "green photo": 0.05,
    "dark green photo": 0.02,
    "blue photo": 0.03,
    "red photo": 0.01,
    "black photo": 0.01,
    "white photo": 0.01,
    "grey photo": 0.04,
    "chips": 0.03,
    "metal tile": 0.15,
    "brushed metal": 0.03,
    "cast metal": 0.01,
    "ceramic tile": 0.01,
}


def draw_picture(rng: np.random.Generator, what: str, size: int = PICTURE) -> Drawing:
    """One picture of a kind named in `MIX`."""
    if what == "chips":
        return draw_chips(rng, size)
    if what in SURFACES:
        return draw_surface(rng, size, what)
    return draw_board(rng, size, what)


class Pictures:
    """The drawn pictures, (count, 640, 640, 3) uint8 on disk, with one caption each.

    Drawn on first use into `folder`; the same count and seed are read back afterwards.
    """

    def __init__(self, folder: Path, count: int, seed: int) -> None:
        self.seed = seed
        pixels, captions = folder / f"pictures-{count}-{seed}.npy", folder / f"captions-{count}-{seed}.json"
        if not captions.exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._draw(pixels, captions, count)
        self.pixels: NDArray[np.uint8] = np.load(pixels)
        self.captions: list[str] = json.loads(captions.read_text(encoding="utf-8"))
        counts = np.diff(_bounds(count), prepend=0)
        weights = np.repeat([FOCUS[what] / max(n, 1) for what, n in zip(MIX, counts, strict=True)], counts)
        self._focus = np.cumsum(weights / weights.sum())

    def _draw(self, pixels: Path, captions: Path, count: int) -> None:
        out = np.lib.format.open_memmap(pixels, "w+", np.uint8, (count, PICTURE, PICTURE, 3))
        bounds = _bounds(count)
        written: list[str] = []
        started = time.monotonic()
        for what, end in zip(MIX, bounds, strict=True):
            while len(written) < end:
                drawing = draw_picture(np.random.default_rng([self.seed, 1, len(written)]), what)
                out[len(written)] = drawing.image
                written.append(drawing.caption)
            print(f"drawn {len(written)}/{count} pictures, {time.monotonic() - started:.0f} s", flush=True)
        out.flush()
        captions.write_text(json.dumps(written, indent=0), encoding="utf-8")

    def crop_batch(self, count: int, *key: int, focused: bool = False) -> tuple[NDArray[np.uint8], list[str]]:
        """Random crops, (count, 64, 64, 3) uint8, and captions; the same `key` gives the same ones.

        `focused`: in the shares of `FOCUS` and with exact captions, instead of `MIX` and looser wordings too.
        """
        rng = np.random.default_rng([self.seed, 2, *key])
        crops = np.empty((count, SIZE, SIZE, 3), dtype=np.uint8)
        captions = []
        for i in range(count):
            if focused:
                picture = int(np.searchsorted(self._focus, rng.random() * self._focus[-1], side="right"))
            else:
                picture = int(rng.integers(len(self.captions)))
            crops[i] = _turn(rng, self._window(rng, picture), self.captions[picture])
            captions.append(self.captions[picture] if focused else caption_variants(rng, self.captions[picture]))
        return crops, captions

    def _window(self, rng: np.random.Generator, picture: int) -> NDArray[np.uint8]:
        """A window at native scale, or one time in four a little larger or smaller; rather one with content."""
        side = SIZE if rng.random() < 0.75 else round(SIZE * math.exp(rng.uniform(math.log(0.75), math.log(1.8))))
        best, most = None, -1.0
        for _ in range(1 if rng.random() < 0.1 else 2):
            x, y = (int(v) for v in rng.integers(0, PICTURE - side + 1, 2))
            window = self.pixels[picture, y : y + side, x : x + side]
            content = float(window[::4, ::4, 1].std())
            if content > most:
                best, most = window, content
        assert best is not None
        if side != SIZE:
            return np.asarray(Image.fromarray(best).resize((SIZE, SIZE), Image.Resampling.LANCZOS))
        return best


def _bounds(count: int) -> NDArray[np.int64]:
    """Where the pictures of each kind of `MIX` end: every kind gets its share whatever the count."""
    return np.round(np.cumsum(list(MIX.values())) / sum(MIX.values()) * count).astype(int)


def _turn(rng: np.random.Generator, window: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """One of the eight flips and rotations; ground metal keeps its streaks upright two times in three."""
    upright = caption.endswith(("metal tile", "brushed metal")) and rng.random() < 0.67
    if rng.random() < 0.5:
        window = window[:, ::-1]
    return np.rot90(window, 2 * int(rng.integers(2)) if upright else int(rng.integers(4)))
