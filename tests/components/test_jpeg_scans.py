"""Scans of JPEG files: counted as a decoder comes to them, and limited, since each costs as much as the picture."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components import decoding, jpeg_scans
from components.crop.images import Unreadable, displayed_size, read_mask
from tests.components.crop.pictures import one_by_one, read_rgb

START, END = b"\xff\xda", b"\xff\xd9"


def _jpeg(side: int = 64, **options: object) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _repeated(data: bytes, times: int) -> bytes:
    """A progressive JPEG with its last scan repeated, as a decoder takes it."""
    return data[:-2] + data[data.rindex(START) : -2] * times + END


def _comment(text: bytes) -> bytes:
    return b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text


def count(data: bytes) -> int:
    file = io.BytesIO(data)
    file.seek(7)
    number = next(n for n in range(1000) if not jpeg_scans.more_than(n, file))
    assert file.tell() == 7
    return number


def first(data: bytes) -> int:
    return jpeg_scans.components_of_first(io.BytesIO(data))


def test_scans_are_counted_as_pillow_writes_them() -> None:
    assert [count(_jpeg()), count(_jpeg(progressive=True))] == [1, 10]
    assert count(_repeated(_jpeg(progressive=True), 5)) == 15
    assert count(one_by_one(_jpeg())) == 3
    assert [first(data) for data in (_jpeg(), one_by_one(_jpeg()), _jpeg()[:300])] == [3, 1, 0]


def test_what_other_segments_hold_is_no_scan_and_no_end() -> None:
    data = _jpeg(progressive=True)
    second = data.index(START, data.index(START) + 2)
    hiding = data[:second] + _comment(END) + _comment(START * 20) + data[second:]
    assert count(hiding) == 10
    with decoding.opened(io.BytesIO(hiding)) as image:
        assert decoding.decode(image).tobytes() == Image.open(io.BytesIO(data)).tobytes()
    # A second picture, as phones append one, is not decoded.
    assert count(data + data) == 10


TABLES = b"\xff\xd8" + _comment(b"no table") + END


@pytest.mark.parametrize("before", [TABLES, TABLES * 3, b"\xff\xd8\xff\xd9"])
def test_tables_that_stand_alone_end_before_the_picture(before: bytes, tmp_path: Path) -> None:
    """ITU-T T.81, B.5. libjpeg reads on behind them."""
    assert [count(before + _jpeg(progressive=True)), first(before + _jpeg())] == [10, 3]
    with decoding.opened(io.BytesIO(before + _jpeg())) as image:
        assert decoding.peak(image) == 64 * 64 * 4
        assert decoding.decode(image).tobytes() == Image.open(io.BytesIO(_jpeg())).tobytes()
    with (
        pytest.raises(decoding.Undecodable, match="more than 100 scans"),
        decoding.opened(io.BytesIO(before + _repeated(_jpeg(progressive=True), 91))) as image,
    ):
        decoding.decode(image)


def test_a_picture_that_is_decoded_is_not_looked_at_again() -> None:
    with decoding.opened(io.BytesIO(one_by_one(_jpeg()))) as image:
        pixels = decoding.decode(image).tobytes()
        assert decoding.decode(image).tobytes() == pixels


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_scans_are_found_wherever_a_block_ends(at: int) -> None:
    head, scan = _jpeg()[:2], START + struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 63, 0)
    for length in (*range(480, 540), *range(1000, 1060), *range(65_500, 65_570), *range(131_040, 131_090)):
        data = head + scan + b"\x7f" * (4 * (length // 4) + at) + scan
        assert count(data) == 2, length


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8", START, START + b"\0", START + b"\0\x08", _jpeg()[:300]])
def test_files_that_are_cut_short_end(data: bytes) -> None:
    assert not jpeg_scans.more_than(1, io.BytesIO(data))
    assert first(data) == 0


@pytest.mark.parametrize(
    "data", [_repeated(_jpeg(progressive=True), 91), one_by_one(_jpeg(), 34)], ids=["progressive", "sequential"]
)
def test_a_picture_of_too_many_scans_is_refused(data: bytes, tmp_path: Path) -> None:
    """500 scans of 100 bytes each took half a minute at 8,192²."""
    (tmp_path / "a.jpg").write_bytes(data)
    assert displayed_size(tmp_path / "a.jpg") == (64, 64)
    for read in (read_rgb, read_mask):
        with pytest.raises(Unreadable, match=r"refused \(more than 100 scans, .*; replace it or remove it"):
            read(tmp_path / "a.jpg")


def test_a_picture_of_many_scans_is_read(tmp_path: Path) -> None:
    data = _jpeg(progressive=True)
    (tmp_path / "a.jpg").write_bytes(_repeated(data, 90))
    assert read_rgb(tmp_path / "a.jpg").size == (64, 64)
    (tmp_path / "a.jpg").write_bytes(one_by_one(_jpeg(), 33))
    assert read_rgb(tmp_path / "a.jpg").size == (64, 64)
