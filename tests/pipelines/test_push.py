"""Pushing a published version to a hub: what is sent, and what is said where it cannot be."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from components.models import catalog
from components.storage import Store
from pipelines.__main__ import main
from tests.components.models.examples import publish_model
from tests.pipelines.push_hub import Hub, running

pytestmark = pytest.mark.integration

TOKEN = "hf_the-tests-own"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running(TOKEN, "lab") as hub:
        # What HF_ENDPOINT and HF_HUB_DISABLE_XET would say, had they been set before the client was imported.
        monkeypatch.setattr(constants, "ENDPOINT", hub.uri)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def home(store: Store) -> Store:
    return store.at("push", uuid.uuid4().hex)


def push(home: Store, *arguments: object) -> int:
    return main(["models", "push", *map(str, arguments), "--store", home.uri])


def test_a_version_arrives_whole_in_one_commit(
    hub: Hub, home: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = publish_model(home, "boards", tmp_path)
    assert push(home, "boards", "lab/boards") == 0
    assert f"boards@{first} is in lab/boards: {hub.uri}/lab/boards/commit/" in capsys.readouterr().out
    assert hub.private == {"lab/boards"}
    home.at("models/boards", first).get_tree(tmp_path / "tree")
    files = {
        path.relative_to(tmp_path / "tree").as_posix(): path.read_bytes()
        for path in (tmp_path / "tree").rglob("*")
        if path.is_file()
    }
    assert hub.repositories["lab/boards"] == files
    assert "README.md" in files

    # A second version goes to the same repository, with a token from a file.
    second = publish_model(home, "boards", tmp_path, b"other weights")
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert push(home, f"boards@{second}", "lab/boards", "--token-file", tmp_path / "token") == 0
    assert hub.commits == [("lab/boards", f"boards {first}"), ("lab/boards", f"boards {second}")]
    assert push(home, "boards", "lab/open", "--public", "--token-file", tmp_path / "token") == 0
    assert hub.private == {"lab/boards"}
    assert hub.repositories["lab/boards"][f"boards-{second}.safetensors"] == b"other weights"


def test_what_stops_it_is_said_in_one_message(
    hub: Hub, home: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = publish_model(home, "boards", tmp_path)

    def said(status: int, *arguments: object) -> str:
        capsys.readouterr()
        assert push(home, *arguments) == status
        message = capsys.readouterr().err
        assert TOKEN not in message
        assert "Traceback" not in message
        return message

    assert "the token has no right to write there" in said(2, "boards", "others/boards")
    assert "not the name of a repository" in said(2, "boards", "a/b/c")
    assert "no model of this name is published" in said(2, "gone", "lab/boards")
    assert f"--token-file {tmp_path / 'none'}: cannot be read" in said(
        2, "boards", "lab/boards", "--token-file", tmp_path / "none"
    )
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    assert "the hub refuses the token" in said(2, "boards", "lab/boards")
    monkeypatch.delenv("HF_TOKEN")
    assert "HF_TOKEN: not set; make a token" in said(2, "boards", "lab/boards")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.failing = 503
    assert "the hub cannot take it now" in said(75, "boards", "lab/boards")
    hub.failing = 0
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the hub does not answer" in said(75, "boards", "lab/boards")
    assert hub.repositories == {}

    # Nothing damaged leaves the store.
    monkeypatch.setattr(constants, "ENDPOINT", hub.uri)
    place = home.at("models/boards", version)
    entry = catalog.weights(catalog.manifest(home.at("models/boards"), version), "")
    place.put_bytes(entry.path, b"altered")
    assert f"{entry.sha256[:12]}… were published" in said(2, "boards", "lab/boards")
    assert hub.commits == []
