from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.dataset import list_folder, local_folder, name_of
from components.errors import UserError


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_are_listed_sorted_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/c.jpg", ".git/config", "a/.hidden", "__MACOSX/x", "a/Thumbs.db", "a/desktop.ini"):
        write(tmp_path / name, "12345")
    assert [(f.path, f.bytes) for f in list_folder(tmp_path, "dataset")] == [("a/c.jpg", 5), ("b.jpg", 5)]


def test_a_data_set_below_a_hidden_folder_counts(tmp_path: Path) -> None:
    write(tmp_path / ".cache" / "data" / "a.jpg")
    assert len(list_folder(tmp_path / ".cache" / "data", "dataset")) == 1


def test_links_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path / "store" / "a.jpg")
    data = tmp_path / "data"
    data.mkdir()
    (data / "linked").symlink_to(tmp_path / "store")
    (data / "file.jpg").symlink_to(tmp_path / "store" / "a.jpg")
    (data / "loop").symlink_to(data)
    assert [f.path for f in list_folder(data, "dataset")] == ["file.jpg", "linked/a.jpg"]


def test_broken_links_are_named_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "gone")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "gone too")
    with pytest.raises(UserError) as caught:
        list_folder(tmp_path, "dataset")
    assert len(caught.value.problems) == 2
    assert str(tmp_path / "a.jpg") in str(caught.value)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")))
    with pytest.raises(UserError, match="no valid UTF-8"):
        list_folder(tmp_path, "dataset")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    secret = write(tmp_path / "data" / "a.jpg")
    secret.chmod(0)
    with pytest.raises(UserError, match="no permission to read"):
        list_folder(tmp_path / "data", "dataset")
    (tmp_path / "data").chmod(0)
    with pytest.raises(UserError, match="no permission to read"):
        local_folder(str(tmp_path / "data"), "dataset")
    (tmp_path / "data").chmod(0o700)


def test_a_missing_folder_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        local_folder("images", "dataset")
    assert f"dataset: {tmp_path / 'images'} does not exist" in str(caught.value)


@pytest.mark.parametrize(
    ("location", "name"),
    [("/data/screws/", "screws"), ("s3://bucket/datasets/screws/", "screws"), ("s3://bucket", "bucket")],
)
def test_the_name_is_the_last_part(location: str, name: str) -> None:
    assert name_of(location) == name
