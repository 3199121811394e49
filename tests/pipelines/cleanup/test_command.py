"""The gc command on the real store: what it says is what it does, and what runs beside it is left alone."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from components import leases
from components.artifacts import CheckpointIndex, CheckpointRef
from components.leases import held, run_scope
from components.models import catalog
from components.storage import Store
from components.storage.parts import unfinished
from pipelines.__main__ import main
from tests.components.models.examples import publish_model
from tests.conftest import ROOT

pytestmark = pytest.mark.integration

#: Nothing is taken to be under way but what is held, nothing waits to be published.
NOW = ("--grace", "0", "--unpublished", "0")


@pytest.fixture
def home(store: Store) -> Store:
    return store.at("gc-of", uuid.uuid4().hex)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tree of two files."""
    (tmp_path / "tree" / "unet").mkdir(parents=True)
    (tmp_path / "tree" / "unet" / "config.json").write_text("{}")
    (tmp_path / "tree" / "unet" / "weights.safetensors").write_bytes(b"w" * 1000)
    return tmp_path / "tree"


def train(home: Store, folder: Path, run: str, steps: tuple[int, ...] = (100, 200)) -> dict[int, Store]:
    """A finished training run as train leaves it, with a state left over; its checkpoints by step."""
    base, place = home.at("base-models", run), home.at("train", run)
    base.put_tree(folder, {"step": "train"})
    trees = {step: place.at("00000000", f"step-{step:06d}") for step in steps}
    for tree in trees.values():
        tree.put_tree(folder, {"step": "train"})
    place.at("state", "00000000-000150").put_tree(folder)
    place.at("reports").put_bytes("train.html", b"<html>")
    refs = [CheckpointRef(0, None, []), *(CheckpointRef(step, tree.uri, ["unet"]) for step, tree in trees.items())]
    index = CheckpointIndex(
        run, base.uri, "tiny", "b" * 64, "c" * 64, 64, {}, [dataclasses.asdict(ref) for ref in refs], {}
    )
    place.put_bytes("index.json", json.dumps(dataclasses.asdict(index)).encode())
    return trees


def published(home: Store, folder: Path, tmp_path: Path, run: str, step: int, name: str = "boards") -> str:
    """A version made from a checkpoint of a finished run."""
    trees = train(home, folder, run)
    return publish_model(
        home, name, tmp_path, description=run, run=run, step=step, checkpoint_uri=trees[step].uri,
        base_uri=home.at("base-models", run).uri,
    )  # fmt: skip


def gc(home: Store, *flags: str) -> list[str]:
    return ["gc", "--store", home.uri, *flags]


def there(home: Store) -> dict[str, int]:
    return {info.key: info.bytes for info in home.list() if not info.key.startswith("leases/")}


