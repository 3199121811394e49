"""Archives of any kind give the files that were packed; hostile and damaged ones give a message and nothing else."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.archives import budget, stem_of
from components.archives.unpack import unpack
from components.dataset import counts, is_archive, local_copy, name_of
from components.errors import UserError
from components.revision import dataset_revision

KINDS = (".zip", ".tar", ".tar.gz", ".tgz")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Small and large files, of sizes around the blocks that tar pads to."""
    root = tmp_path / "screws"
    rng = np.random.default_rng(0)
    for i, size in enumerate((0, 1, 511, 512, 513, 1 << 20, (1 << 20) + 7, 3_000_000)):
        path = root / f"images/größe {i % 2}/{'long' * 40 if i == 3 else 'x'}{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.bytes(size))
    (root / "empty").mkdir()
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def packed(folder: Path, kind: str) -> Path:
    """By Python's own writers."""
    form = {".zip": "zip", ".tar": "tar"}.get(kind, "gztar")
    made = Path(shutil.make_archive(str(folder.with_name("made")), form, folder))
    return made.rename(folder.with_name(f"screws{kind}"))


def opened(archive: Path, target: Path) -> dict[str, bytes]:
    target.mkdir()
    unpack(archive, target, archive.name, counts)
    return contents(target)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_packed_comes_out(kind: str, data: Path, tmp_path: Path) -> None:
    assert opened(packed(data, kind), tmp_path / "out") == contents(data)


@pytest.mark.parametrize(
    "options", [["-cf"], ["-czf"], ["--format=pax", "-cf"], ["--format=ustar", "-cf"], ["-S", "-cf"]]
)
@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
def test_what_tar_itself_packs_comes_out(options: list[str], data: Path, tmp_path: Path) -> None:
    if "-S" in options:
        with (data / "holes.bin").open("wb") as file:
            file.write(b"begin")
            file.seek(5_000_000)
            file.write(b"end")
    if "--format=ustar" in options:
        shutil.rmtree(data / "images/größe 1")
    archive = tmp_path / "screws.tar"
    subprocess.run(["tar", *options, archive, "-C", data, "."], check=True)
    assert opened(archive, tmp_path / "out") == contents(data)


def test_a_folder_and_its_archives_have_one_revision_and_one_name(data: Path) -> None:
    (data / ".DS_Store").write_text("not data")
    expected = dataset_revision(str(data), 2)
    for kind in KINDS:
        archive = packed(data, kind)
        assert is_archive(str(archive))
        assert name_of(str(archive)) == "screws"
        assert dataset_revision(str(archive), 2) == expected
        with zipfile.ZipFile(archive, "a") if kind == ".zip" else tarfile.open(archive) as changed:
            if isinstance(changed, zipfile.ZipFile):
                changed.writestr("one more.png", b"x")
        assert (dataset_revision(str(archive), 2) == expected) == (kind != ".zip")


