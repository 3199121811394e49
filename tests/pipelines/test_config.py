"""Parameter files and overrides: what is shipped is valid, and mistakes are named together."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from components.errors import UserError
from pipelines.commands import model_name
from pipelines.config import PARAMS, PipelineConfig, find, load

SHIPPED = sorted(PARAMS.glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_file_is_valid_and_opens_with_its_command(path: Path) -> None:
    config = load(str(path))
    given = yaml.safe_load(path.read_text())
    for step, settings in given.items():
        if isinstance(settings, dict):
            loaded = getattr(config, step).model_dump(mode="json")
            assert {key: loaded[key] for key in settings} == settings
    assert "make run" in path.read_text().splitlines()[2]


def test_an_override_wins_over_the_file() -> None:
    assert load("quickstart", ["train.max_train_steps=123"]).train.max_train_steps == 123


def test_a_file_is_found_by_path_before_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("quickstart") == PARAMS / "quickstart.yaml"
    Path("quickstart").write_text("model_name: mine\n")
    assert load("quickstart").model_name == "mine"


def test_a_missing_file_names_the_shipped_ones() -> None:
    with pytest.raises(UserError, match="quickstart"):
        find("nowhere.yaml")


def test_mistakes_of_all_steps_are_named_together() -> None:
    with pytest.raises(UserError) as caught:
        load(
            "quickstart",
            ["train.max_train_step=5", "crop.resolution=63", "evaluate.images_per_class=0", "model_name=Mine", "x=1"],
        )
    text = str(caught.value)
    assert len(caught.value.problems) == 5
    assert "train.max_train_step: unknown setting; did you mean 'max_train_steps'?" in text
    for key in ("crop.resolution", "evaluate.images_per_class", "model_name", "x: unknown setting"):
        assert key in text


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UserError, match="checkpointing_steps"):
        load("quickstart", ["train.max_train_steps=10", "train.checkpointing_steps=20"])


@pytest.mark.parametrize("store", ["bucket/prefix", "http://host/bucket", "s3:///prefix"])
def test_a_store_that_is_no_s3_uri_is_refused(store: str) -> None:
    with pytest.raises(UserError, match="store"):
        load("quickstart", [f"store={store}"])


@pytest.mark.parametrize("parts", [21, 2000, 50_000])
def test_an_assignment_far_below_is_refused(parts: int) -> None:
    with pytest.raises(UserError, match=r"^--set a\.a\..*: [0-9,]+ keys one below the other; there are three at most$"):
        load("quickstart", [".".join("a" * parts) + "=1"])


def test_an_assignment_is_repeated_without_what_a_terminal_would_act_on() -> None:
    with pytest.raises(UserError) as caught:
        load("quickstart", ["\x1b[31m", "x" * 5000, "train.seed=\x1b[31m", "train=[\x9b", "a\nb=[", "y=" + "[" * 5000])
    assert len(caught.value.problems) == 6
    assert all(line.isprintable() and len(line) < 500 for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("dataset", "https://account.example/container?sv=1&ss=b&opaque=canary"),
        ("dataset", "s3://bucket/boards?versionId=canary"),
        ("dataset", "s3://bucket/boards#token=canary"),
        ("dataset", "dvc+https://host/team/boards.git?path=data&opaque=canary"),
        ("dataset", "dvc+https://host/team/boards.git#canary?path=data"),
        ("base_model", "s3://bucket/base?opaque=canary"),
        ("base_model", "hf://owner/name@v1?opaque=canary"),
        ("base_model", "dvc+https://host/team/boards.git?path=canary"),
        ("store", "s3://bucket/prefix?opaque=canary"),
    ],
)
def test_what_follows_a_place_is_refused_and_not_repeated(key: str, place: str) -> None:
    with pytest.raises(UserError) as caught:
        load("quickstart", [f"{key}='{place}'"])
    assert str(caught.value).startswith(f"{key}: ")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("dataset", "dvc+https://host/team/boards.git?path=data&rev=v1"),
        ("dataset", "/data/boards #2?"),
        ("dataset", "s3://bucket/datasets/boards@20261124T191130Z-0123456789ab"),
        ("base_model", "hf://owner/name@v1"),
    ],
)
def test_places_that_end_otherwise_are_taken(key: str, place: str) -> None:
    assert getattr(load("quickstart", [f"{key}='{place}'"]), key) == place


def test_every_setting_is_documented() -> None:
    for name, info in PipelineConfig.model_fields.items():
        assert info.description, name


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("/data/My Screws/", "my-screws"),
        ("../shared/data/deeppcb", "deeppcb"),
        ("s3://bucket/sets/Chips_2024", "chips_2024"),
        ("/data/Screws 2.tar.gz", "screws-2"),
        ("s3://bucket/sets/chips.zip", "chips"),
        ("s3://bucket/datasets/screws@20261124T191130Z-0123456789ab", "screws"),
        ("/data/…", "model"),
        ("/" + "x" * 100, "x" * 63),
    ],
)
def test_a_model_is_named_after_its_data(dataset: str, name: str) -> None:
    assert model_name(dataset) == name
