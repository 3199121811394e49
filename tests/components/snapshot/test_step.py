"""The step against a real object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifacts import SPLITS, read_crops
from components.crop.config import CropConfig
from components.crop.step import crop
from components.errors import Unavailable, UserError
from components.models.catalog import Latest
from components.runtime import Result
from components.snapshot.config import SnapshotConfig
from components.snapshot.step import snapshot
from components.storage import Store

pytestmark = pytest.mark.integration


def look(home: Store, dataset: object, base_model: object, model_name: str = "boards") -> Result:
    return snapshot(SnapshotConfig(), CropConfig(), str(dataset), str(base_model), model_name, home.uri)


def upload(home: Store, folder: Path) -> Store:
    """The files of `folder`, one after another, as people upload them: without a manifest."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        home.upload_file(path.relative_to(folder).as_posix(), path)
    return home


#: A version that is no name of one.
ELSEWHERE = b'{"schema": 1, "version": "../../x", "file": "f", "sha256": ""}'


def test_a_second_look_sees_the_same(home: Store, folder: Path) -> None:
    first = look(home, folder / "data", folder / "base").parameters
    assert look(home, folder / "data", folder / "base").parameters == first
    assert set(first) == {"dataset_revision", "base", "base_revision", "published_revision", "generation", "news"}
    assert first["base"] == str(folder / "base")
    assert all(isinstance(value, str) for value in first.values())
    assert first["published_revision"] == ""
    assert first["generation"]


def test_a_wiped_store_has_another_generation(home: Store, folder: Path) -> None:
    before = look(home, folder / "data", folder / "base").parameters["generation"]
    home.delete_tree()
    assert look(home, folder / "data", folder / "base").parameters["generation"] != before


def test_the_published_version_is_the_latest(home: Store, folder: Path) -> None:
    version = "20261124T192335Z-5205340ad2c5"
    home.put_bytes("models/boards/latest.json", Latest(version, "boards.safetensors", "0" * 64).to_json())
    assert look(home, folder / "data", folder / "base").parameters["published_revision"] == version
    assert look(home, folder / "data", folder / "base", "other").parameters["published_revision"] == ""


@pytest.mark.parametrize("content", [b"no json", b"[]", b"{}", b"[" * 9999, b'{"version": 3}', ELSEWHERE])
def test_a_damaged_reference_is_named(home: Store, folder: Path, content: bytes) -> None:
    home.put_bytes("models/boards/latest.json", content)
    with pytest.raises(UserError, match=r"models/boards/latest\.json: not a reference"):
        look(home, folder / "data", folder / "base")


def test_a_data_set_in_the_store_has_a_revision(home: Store, folder: Path) -> None:
    remote = upload(home.at("raw"), folder / "data")
    remote.put_bytes(".DS_Store", b"x")
    before = look(home, remote.uri, folder / "base").parameters["dataset_revision"]
    assert look(home, remote.uri + "/", folder / "base").parameters["dataset_revision"] == before
    remote.put_bytes("group1/g1_not/000.txt", b"1 2 30 40 1")
    assert look(home, remote.uri, folder / "base").parameters["dataset_revision"] != before


def test_a_published_base_model_has_its_manifests_digest(home: Store, folder: Path) -> None:
    manifest = home.at("base").put_tree(folder / "base")
    found = look(home, folder / "data", home.at("base").uri).parameters
    assert found["base_revision"] == manifest.digest


def test_a_base_model_without_a_manifest_is_refused(home: Store, folder: Path) -> None:
    remote = upload(home.at("base"), folder / "base")
    with pytest.raises(UserError, match=r"no MANIFEST\.json"):
        look(home, folder / "data", remote.uri)


def test_an_empty_prefix_is_refused(home: Store, folder: Path) -> None:
    with pytest.raises(UserError, match="holds no objects"):
        look(home, home.at("nothing").uri, folder / "base")


def test_all_mistakes_are_reported_together(home: Store, folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        look(home, folder / "gone", "ftp://host/model", "Boards!")
    assert len(caught.value.problems) == 3
    for said in ("gone does not exist", "ftp://host/model", "'Boards!' cannot name"):
        assert said in str(caught.value)


@pytest.mark.parametrize("name", ["", "-a", "Board", "a b", "a/b", "a" * 64, "ä"])
def test_a_name_that_cannot_be_published_is_refused(home: Store, folder: Path, name: str) -> None:
    with pytest.raises(UserError, match="model_name"):
        look(home, folder / "data", folder / "base", name)


def test_a_store_that_does_not_answer_is_unavailable(
    home: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="STORE_ENDPOINT_URL"):
        look(home, folder / "data", folder / "base")
    with pytest.raises(UserError, match="gone does not exist"):
        look(home, folder / "gone", folder / "base")


def test_crops_of_a_data_set_in_the_store_are_those_of_the_folder(home: Store, folder: Path, tmp_path: Path) -> None:
    remote = upload(home.at("raw"), folder / "data")
    made = {}
    for name, dataset in (("near", str(folder / "data")), ("far", remote.uri)):
        crop(CropConfig(resolution=64), dataset, "r1", tmp_path / name, tmp_path / f"{name}.html")
        made[name] = [
            (crop, (tmp_path / name / split / crop.file_name).read_bytes())
            for split in SPLITS
            for crop in read_crops(tmp_path / name, split)
        ]
    assert made["near"] == made["far"]
    assert len(made["near"]) == 24