def test_the_copy_is_gone_afterwards(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with local_copy(str(packed(data, ".tar.gz")), "dataset") as opened:
        assert contents(opened.root) == contents(data)
        assert opened.root.is_relative_to(tmp_path / "tmp")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_names_are_read_in_utf_8_where_a_zip_does_not_say_so(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("größe.png".encode().decode("cp437"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, b"x")
    data = (tmp_path / "a.zip").read_bytes()
    # The writer marks every name beyond ASCII as UTF-8; older tools wrote the bytes alone.
    written = "größe.png".encode().decode("cp437").encode()
    assert written in data
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("gr__e.png--", b"x")
    plain = (tmp_path / "b.zip").read_bytes()
    (tmp_path / "b.zip").write_bytes(plain.replace(b"gr__e.png--", "größe.png".encode()))
    assert opened(tmp_path / "b.zip", tmp_path / "out") == {"größe.png": b"x"}


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.zip", "a"),
        ("a.tar.gz", "a"),
        ("A.TGZ", "A"),
        ("a.b.tar", "a.b"),
        ("a.gz", None),
        (".zip", None),
        ("zip", None),
    ],
)
def test_an_archive_is_known_by_its_name(name: str, stem: str | None, tmp_path: Path) -> None:
    assert stem_of(name) == stem
    assert is_archive(f"s3://bucket/{name}") == (stem is not None)
    assert not is_archive(f"s3://bucket/{name}/")
    (tmp_path / name).mkdir()
    assert not is_archive(str(tmp_path / name))


# --------------------------------------------------------------------------------------------- hostile and damaged


def tar_of(*entries: tuple[str, bytes, str], mode: str = "w") -> Callable[[Path], Path]:
    """Entries of name, type and link or content."""

    def build(folder: Path) -> Path:
        path = folder / ("bad.tar.gz" if mode == "w:gz" else "bad.tar")
        with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
            for name, kind, rest in entries:
                info = tarfile.TarInfo(name)
                info.type = kind
                if kind == tarfile.REGTYPE:
                    info.size = len(rest)
                    file.addfile(info, io.BytesIO(rest.encode()))
                else:
                    info.linkname = rest
                    file.addfile(info)
        return path

    return build


def zip_of(*entries: tuple[str, int, str]) -> Callable[[Path], Path]:
    """Entries of name, file type of Unix and content."""

    def build(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "bad.zip", "w") as file:
            for name, kind, content in entries:
                info = zipfile.ZipInfo(name)
                info.create_system, info.external_attr = 3, (kind | 0o644) << 16
                file.writestr(info, content)
        return folder / "bad.zip"

    return build


def changed(build: Callable[[Path], Path], change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def changing(folder: Path) -> Path:
        path = build(folder)
        path.write_bytes(change(path.read_bytes()))
        return path

    return changing


def shorter_index(archive: bytes) -> bytes:
    """As if the index began with its second entry: 46 bytes and five of the name later."""
    size, start = struct.unpack("<II", archive[-10:-2])
    return archive[:-10] + struct.pack("<II", size - 51, start + 51) + archive[-2:]


def bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "bad.zip", "w", zipfile.ZIP_DEFLATED) as file, file.open("zeros.png", "w") as entry:
        for _ in range(100):
            entry.write(bytes(1 << 20))
    return folder / "bad.zip"


def gzip_bomb(folder: Path) -> Path:
    """A name of a hundred megabytes: tarfile reads it whole, before anyone can ask for its size."""
    with gzip.open(folder / "bad.tar.gz", "wb", compresslevel=1) as file:
        info = tarfile.TarInfo("././@LongLink")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 100 << 20
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(100):
            file.write(bytes(1 << 20))
    return folder / "bad.tar.gz"


def zeros_bomb(folder: Path) -> Path:
    with tarfile.open(folder / "bad.tar.gz", "w:gz") as file:
        info = tarfile.TarInfo("zeros.png")
        info.size = 100 << 20
        with Path("/dev/zero").open("rb") as zeros:
            file.addfile(info, zeros)
    return folder / "bad.tar.gz"


def sparse_bomb(folder: Path) -> Path:
    """A terabyte of holes."""
    with (folder / "holes.png").open("wb") as file:
        file.truncate(1 << 40)
    subprocess.run(["tar", "-S", "-cf", folder / "bad.tar", "-C", folder, "holes.png"], check=True)
    (folder / "holes.png").unlink()
    return folder / "bad.tar"


REG, SYM, HARD, FIFO = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE
FILE, LINK = stat.S_IFREG, stat.S_IFLNK
GOOD_TAR, GOOD_ZIP = tar_of(("a.png", REG, "x" * 2000)), zip_of(("a.png", FILE, "x" * 2000))
TWO = tar_of(("a.png", REG, "x" * 2000), ("b.png", REG, "y" * 2000))
THREE = zip_of(("a.png", FILE, "x"), ("b.png", FILE, "y"), ("c.png", FILE, "z"))
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "zip, up": (zip_of(("../out.png", FILE, "x")), r"'\.\./out\.png': its name holds .* '\.\.'; pack it again"),
    "zip, up in the middle": (zip_of(("a/../../out.png", FILE, "x")), "its name holds"),
    "zip, hidden up": (zip_of(("../.out.png", FILE, "x")), "its name holds"),
    "zip, absolute": (zip_of(("/tmp/out.png", FILE, "x")), "its name is absolute"),
    "zip, drive": (zip_of(("C:/out.png", FILE, "x")), "its name is absolute"),
    "zip, backslashes": (zip_of(("a\\..\\..\\out.png", FILE, "x")), "its name holds a backslash"),
    "zip, line break": (zip_of(("a\nb.png", FILE, "x")), "its name holds control characters"),
    "zip, link out": (
        zip_of(("a.png", LINK, "../../etc/passwd")),
        r"a link to '\.\./\.\./etc/passwd', which is outside",
    ),
    "zip, absolute link": (zip_of(("a.png", LINK, "/etc/passwd")), "which is outside; put the file in its place"),
    "zip, pipe": (zip_of(("a.png", stat.S_IFIFO, "")), "neither a file, a folder nor a link"),
    "zip, nothing": (zip_of((".hidden.png", FILE, "x")), "holds no files"),
    "zip, file and folder": (zip_of(("a", FILE, "x"), ("a/b.png", FILE, "x")), "'a/b.png': is a file and a folder too"),
    "zip, folder and file": (zip_of(("a/b.png", FILE, "x"), ("a", FILE, "x")), "'a': is a file and a folder too"),
    "zip, cut short": (changed(GOOD_ZIP, lambda b: b[:-30]), "damaged, or no such archive"),
    "zip, bytes changed": (
        changed(GOOD_ZIP, lambda b: b.replace(b"xxxx", b"yyyy", 1)),
        "damaged, or no such archive .*CRC",
    ),
    "zip, password": (
        changed(GOOD_ZIP, lambda b: b.replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1")),
        "has a password",
    ),
    "zip, method": (
        changed(GOOD_ZIP, lambda b: b.replace(b"PK\x01\x02\x14\x03\x14\0\0\0\0", b"PK\x01\x02\x14\x03\x14\0\0\0\x09")),
        "compressed by method 9; pack it with deflate",
    ),
    "zip, index to nowhere": (
        changed(GOOD_ZIP, lambda b: b[:-6] + (1 << 30).to_bytes(4, "little") + b[-2:]),
        "damaged",
    ),
    "zip, entry lost": (changed(THREE, shorter_index), "3 entries, of which 2 are found"),
    "zip, empty file": (changed(GOOD_ZIP, lambda b: b""), "damaged, or no such archive"),
    "zip, bomb": (bomb, "unpacks to 104.9 MB or more from .* kB, over 200 times as much"),
    "tar, up": (tar_of(("../out.png", REG, "x")), "its name holds"),
    "tar, absolute": (tar_of(("/tmp/out.png", REG, "x")), "its name is absolute"),
    "tar, link out": (tar_of(("a", SYM, ".."), ("b.png", REG, "x")), r"'a': a link to '\.\.', which is outside"),
    "tar, through a link": (tar_of(("a", SYM, "b"), ("a/b.png", REG, "x")), "'a/b.png': is a file and a folder too"),
    "tar, hard link out": (tar_of(("a.png", HARD, "../b.png")), "which is outside"),
    "tar, link to nothing": (tar_of(("a.png", SYM, "b.png"), ("c.png", REG, "x")), "which is no file of the archive"),
    "tar, links in a ring": (
        tar_of(("a.png", SYM, "b.png"), ("b.png", SYM, "a.png")),
        "which is no file of the archive",
    ),
    "tar, pipe": (tar_of(("a.png", FIFO, "")), "neither a file"),
    "tar, twice": (tar_of(("a.png", REG, "x"), ("./a.png", REG, "y")), "is there twice; leave one"),
    "tar, name no text": (tar_of(("a\udce9.png", REG, "x")), "is no valid text"),
    "tar, long name": (tar_of(("a" * 300, REG, "x")), "too long for this disk; shorten it"),
    "tar, no end": (changed(TWO, lambda b: b[: 512 + 2048]), "ends without its end mark"),
    "tar, cut in a file": (changed(TWO, lambda b: b[:3500]), "unexpected end of data"),
    "tar, cut in a header": (changed(TWO, lambda b: b[: 512 + 2048 + 100]), "ends without its end mark"),
    "tar, second header damaged": (
        changed(TWO, lambda b: b[:2560] + b"?" + b[2561:]),
        "ends without its end mark, or in a damaged",
    ),
    "tar, no tar": (changed(TWO, lambda b: b"x" * 5000), "damaged, or no such archive"),
    "tar.gz, cut short": (changed(tar_of(("a.png", REG, "x" * 2000), mode="w:gz"), lambda b: b[:-20]), "damaged"),
    "tar.gz, bytes changed": (
        changed(tar_of(("a.png", REG, "x" * 2000), mode="w:gz"), lambda b: b[:-6] + b"??" + b[-4:]),
        "damaged",
    ),
    "tar.gz, bomb": (zeros_bomb, "over 200 times as much"),
    "tar.gz, bomb in a header": (gzip_bomb, "a header of 104857600 bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_archive_ends_in_a_message_and_leaves_nothing_outside(case: str, tmp_path: Path) -> None:
    build, message = BAD[case]
    work = tmp_path / "deep" / "work"
    work.mkdir(parents=True)
    archive = build(work)
    target = work / "target"
    target.mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=f"^(.*\n  - )?dataset: bad: .*{message}"):
        unpack(archive, target, "dataset: bad", counts)
    assert [p for p in sorted(tmp_path.rglob("*")) if not p.is_relative_to(target)] == [
        p for p in before if p != target
    ]
    assert not Path("/tmp/out.png").exists()
    assert not any(p.is_symlink() for p in target.rglob("*"))
    assert sum(p.stat().st_size for p in target.rglob("*")) < 70 << 20


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
def test_holes_count_as_the_bytes_that_they_become(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(UserError, match=r"unpacks to 1\.1 TB or more from 10\.2 kB, over 200 times as much"):
        unpack(sparse_bomb(tmp_path), tmp_path / "target", "bad", counts)


def test_a_full_disk_is_said_before_it_is_full(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 4096, 4096))
    for kind in KINDS:
        (tmp_path / f"target{kind}").mkdir()
        with pytest.raises(
            UserError, match=r"but 4\.1 kB are free on the disk of TMPDIR; free some space or set TMPDIR"
        ):
            unpack(packed(data, kind), tmp_path / f"target{kind}", "bad", counts)


def test_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MOST_ENTRIES", 10)
    (tmp_path / "target").mkdir()
    archive = tar_of(*[(f"{i}.png", REG, "x") for i in range(11)])(tmp_path)
    with pytest.raises(UserError, match="more than 10 entries"):
        unpack(archive, tmp_path / "target", "bad", counts)


def test_all_that_is_unsound_is_named(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    archive = tar_of(*[(f"../{i}.png", REG, "x") for i in range(25)])(tmp_path)
    with pytest.raises(UserError) as caught:
        unpack(archive, tmp_path / "target", "bad", counts)
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "bad: and 5 more entries like these"


def test_links_inside_become_files_and_hidden_ones_do_not_matter(tmp_path: Path) -> None:
    archive = tar_of(
        ("in/b.png", SYM, "../c.png"),
        ("c.png", SYM, "in/d.png"),
        ("in/d.png", REG, "bytes"),
        ("e.png", HARD, "in/d.png"),
        (".cache/x", SYM, "/etc/passwd"),
    )(tmp_path)
    files = opened(archive, tmp_path / "target")
    assert files == dict.fromkeys(["c.png", "e.png", "in/b.png", "in/d.png"], b"bytes")
    assert not any(p.is_symlink() for p in (tmp_path / "target").rglob("*"))


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"dataset: .*gone\.zip does not exist"),
        local_copy(str(tmp_path / "gone.zip"), "dataset"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_archive_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    archive = GOOD_ZIP(tmp_path)
    archive.chmod(0)
    with pytest.raises(UserError, match="no permission to read"), local_copy(str(archive), "dataset"):
        pass


def test_an_entry_without_a_name_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("images/a.png", b"x")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    # In the index the name becomes the entry's comment: its length is the field before the last but one.
    entry = data.index(b"PK\1\2")
    data[entry + 28 : entry + 34] = struct.pack("<HHH", 0, 0, len("images/a.png"))
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UserError, match="its name is empty"):
        opened(tmp_path / "a.zip", tmp_path / "out")
