"""Annotation files with bytes changed at random: each is read, in part or not at all, or refused with a message."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from components.errors import UserError
from tests.components.crop.formats import drawn
from tests.components.crop.formats.reading import read

LAYOUTS = {
    **{name: (layout, form) for name, (layout, form, _) in drawn.EXACT.items()},
    **drawn.OUTLINED,
    "masks": (drawn.masks, "masks"),
    "yolo polygons": (drawn.write_yolo_polygons, "yolo"),
}
#: What stands where a number stood, or anything.
ODD = [
    b"NaN",
    b"null",
    b"-1",
    b"1e999",
    b"{}",
    b'"x"',
    b"\0",
    b"\xff",
    b"9" * 400,
    b"..",
    b"true",
    b"<",
    b",",
    b"\n",
    b"",
]


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(changed) + 1))
        numbers = list(re.finditer(rb"[-\d.]+", bytes(changed)))
        kind = rng.integers(4)
        if kind == 0:
            changed[at : at + 1] = rng.bytes(1)
        elif kind == 1:
            del changed[at : at + int(rng.integers(1, 30))]
        elif kind == 2 or not numbers:
            changed[at : at + int(rng.integers(8))] = ODD[rng.integers(len(ODD))]
        else:
            number = numbers[rng.integers(len(numbers))]
            changed[number.start() : number.end()] = ODD[rng.integers(len(ODD))]
    return bytes(changed)


@pytest.mark.parametrize("name", LAYOUTS)
def test_whatever_bytes_change_there_is_no_traceback_and_no_defect_outside(name: str, tmp_path: Path) -> None:
    layout, form = LAYOUTS[name]
    layout(tmp_path)
    annotations = [
        path
        for path in sorted(tmp_path.rglob("*"))
        if path.is_file() and (path.suffix != ".png" or {"masks", "ground_truth"} & set(path.parts))
    ]
    reported = 0
    for seed in range(40):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        path = annotations[rng.integers(len(annotations))]
        good = path.read_bytes()
        path.write_bytes(mutated(good, rng))
        try:
            _, images, problems = read(tmp_path, form)  # type: ignore[arg-type]
        except UserError:
            images, problems = [], ["refused"]
        reported += bool(problems)
        for image in images:
            width, height = image.size
            for defect in image.defects:
                x0, y0, x1, y1 = defect.box
                assert 0 <= x0 < x1 <= width, defect
                assert 0 <= y0 < y1 <= height, defect
                assert defect.defect
                if defect.mask is not None:
                    pixels = defect.mask.read()
                    assert pixels.shape == (height, width)
                    assert pixels[y0:y1, x0:x1].any()
        path.write_bytes(good)
    assert reported > 3
    assert read(tmp_path, form)[2] == []  # type: ignore[arg-type]
