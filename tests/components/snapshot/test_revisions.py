"""What changes a revision and what does not, on local folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.errors import UserError
from components.revision import dataset_revision
from components.snapshot.step import base_revision


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for i in range(20):
        write(tmp_path / "data" / f"part{i % 3}" / f"{i}.jpg", f"image {i}")
    return tmp_path / "data"


def revision(folder: Path, workers: int = 2) -> str:
    return dataset_revision(str(folder), workers)


def test_the_same_files_elsewhere_have_the_same_revision(data: Path, tmp_path: Path) -> None:
    before = revision(data)
    shutil.copytree(data, tmp_path / "copy")
    assert revision(tmp_path / "copy", workers=5) == before
    assert len(before) == 64


def test_hidden_files_and_times_do_not_count(data: Path) -> None:
    before = revision(data)
    write(data / ".DS_Store")
    write(data / "part0" / "Thumbs.db")
    (data / "part0" / "0.jpg").touch()
    assert revision(data) == before


@pytest.mark.parametrize("change", ["content", "name", "added", "removed", "swapped"])
def test_every_change_of_the_files_counts(data: Path, change: str) -> None:
    before = revision(data)
    first, second = data / "part0" / "0.jpg", data / "part1" / "1.jpg"
    if change == "content":
        first.write_text("image x")
    elif change == "name":
        first.rename(data / "part0" / "00.jpg")
    elif change == "added":
        write(data / "new.jpg")
    elif change == "removed":
        first.unlink()
    else:
        a, b = first.read_text(), second.read_text()
        first.write_text(b)
        second.write_text(a)
    assert revision(data) != before


def test_a_base_model_is_a_diffusers_folder(data: Path) -> None:
    with pytest.raises(UserError, match=r"has no model_index\.json"):
        base_revision(str(data), 2)
    write(data / "model_index.json", "{}")
    before = base_revision(str(data), 2)
    write(data / "unet" / "config.json", "{}")
    assert base_revision(str(data), 2) != before


@pytest.mark.parametrize(("name", "message"), [("gone", "does not exist"), ("file", "is a file"), ("none", "holds no")])
def test_a_wrong_path_is_named_with_what_it_was_for(tmp_path: Path, name: str, message: str) -> None:
    write(tmp_path / "file")
    (tmp_path / "none").mkdir()
    for look, what in ((dataset_revision, "dataset"), (base_revision, "base_model")):
        with pytest.raises(UserError, match=message) as caught:
            look(str(tmp_path / name), 2)
        assert str(caught.value).startswith(f"{what}: {tmp_path / name}")


def test_real_images(shared_data: Path) -> None:
    first = revision(shared_data / "magnetic-tile")
    assert first == revision(shared_data / "magnetic-tile")
    assert first != revision(shared_data / "deeppcb")
