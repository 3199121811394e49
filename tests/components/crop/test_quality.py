"""What the step says of a data set: look-alikes, flaws, the verdict, and where it keeps that."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from components.artifacts import SPLITS, CropSet, read_crops
from components.crop.config import CropConfig
from components.crop.plan import split_of
from components.crop.step import crop
from components.errors import UserError
from components.storage import Store
from pipelines.embedded_store import EmbeddedStore
from tests.components.crop.conftest import Boards

Run = Callable[..., tuple[Path, CropSet]]


def quality(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "quality.json").read_text())
    return data


def stems(side: str, number: int) -> list[str]:
    """Names of boards that fall on one side of the split."""
    config = CropConfig(resolution=64)
    found = (s for s in map("{:04d}".format, range(1000, 3000)) if split_of(f"group1/g1/{s}_test.png", config) == side)
    return [next(found) for _ in range(number)]


def copy(boards: Boards, original: Path, stem: str, change: Callable[[Image.Image], Image.Image] = lambda i: i) -> None:
    place = boards.add(stem, ["20 30 40 60 1", "100 100 130 120 6"])
    with Image.open(original) as image:
        change(image.convert("RGB")).save(place)


@pytest.fixture
def twins(boards: Boards) -> tuple[Boards, list[str]]:
    """Boards of which one that is held out is among the training images again: the same file, and another exposure."""
    (held_out,) = stems("reference", 1)
    trained = stems("train", 2)
    original = boards.add(held_out, ["20 30 40 60 1", "100 100 130 120 6"])
    copy(boards, original, trained[0])
    copy(boards, original, trained[1], lambda image: ImageEnhance.Brightness(image).enhance(0.7))
    return boards, [f"group1/g1/{stem}_test.png" for stem in trained]


def test_training_copies_of_held_out_crops_are_left_out(
    twins: tuple[Boards, list[str]], run: Run, tmp_path: Path
) -> None:
    boards, copies = twins
    folder, kept = run(boards.root, lookalikes="keep")
    assert set(copies) <= {c.source for c in read_crops(folder, "train")}
    said = quality(folder)
    assert (len(said["across_the_split"]), said["dropped"]) == (4, [])
    assert {pair["identical"] for pair in said["across_the_split"]} == {True, False}

    folder, crop_set = run(boards.root)
    assert not set(copies) & {c.source for c in read_crops(folder, "train")}
    said = quality(folder)
    assert len(said["dropped"]) == 4
    assert all(not (folder / path).exists() for path in said["dropped"])
    for name in ("open", "pin-hole"):
        assert crop_set.counts[name]["train"] == kept.counts[name]["train"] - 2
        assert crop_set.counts[name]["reference"] == kept.counts[name]["reference"]
        assert said["left_out"][name] == {"training crops that repeat a held-out one": 2}
        assert len(list((folder / "train" / "images" / name).iterdir())) == crop_set.counts[name]["train"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "4 training crops were left out for that" in page


def test_a_class_that_shows_one_scene_keeps_its_crops_and_is_pointed_out(boards: Boards, run: Run) -> None:
    first = (boards.root / "group1" / "g1" / "000_test.png").read_bytes()
    for path in (boards.root / "group1" / "g1").iterdir():
        path.write_bytes(first)
    folder, crop_set = run(boards.root)
    said = quality(folder)
    assert said["dropped"] == []
    assert sum(crop_set.counts["open"].values()) == 12
    notes = [note for verdict in said["verdicts"] for note in verdict["notes"]]
    assert len(notes) == 2
    assert all("none was left out" in note for note in notes)


def test_repeated_training_crops_are_reported_and_kept(boards: Boards, run: Run) -> None:
    first, second, third = stems("train", 3)
    original = boards.add(first, ["20 30 40 60 1", "100 100 130 120 6"])
    copy(boards, original, second)
    copy(boards, original, third, lambda image: image.filter(ImageFilter.GaussianBlur(0.4)))
    said = quality(run(boards.root)[0])
    assert len(said["within_training"]) == 4
    assert sum(pair["identical"] for pair in said["within_training"]) == 2
    assert all(pair["correlation"] >= 0.99 for pair in said["within_training"])


def test_poor_crops_are_listed_with_what_is_wrong(boards: Boards, run: Run, tmp_path: Path) -> None:
    (stem,) = stems("train", 1)
    Image.new("RGB", (200, 160), (90, 90, 90)).save(boards.add(stem, ["20 30 40 60 1"]))
    folder, _ = run(boards.root)
    (flawed,) = quality(folder)["flawed"]
    assert (flawed["source"], flawed["flaws"]) == (f"group1/g1/{stem}_test.png", ["blank"])
    assert (folder / flawed["file"]).is_file()
    assert "Crops to look at" in (tmp_path / "out" / "report.html").read_text()


def test_the_verdict_says_which_classes_have_enough(boards: Boards, run: Run) -> None:
    for i in range(40):
        boards.add(f"more{i}", ["20 30 40 60 1"])
    folder, crop_set = run(boards.root)
    by_class = {verdict["defect"]: verdict for verdict in quality(folder)["verdicts"]}
    assert (by_class["open"]["enough"], by_class["pin-hole"]["enough"]) == (True, False)
    assert by_class["open"]["lacks"] == []
    train = crop_set.counts["pin-hole"]["train"]
    assert f"pin-hole: {train} crops to train on, 20 or more are advised." in by_class["pin-hole"]["lacks"]


def test_defect_free_crops_are_beside_the_others(boards: Boards, run: Run, tmp_path: Path) -> None:
    before = {(s, c) for s in SPLITS for c in read_crops(run(boards.root)[0], s)}
    folder, crop_set = run(boards.root, normal_per_image=2, normal_prompt="a good {product}", product="board")
    assert {(s, c) for s in SPLITS for c in read_crops(folder, s)} == before
    found = {split: read_crops(folder / "normal", split) for split in SPLITS}
    assert crop_set.normal == {split: len(crops) for split, crops in found.items()}
    assert sum(crop_set.normal.values()) == 24
    sides = {split: {c.source for _, c in before if _ == split} for split in SPLITS}
    for split, crops in found.items():
        assert {c.source for c in crops} <= sides[split]
        for c in crops:
            assert (c.text, c.defect, c.mask_file_name) == ("a good board", "", None)
            x0, y0, x1, y1 = c.window
            with (
                Image.open(boards.root / c.source) as source,
                Image.open(folder / "normal" / split / c.file_name) as made,
            ):
                np.testing.assert_array_equal(np.asarray(made), np.asarray(source)[y0:y1, x0:x1])
    assert "Defect-free areas" in (tmp_path / "out" / "report.html").read_text()


def test_crops_share_out_the_prompts_of_their_class_and_keep_theirs(boards: Boards, run: Run) -> None:
    settings = {"prompt": ["a {defect}", "a board with a {defect}"], "prompts": {"open": "an open circuit"}}
    folder, crop_set = run(boards.root, **settings)
    assert crop_set.prompts == {"open": "an open circuit", "pin-hole": "a pin-hole"}
    before = {c.file_name: c.text for s in SPLITS for c in read_crops(folder, s)}
    assert set(before.values()) == {"an open circuit", "a pin-hole", "a board with a pin-hole"}
    boards.add("another", ["100 100 130 120 6"])
    after = {c.file_name: c.text for s in SPLITS for c in read_crops(run(boards.root, **settings)[0], s)}
    assert before.items() < after.items()


def test_large_defects_are_tiled(boards: Boards, run: Run) -> None:
    for i in range(6):
        boards.add(f"large{i}", ["10 10 180 40 2"])
    folder, crop_set = run(boards.root, large="tile", classes=["short"])
    assert sum(crop_set.counts["short"].values()) == 6 * 4
    for split in SPLITS:
        for c in read_crops(folder, split):
            x0, _, x1, _ = c.window
            assert x1 - x0 == 64
            assert c.box[0] == max(0, 10 - x0)
            assert c.box[2] == min(64, 180 - x0)


@pytest.mark.integration
class TestInTheStore:
    """The page and the findings are in the store, whatever becomes of the step."""

    @pytest.fixture
    def home(self, embedded_store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> Store:
        for name, value in embedded_store.environ.items():
            monkeypatch.setenv(name, value)
        return Store.from_env(embedded_store.uri).at(uuid.uuid4().hex)

    def kept(self, home: Store, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, Any]]:
        """Page and findings, found by the address that was printed."""
        printed = capsys.readouterr()
        (address,) = {word for word in (printed.out + printed.err).split() if word.endswith("report.html")}
        place = Store.from_env(address.removesuffix("/report.html"))
        page, findings = place.get_bytes("report.html"), place.get_bytes("quality.json")
        assert page is not None
        assert findings is not None
        assert address.startswith(home.uri)
        return page.decode(), json.loads(findings)

    def test_of_a_finished_step(
        self, boards: Boards, home: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        crop(CropConfig(resolution=64), str(boards.root), "r1", out / "crops", out / "report.html", home.uri)
        page, findings = self.kept(home, capsys)
        assert page == (out / "report.html").read_text()
        assert findings == quality(out / "crops")

    def test_of_data_with_mistakes(
        self, boards: Boards, home: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        boards.add("bad", ["1 1 30 30 9"] * 50)
        out = tmp_path / "out"
        with pytest.raises(UserError, match="50 problems in the data"):
            crop(CropConfig(resolution=64), str(boards.root), "r1", out / "crops", out / "report.html", home.uri)
        page, findings = self.kept(home, capsys)
        # All of them, where the message names twenty.
        assert page.count("bad.txt:") == len(findings["problems"]) == 50
        assert list(out.iterdir()) == []

    def test_of_a_class_that_cannot_be_measured(
        self, boards: Boards, home: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        boards.add("single", ["20 30 40 60 2"])
        out = tmp_path / "out"
        with pytest.raises(UserError, match="class short"):
            crop(CropConfig(resolution=64), str(boards.root), "r1", out / "crops", out / "report.html", home.uri)
        page, _ = self.kept(home, capsys)
        assert "class short: " in page
        assert "at least one of each is needed" in page
