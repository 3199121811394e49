"""The scans of a JPEG file, found without decoding it (ITU-T T.81, annex B).

A decoder goes through all pixels for each scan, and a scan may take a hundred bytes. Not covered: what scans hold.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO

# Bytes read at a time: few where markers follow each other, as in a file of nothing else.
_FEW, _MANY = 1 << 9, 1 << 16
_START_OF_SCAN, _END = 0xDA, 0xD9
#: A marker; not the zero that stands for the byte 255 among pixels, nor what libjpeg passes over there: restarts, and
#: markers that are reserved.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")


def components_of_first(file: BinaryIO) -> int:
    """Number of components in the first scan, 0 where there is none; the file's position is kept."""
    return next(_scans(file), 0)


def more_than(most: int, file: BinaryIO) -> bool:
    """Whether there are more scans than `most`; the file's position is kept."""
    return any(number >= most for number, _ in enumerate(_scans(file)))


def _scans(file: BinaryIO) -> Iterator[int]:
    """Number of components of each scan, in the order of the file."""
    before = file.tell()
    try:
        file.seek(0)
        for marker in _markers(file):
            if marker == _START_OF_SCAN:
                head = file.read(3)
                file.seek(-len(head), os.SEEK_CUR)
                yield head[2] if len(head) == 3 else 0
            length = int.from_bytes(file.read(2), "big")
            file.seek(max(length - 2, 0), os.SEEK_CUR)
    finally:
        file.seek(before)


def _markers(file: BinaryIO) -> Iterator[int]:
    """Second byte of each marker; the file then stands behind it. The caller may move it further."""
    size = _FEW
    while block := file.read(size):
        if found := _MARKER.search(block):
            file.seek(found.end() - len(block), os.SEEK_CUR)
            if (marker := block[found.end() - 1]) == _END:
                return
            yield marker
            size = _FEW
        else:
            if block.endswith(b"\xff") and len(block) > 1:
                file.seek(-1, os.SEEK_CUR)
            size = min(2 * size, _MANY)
