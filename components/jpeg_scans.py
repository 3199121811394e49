"""The scans of a JPEG file, found without decoding it (ITU-T T.81, annex B).

A decoder goes over the whole picture for each scan, and a scan may take a hundred bytes. Not covered: what scans hold.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import IO

_BLOCK = 1 << 16
_START_OF_SCAN, _END = 0xDA, 0xD9
#: A marker that ends the picture or has a length; not 255 and 0, which stand for a byte 255 among pixels, nor those
#: without a length (restarts) or that libjpeg knows no length of.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
#: Bytes behind a marker: a segment's length, and of a scan the number of its components.
_HEAD = 3


def components_of_first(file: IO[bytes]) -> int:
    """Number of components in the first scan, 0 where there is none; the file's position is kept."""
    with closing(_scans(file)) as scans:
        return next(scans, 0)


def more_than(most: int, file: IO[bytes]) -> bool:
    """Whether there are more scans than `most`; the file's position is kept."""
    with closing(_scans(file)) as scans:
        return any(number >= most for number, _ in enumerate(scans))


def _scans(file: IO[bytes]) -> Generator[int, None, None]:
    """Number of components of each scan, in the order of the file."""
    before, found = file.tell(), False
    try:
        for marker, head in _markers(file):
            if marker == _START_OF_SCAN and len(head) == _HEAD:
                found = True
                yield head[2]
            elif marker == _END and found:
                # Before the first scan, it ends tables that stand alone (B.5), and libjpeg reads on.
                return
    finally:
        file.seek(before)


def _markers(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Second byte of each marker, and the `_HEAD` bytes behind it; fewer where the file ends."""
    at, block = 0, b" " * _BLOCK
    while len(block) == _BLOCK:
        file.seek(at)
        block, place = file.read(_BLOCK), 0
        while found := _MARKER.search(block, place):
            if found.end() + _HEAD > len(block) == _BLOCK:
                break
            marker, head = block[found.end() - 1], block[found.end() : found.end() + _HEAD]
            yield marker, head
            place = found.end() + (0 if marker == _END else int.from_bytes(head[:2], "big"))
        if found:
            at += found.start()
        else:
            at += max(place, len(block) - block.endswith(b"\xff"))
