"""Repositories of the hub, against a stand-in on the loopback interface: resolved, fetched, refused, offline."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from components import hub as client
from components.base_model.layout import PAPERS, PATTERNS
from components.base_model.opening import opened
from components.base_model.revision import base_revision
from components.errors import Unavailable, UserError
from components.evaluate.networks.places import fetch as fetch_network
from components.train import model
from tests.hub_server import COMMIT, TOKEN, HubServer

pytestmark = pytest.mark.integration

#: What the repository holds beside the model.
BESIDE = {
    "safety_checker/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "v1-5-pruned.safetensors",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is looked up anywhere but here is a mistake of the test or of the code."""
    resolve = socket.getaddrinfo

    def local_only(host: Any, *args: Any, **kwargs: Any) -> Any:
        assert host in ("127.0.0.1", b"127.0.0.1"), f"{host} was looked up"
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", local_only)


def below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", ["hf://maker/tiny", "hf://maker/tiny@main", "hf://maker/tiny@v1.0"])
def test_a_revision_is_resolved_to_a_commit(hub: HubServer, place: str) -> None:
    assert base_revision(place, 2) == COMMIT
    assert len(hub.requests) == 1


def test_a_commit_needs_no_hub(hub: HubServer) -> None:
    assert base_revision(f"hf://maker/tiny@{'f' * 40}", 2) == "f" * 40
    assert hub.requests == []


def test_what_is_needed_is_fetched_at_the_commit_and_loads(hub: HubServer) -> None:
    with opened("hf://maker/tiny", COMMIT) as folder:
        assert below(folder) == below(hub.folder) - BESIDE
        model.load(folder)
    fetched = [request for request in hub.requests if "/resolve/" in request]
    assert fetched
    assert all(f"/resolve/{COMMIT}/" in request for request in fetched)


def test_offline_what_is_in_the_cache_is_used_and_nothing_is_asked(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened("hf://maker/tiny@v1.0") as online:
        names = below(online)
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert base_revision("hf://maker/tiny@v1.0", 2) == COMMIT
    for revision in ("", COMMIT):
        with opened("hf://maker/tiny@v1.0", revision) as folder:
            assert below(folder) == names
    for place in ("hf://maker/tiny@v2.0", "hf://maker/other"):
        with pytest.raises(UserError, match=r"not in the cache .*hf/hub, and HF_HUB_OFFLINE is set.*mirror"):
            base_revision(place, 2)
        with pytest.raises(UserError, match="not in the cache"), opened(place):
            pass
    assert hub.requests == []


def test_a_cache_that_others_filled_is_enough(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache's public layout, made by hand: a folder that stands in for the hub."""
    cached = tmp_path / "cache" / "models--maker--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(COMMIT)
    (cached / "snapshots").mkdir()
    (cached / "snapshots" / COMMIT).symlink_to(repository)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert base_revision("hf://maker/tiny", 2) == COMMIT
    with opened("hf://maker/tiny", COMMIT) as folder:
        assert (folder / "model_index.json").is_file()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("hf://maker/other", "no such repository, or a private one.*HF_TOKEN"),
        ("hf://maker/tiny@v9", "has no revision 'v9'"),
    ],
)
def test_what_is_not_there_is_said(hub: HubServer, place: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        base_revision(place, 2)
    with pytest.raises(UserError, match=said), opened(place):
        pass


def test_a_gated_repository_wants_a_token(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated = True
    said = f"gated; accept its terms at {hub.endpoint}/maker/tiny and give a token .* HF_TOKEN.*mirror"
    with pytest.raises(UserError, match=said):
        base_revision("hf://maker/tiny", 2)
    with pytest.raises(UserError, match=said), opened("hf://maker/tiny", COMMIT):
        pass
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert base_revision("hf://maker/tiny", 2) == COMMIT
    with opened("hf://maker/tiny", COMMIT) as folder:
        assert (folder / "model_index.json").is_file()


def test_a_token_is_read_from_its_file_and_never_said(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text(f"{TOKEN}\n")
    hub.gated = True
    assert base_revision("hf://maker/tiny", 2) == COMMIT
    with pytest.raises(UserError, match="the one that is set may not") as caught:
        base_revision("hf://maker/other", 2)
    assert TOKEN not in str(caught.value)


def test_a_hub_that_does_not_answer_is_unavailable(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_RETRIES", 0)
    hub.broken = True
    with pytest.raises(Unavailable, match="status 503"):
        base_revision("hf://maker/tiny", 2)
    hub.broken, hub.portal = False, True
    with pytest.raises(Unavailable, match="is no hub"):
        base_revision("hf://maker/tiny", 2)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="does not answer; .*HF_HUB_OFFLINE=1.*mirror"):
        base_revision("hf://maker/tiny", 2)
    with pytest.raises(Unavailable, match="does not answer"), opened("hf://maker/tiny", COMMIT):
        pass


def test_pickles_alone_are_refused_before_anything_is_fetched(hub: HubServer, tmp_path: Path, repository: Path) -> None:
    hub.folder = tmp_path / "pickles"
    for name in below(repository):
        target = hub.folder / name.replace("unet/diffusion_pytorch_model.safetensors", "unet/other.bin")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"")
    with pytest.raises(UserError, match=r"unet/diffusion_pytorch_model\.safetensors \(there is .*fp16.*\) missing"):
        base_revision("hf://maker/tiny", 2)
    (hub.folder / "model_index.json").unlink()
    with pytest.raises(UserError, match=r"if v1-5-pruned\.safetensors is the whole model, name that file"):
        base_revision("hf://maker/tiny", 2)


@pytest.mark.parametrize("place", ["hf://", "hf://tiny", "hf://a/b/c", "hf://a/b@", "hf://a/b@../main", "hf://a b/c"])
def test_a_name_that_no_repository_has_is_refused(place: str) -> None:
    with pytest.raises(UserError, match="names no repository of the hub; write hf://owner/name@revision"):
        client.parse(place)


def test_a_cache_that_cannot_be_written_is_done_without(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "hf"))
    found = client.fetch(client.parse("hf://maker/tiny"), [*PATTERNS, *PAPERS], tmp_path / "spare")
    assert found.is_relative_to(tmp_path / "spare")


def test_evaluates_networks_come_through_the_same_door(hub: HubServer, tmp_path: Path) -> None:
    folder = fetch_network("hf://maker/tiny@v1.0", tmp_path)
    assert (folder / "v1-5-pruned.safetensors").is_file()
    with pytest.raises(UserError, match="has no revision"):
        fetch_network("hf://maker/tiny@v9", tmp_path)
