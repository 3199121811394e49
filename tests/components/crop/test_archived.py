"""A data set in an archive, here or in the store, is the data set that was packed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.artifacts import CropSet, read_json
from components.crop.config import CropConfig
from components.crop.step import crop
from components.crop.survey import survey
from components.errors import UserError
from components.revision import dataset_revision
from components.storage import Store
from tests.components.crop.conftest import Boards

CONFIG = CropConfig(resolution=64)


def digest(dataset: str, out: Path) -> str:
    crop(CONFIG, dataset, "r1", out / "crops", out / "report.html")
    return read_json(out / "crops" / "crops.json", CropSet).digest


@pytest.mark.parametrize("form", ["zip", "tar", "gztar"])
def test_an_archive_gives_the_crops_of_its_folder(form: str, boards: Boards, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "packed"), form, boards.root)
    assert digest(archive, tmp_path / "a") == digest(str(boards.root), tmp_path / "b")
    assert survey(CONFIG, archive) == survey(CONFIG, str(boards.root))


def test_a_data_set_packed_with_its_name_is_named_by_the_archive(tmp_path: Path, boards: Boards) -> None:
    """Where no folder names the class, the data set does: the archive's name without its ending."""
    from tests.components.crop.test_formats import MASK, PHOTO, save

    for i in range(12):
        save(tmp_path / "data" / "images" / f"{i}.jpg", PHOTO)
        save(tmp_path / "data" / "masks" / f"{i}.png", MASK)
    archive = shutil.make_archive(str(tmp_path / "blow-holes"), "zip", tmp_path / "data")
    assert list(survey(CONFIG, archive).counts) == ["blow-holes"]


@pytest.mark.parametrize("run_it", [lambda path, out: digest(path, out), lambda path, out: survey(CONFIG, path)])
def test_a_damaged_archive_ends_before_anything_is_written(
    run_it: Callable[[str, Path], object], boards: Boards, tmp_path: Path
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", boards.root))
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"dataset: .*packed\.zip: damaged, or no such archive .*copy it again"):
        run_it(str(archive), tmp_path / "out")
    assert not (tmp_path / "out" / "crops").exists()


@pytest.mark.integration
def test_an_archive_in_the_store(store: Store, boards: Boards, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "gztar", boards.root))
    place = store.at("archives")
    place.upload_file("boards.tar.gz", archive)
    uri = place.uri_of("boards.tar.gz")
    assert digest(uri, tmp_path / "a") == digest(str(boards.root), tmp_path / "b")
    assert dataset_revision(uri, 2) == dataset_revision(str(boards.root), 2)
    with pytest.raises(UserError, match=r"archives/gone\.zip: not in the store"):
        dataset_revision(place.uri_of("gone.zip"), 2)
