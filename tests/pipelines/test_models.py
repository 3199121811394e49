"""The models command on the real store: what is told, fetched, promoted and taken back."""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path
from typing import Any

import pytest

from components.models import catalog
from components.storage import Store
from pipelines.__main__ import main
from tests.components.models.examples import RECORD, publish_model

pytestmark = pytest.mark.integration


@dataclasses.dataclass
class Home:
    """A place of the store with two versions of a model, as ``--store``."""

    store: Store
    first: str
    second: str

    def command(self, *arguments: object) -> list[str]:
        return ["models", *map(str, arguments), "--store", self.store.uri]


@pytest.fixture(scope="module")
def home(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Home:
    own, folder = store.at("models-of", uuid.uuid4().hex), tmp_path_factory.mktemp("models")
    first = publish_model(own, "boards", folder)
    changed: dict[str, Any] = {
        "step": 200,
        "settings": {"train": {"learning_rate": 0.002, "seed": 0}},
        "prompts": {**RECORD.prompts, "open": "a photo of an open circuit"},
        "metrics": {"kd_lite0": {"value": 0.11, "low": 0.1, "high": 0.12}},
        "dataset_version": "20260202T000000Z-eeeeeeeeeeee",
    }
    second = publish_model(own, "boards", folder, b"other weights", **changed)
    publish_model(own, "screws", folder, record=None)
    return Home(own, first, second)


def done(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 0, capsys.readouterr()
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], status: int = 2) -> str:
    assert main(arguments) == status
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    return said


def test_list_tells_every_version_and_which_is_the_latest(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    said = done(capsys, home.command("list")).splitlines()
    assert len(said) == 4
    assert said[1].split()[:3] == ["boards", home.first, "100"]
    assert "kd_lite0 ×10³ 160 [141, 178], base 227 [203, 251]" in said[1]
    assert "20260101T000000Z-dddddddddddd" in said[1]
    assert said[2].split()[:4] == ["boards", home.second, "latest", "200"]
    assert said[3].split()[0] == "screws"
    assert len(done(capsys, home.command("list", "boards")).splitlines()) == 3


def test_show_tells_facts_files_and_how_to_use_it(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    said = done(capsys, home.command("show", "boards"))
    assert f"boards, version {home.second} (the latest)" in said
    entry = catalog.weights(catalog.manifest(home.store.at("models/boards"), home.second), "")
    for words in (
        f"sha256     {entry.sha256}",
        "step       200 of run aaaaaaaaaaaaaaaa",
        "  short  a photo of a short circuit",
        "  kd_lite0 ×10³  110 [100, 120]  227 [203, 251]",
        "  config/model_index.json",
        f"generate --model {home.store.uri}/models/boards/{home.second}",
    ):
        assert words in said, words
    assert f"version {home.first}\n" in done(capsys, home.command("show", f"boards@{home.first}"))
    assert "is not recorded" in done(capsys, home.command("show", "screws"))


def test_diff_tells_what_differs_and_nothing_else(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    said = done(capsys, home.command("diff", f"boards@{home.first}", "boards"))
    told = {" ".join(line.split()) for line in said.splitlines()}
    for words in (
        "step 100 200",
        "data set's revision 20260101T000000Z-dddddddddddd 20260202T000000Z-eeeeeeeeeeee",
        "prompt of open – a photo of an open circuit",
        "kd_lite0 ×10³ 160 [141, 178] 110 [100, 120]",
        "train.learning_rate 0.001 0.002",
    ):
        assert words in told, words
    assert any(line.startswith("weights") for line in told)
    assert not any(word in said for word in ("seed", "prompt of short", "base model", "of the base"))
    assert "do not differ" in done(capsys, home.command("diff", "boards", f"boards@{home.second}"))


def test_pull_fetches_what_was_published_and_only_what_is_missing(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    said = done(capsys, home.command("pull", "boards", folder))
    assert "boards@" in said
    weights = folder / f"boards-{home.second}.safetensors"
    assert weights.read_bytes() == b"other weights"
    # What an interrupted or meddled-with folder lacks is fetched again, and nothing else.
    kept = (folder / "README.md").stat().st_ino
    weights.write_bytes(b"other")
    done(capsys, home.command("pull", "boards", folder))
    assert weights.read_bytes() == b"other weights"
    assert (folder / "README.md").stat().st_ino == kept
    assert "holds another model" in refused(capsys, home.command("pull", f"boards@{home.first}", folder))
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(capsys, home.command("pull", "boards", tmp_path / "file"))


@pytest.mark.parametrize("damage", [b"other weight", b"other weightS"], ids=["truncated", "altered"])
def test_a_damaged_object_is_named_by_its_digest_and_not_written(
    store: Store, tmp_path: Path, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    own = store.at("models-of", uuid.uuid4().hex)
    version = publish_model(own, "boards", tmp_path, b"other weights")
    place = own.at("models/boards", version)
    entry = catalog.weights(catalog.manifest(own.at("models/boards"), version), "")
    place.put_bytes(entry.path, damage)
    said = refused(capsys, ["models", "pull", "boards", str(tmp_path / "out"), "--store", own.uri])
    assert place.uri_of(entry.path) in said
    assert f"{entry.sha256[:12]}… were published" in said
    assert not (tmp_path / "out" / entry.path).exists()


def test_promote_and_rollback_move_the_latest(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = store.at("models-of", uuid.uuid4().hex)
    first, second, third = (publish_model(own, "boards", tmp_path, description=str(n)) for n in range(3))
    here = ("--store", own.uri)
    said = done(capsys, ["models", "rollback", "boards", *here])
    assert f"the latest version is {second} (it was {third})" in said
    assert f"taken back: {third}" in said
    listed = done(capsys, ["models", "list", *here]).splitlines()
    assert listed[2].split()[2] == "latest"
    assert "taken back" in listed[3]
    assert f"latest version is {first}" in done(capsys, ["models", "promote", f"boards@{first}", *here])
    assert f"no version before {first}" in refused(capsys, ["models", "rollback", "boards", *here])
    assert f"latest version is {third}" in done(capsys, ["models", "promote", f"boards@{third}", *here])


def test_mistakes_end_in_one_message(
    home: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (("show", "gone"), "no model of this name is published"),
        (("show", "gone"), "(there are: boards, screws)"),
        (("show", "../x"), "(there are: boards, screws)"),
        (("show", "boards@x"), f"no version 'x'; versions: {home.first}, {home.second}"),
        (("list", "gone"), "(there are: boards, screws)"),
        (("diff", "boards", "boards@20200101T000000Z-000000000000"), "no version '20200101T000000Z-000000000000'"),
        (("pull", "boards@", tmp_path), "no version ''"),
        (("promote", "boards"), "name the version to promote, boards@VERSION"),
        (("promote", "boards@x"), "no version 'x'"),
        (("promote", "gone@x"), "(there are: boards, screws)"),
        (("rollback", "gone"), "(there are: boards, screws)"),
        (("rollback", f"boards@{home.first}"), "rollback takes a name alone"),
    ):
        assert message in refused(capsys, home.command(*arguments)), arguments
    found = catalog.latest(home.store.at("models/boards"))
    assert found is not None
    assert found.version == home.second
    assert "no published models" in done(capsys, ["models", "list", "--store", store.at("empty").uri])
    assert "--store: not given, though STORE_ENDPOINT_URL is" in refused(capsys, ["models", "list"])
    monkeypatch.delenv("STORE_ENDPOINT_URL")
    assert "no store in it; a run publishes a model" in refused(capsys, ["models", "list", "--workdir", str(tmp_path)])
