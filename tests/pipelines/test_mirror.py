"""The mirror command: what a store then holds, that it is read from there, and what is refused."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from components.base_model.opening import opened
from components.base_model.revision import base_revision
from components.storage import MANIFEST, Store
from components.train import model
from pipelines.__main__ import main
from tests.hub_server import COMMIT, HubServer
from tests.single_file import write_config, write_single_file

pytestmark = pytest.mark.integration


@pytest.fixture
def home(store: Store) -> Store:
    """An empty place of the store, as ``--store``."""
    return store.at("mirrors", uuid.uuid4().hex)


def mirrored(capsys: pytest.CaptureFixture[str], home: Store, base: object) -> str:
    capsys.readouterr()
    assert main(["mirror", str(base), "--store", home.uri]) == 0, capsys.readouterr()
    return capsys.readouterr().out


def test_a_repository_is_copied_once_and_read_from_the_store(
    hub: HubServer, home: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    place = home.at("base-models", f"maker--tiny--{COMMIT[:12]}")
    # What an interrupted mirror has left is gone on from.
    place.upload_file("unet/config.json", hub.folder / "unet" / "config.json")
    [left] = place.list()
    said = mirrored(capsys, home, "hf://maker/tiny@v1.0")
    assert f"--set base_model={place.uri}\n" in said
    assert "licence   creativeml-openrail-m" in said
    held = {info.key: info for info in place.list()}
    assert held["unet/config.json"].last_modified == left.last_modified
    assert {key for key in held if "tokenizer" not in key} == {
        "MANIFEST.json", "README.md", "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
        "text_encoder/model.safetensors", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    manifest = place.manifest()
    assert manifest is not None
    assert manifest.made_by["revision"] == COMMIT

    hub.requests.clear()
    assert mirrored(capsys, home, "hf://maker/tiny@v1.0").splitlines()[-5:] == said.splitlines()[-5:]
    assert not [request for request in hub.requests if "/resolve/" in request]
    hub.broken = True
    assert base_revision(place.uri, 2) == manifest.digest
    with opened(place.uri) as folder:
        model.load(folder)


def test_what_the_cache_holds_damaged_is_not_copied(
    hub: HubServer, home: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened("hf://maker/tiny") as folder:
        blob = (folder / "vae" / "diffusion_pytorch_model.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    assert main(["mirror", "hf://maker/tiny", "--store", home.uri]) == 2
    assert f"{blob}: damaged in the cache" in capsys.readouterr().err
    assert [*home.list()] == []


def test_a_single_file_is_copied_as_a_folder(
    tiny_base: Path, tmp_path: Path, home: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_single_file(tiny_base, tmp_path / "My model.safetensors")
    write_config(tiny_base, tmp_path / "config")
    said = mirrored(capsys, home, file)
    assert "base-models/My-model--" in said
    assert "licence   not stated" in said
    uri = said.rpartition("base_model=")[2].strip()
    with opened(uri) as folder:
        model.load(folder)
    # The same file where the store itself holds it: its own revision, the same tree.
    for path in [file, *(tmp_path / "config").rglob("*.*")]:
        home.upload_file(f"files/{path.relative_to(tmp_path).as_posix().replace(' ', '-')}", path)
    copied = mirrored(capsys, home, home.uri_of("files/My-model.safetensors")).rpartition("base_model=")[2].strip()
    first, second = Store.from_env(uri).manifest(), Store.from_env(copied).manifest()
    assert first is not None
    assert second is not None
    assert first.digest == second.digest


def test_what_cannot_be_copied_is_refused(
    hub: HubServer, home: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for base, said in (
        (home.at("somewhere").uri, "is in a store already"),
        (str(tmp_path / "nowhere"), "does not exist"),
        (str(tmp_path / "nothing.ckpt"), "does not exist"),
        (home.uri_of("nothing.ckpt"), "there is no object"),
        ("hf://maker/tiny@v9", "has no revision"),
    ):
        assert main(["mirror", base, "--store", home.uri]) == 2
        assert said in capsys.readouterr().err
    assert main(["mirror", home.uri_of("x.safetensors"), "--workdir", str(tmp_path)]) == 2
    assert "--store s3://bucket/prefix" in capsys.readouterr().err
    assert [info.key for info in home.list() if info.key.endswith(MANIFEST)] == []


def test_without_a_store_of_ones_own_it_goes_into_the_workdirs(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORE_ENDPOINT_URL", raising=False)
    assert main(["mirror", str(tiny_base), "--workdir", str(tmp_path / "runs")]) == 0
    assert "--set base_model=s3://defect-diffusion/base-models/base--" in capsys.readouterr().out
    assert (tmp_path / "runs" / ".local" / "store").is_dir()
