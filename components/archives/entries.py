"""What is in an archive, entry by entry, read forwards and once."""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal, cast

from components.archives.budget import Budget
from components.errors import UserError

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_ENCRYPTED, _UTF8 = 1, 0x800
_LONGEST_LINK = 4096
# tarfile reads a header's extension at once, however long it says that it is.
_LONGEST_READ = 1 << 22
_HEADER = 512
# A zip file's last record, and how far from the end it may begin: it ends in a comment.
_END, _LONGEST_END = b"PK\5\6", 22 + 0xFFFF


@dataclass(frozen=True)
class Entry:
    """One entry, its name as the archive has it: not yet safe to use."""

    name: str
    kind: Literal["file", "folder", "link", "other"]
    open: Callable[[], IO[bytes]]  #: a file's bytes; before the next entry is asked for
    link: str = ""  #: where a link leads
    relative: bool = True  #: from the link's own folder; else from the top of the archive


def entries_of(archive: Path, budget: Budget) -> Iterator[Entry]:
    """The entries of an archive; what reading and unpacking them takes is spent from `budget` beforehand.

    Raises:
        UserError: for more than the budget, passwords and unknown compressions, without the archive's name.
        Exception: of zipfile, tarfile or zlib for damage.
    """
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as opened:
            _require_all(archive, len(opened.infolist()))
            yield from _in_zip(opened, budget)
        return
    with archive.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if packed else file
        yield from _in_tar(_Forward(stream, budget), budget)


def _require_all(archive: Path, found: int) -> None:
    """Hold the entries that zipfile found against the number that the archive's last record says.

    zipfile does not, and passes over what a damaged record of the index's size hides.
    """
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - _LONGEST_END))
        end = file.read()
    at = end.rfind(_END)
    said = int.from_bytes(end[at + 10 : at + 12], "little")
    # Zip64 keeps it elsewhere.
    if at < 0 or (said not in (found, 0xFFFF) and said != found & 0xFFFF):
        raise zipfile.BadZipFile(f"{said} entries, of which {found} are found")


def _in_zip(opened: zipfile.ZipFile, budget: Budget) -> Iterator[Entry]:
    # Sizes that an entry claims are binding: zipfile reads no further.
    budget.spend(sum(info.file_size for info in opened.infolist()))
    for info in opened.infolist():
        if info.flag_bits & _ENCRYPTED:
            raise UserError(f"{info.filename!r} has a password; pack it without one")
        if info.compress_type not in _METHODS:
            raise UserError(f"{info.filename!r} is compressed by method {info.compress_type}; pack it with deflate")
        name, link = _name_in_zip(info), ""
        mode = info.external_attr >> 16
        kind: Literal["file", "folder", "link", "other"] = "file"
        # Not `is_dir`, which raises IndexError over an entry without a name.
        if info.filename.endswith("/") or stat.S_ISDIR(mode):
            kind = "folder"
        elif stat.S_ISLNK(mode):
            kind = "link"
            with opened.open(info) as content:
                link = content.read(_LONGEST_LINK).decode("utf-8", errors="surrogateescape")
        elif stat.S_IFMT(mode) and not stat.S_ISREG(mode):
            kind = "other"
        yield Entry(name, kind, partial(opened.open, info), link)


def _name_in_zip(info: zipfile.ZipInfo) -> str:
    # As it stands: `filename` ends at a zero byte. Many tools write UTF-8 without saying so.
    name = info.orig_filename
    if info.flag_bits & _UTF8:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _in_tar(stream: _Forward, budget: Budget) -> Iterator[Entry]:
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:") as opened:
        while (info := opened.next()) is not None:
            if info.issparse():
                # Holes are written out, but were not in the stream.
                budget.spend(info.size)
            kind: Literal["file", "folder", "link", "other"] = "other"
            if info.isreg():
                kind = "file"
            elif info.isdir():
                kind = "folder"
            elif info.issym() or info.islnk():
                kind = "link"
            yield Entry(info.name, kind, partial(_content, opened, info), info.linkname, info.issym())
            # tarfile keeps every entry that it has seen.
            opened.members.clear()  # type: ignore[attr-defined]
    # tarfile takes a damaged or missing header for the end, without a word.
    if stream.last != bytes(_HEADER):
        raise tarfile.ReadError("it ends without its end mark, or in a damaged header")
    stream.finish()


def _content(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = opened.extractfile(info)
    assert content is not None  # of a regular file
    return content


class _Forward:
    """A stream with what tarfile uses of a file: forwards only, but for the block read last.

    Going back would unpack the archive from its beginning, once for each entry.
    """

    def __init__(self, stream: IO[bytes], budget: Budget) -> None:
        self.last = b""  #: what the last read gave
        self._stream, self._budget = stream, budget
        self._position = self._reached = 0
        self._tail = b""

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._reached - len(self._tail):
            raise tarfile.ReadError("its entries are not in order")
        while self._reached < position and self._fetch(min(position - self._reached, _LONGEST_READ)):
            pass
        self._position = min(position, self._reached)
        return self._position

    def read(self, count: int) -> bytes:
        if not 0 <= count <= _LONGEST_READ:
            raise tarfile.ReadError(f"a header of {count} bytes")
        data = self._tail[len(self._tail) - (self._reached - self._position) :][:count]
        if len(data) < count:
            data += self._fetch(count - len(data))
        self._position += len(data)
        self.last = data
        return data

    def finish(self) -> None:
        """Read to the end, where gzip's check sum is."""
        while self._fetch(_LONGEST_READ):
            pass

    def _fetch(self, count: int) -> bytes:
        data = self._stream.read(count)
        self._budget.spend(len(data))
        self._reached += len(data)
        self._tail = (self._tail + data)[-_HEADER:]
        return data
