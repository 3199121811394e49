"""Versions and latest.json on the real store: order, promotion, going back, several writers."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import threading
import uuid
from pathlib import Path

import pytest

from components.convert import publish
from components.errors import Unavailable, UserError
from components.models import catalog
from components.storage import MANIFEST, Store, connection, transfer
from components.storage.naming import VERSION, version_after
from pipelines.embedded_store import EmbeddedStore

from .examples import publish_model

pytestmark = pytest.mark.integration


@pytest.fixture
def home(store: Store) -> Store:
    return store.at("catalog", uuid.uuid4().hex)


@pytest.fixture
def models(home: Store) -> Store:
    return home.at("models", "boards")


def latest(models: Store) -> str:
    found = catalog.latest(models)
    assert found is not None
    return found.version


def test_versions_are_ordered_by_name_whatever_the_clocks_say(home: Store, models: Store, tmp_path: Path) -> None:
    made = [publish_model(home, "boards", tmp_path, description=str(number)) for number in range(3)]
    assert made == sorted(set(made)) == catalog.versions(models)
    assert all(VERSION.fullmatch(version) for version in made)
    assert latest(models) == made[-1]
    ahead = version_after(made, "f" * 64, now=32e9)
    models.at(ahead).put_tree(tmp_path / "boards" / made[0])
    assert publish_model(home, "boards", tmp_path, description="later") > ahead


def test_latest_json_says_what_readers_need(home: Store, models: Store, tmp_path: Path) -> None:
    version = publish_model(home, "boards", tmp_path)
    said = json.loads(models.get_bytes("latest.json") or b"")
    entry = catalog.weights(catalog.manifest(models, version), models.uri)
    assert said == {
        "schema": 1, "version": version, "published": said["published"], "file": entry.path, "sha256": entry.sha256,
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", said["published"])


def test_what_was_taken_back_stays_so_until_it_is_promoted(home: Store, models: Store, tmp_path: Path) -> None:
    first, second, third = (publish_model(home, "boards", tmp_path, description=str(n)) for n in range(3))
    assert catalog.rollback(models).version == second
    assert catalog.settle(models).version == second, "a retried publisher does not undo it"
    fourth = publish_model(home, "boards", tmp_path, description="4")
    assert latest(models) == fourth
    assert catalog.rollback(models).version == second, "the third was taken back"
    assert catalog.rollback(models).version == first
    with pytest.raises(UserError, match=f"no version before {first} to go back to"):
        catalog.rollback(models)
    assert catalog.promote(models, third).version == third
    found = catalog.latest(models)
    assert found is not None
    assert found.withdrawn == {second, fourth}
    with pytest.raises(UserError, match=rf"no version 'x'; versions: {first}, "):
        catalog.promote(models, "x")
    assert latest(models) == third


@pytest.mark.parametrize(
    "content",
    [
        b'{"schema": 1}',
        b'{"schema": 1, "version": "20260101T000000Z-000000000000", "file": ["f"], "sha256": ""}',
        b'{"schema": 1, "version": "20261301T000000Z-000000000000", "file": "f", "sha256": ""}',
        b"[" * 100_000,
    ],
    ids=["incomplete", "another type", "no date", "nested"],
)
def test_a_damaged_latest_json_is_named_and_written_anew(
    home: Store, models: Store, tmp_path: Path, content: bytes
) -> None:
    publish_model(home, "boards", tmp_path)
    models.put_bytes("latest.json", content)
    with pytest.raises(UserError, match=r"boards/latest\.json: not a reference"):
        catalog.latest(models)
    second = publish_model(home, "boards", tmp_path, description="2")
    assert latest(models) == second


def test_nothing_to_settle_on_is_an_error(models: Store) -> None:
    with pytest.raises(UserError, match="no version is complete"):
        catalog.settle(models)


def test_two_publishers_at_once_both_succeed(
    home: Store, models: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal tensors, described otherwise, and the clock stands: both take the same name first."""
    monkeypatch.setattr(publish, "version_after", lambda known, digest: version_after(known, digest, now=1.9e9))
    barrier = threading.Barrier(4)
    made: dict[int, str] = {}

    def one(number: int) -> None:
        barrier.wait()
        made[number] = publish_model(home, "boards", tmp_path / str(number), description=f"description {number}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made.values())) == 4
    assert catalog.versions(models) == sorted(made.values())
    assert latest(models) == max(made.values())
    for number, version in made.items():
        assert models.at(version).get_tree(tmp_path / "back" / version).made_by["step"] == "convert"
        card = (tmp_path / "back" / version / "README.md").read_text()
        assert card == f"# boards {version} description {number}"


def test_writers_of_latest_json_agree_in_the_end(home: Store, models: Store, tmp_path: Path) -> None:
    """Each sees the other's version though the slower one looked first."""
    made = [publish_model(home, "boards", tmp_path, description=str(n)) for n in range(3)]
    models.delete(["latest.json"])
    threads = [threading.Thread(target=catalog.settle, args=(models,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert latest(models) == made[-1]


def test_a_store_that_fails_half_way_leaves_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is killed after two files, and comes back."""
    monkeypatch.setattr(connection, "PATIENCE", 0.5)
    monkeypatch.setattr(connection, "FIRST_PATIENCE", 0.5)
    with EmbeddedStore(tmp_path / "server") as server:
        store = Store.from_env(server.uri, server.environ)
        first = publish_model(store, "boards", tmp_path)
        real, begun, there = transfer.send, itertools.count(1), threading.Semaphore(0)

        def send(*arguments: object, **more: object) -> str:
            if next(begun) == 3:
                there.acquire()
                there.acquire()
                os.kill(server.pid, signal.SIGKILL)
            etag = real(*arguments, **more)  # type: ignore[arg-type]
            there.release()
            return etag

        monkeypatch.setattr(transfer, "send", send)
        with pytest.raises(Unavailable):
            publish_model(store, "boards", tmp_path, weights=b"better")
        monkeypatch.setattr(transfer, "send", real)
    with EmbeddedStore(tmp_path / "server") as server:
        store = Store.from_env(server.uri, server.environ)
        models = store.at("models", "boards")
        assert catalog.versions(models) == [first]
        assert latest(models) == first
        half = {info.key.partition("/")[0] for info in models.list()} - {first, "latest.json"}
        assert len(half) == 1, "what was sent is still there, for clean-up"
        assert not models.exists(f"{half.pop()}/{MANIFEST}")
        second = publish_model(store, "boards", tmp_path, weights=b"better")
        assert latest(models) == second
