"""Places and files of DVC that cannot be read end in one message; DVC itself is not needed for that."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from components.errors import UserError
from components.storage import Store
from components.versions.dvc_location import DvcLocation, parse
from components.versions.find import version_of
from pipelines import local
from pipelines.__main__ import parser
from pipelines.commands import settings_of
from pipelines.config import load
from tests.components.versions.conftest import Repository

S3 = "[core]\n    remote = s\n['remote \"s\"']\n    url = {url}\n"


def folder_file(md5: str) -> str:
    return f"outs:\n- md5: {md5}.dir\n  hash: md5\n  size: 1\n  nfiles: 1\n  path: boards\n"


def test_the_parts_of_a_location() -> None:
    url = "dvc+ssh://git@host:22/team/parts.git?path=data/my%20parts/&rev=feature/x&remote=s"
    assert parse(url) == DvcLocation("ssh://git@host:22/team/parts.git", "data/my parts", "feature/x", "s")
    whole = parse("dvc+https://host/team/parts.git?path=.")
    assert (whole.path, whole.rev, whole.name) == ("", "HEAD", "parts")
    settings = settings_of(parser().parse_args(["settings", "--data", url]))
    assert (settings.dataset, settings.model_name) == (url, "my-parts")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("dvc+https://host/r.git", "no path"),
        ("dvc+https://host/r.git?path=", "give each of path, rev, remote once"),
        ("dvc+https://host/r.git?path=a&path=b", "give each of path, rev, remote once"),
        ("dvc+https://host/r.git?path=a&branch=b", "'branch'"),
        ("dvc+https://host/r.git?path=../a", "holds an empty part"),
        ("dvc+https://host/r.git?path=/a", "is absolute"),
        ("dvc+https://host/r.git?path=a&rev=--upload-pack=x", "is no branch, tag or commit"),
        ("dvc+ext://sh/r.git?path=a", "no URL of a git repository"),
        ("dvc+https:///r.git?path=a", "no URL of a git repository"),
        ("dvc+https://host?path=a", "no URL of a git repository"),
        ("dvc+https://[host/r.git?path=a", "no URL of a git repository"),
        ("dvc+https://me:secret@host/r.git?path=a", "holds a user name or password"),
        ("dvc+https://secret@host/r.git?path=a", "holds a user name or password"),
    ],
)
def test_a_wrong_location_is_refused_and_no_password_repeated(location: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(location)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"git cannot read it \(fatal: .*check the address"):
        version_of(f"dvc+file://{tmp_path}/gone?path=a")


def test_without_git_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="git is not installed here"):
        version_of(f"dvc+file://{tmp_path}/gone?path=a")


def test_a_run_with_the_embedded_store_does_not_look_for_the_remote_in_it(tmp_path: Path) -> None:
    dataset = "dataset=dvc+https://host/r.git?path=a"
    with pytest.raises(UserError, match="give your own store"):
        local.prepare(load("quickstart", [dataset]), tmp_path)
    assert local.prepare(load("quickstart", [dataset, "store=s3://bucket/runs"]), tmp_path).dataset == dataset[8:]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"data/boards.dvc": folder_file("0" * 32)}, r"no \.dvc/config above data/boards\.dvc"),
        ({"data/boards.dvc": "outs: [3"}, r"data/boards\.dvc: not as DVC writes it"),
        ({"data/boards.dvc": "[]"}, r"data/boards\.dvc: not as DVC writes it \(no mapping\)"),
        ({"data/boards.dvc": "outs:\n- path: boards\n  md5: " + "0" * 32 + ".dir\n"}, "no MD5 of DVC 3"),
        ({"data/boards.dvc": folder_file("0" * 32), ".dvc/config": ""}, r"no default remote \(there is none\)"),
        ({"data/boards.dvc": folder_file("0" * 32), ".dvc/config": "x"}, r"\.dvc/config: not as DVC writes it"),
        (
            {"data/boards.dvc": folder_file("0" * 32), ".dvc/config": S3.format(url="/mnt/dvc")},
            "remote 's' is /mnt/dvc; S3 remotes",
        ),
        (
            {"data/boards.dvc": folder_file("0" * 32), ".dvc/config": S3 + "    version_aware = true\n"},
            "keeps files by name",
        ),
        ({"data/boards.dvc": folder_file("0" * 32), ".dvc/config": S3}, "does not hold the listing of data/boards"),
        ({"data/boards.dvc": folder_file("a" * 32).replace(".dir", ""), ".dvc/config": S3}, "is one file"),
    ],
)
def test_a_repository_that_cannot_be_read(repository: Repository, files: dict[str, str], message: str) -> None:
    repository.git("rm", "-rfq", "--ignore-unmatch", ".")
    for path, text in files.items():
        repository.write(path, text.format(url=repository.remote))
    repository.commit("tried")
    with pytest.raises(UserError, match=message):
        version_of(repository.location("data/boards"))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (b"{}x", "damaged"),
        (b'[{"md5": 3}]', "damaged"),
        (json.dumps([{"md5": "0" * 32, "relpath": "../a"}]).encode(), r"'\.\./a': holds an empty part"),
        (json.dumps([{"md5": "0" * 32, "relpath": "/a"}]).encode(), "'/a': is absolute"),
        (json.dumps([{"md5": "../../x", "relpath": "a"}]).encode(), "'a': no MD5"),
        (b"[]", "no files at path=data/boards"),
    ],
)
def test_a_listing_that_would_do_harm_is_refused(repository: Repository, listing: bytes, message: str) -> None:
    md5 = hashlib.md5(listing).hexdigest()
    Store.from_env(repository.remote).put_bytes(f"files/md5/{md5[:2]}/{md5[2:]}.dir", listing)
    repository.git("rm", "-rfq", "--ignore-unmatch", ".")
    repository.write(".dvc/config", S3.format(url=repository.remote))
    repository.write("data/boards.dvc", folder_file(md5))
    repository.commit("harmful")
    with pytest.raises(UserError, match=message):
        version_of(repository.location("data/boards"))


@pytest.mark.integration
def test_a_link_in_git_is_no_file_of_the_data(repository: Repository) -> None:
    listing = json.dumps([{"md5": "0" * 32, "relpath": "a.png"}]).encode()
    md5 = hashlib.md5(listing).hexdigest()
    Store.from_env(repository.remote).put_bytes(f"files/md5/{md5[:2]}/{md5[2:]}.dir", listing)
    repository.git("rm", "-rfq", "--ignore-unmatch", ".")
    repository.write(".dvc/config", S3.format(url=repository.remote))
    repository.write("data/boards.dvc", folder_file(md5))
    repository.write("data/a.txt", "1 2 3 4 1")
    (repository.root / "data" / "link").symlink_to("/etc")
    repository.commit("linked")
    found = version_of(repository.location("data"))
    assert found is not None
    assert found.files == 2
