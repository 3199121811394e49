"""Training on a base that is no diffusers folder here: from the hub, and from one file in the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifacts import CheckpointIndex, read_json
from components.base_model.revision import base_revision
from components.storage import Store
from components.train.config import TrainConfig
from components.train.step import train
from tests.hub_server import COMMIT, HubServer
from tests.single_file import write_config, write_single_file

pytestmark = pytest.mark.integration


def trained(crops: Path, base: str, place: Store, out: Path, seed: int = 0) -> CheckpointIndex:
    """One step of training on the revision that snapshot gives out."""
    config = TrainConfig(max_train_steps=1, checkpointing_steps=1, train_batch_size=1, num_threads=1, seed=seed)
    train(
        config, crops, base, base_revision(base, 2), "1", place.uri, out, out.with_name("metrics"), out / "train.html"
    )
    return read_json(out / "index.json", CheckpointIndex)


def test_a_repository_is_trained_on_and_kept_at_its_commit(
    hub: HubServer, crops: Path, store: Store, tmp_path: Path
) -> None:
    place = store.at("test-train", "from-the-hub")
    index = trained(crops, "hf://maker/tiny@v1.0", place, tmp_path / "first")
    assert (index.base_model, index.base_revision) == ("hf://maker/tiny@v1.0", COMMIT)
    manifest = Store.from_env(index.base_uri).manifest()
    assert manifest is not None
    assert not [entry.path for entry in manifest.files if entry.path.endswith((".bin", ".fp16.safetensors"))]
    # The next run, on another node, has no cache and needs no hub.
    hub.broken = True
    (tmp_path / "hf").rename(tmp_path / "gone")
    again = trained(crops, f"hf://maker/tiny@{COMMIT}", place, tmp_path / "second", seed=1)
    assert again.base_uri == index.base_uri
    assert again.fingerprint != index.fingerprint


def test_a_single_file_in_the_store_is_trained_on(tiny_base: Path, crops: Path, store: Store, tmp_path: Path) -> None:
    place = store.at("test-train", "from-a-file")
    write_single_file(tiny_base, tmp_path / "one" / "tiny.safetensors")
    write_config(tiny_base, tmp_path / "one" / "config")
    for path in (tmp_path / "one").rglob("*.*"):
        place.upload_file(f"files/{path.relative_to(tmp_path / 'one').as_posix()}", path)
    index = trained(crops, place.uri_of("files/tiny.safetensors"), place, tmp_path / "out")
    assert [ref.step for ref in index.refs()] == [0, 1]
