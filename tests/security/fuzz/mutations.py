"""How good inputs are made into others: what stands where a number or a word stood."""

from __future__ import annotations

import re
from random import Random

WORD = re.compile(rb"[\w.-]+")

#: In the place of a number or a word, or anywhere.
ODD = [
    *(b"NaN", b"null", b"-1", b"0", b"1e999", b"{}", b"[]", b'"x"', b"\0", b"\xff", b"..", b"../../x", b"true", b"<"),
    *(b",", b"\n", b"9" * 400, b"9" * 5000, b"0x" + b"f" * 5000, b"2026-99-99", b"!!timestamp x", b"!!int ''"),
    *(b"&a [*a]", b"*a", b'"\\ud800"', b'"\\u0000"', "é".encode(), b"[" * 2000, b"\x00" * 64, b"{'a': " * 500),
]


def other_word(data: bytes, random: Random) -> bytes:
    """`data` with one word in another's place, or something odd there, at times with its quotation marks."""
    words = [match.span() for match in WORD.finditer(data)]
    if not words:
        return data
    start, end = random.choice(words)
    first, last = random.choice(words)
    new = random.choice((data[first:last], random.choice(ODD), b""))
    if data[start - 1 : start] == data[end : end + 1] == b'"' and random.random() < 0.5:
        start, end = start - 1, end + 1
    return data[:start] + new + data[end:]
