"""The dataset command on the real embedded store: versions, what is sent, and what reads them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from components.artifacts import CropSet, read_json
from components.crop.config import CropConfig
from components.crop.step import crop
from components.dataset import local_copy
from components.errors import UserError
from components.revision import dataset_revision
from components.storage import Store
from components.versions import pushed
from components.versions.push import push
from pipelines.__main__ import main
from pipelines.embedded_store import EmbeddedStore
from tests.components.crop.conftest import Boards
from tests.conftest import ROOT
from tests.environment import forget_store

pytestmark = pytest.mark.integration


@pytest.fixture
def home(store: Store) -> Store:
    """An empty place of the store, as ``--store``."""
    return store.at("pushes", uuid.uuid4().hex)


@pytest.fixture
def boards(tmp_path: Path) -> Boards:
    return Boards(tmp_path / "boards", images=12)


def command(home: Store, *arguments: object) -> list[str]:
    return ["dataset", *map(str, arguments), "--store", home.uri]


def done(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(arguments) == 0, capsys.readouterr()
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    return said


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def cropped(dataset: str, revision: str, out: Path) -> CropSet:
    crop(CropConfig(resolution=64), dataset, revision, out / "crops", out / "report.html")
    return read_json(out / "crops" / "crops.json", CropSet)


def test_what_was_pushed_is_told_and_comes_back(
    home: Store, boards: Boards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (boards.root / ".hidden").write_text("x")
    said = done(capsys, *command(home, "push", boards.root, "boards"))
    place = home.at("datasets", "boards")
    (version,) = pushed.versions(place)
    # The annotation files are alike: one content.
    assert f"boards: version {version}, sent 13 of 24 files" in said
    assert f"--data {place.uri}, or {place.uri}@{version}" in said

    with local_copy(place.uri, "dataset") as opened:
        assert opened.version == version
        (boards.root / ".hidden").unlink()
        assert contents(opened.root) == contents(boards.root)

    listed = done(capsys, *command(home, "list")).splitlines()
    assert listed[1].split()[:2] == ["boards", "12"]
    assert version in listed[1]
    shown = done(capsys, *command(home, "show", "boards"))
    digest = pushed.manifest(place, version).digest
    assert f"digest    {digest}" in shown
    assert "images    12, 0 of them good; annotations as deeppcb" in shown
    rows = {tuple(line.split()) for line in shown.splitlines()}
    assert {("open", "12"), ("pin-hole", "12")} <= rows
    assert (version, "24", "files") == next(r for r in rows if r[0] == version)[:3]


def test_a_folder_and_what_was_pushed_of_it_have_one_revision(home: Store, boards: Boards) -> None:
    place = home.at("datasets", "boards")
    push(place, boards.root, {})
    assert dataset_revision(place.uri, 2) == dataset_revision(str(boards.root), 2)


def test_only_what_changed_is_sent_and_old_versions_stay(
    home: Store, boards: Boards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = home.at("datasets", "boards")
    first = push(place, boards.root, {})
    again = push(place, boards.root, {})
    assert (again.version, again.new, again.sent) == (first.version, False, 0)

    shutil.copytree(boards.root, tmp_path / "old")
    boards.add("100", ["50 50 90 90 2"])
    boards.annotation("000").write_text("20 30 40 60 3\n")
    second = push(place, boards.root, {})
    assert second.new
    assert second.sent == 3
    assert second.version > first.version
    with local_copy(f"{place.uri}@{first.version}", "dataset") as opened:
        assert contents(opened.root) == contents(tmp_path / "old")

    back = push(place, tmp_path / "old", {})
    assert (back.new, back.sent) == (True, 0)
    assert pushed.versions(place) == sorted([first.version, second.version, back.version])
    assert dataset_revision(place.uri, 2) == first.manifest.digest
    shown = done(capsys, *command(home, "show", f"boards@{second.version}"))
    assert f"digest    {second.manifest.digest}" in shown
    assert "(the newest)" not in shown


def test_crops_are_of_the_revision_that_snapshot_saw(home: Store, boards: Boards, tmp_path: Path) -> None:
    """Though a newer version was pushed between the two steps."""
    place = home.at("datasets", "boards")
    first = push(place, boards.root, {})
    seen = dataset_revision(place.uri, 2)
    before = cropped(str(boards.root), seen, tmp_path / "a")
    boards.add("100", ["50 50 90 90 1"])
    second = push(place, boards.root, {})

    made = cropped(place.uri, seen, tmp_path / "b")
    assert made.digest == before.digest
    assert (made.dataset, made.dataset_revision, made.dataset_version) == (place.uri, seen, first.version)
    newest = cropped(place.uri, dataset_revision(place.uri, 2), tmp_path / "c")
    assert newest.dataset_version == second.version
    assert newest.digest != before.digest
    given = f"{place.uri}@{first.version}"
    assert cropped(given, dataset_revision(given, 2), tmp_path / "d").digest == before.digest
    with pytest.raises(UserError, match="no version has the revision 000000000000"):
        cropped(place.uri, "0" * 64, tmp_path / "e")


def test_a_killed_push_goes_on_where_it_was(home: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boards = Boards(tmp_path / "many", images=400)
    place = home.at("datasets", "boards")
    arguments = command(home, "push", boards.root, "boards")
    running = subprocess.Popen(
        [sys.executable, "-m", "pipelines", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while running.poll() is None and next(place.list("objects/"), None) is None:
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    # What the server has received by now it may commit a moment later.
    there, before = sum(1 for _ in place.list("objects/")), -1
    while there != before:
        time.sleep(0.5)
        there, before = sum(1 for _ in place.list("objects/")), there
    assert 0 < there < 401, "killed too late for this test: nothing was left to send"
    with pytest.raises(UserError, match="no version is complete; push the data set again"):
        dataset_revision(place.uri, 2)
    assert "a push that has not ended" in done(capsys, *command(home, "list"))
    assert "no version is complete" in refused(capsys, *command(home, "show", "boards"))

    said = done(capsys, *arguments)
    assert f"sent {401 - there} of 800 files" in said
    with local_copy(place.uri, "dataset") as opened:
        assert contents(opened.root) == contents(boards.root)


def test_data_that_is_not_recognised_is_pushed_and_said_to_be_uncounted(
    home: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no image")
    said = done(capsys, *command(home, "push", tmp_path / "notes", "notes"))
    assert "classes   not counted: dataset notes: no annotated images among its 1 files" in said


def test_a_version_is_after_those_of_a_clock_that_was_ahead(home: Store, boards: Boards) -> None:
    place = home.at("datasets", "boards")
    first = push(place, boards.root, {})
    ahead = f"29990101T000000Z-{first.manifest.digest[:12]}"
    place.put_bytes(pushed.version_key(ahead), first.manifest.to_json())
    boards.add("100", ["50 50 90 90 2"])
    second = push(place, boards.root, {})
    assert second.version.startswith("29990101T000001Z-")
    assert dataset_revision(place.uri, 2) == second.manifest.digest


def test_a_damaged_object_is_named_and_nothing_is_cropped(home: Store, boards: Boards, tmp_path: Path) -> None:
    place = home.at("datasets", "boards")
    entry = push(place, boards.root, {}).manifest.files[0]
    place.put_bytes(pushed.object_key(entry.sha256), b"x")
    with pytest.raises(UserError, match="damaged"):
        cropped(place.uri, dataset_revision(place.uri, 2), tmp_path / "out")
    assert not (tmp_path / "out" / "crops").exists()
    assert push(place, boards.root, {}).sent == 1, "of another size: sent again"
    assert cropped(place.uri, dataset_revision(place.uri, 2), tmp_path / "out").classes


def test_mistakes_end_in_one_message(
    home: Store, boards: Boards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    push(home.at("datasets", "boards"), boards.root, {})
    home.put_bytes("datasets/raw/a.jpg", b"x")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a\\b.jpg").write_text("x")
    (tmp_path / "bad" / "MANIFEST.json").write_text("x")
    for arguments, message in (
        (("push", tmp_path / "gone", "a"), "gone does not exist"),
        (("push", boards.root, "My Boards"), "'My Boards': cannot name a data set"),
        (("push", boards.root, "a@b"), "'a@b': cannot name a data set"),
        (("push", "s3://bucket/x", "a"), "push takes a folder of this machine"),
        (("push", boards.root, "raw"), "holds files that were not pushed (a.jpg)"),
        (("push", tmp_path / "bad", "bad"), "holds a backslash"),
        (("push", tmp_path / "bad", "bad"), "the name MANIFEST.json is the store's own"),
        (("push", boards.root, "boards", "--format", "cocoa"), "format"),
        (("show", "gone"), "(there are: boards, raw)"),
        (("show", "boards@20200101T000000Z-000000000000"), "no version '20200101T000000Z-000000000000'; versions: "),
        (("show", "boards@x"), "no version 'x'; versions: "),
    ):
        assert message in refused(capsys, *command(home, *arguments)), arguments
    with pytest.raises(UserError, match="no version 'x'; versions: "):
        dataset_revision(f"{home.uri}/datasets/boards@x", 2)
    assert pushed.versions(home.at("datasets", "bad")) == []
    assert "files that were not pushed" in done(capsys, *command(home, "list"))
    assert "--store: not given, though STORE_ENDPOINT_URL is" in refused(capsys, "dataset", "list")
    monkeypatch.delenv("STORE_ENDPOINT_URL")
    assert "no store in it" in refused(capsys, "dataset", "list", "--workdir", str(tmp_path))


@pytest.mark.parametrize(("content", "message"), [(b"[]", "damaged; delete it"), (b'{"schema": 9}', "schema 9, known")])
def test_a_marker_of_another_kind_is_refused(home: Store, content: bytes, message: str) -> None:
    home.put_bytes(pushed.MARKER, content)
    with pytest.raises(UserError, match=message):
        dataset_revision(home.uri, 2)


def test_without_a_store_of_ones_own_the_embedded_one_keeps_it(
    boards: Boards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_store(monkeypatch)
    workdir = ("--workdir", str(tmp_path / "runs"))
    said = done(capsys, "dataset", "push", str(boards.root), "boards", *workdir)
    assert "--data s3://defect-diffusion/datasets/boards" in said
    assert "boards" in done(capsys, "dataset", "list", *workdir)
    with EmbeddedStore(tmp_path / "runs" / ".local" / "store") as embedded:
        for name, value in embedded.environ.items():
            monkeypatch.setenv(name, value)
        assert dataset_revision(f"{embedded.uri}/datasets/boards", 2) == dataset_revision(str(boards.root), 2)
