"""DVC itself tracks and pushes a data set; snapshot and crop read it by revision, without DVC."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.artifacts import CropSet, read_json
from components.crop.config import CropConfig
from components.crop.step import crop
from components.dataset import local_copy, name_of
from components.errors import UserError
from components.revision import dataset_revision
from components.storage import Store
from components.versions.find import version_of
from tests.components.crop.conftest import Boards
from tests.components.versions.conftest import Repository, find_dvc

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tracked(repository: Repository) -> Repository:
    """Tags v1 and v2 of ``data/boards``, tracked whole; of ``mixed``, annotations in git; of ``made``, by a stage."""
    find_dvc()
    repo = repository
    repo.dvc("init", "--quiet")
    repo.dvc("config", "core.check_update", "false")
    repo.dvc("remote", "add", "--default", "warehouse", repo.remote)
    repo.dvc("remote", "modify", "warehouse", "endpointurl", repo.endpoint)
    boards = Boards(repo.root / "data" / "boards", images=12)
    (boards.root / ".DS_Store").write_text("x")
    Boards(repo.root / "mixed", images=12)
    repo.write("dvc.yaml", "stages:\n  copy:\n    cmd: cp -r ../data/boards out\n    wdir: made\n    outs: [out]\n")
    repo.write("made/readme.txt", "x")
    repo.dvc("add", "--quiet", "data/boards", "mixed/group1/g1")
    repo.dvc("repro", "--quiet")
    repo.commit("v1")
    boards.add("100", ["50 50 90 90 1"])
    repo.dvc("add", "--quiet", "data/boards")
    repo.commit("v2")
    repo.dvc("push", "--quiet", "--all-tags")
    # What is read is what was pushed.
    shutil.rmtree(repo.root / ".dvc" / "cache")
    return repo


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def cropped(dataset: str, revision: str, out: Path) -> CropSet:
    crop(CropConfig(resolution=64), dataset, revision, out / "crops", out / "report.html")
    return read_json(out / "crops" / "crops.json", CropSet)


def test_snapshot_and_crop_read_a_revision(tracked: Repository, tmp_path: Path) -> None:
    twelve = Boards(tmp_path / "boards", images=12)
    commit = tracked.git("rev-parse", "v1")
    location = tracked.location("data/boards", "v1")
    seen = dataset_revision(location, 2)
    with local_copy(location, "dataset", revision=seen) as opened:
        assert contents(opened.root) == contents(twelve.root)
    made = cropped(location, seen, tmp_path / "a")
    assert made.digest == cropped(str(twelve.root), "r", tmp_path / "b").digest
    assert (made.dataset, made.dataset_revision) == (location, seen)
    assert made.dataset_version == f"v1, commit {commit}"
    for rev in (commit, commit[:10]):
        assert dataset_revision(tracked.location("data/boards", rev), 2) == seen


def test_the_newest_is_read_where_no_revision_is_named(tracked: Repository) -> None:
    newest = version_of(tracked.location("data/boards"))
    assert newest is not None
    assert newest.name == f"HEAD, commit {tracked.git('rev-parse', 'v2')}"
    assert newest.files == 26
    assert newest.revision == dataset_revision(tracked.location("data/boards", "main"), 2)
    assert newest.revision != dataset_revision(tracked.location("data/boards", "v1"), 2)


def test_a_branch_that_moved_is_read_where_it_is_and_the_record_says_so(
    tracked: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = dataset_revision(tracked.location("data/boards", "v1"), 2)
    made = cropped(tracked.location("data/boards"), seen, tmp_path / "out")
    assert "the data set has changed: asked for was revision" in capsys.readouterr().out
    assert made.dataset_revision == dataset_revision(tracked.location("data/boards", "v2"), 2)
    assert (made.asked_revision, made.dataset_version) == (seen, f"HEAD, commit {tracked.git('rev-parse', 'v2')}")


@pytest.mark.parametrize(
    ("path", "folder"), [("mixed", ""), ("made/out", ""), ("data", "boards/"), ("data/boards/group1/g1_not", "")]
)
def test_what_a_path_means(tracked: Repository, tmp_path: Path, path: str, folder: str) -> None:
    """Images by DVC with annotations in git; a stage's output; a folder above what is tracked, and one within."""
    twelve = Boards(tmp_path / "boards", images=12)
    expected = contents(twelve.annotation("").parent if path.endswith("_not") else twelve.root)
    with local_copy(tracked.location(path, "v1"), "dataset") as opened:
        assert contents(opened.root) == {f"{folder}{name}": data for name, data in expected.items()}


def test_only_a_change_of_the_data_is_a_change(tracked: Repository) -> None:
    before = dataset_revision(tracked.location("mixed", "v1"), 2)
    assert dataset_revision(tracked.location("mixed", "v2"), 2) == before
    tracked.write("mixed/group1/g1_not/000.txt", "21 30 40 60 1\n")
    tracked.commit("annotated")
    assert dataset_revision(tracked.location("mixed", "annotated"), 2) != before


def test_what_is_not_there_is_named(tracked: Repository) -> None:
    for location, message in (
        (tracked.location("data/boards", "v9"), "no revision 'v9' in it"),
        (tracked.location("images"), "DVC tracks nothing at path=images; it tracks data/boards, made/out, mixed"),
        (tracked.location("data/boards") + "&remote=other", r"no remote 'other' \(there are warehouse\)"),
    ):
        with pytest.raises(UserError, match=message):
            version_of(location)


def test_a_content_that_is_damaged_or_gone_is_named(tracked: Repository, tmp_path: Path) -> None:
    remote = Store.from_env(tracked.remote)
    largest = max((info for info in remote.list("files/md5/")), key=lambda info: info.bytes)
    whole = remote.get_bytes(largest.key)
    assert whole is not None
    try:
        remote.put_bytes(largest.key, b"x" + whole[1:])
        with pytest.raises(UserError, match="damaged, not what group1/g1/"):
            cropped(tracked.location("data/boards", "v2"), "r", tmp_path / "out")
        remote.delete([largest.key])
        with pytest.raises(UserError, match="does not hold group1/g1/.*; send it with dvc push"):
            cropped(tracked.location("data/boards", "v2"), "r", tmp_path / "out")
    finally:
        remote.put_bytes(largest.key, whole)
    assert not (tmp_path / "out" / "crops").exists()


def test_a_data_set_is_named_by_its_path(tracked: Repository) -> None:
    assert name_of(tracked.location("data/boards", "v1")) == "boards"
