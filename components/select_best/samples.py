"""A picture of what the chosen checkpoint draws, for its model card: the images that evaluate kept, a row a class."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from components import decoding, report
from components.artifacts import SAMPLES
from components.checkpoints import step_name

#: Images a class, and the side at which each is shown at most: some 100 kB a class.
COLUMNS, SIDE = 6, 256
_GROUND = "#dfe4ea"


def write_samples(metrics: Path, step: int, folder: Path) -> None:
    """Write the picture into `folder`, from evaluate's `metrics`; none where no images were kept.

    Rows are in the order of the classes' names.

    Raises:
        UserError: for an image that cannot be read.
    """
    rows = [sorted(drawn.glob("*.png"))[:COLUMNS] for drawn in sorted((metrics / "images" / step_name(step)).glob("*"))]
    rows = [row for row in rows if row]
    if not rows:
        return
    columns = max(map(len, rows))
    side = min(_read(rows[0][0]).width, SIDE)
    pictures: list[Image.Image] = []
    for row in rows:
        pictures += [_read(path) for path in row]
        # A class with fewer images leaves its row's end empty.
        pictures += [Image.new("RGB", (side, side), _GROUND)] * (columns - len(row))
    folder.mkdir(parents=True, exist_ok=True)
    sheet = report.contact_sheet(pictures, columns, side, background=_GROUND)
    sheet.save(folder / SAMPLES, optimize=True)


def _read(path: Path) -> Image.Image:
    return decoding.required(path, "RGB", "run evaluate again")
