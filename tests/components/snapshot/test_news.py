"""When a data set that changed is worth another model, against a real store and real crops."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.artifacts import CropSet, TrainedOn, read_json
from components.convert import publish
from components.crop.config import CropConfig
from components.crop.plan import split_of
from components.crop.step import crop
from components.models import catalog
from components.snapshot.config import SnapshotConfig
from components.snapshot.step import snapshot
from components.storage import MANIFEST, Store, digest_of
from components.versions.push import push
from tests.components.crop.conftest import Boards

pytestmark = pytest.mark.integration

TWO_CROPS = ["20 30 40 60 1", "100 100 130 120 6"]  # open and pin-hole, as in all of the boards


class Runs:
    """What runs of the pipeline on one data set do, training left out."""

    def __init__(self, home: Store, folder: Path) -> None:
        self.home, self.folder = home, folder
        self.boards = Boards(folder / "data")
        self.dataset, self.base = str(folder / "data"), folder / "base"
        self.crop_settings: dict[str, Any] = {"resolution": 32}

    @property
    def config(self) -> CropConfig:
        return CropConfig.model_validate(self.crop_settings)

    def look(self, new_crops: int = 3) -> dict[str, str]:
        config = SnapshotConfig.model_validate({"retrain_if": {"new_crops": new_crops}})
        given = snapshot(config, self.config, self.dataset, str(self.base), "boards", self.home.uri).parameters
        return {name: str(value) for name, value in given.items()}

    def train(self, given: dict[str, str]) -> CropSet:
        """Cut the crops and publish a model: what convert is told of its origin is told by the crops."""
        out = self.folder / "out"
        crop(self.config, self.dataset, given["dataset_revision"], out / "crops", out / "report.html")
        made = read_json(out / "crops" / "crops.json", CropSet)
        shutil.rmtree(out)
        origin = TrainedOn(
            made.dataset,
            made.dataset_revision,
            made.asked_revision,
            digest_of(made.settings),
            given["base_revision"],
        )
        self.publish(origin)
        return made

    def publish(self, origin: TrainedOn | None) -> None:
        models = self.home.at("models", "boards")
        identity = publish.Identity(digest_of(dataclasses.astuple(origin) if origin else []), "0" * 64)
        made_by = {"trained_on": dataclasses.asdict(origin)} if origin else {}
        tree = self.folder / "published"
        shutil.copytree(self.base, tree, dirs_exist_ok=True)
        (tree / "boards.safetensors").write_bytes(b"weights")
        publish.publish(models, identity, made_by, lambda version: tree)
        catalog.settle(models)

    def records(self) -> list[str]:
        return [info.key for info in self.home.at("snapshots").list()]


@pytest.fixture
def runs(home: Store, folder: Path) -> Runs:
    return Runs(home, folder)


@pytest.fixture
def trained(runs: Runs) -> str:
    """The revision that a model has been trained on."""
    runs.train(first := runs.look())
    return first["dataset_revision"]


def add_one(runs: Runs) -> None:
    runs.boards.add("100", TWO_CROPS)


def replace_a_photograph(runs: Runs) -> None:
    shutil.copy(runs.boards.add("100", None), runs.boards.add("003", None))
    (runs.folder / "data" / "group1" / "g1" / "100_test.png").unlink()


def remove_an_image(runs: Runs) -> None:
    runs.boards.annotation("003").unlink()
    (runs.folder / "data" / "group1" / "g1" / "003_test.png").unlink()


def move_two_boxes(runs: Runs) -> None:
    runs.boards.annotation("003").write_text("22 30 42 60 1\n102 100 132 120 6\n")


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        (add_one, "2 new, 0 changed and 0 gone"),
        (replace_a_photograph, "0 new, 2 changed and 0 gone"),
        (remove_an_image, "0 new, 0 changed and 2 gone"),
        (move_two_boxes, "2 new, 0 changed and 2 gone"),
    ],
)
def test_two_crops_are_news_where_two_are_wanted_and_not_where_three_are(
    runs: Runs, trained: str, capsys: pytest.CaptureFixture[str], change: Callable[[Runs], None], counted: str
) -> None:
    change(runs)
    capsys.readouterr()
    held = runs.look(new_crops=3)
    assert held["dataset_revision"] == trained
    assert f"{counted} crops since model {held['published_revision']}: 2 of the 3 that are news" in held["news"]
    said = capsys.readouterr().out
    assert f"no new training: {held['news']}; given out is the revision trained on, {trained[:12]}" in said
    assert "class open would be news with" in said

    news = runs.look(new_crops=2)
    assert news["dataset_revision"] != trained
    assert counted in news["news"]


def test_what_no_crop_is_cut_from_is_no_news(runs: Runs, trained: str) -> None:
    (runs.folder / "data" / "notes.txt").write_text("looked at on Monday")
    runs.boards.add("200", [])
    held = runs.look()
    assert held["dataset_revision"] == trained
    assert "0 new, 0 changed and 0 gone" in held["news"]


@pytest.mark.parametrize("split", ["train", "reference"])
def test_a_class_that_reaches_the_minimum_is_news(runs: Runs, split: str) -> None:
    sides = [split_of(f"group1/g1/{i:03d}_test.png", runs.config) for i in range(12)]
    least = {side: sides.count(side) + (side == split) for side in ("train", "reference")}
    runs.crop_settings |= {f"min_{side}_per_class": number for side, number in least.items()}
    first = runs.look(new_crops=100)
    runs.train(first)
    more = [f"{i}" for i in range(100, 200) if split_of(f"group1/g1/{i}_test.png", runs.config) == split]
    runs.boards.add(more[0], ["20 30 40 60 3"])
    assert runs.look(new_crops=100)["dataset_revision"] == first["dataset_revision"]  # another class, with one crop
    runs.boards.add(more[1], TWO_CROPS[:1])
    news = runs.look(new_crops=100)
    assert news["dataset_revision"] != first["dataset_revision"]
    assert "enough crops of open now" in news["news"]


def other_crop_settings(runs: Runs) -> None:
    runs.crop_settings["context"] = 0.5


def other_base_model(runs: Runs) -> None:
    (runs.base / "unet" / "config.json").write_text('{"other": 1}')


def other_place(runs: Runs) -> None:
    runs.dataset = str(shutil.copytree(runs.dataset, runs.folder / "copy"))


def no_record(runs: Runs) -> None:
    runs.home.at("snapshots").delete(runs.records())


def another_generation(runs: Runs) -> None:
    runs.home.delete(["GENERATION"])


def a_model_of_an_earlier_release(runs: Runs) -> None:
    runs.publish(None)


def a_model_that_is_gone(runs: Runs) -> None:
    version = json.loads(runs.home.get_bytes("models/boards/latest.json") or b"")["version"]
    runs.home.at("models", "boards", version).delete_tree()


def a_model_whose_manifest_is_damaged(runs: Runs) -> None:
    version = json.loads(runs.home.get_bytes("models/boards/latest.json") or b"")["version"]
    runs.home.at("models", "boards", version).put_bytes(MANIFEST, b"{")


def a_model_whose_origin_is_damaged(runs: Runs) -> None:
    runs.publish(TrainedOn(runs.dataset, "", "", "", ""))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_crop_settings, "was made with other crop settings"),
        (other_base_model, "was made from another base model"),
        (other_place, "was made of another data set"),
        (no_record, "no record of the crops that model .* was trained on"),
        (another_generation, "no record of the crops that model .* was trained on"),
        (a_model_of_an_earlier_release, "it is not known what model .* was made of"),
        (a_model_that_is_gone, "it is not known what model .* was made of"),
        (a_model_whose_manifest_is_damaged, "it is not known what model .* was made of"),
        (a_model_whose_origin_is_damaged, "it is not known what model .* was made of"),
    ],
)
def test_what_cannot_be_compared_is_news(
    runs: Runs, trained: str, capsys: pytest.CaptureFixture[str], change: Callable[[Runs], None], reason: str
) -> None:
    add_one(runs)
    assert runs.look()["dataset_revision"] == trained
    change(runs)
    given = runs.look()
    assert given["dataset_revision"] != trained
    assert re.search(reason, given["news"])
    assert given["news"] in capsys.readouterr().out


def test_without_a_model_everything_is_news(runs: Runs) -> None:
    first = runs.look()
    add_one(runs)
    second = runs.look()
    assert second["dataset_revision"] != first["dataset_revision"]
    assert second["news"] == "no model published"


def test_a_run_that_failed_is_not_held_back(runs: Runs, trained: str) -> None:
    add_one(runs)
    runs.boards.add("101", TWO_CROPS)
    failed = runs.look()
    assert failed["dataset_revision"] != trained
    assert runs.look() == failed
    (runs.folder / "data" / "notes.txt").write_text("and again")
    again = runs.look()
    assert again["dataset_revision"] not in (trained, failed["dataset_revision"])
    runs.train(again)
    assert "nothing new" in runs.look()["news"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 9}', b'{"schema": 1, "counts": 3, "crops": {}}'])
def test_a_damaged_record_is_news_and_said(
    runs: Runs, trained: str, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    [record] = runs.records()
    add_one(runs)
    runs.home.at("snapshots").put_bytes(record, content)
    capsys.readouterr()
    news = runs.look()
    assert news["dataset_revision"] != trained
    assert f"snapshots/{record}: damaged" in capsys.readouterr().out

    # Of what there is now it is made again.
    runs.home.at("snapshots").put_bytes(record, content)
    remove = runs.folder / "data" / "group1"
    (remove / "g1" / "100_test.png").unlink()
    (remove / "g1_not" / "100.txt").unlink()
    assert runs.look()["dataset_revision"] == trained
    assert json.loads(runs.home.at("snapshots").get_bytes(record) or b"")["dataset_revision"] == trained


def test_data_that_cannot_be_read_are_crops_to_refuse(runs: Runs, trained: str) -> None:
    runs.boards.add("100", ["20 30 nonsense 60 1"])
    given = runs.look()
    assert given["dataset_revision"] != trained
    assert "the crops cannot be counted, crop says it in full: 1 problems in the data" in given["news"]


def test_one_wanted_crop_means_any_change_and_counts_nothing(
    runs: Runs, trained: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs.folder / "data" / "notes.txt").write_text("looked at on Monday")
    before = runs.records()
    capsys.readouterr()
    assert runs.look(new_crops=1)["dataset_revision"] != trained
    assert runs.records() == before
    assert "annotations" not in capsys.readouterr().out


def test_a_revision_is_counted_once(runs: Runs, trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    add_one(runs)
    first = runs.look()
    assert "annotations" in capsys.readouterr().out
    assert runs.look() == first
    assert "annotations" not in capsys.readouterr().out
    assert len(runs.records()) == 2


def test_versions_are_held_back_and_read_as_they_were(runs: Runs) -> None:
    place = runs.home.at("datasets", "boards")
    first = push(place, runs.boards.root, {})
    runs.dataset = place.uri
    made = runs.train(given := runs.look())
    assert (made.dataset_version, given["dataset_revision"]) == (first.version, first.manifest.digest)
    add_one(runs)
    push(place, runs.boards.root, {})
    held = runs.look()
    assert held["dataset_revision"] == given["dataset_revision"]
    again = runs.train(held)
    assert (again.digest, again.dataset_revision, again.dataset_version) == (
        made.digest,
        first.manifest.digest,
        first.version,
    )
    runs.boards.add("101", TWO_CROPS)
    third = push(place, runs.boards.root, {})
    assert runs.look()["dataset_revision"] == third.manifest.digest


def in_a_folder(runs: Runs) -> None:
    """The boards lie in a folder already."""


def below_a_prefix(runs: Runs) -> None:
    place = runs.home.at("raw")
    for path in sorted(p for p in runs.boards.root.rglob("*") if p.is_file()):
        place.upload_file(path.relative_to(runs.boards.root).as_posix(), path)
    runs.dataset = place.uri


def in_an_archive(runs: Runs) -> None:
    runs.dataset = shutil.make_archive(str(runs.folder / "packed"), "zip", runs.boards.root)


@pytest.mark.parametrize("put", [in_a_folder, below_a_prefix, in_an_archive])
def test_where_no_revisions_are_kept_the_one_that_was_cut_is_recorded(
    runs: Runs, capsys: pytest.CaptureFixture[str], put: Callable[[Runs], None]
) -> None:
    """A cache that does not answer: crop is asked for what was trained on, and finds what there is by now."""
    put(runs)
    first = runs.look()
    before = runs.train(first)
    assert before.dataset_revision == before.asked_revision == first["dataset_revision"]
    assert "asked for was" not in capsys.readouterr().out
    add_one(runs)
    put(runs)
    held = runs.look()
    assert held["dataset_revision"] == first["dataset_revision"]

    made = runs.train(held)
    assert "the data set has changed: asked for was revision" in capsys.readouterr().out
    assert made.digest != before.digest
    assert made.dataset_revision == runs.look(new_crops=1)["dataset_revision"] != held["dataset_revision"]
    assert made.asked_revision == held["dataset_revision"]
    # From now on the cache knows these crops by the revision that was asked for, so that is given out again,
    # and what is new is counted from what was cut.
    same = runs.look()
    assert same["dataset_revision"] == held["dataset_revision"]
    assert "nothing new" in same["news"]
    runs.boards.add("101", TWO_CROPS)
    put(runs)
    next_one = runs.look()
    assert next_one["dataset_revision"] == held["dataset_revision"]
    assert "2 new, 0 changed and 0 gone" in next_one["news"]