def done(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 0, capsys.readouterr()
    return capsys.readouterr().out


def told(said: str, title: str) -> int:
    """The bytes that a section of the output gives."""
    match = re.search(rf"^{title}: .* \((\d+) bytes\)", said, flags=re.MULTILINE)
    assert match is not None, said
    return int(match[1])


def test_it_does_what_the_dry_run_says_and_keeps_what_the_latest_was_made_from(
    home: Store, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, middle, new = (published(home, folder, tmp_path, f"{n:016x}", 200) for n in (1, 2, 3))
    catalog.promote(home.at("models/boards"), middle)
    home.put_bytes("backups/mine.txt", b"mine")
    generation, before = home.generation(), there(home)

    dry = done(capsys, gc(home, "--dry-run", "--keep", "1", *NOW))
    assert there(home) == before
    assert f"models/boards/{old}" in dry
    assert "not chosen" in dry
    assert "backups" in dry
    said = done(capsys, gc(home, "--keep", "1", *NOW))
    after = there(home)
    freed = sum(before.values()) - sum(after.values()) + len(home.generation()) - len(generation)
    assert told(dry, "would go") == told(said, "goes") == freed
    assert f"({freed} bytes)" in said.splitlines()[-1]
    assert home.generation() == f"{generation}-2"

    kept = {key for key in before if key.startswith(("models/boards/latest", "backups/", "GENERATION"))}
    for version, run in ((middle, f"{2:016x}"), (new, f"{3:016x}")):
        for part in (
            f"models/boards/{version}", f"base-models/{run}", f"train/{run}/index.json", f"train/{run}/reports",
            f"train/{run}/00000000/step-000200",
        ):  # fmt: skip
            kept |= {key for key in before if key.startswith(part)}
    assert set(after) == kept
    again = done(capsys, gc(home, "--keep", "1", *NOW))
    assert told(again, "goes") == 0
    assert home.generation() == f"{generation}-2", "nothing went: what is cached is still there"


def test_by_default_what_was_done_lately_is_taken_to_be_under_way(
    home: Store, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(home, folder, "a" * 16)
    before = there(home)
    said = done(capsys, gc(home))
    assert there(home) == before
    assert "less than the 24 h 00 min of --grace" in said
    # Finished, and its next steps may still come: the state goes, the checkpoints stay.
    done(capsys, gc(home, "--grace", "0"))
    assert set(before) - set(there(home)) == {key for key in before if "/state/" in key}


def test_a_run_under_way_is_left_alone_whatever_the_flags(
    home: Store, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clean-ups without end beside a step that publishes checkpoints; then the step ends."""
    run = "a" * 16
    place, ended, seen = home.at("train", run), threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def step() -> None:
        try:
            with held(home, run_scope(run), "train"):
                for number in range(100, 1100, 100):
                    place.at("00000000", f"step-{number:06d}").put_tree(folder)
                    place.at("state", f"00000000-{number:06d}").put_tree(folder)
                for number in range(100, 1100, 100):
                    place.at("00000000", f"step-{number:06d}").get_tree(tmp_path / str(number))
                ended.set()
                seen.wait()
        except BaseException as error:
            failed.append(error)
            ended.set()

    thread = threading.Thread(target=step)
    thread.start()
    rounds = 0
    while not ended.is_set():
        done(capsys, gc(home, *NOW))
        rounds += 1
    left = there(home)
    seen.set()
    thread.join()
    assert failed == []
    assert rounds >= 1
    assert len([key for key in left if key.startswith("train/")]) == 60
    said = done(capsys, gc(home, *NOW))
    assert "nothing published" in said
    assert not [key for key in there(home) if key.startswith("train/")]


def test_parts_of_a_file_whose_sender_was_killed_are_given_up_unless_a_step_may_be_at_it(
    home: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    client, name = home.connection.client, home.name("models/boards/weights.safetensors")
    # What is left of `upload_file` when its process is killed after the first part.
    upload = client._create_multipart_upload(home.bucket, name, {})
    client._upload_part(home.bucket, name, b"w" * (5 << 20), {}, upload, 1)
    assert [found.key for found in unfinished(home)] == ["models/boards/weights.safetensors"]
    assert list(unfinished(home.at("models/other"))) == []

    assert "given up" not in done(capsys, gc(home))
    with held(home, run_scope("a" * 16), "convert"):
        assert "given up" not in done(capsys, gc(home, *NOW))
    assert "would be given up: 1 uploads in parts" in done(capsys, gc(home, "--dry-run", *NOW))
    assert list(unfinished(home))
    assert re.search("given up: 1 .*\n  models/boards/weights.safetensors  begun ", done(capsys, gc(home, *NOW)))
    assert list(unfinished(home)) == []


def test_killed_anywhere_the_next_one_finishes(home: Store, folder: Path, tmp_path: Path) -> None:
    home.generation()
    made = [published(home, folder, tmp_path, f"{number:016x}", 100) for number in range(6)]
    before = there(home)
    kept = {key for key in before if key.startswith((f"models/boards/{made[-1]}", f"train/{5:016x}"))}
    command = [sys.executable, "-m", "pipelines", *gc(home, "--keep", "1", *NOW)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    while running.poll() is None and home.exists(f"train/{0:016x}/index.json"):
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    half = there(home)
    assert set(half) < set(before)
    kept = {key for key in kept if "/state/" not in key and "step-000200" not in key}
    assert kept <= set(half)
    # The dead one's mark is in the way until it is stale.
    waiting = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert waiting.returncode == 75
    assert "another clean-up is running" in waiting.stderr
    home.delete([f"{leases.PREFIX}/{leases.CLEANUP}"])
    assert subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL).returncode == 0
    left = set(there(home))
    assert kept <= left
    kept.add(f"models/boards/{catalog.LATEST}")
    assert not [key for key in left if key.startswith(("train/", "models/")) and key not in kept]


def test_a_store_that_cannot_be_read_whole_loses_nothing(
    home: Store, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published(home, folder, tmp_path, "a" * 16, 100)
    home.put_bytes("train/bbbbbbbbbbbbbbbb/index.json", b"{")
    before = there(home)
    assert main(gc(home, *NOW)) == 2
    said = capsys.readouterr().err
    assert "train/bbbbbbbbbbbbbbbb/index.json: cannot be read as JSON" in said
    assert "nothing was deleted" in said
    assert there(home) == before
    assert not home.exists(f"{leases.PREFIX}/{leases.CLEANUP}")
    with monkeypatch.context() as patch:
        patch.setenv("STORE_ENDPOINT_URL", "http://127.0.0.1:9")
        assert main(gc(home, *NOW)) == 75
    assert there(home) == before


def test_wrong_numbers_are_refused_together(home: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(gc(home, "--keep", "0", "--grace", "-1", "--unpublished", "nan")) == 2
    said = capsys.readouterr().err
    for words in ("--keep 0", "--grace -1.0", "--unpublished nan"):
        assert words in said
