"""``python -m tests.components.crop.formats.largest KIND``: the memory that the largest readable JSON file takes.

The file is written by a process of its own, so that the peak is the reader's. Not covered: tables and XML.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import tempfile
from pathlib import Path

from components.crop.formats.reading import LARGEST, MOST_VALUES, read_json
from components.memory import own_peak
from components.progress import size

#: Kind → what is repeated, and the values that it counts for.
REPEATED = {
    "lists": ("[],", 2),
    "objects": ("{},", 2),
    "entries": ('{"":0},', 2),
    "numbers": ("257,", 1),
    "texts": ('"€",', 1),
    "deep": ("[" * 400 + "]" * 400 + ",", 401),
}
KINDS = ("polygons", "keys", *REPEATED)


def write(kind: str, path: Path) -> None:
    """An ordinary COCO file of 100,000 polygons, or the most of one kind of values that is read."""
    with path.open("w", encoding="utf-8") as file:
        if kind == "polygons":
            json.dump(_polygons(100_000, 40), file)
            return
        # One character beyond the first plane makes Python keep the whole text with four bytes a character.
        file.write('{"annotations": ["😀",')
        if kind == "keys":
            file.write("{")
            file.writelines(f'"{i:x}":0,' for i in range(min(MOST_VALUES - 100, (LARGEST - 1000) // 11)))
            file.write('"":0}')
        else:
            part, values = REPEATED[kind]
            count = min((MOST_VALUES - 100) // values, (LARGEST - 1000) // len(part.encode()))
            for done in range(0, count, 1000):
                file.write(part * min(1000, count - done))
            file.write("0")
        file.write("]}")


def _polygons(annotations: int, points: int) -> dict[str, object]:
    rng = random.Random(0)

    def places(number: int) -> list[float]:
        return [round(rng.random() * 1000, 2) for _ in range(number)]

    return {
        "images": [
            {"id": i, "file_name": f"images/board-{i:06}.png", "width": 1280, "height": 1024}
            for i in range(annotations // 10)
        ],
        "categories": [{"id": 1, "name": "dent"}],
        "annotations": [
            {"id": i, "image_id": i // 10, "category_id": 1, "bbox": places(4), "area": 12.5, "iscrowd": 0,
             "segmentation": [places(2 * points)]}
            for i in range(annotations)
        ],
    }  # fmt: skip


def main(kind: str) -> int:
    """Measure one kind and print a line."""
    if kind not in KINDS:
        print(f"{kind!r} is none of {', '.join(KINDS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "a.json"
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(kind, path))
        writer.start()
        writer.join()
        before = own_peak()
        data = read_json(path)
        after = own_peak()
        print(f"{kind}: a file of {size(path.stat().st_size)} takes {size(after - before)}, {len(data)} lists")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or ("",)))
