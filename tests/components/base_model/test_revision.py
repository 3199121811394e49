"""Revisions of single files: what they depend on, here and in a store, and what is said where there is none."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from components.base_model.places import kind_of
from components.base_model.revision import base_revision
from components.errors import UserError
from components.storage import Store


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_kinds_are_told_apart_by_name(tmp_path: Path) -> None:
    (tmp_path / "folder.ckpt").mkdir()
    kinds = {
        "hf://a/b@v1": "hub",
        "s3://b/base-models/a--b": "tree",
        "s3://b/files/v1-5.safetensors": "object",
        str(tmp_path / "v1-5.ckpt"): "file",
        str(tmp_path / "folder.ckpt"): "folder",
        "models/base": "folder",
    }
    assert {place: kind_of(place) for place in kinds} == kinds


def test_a_files_revision_is_that_of_its_bytes_and_of_what_describes_it(tmp_path: Path) -> None:
    file = write(tmp_path / "v1-5.ckpt")
    write(tmp_path / "other.yaml")
    write(tmp_path / "config" / "unet" / "weights.bin")
    write(tmp_path / "other.ckpt")
    seen = [base_revision(str(file), 2)]
    for name in ("other.yaml", "config/unet/weights.bin", "other.ckpt"):
        write(tmp_path / name, "changed")
        assert base_revision(str(file), 2) == seen[0]
    for name in ("v1-5.yaml", "config/unet/config.json", "config/tokenizer/merges.txt", "v1-5.ckpt"):
        write(tmp_path / name, "new")
        seen.append(base_revision(str(file), 2))
    assert len(set(seen)) == 5
    assert all(len(revision) == 64 for revision in seen)


@pytest.mark.integration
def test_an_objects_revision_is_that_of_what_the_store_lists(store: Store, tmp_path: Path) -> None:
    place = store.at("single-files", uuid.uuid4().hex)
    with pytest.raises(UserError, match=r"base_model: there is no object .*v2\.safetensors"):
        base_revision(place.uri_of("v2.safetensors"), 2)
    place.put_bytes("v2.safetensors.part", b"x")
    with pytest.raises(UserError, match="there is no object"):
        base_revision(place.uri_of("v2.safetensors"), 2)
    seen = []
    for name in ("v2.safetensors", "v2.yaml", "config/model_index.json"):
        place.put_bytes(name, b"x")
        seen.append(base_revision(place.uri_of("v2.safetensors"), 2))
    place.put_bytes("v2-other.yaml", b"x")
    assert base_revision(place.uri_of("v2.safetensors"), 2) == seen[-1]
    place.put_bytes("v2.safetensors", b"y")
    seen.append(base_revision(place.uri_of("v2.safetensors"), 2))
    assert len(set(seen)) == 4


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"base_model: .*gone\.ckpt does not exist"):
        base_revision(str(tmp_path / "gone.ckpt"), 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    file = write(tmp_path / "v1-5.ckpt")
    file.chmod(0)
    with pytest.raises(UserError, match="no permission to read"):
        base_revision(str(file), 2)
