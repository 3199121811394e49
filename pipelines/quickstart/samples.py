"""The sample sets: drawn boards, tiles or chips with their defects, and a binary mask per class.

    python -m pipelines.quickstart.samples --out DIR [--what boards|tiles|chips] [--images 32] [--size 640] [--seed 0]

writes `images/<name>.png` (8-bit RGB) and, for every class that the image shows, `masks/<class>/<name>.png` (8-bit,
255 on the defect, 0 elsewhere). The same arguments and numpy version give the same pixels.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.errors import UserError
from components.progress import Progress, log
from pipelines.quickstart.boards import Drawing, draw_board
from pipelines.quickstart.defects import KINDS
from pipelines.quickstart.flaws import CHIP_KINDS, TILE_KINDS
from pipelines.quickstart.surfaces import draw_chips, draw_surface

IMAGES, SIZE, SEED = 32, 640, 0
PER_KIND = 3  # defects of each kind wanted on an image of 640 x 640
SMALLEST, LARGEST = 128, 4096


@dataclass(frozen=True)
class SampleSet:
    """A kind of sample set: what its images show."""

    stem: str  # of file names
    kinds: tuple[str, ...]  # of defects
    draw: Callable[[np.random.Generator, int, dict[str, int]], Drawing]


def _board(rng: np.random.Generator, size: int, wanted: dict[str, int]) -> Drawing:
    # Scans: their crisp shapes are what a model of 64 pixels draws best. No flooded boards: those have little room
    # for spurs and spurious copper.
    return draw_board(rng, size, "scan", wanted, flooded=False)


def _tile(rng: np.random.Generator, size: int, wanted: dict[str, int]) -> Drawing:
    return draw_surface(rng, size, "metal tile", wanted)


SETS = {
    "boards": SampleSet("board", KINDS, _board),
    "tiles": SampleSet("tile", TILE_KINDS, _tile),
    "chips": SampleSet("chips", CHIP_KINDS, draw_chips),
}


def write_samples(out: Path, images: int = IMAGES, size: int = SIZE, seed: int = SEED, what: str = "boards") -> None:
    """Write a sample set to `out`, a folder that is empty or does not exist yet.

    `size` is the side of the images in pixels: a larger image holds more, and more defects. `what` is one of `SETS`.
    Raises UserError for a folder that holds something already, an unknown set, and for sizes and counts out of range.
    Nothing is left half-written.
    """
    problems = []
    if what not in SETS:
        problems.append(f"--what {what}: there is no such set; known: {', '.join(SETS)}")
    if images < 1:
        problems.append(f"--images {images}: at least 1 image is needed")
    if not SMALLEST <= size <= LARGEST:
        problems.append(f"--size {size}: choose a side between {SMALLEST} and {LARGEST} pixels")
    if seed < 0:
        problems.append(f"--seed {seed}: choose a number from 0 up")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        problems.append(f"--out {out}: exists and is not an empty folder; name another one or remove it")
    if problems:
        raise UserError(*problems)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        progress = Progress(f"drawing {what}", images, "image")
        for i in range(images):
            _write(part, f"{SETS[what].stem}-{i:03d}", draw_sample(size, seed, i, what))
            progress.update(i + 1)
        part.chmod(0o755)
        if out.exists():
            out.rmdir()
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def draw_sample(size: int, seed: int, index: int, what: str = "boards") -> Drawing:
    """Image `index` of a sample set; each is drawn from a seed of its own, so the first n do not depend on n."""
    wanted = max(1, round(PER_KIND * (size / SIZE) ** 2))
    chosen = SETS[what]
    return chosen.draw(np.random.default_rng([seed, index]), size, dict.fromkeys(chosen.kinds, wanted))


def _write(folder: Path, name: str, drawing: Drawing) -> None:
    _save(folder / "images" / f"{name}.png", drawing.image)
    for kind in sorted({defect.kind for defect in drawing.defects}):
        masks = [d.mask for d in drawing.defects if d.kind == kind]
        _save(folder / "masks" / kind / f"{name}.png", np.any(masks, axis=0).astype(np.uint8) * 255)


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.quickstart.samples", description="Write a sample set of drawn images."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write, empty or not there yet")
    parser.add_argument("--what", choices=tuple(SETS), default="boards", help="what they show (default: %(default)s)")
    parser.add_argument("--images", type=int, default=IMAGES, help="how many images (default: %(default)s)")
    parser.add_argument("--size", type=int, default=SIZE, help="their side in pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="another seed, other images (default: %(default)s)")
    given = parser.parse_args(arguments)
    try:
        write_samples(given.out, given.images, given.size, given.seed, given.what)
    except UserError as error:
        parser.exit(error.status, f"{error}\n")
    log(f"wrote {given.images} images and their masks to {given.out}")


if __name__ == "__main__":
    main()
