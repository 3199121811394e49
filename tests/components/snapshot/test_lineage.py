"""Warm start: which base is given out as data come in and models are published, so that training ends some day."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from components.artifacts import TrainedOn
from components.convert import publish
from components.crop.config import CropConfig
from components.models import catalog
from components.snapshot.config import SnapshotConfig
from components.snapshot.step import snapshot
from components.storage import Store, digest_of
from tests.components.models.examples import RECORD

pytestmark = pytest.mark.integration

CROPS = CropConfig(resolution=32)


def look(home: Store, folder: Path, **settings: Any) -> dict[str, str]:
    config = SnapshotConfig.model_validate({"warm_start": True, **settings})
    given = snapshot(config, CROPS, str(folder / "data"), str(folder / "base"), "boards", home.uri).parameters
    return {name: str(value) for name, value in given.items()}


def train(home: Store, folder: Path, given: dict[str, str]) -> str:
    """Publish what a run with these revisions would; where its weights are."""
    origin = TrainedOn(
        str(folder / "data"), given["dataset_revision"], given["dataset_revision"],
        digest_of(CROPS.model_dump(mode="json")), given["base_revision"],
    )  # fmt: skip
    record = dataclasses.replace(RECORD, base_model=given["base"], base_revision=given["base_revision"])
    made_by = {"trained_on": dataclasses.asdict(origin), "model": dataclasses.asdict(record)}
    models, tree = home.at("models", "boards"), folder / "published"
    (tree / "config").mkdir(parents=True, exist_ok=True)
    (tree / "config" / "model_index.json").write_text("{}")
    (tree / "boards.safetensors").write_bytes(given["base_revision"].encode())
    identity = publish.Identity(digest_of([given["dataset_revision"], given["base_revision"]]), "0" * 64)
    version, _ = publish.publish(models, identity, made_by, lambda version: tree)
    catalog.settle(models)
    return models.at(version).uri_of("boards.safetensors")


def test_new_data_are_trained_on_from_the_model_before_and_old_data_not_again(home: Store, folder: Path) -> None:
    first = look(home, folder)
    assert first["base"] == str(folder / "base")
    weights = train(home, folder, first)
    # Nothing new: what is given out is what the published model was trained from, so the cache answers.
    given = ("dataset_revision", "base", "base_revision")
    assert [look(home, folder)[name] for name in given] == [first[name] for name in given]

    (folder / "data" / "notes.txt").write_text("one more file")
    second = look(home, folder)
    assert second["base"] == weights
    assert second["base_revision"] != first["base_revision"]
    assert look(home, folder) == second
    train(home, folder, second)
    assert [look(home, folder)[name] for name in given] == [second[name] for name in given]

    cold = look(home, folder, warm_start=False)
    assert (cold["base"], cold["base_revision"]) == (first["base"], first["base_revision"])


def test_a_change_that_is_no_news_changes_no_base(home: Store, folder: Path) -> None:
    few = {"retrain_if": {"new_crops": 3}}
    first = look(home, folder, **few)
    weights = train(home, folder, first)
    (folder / "data" / "notes.txt").write_text("no crop")
    second = look(home, folder, **few)
    assert "0 new" in second["news"]
    assert (second["dataset_revision"], second["base"]) == (first["dataset_revision"], first["base"])
    # A model of the second generation is compared with by its own base, not by the user's.
    third = look(home, folder)
    assert third["base"] == weights
    train(home, folder, third)
    assert "nothing new since" in look(home, folder, **few)["news"]
