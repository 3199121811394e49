"""Commands on a disk that is full, or in places that there cannot be: one message, and status 2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.errors import Unavailable, UserError
from components.storage import connection
from pipelines.__main__ import main
from pipelines.embedded_store import EmbeddedStore
from pipelines.kfp_local import StepFailed, StepRun
from tests.environment import forget_store
from tests.small_disk import can_mount, mounted

pytestmark = [
    pytest.mark.integration,
    pytest.mark.usefixtures("no_store"),
]
needs_disk = pytest.mark.skipif(not can_mount(), reason="this user may not mount a small disk")

KB = 1 << 10


@pytest.fixture
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_store(monkeypatch)


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    with mounted(place, request.param):
        yield place


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    """A data set of 600 kB."""
    folder, random = tmp_path / "boards", np.random.default_rng(0)
    folder.mkdir()
    Image.fromarray(random.integers(0, 256, (450, 450, 3), dtype=np.uint8)).save(folder / "a.png")
    (folder / "annotations.csv").write_text("image,class,x0,y0,x1,y1\na.png,dent,1,1,40,40\n")
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main([*map(str, arguments)]) == UserError.status
    said = capsys.readouterr().err.rstrip().splitlines()[-1]
    assert said.startswith("error: ")
    return said


@needs_disk
@pytest.mark.parametrize("disk", [64 * KB], indirect=True)
def test_a_run_says_which_disk_is_full(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "run", "--plan", "--workdir", disk)
    assert re.search(rf"the outputs \(in {disk}, where [0-9.]+ k?B are free\)", said)
    assert "(No space left on device); free some space" in said


@needs_disk
@pytest.mark.parametrize("disk", [16 * KB, 64 * KB], indirect=True)
def test_a_store_that_cannot_start_says_how_much_is_free(
    disk: Path, boards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "dataset", "push", boards, "boards", "--workdir", disk)
    assert re.search(rf"{disk}/.local/store: the object store there has too little room, [0-9.]+ k?B of the disk", said)
    assert "free some space" in said


@needs_disk
@pytest.mark.parametrize("disk", [500 * KB], indirect=True)
def test_a_store_that_cannot_keep_what_it_is_sent_says_how_much_is_free(
    disk: Path, boards: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 1.0)
    said = refused(capsys, "dataset", "push", boards, "boards", "--workdir", disk)
    assert f"{disk}/.local/store: the object store there has too little room" in said
    assert "of the disk's 512.0 kB are free" in said


@needs_disk
@pytest.mark.parametrize("disk", [1000 * KB], indirect=True)
def test_a_step_that_the_full_store_turned_away_is_told_by_the_run(disk: Path) -> None:
    failed = StepFailed(StepRun("train", 1.0, Unavailable.status, 0))
    with pytest.raises(UserError, match="too little room"), EmbeddedStore(disk / "store"):
        raise failed


def test_where_there_is_room_the_store_was_away(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="gone"), EmbeddedStore(tmp_path / "store"):
        raise Unavailable("gone")


@needs_disk
@pytest.mark.parametrize("disk", [32 * KB], indirect=True)
def test_what_is_generated_says_which_disk_is_full(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = Path(__file__).parents[2] / "pipelines" / "quickstart" / "base"
    said = refused(
        capsys, "generate", "--model", base, "--prompt", "a scan", "-n", "2", "--steps", "1", "--workdir", disk.parent,
        "--out", disk / "new",
    )  # fmt: skip
    assert "No space left on device" in said
    assert str(disk) in said


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--plan", "--params", LONG],
        ["run", "--plan", "--set", f"dataset={LONG}"],
        ["run", "--plan", "--set", f"base_model={LONG}"],
        ["dataset", "push", LONG, "boards"],
        ["mirror", LONG],
        ["models", "list", "--workdir", LONG],
        ["generate", "--model", LONG, "--out", "new"],
        ["compile", "--output", f"{LONG}.yaml"],
    ],
    ids=" ".join,
)
def test_a_name_too_long_is_told(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, *arguments)
    assert "File name too long" in said


def test_a_link_that_leads_to_itself_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    for arguments in (["dataset", "push", "loop", "boards"], ["run", "--plan", "--params", "loop/a.yaml"]):
        assert "loop" in refused(capsys, *arguments)
