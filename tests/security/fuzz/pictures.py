"""How good pictures are made into others that decoders read on: PNG's chunks with a valid check sum, JPEG's segments,
TIFF's tags.
"""

from __future__ import annotations

import re
import struct
import zlib
from random import Random

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KINDS = [
    *(b"iCCP", b"tRNS", b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"PLTE", b"IDAT", b"IHDR", b"pHYs", b"cHRM", b"gAMA"),
    *(b"sRGB", b"acTL", b"fcTL", b"fdAT", b"cICP", b"sBIT", b"bKGD", b"hIST", b"tIME"),
]
#: Tables that stand alone, comments, restarts, a number of lines, a reserved marker, the end.
_SEGMENTS = (
    *(b"\xff\xd8\xff\xd9", b"\xff\xfe\0\2", b"\xff\xfe\0\6\xff\xda\xff\xd9", b"\xff\xdd\0\4\0\1", b"\xff\xd0"),
    *(b"\xff\xdc\0\4\xff\xff", b"\xff\x02", b"\xff\xd9"),
)
_CONTENT = (b"", b"\0", b"a\0\0", b"\xff" * 5, b"II*\0\x08\0\0\0\xff\xff", b"\0" * 33, b"a\0\1\0\0\0zz")
_NUMBERS = (0, 1, 2, 3, 5, 12, 255, 256, 65_535, 65_536, 0x7FFFFFFF, 0xFFFFFFFF)
#: Two bytes of the tags that decide how pixels are read: sizes, bits, compression, strips, orientation, and others.
_TAGS = (256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 338, 339, 34665, 700)


def other_picture(data: bytes, random: Random) -> bytes:
    """`data` with one change that keeps a PNG, JPEG or TIFF file whole; as it is where it is none of them."""
    if data.startswith(_SIGNATURE):
        return _other_png(data, random)
    if data.startswith(b"\xff\xd8"):
        return _other_jpeg(data, random)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _other_tiff(data, random)
    return data


def _other_png(data: bytes, random: Random) -> bytes:
    chunks, at = [], len(_SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return data
    place = random.randrange(len(chunks))
    kind, content = chunks[place]
    change = random.randrange(4)
    if change == 0:
        chunks.insert(random.randrange(len(chunks) + 1), (random.choice(_KINDS), random.choice((*_CONTENT, content))))
    elif change == 1:
        del chunks[place]
    elif change == 2:
        chunks[place] = random.choice(_KINDS), content
    elif content:
        changed = bytearray(content)
        changed[random.randrange(len(changed))] = random.randrange(256)
        chunks[place] = kind, bytes(changed)
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _other_jpeg(data: bytes, random: Random) -> bytes:
    # Each with what follows it: a scan with its pixels.
    segments = re.split(rb"(?=\xff[\xc0-\xcf\xd9-\xfe])", data)
    place = random.randrange(len(segments))
    change = random.randrange(4)
    if change == 0:
        segments[place : place + 1] = [segments[place]] * random.choice((2, 3, 10, 120))
    elif change == 1:
        del segments[place]
    elif change == 2:
        segments.insert(random.randrange(len(segments) + 1), random.choice((*_SEGMENTS, segments[place])))
    elif len(segments[place]) > 4:
        changed = bytearray(segments[place])
        changed[random.randrange(2, min(len(changed), 20))] = random.randrange(256)
        segments[place] = bytes(changed)
    return b"".join(segments)


def _other_tiff(data: bytes, random: Random) -> bytes:
    order = "<" if data[:2] == b"II" else ">"
    changed = bytearray(data)
    (directory,) = struct.unpack_from(order + "I", data, 4) if len(data) >= 8 else (0,)
    if not 0 < directory <= len(data) - 2:
        return data
    (entries,) = struct.unpack_from(order + "H", data, directory)
    place = directory + 2 + 12 * random.randrange(max(1, entries))
    if place + 12 > len(data):
        return data
    field = random.randrange(4)
    if field == 0:
        struct.pack_into(order + "H", changed, place, random.choice(_TAGS))
    elif field == 1:
        struct.pack_into(order + "H", changed, place + 2, random.randrange(20))
    else:
        struct.pack_into(order + "I", changed, place + 4 * (field - 1), random.choice((*_NUMBERS, len(data))))
    return bytes(changed)
