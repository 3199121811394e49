"""Training on a base that is no diffusers folder here: from the hub, and from one file in the store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from components.artifacts import CheckpointIndex, read_json
from components.base_model.revision import base_revision
from components.errors import UserError
from components.storage import Store
from components.train.config import TrainConfig
from components.train.step import train
from tests.components.train.actions import moved, weights
from tests.hub_server import COMMIT, HubServer
from tests.single_file import write_config, write_single_file
from tests.tiny_model import write_pipeline

pytestmark = pytest.mark.integration


def trained(
    crops: Path, base: str, place: Store, out: Path, seed: int = 0, revision: str | None = None
) -> CheckpointIndex:
    """One step of training on `revision`: the one that snapshot gives out, if not given."""
    config = TrainConfig(max_train_steps=1, checkpointing_steps=1, train_batch_size=1, num_threads=1, seed=seed)
    revision = base_revision(base, 2) if revision is None else revision
    train(config, crops, base, revision, "1", place.uri, out, out.with_name("metrics"), out / "train.html")
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


def test_a_revision_that_a_person_wrote_is_worked_out_from_the_base(
    tiny_base: Path, crops: Path, store: Store, tmp_path: Path
) -> None:
    place = store.at("test-train", "any-revision")
    other = write_pipeline(tmp_path / "other", seed=7)
    indexes = [
        trained(crops, str(base), place, tmp_path / name, seed, revision="any")
        for name, base, seed in (("first", tiny_base, 0), ("second", other, 0), ("third", other, 1))
    ]
    first, second, third = indexes
    assert first.base_revision == base_revision(str(tiny_base), 2)
    assert second.base_revision == third.base_revision == base_revision(str(other), 2)
    assert len({index.fingerprint for index in indexes}) == 3
    assert first.base_uri != second.base_uri == third.base_uri
    for index, base in ((first, tiny_base), (third, other)):
        for step in (0, 1):
            found = weights(index, step, tmp_path / f"read-{index.fingerprint}")
            assert not moved(load_file(base / "vae" / "diffusion_pytorch_model.safetensors"), found["vae"])
            assert moved(load_file(base / "unet" / "diffusion_pytorch_model.safetensors"), found["unet"]) is (step == 1)


def test_another_model_at_the_place_of_a_revision_is_noticed(
    tiny_base: Path, crops: Path, store: Store, tmp_path: Path
) -> None:
    place = store.at("test-train", "revision-of-another")
    trained(crops, str(tiny_base), place, tmp_path / "first", revision="d" * 64)
    changed = tmp_path / "changed"
    shutil.copytree(tiny_base, changed)
    config = changed / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("v_prediction", "epsilon     "))
    narrow = write_pipeline(tmp_path / "narrow", widths=(32, 32, 32, 32))
    for seed, (base, file) in enumerate(((changed, "scheduler/scheduler_config.json"), (narrow, "unet/")), start=1):
        with pytest.raises(UserError, match=f"{file}.* is not that of revision dddddddddddddddd"):
            trained(crops, str(base), place, tmp_path / base.name, seed, revision="d" * 64)
