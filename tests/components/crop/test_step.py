from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components import decoding
from components.artifacts import SPLITS, CropSet, read_crops
from components.crop import cutting, reading, step
from components.crop.config import CropConfig
from components.errors import UserError
from tests.components.crop.conftest import Boards

Run = Callable[..., tuple[Path, CropSet]]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_crops_are_the_pixels_of_their_window(boards: Boards, run: Run) -> None:
    folder, crop_set = run(boards.root)
    for split in SPLITS:
        crops = read_crops(folder, split)
        assert len(crops) == sum(crop_set.counts[name][split] for name in crop_set.classes)
        for crop in crops:
            x0, y0, x1, y1 = crop.window
            with Image.open(boards.root / crop.source) as source:
                expected = np.asarray(source)[y0:y1, x0:x1]
            with Image.open(folder / split / crop.file_name) as image:
                assert (image.mode, image.size) == ("RGB", (64, 64))
                np.testing.assert_array_equal(np.asarray(image), expected)
            assert crop.text == f"a photo of {crop.defect}"
            assert crop.mask_file_name is None
    train, reference = ({c.source for c in read_crops(folder, split)} for split in SPLITS)
    assert not train & reference


def test_the_output_says_what_made_it(boards: Boards, run: Run) -> None:
    _, crop_set = run(boards.root, context=0.5)
    assert crop_set.dataset == str(boards.root)
    assert crop_set.dataset_revision == "r1"
    assert crop_set.classes == ["open", "pin-hole"]
    assert crop_set.prompts == {"open": "a photo of open", "pin-hole": "a photo of pin-hole"}
    assert crop_set.settings["context"] == 0.5
    assert len(crop_set.digest) == 64


def test_the_result_carries_counts_and_digest(boards: Boards, tmp_path: Path) -> None:
    result = step.crop(CropConfig(resolution=64), str(boards.root), "r1", tmp_path / "c", tmp_path / "r.html")
    metadata = result.metadata["crops"]
    crop_set = json.loads((tmp_path / "c" / "crops.json").read_text())
    assert metadata["digest"] == crop_set["digest"]
    counts = crop_set["counts"]["open"]
    assert (metadata["open train"], metadata["open reference"]) == (counts["train"], counts["reference"])
    assert sum(counts.values()) == 12


def test_the_output_does_not_depend_on_the_workers(boards: Boards, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for workers in (1, 2, 7):
        for module in (cutting, reading):
            monkeypatch.setattr(module, "cores", lambda workers=workers: workers)
        made.append(contents(run(boards.root)[0]))
    assert made[0] == made[1] == made[2]


def test_no_picture_is_skipped_for_memory(boards: Boards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoding, "decode", refused)
    with pytest.raises(MemoryError):
        step.crop(
            CropConfig(resolution=64, on_error="skip"), str(boards.root), "r1", tmp_path / "c", tmp_path / "r.html"
        )
    assert not (tmp_path / "c").exists()


def test_another_pixel_is_another_digest(boards: Boards, run: Run) -> None:
    _, before = run(boards.root)
    path = boards.root / "group1" / "g1" / "000_test.png"
    with Image.open(path) as image:
        changed = image.copy()
    changed.putpixel((30, 40), (1, 2, 3))
    changed.save(path)
    _, after = run(boards.root)
    assert before.digest != after.digest


def test_an_added_image_leaves_the_others_as_they_are(boards: Boards, run: Run) -> None:
    before = {(s, c) for s in SPLITS for c in read_crops(run(boards.root)[0], s)}
    boards.add("added", ["20 30 40 60 1"])
    after = {(s, c) for s in SPLITS for c in read_crops(run(boards.root)[0], s)}
    assert before < after


def test_masks_are_cut_along(tmp_path: Path, run: Run) -> None:
    rng = np.random.default_rng(0)
    for i in range(12):
        photo = rng.integers(0, 256, (100, 120), dtype=np.uint8)
        mask = np.zeros((100, 120), np.uint8)
        x, y = rng.integers(5, 80, 2)
        mask[y : y + 9, x : x + 14] = 255
        for kind, pixels in (("images", photo), ("masks/dent", mask)):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "data" / kind / f"{i}.png")
    folder, _ = run(tmp_path / "data")
    for split in SPLITS:
        for crop in read_crops(folder, split):
            assert crop.mask_file_name is not None
            with Image.open(folder / split / crop.mask_file_name) as image:
                cropped = np.asarray(image)
            expected = np.zeros((64, 64), np.uint8)
            x0, y0, x1, y1 = crop.box
            expected[y0:y1, x0:x1] = 255
            np.testing.assert_array_equal(cropped, expected)


def test_every_mistake_is_reported_at_once_and_nothing_is_left(boards: Boards, run: Run, tmp_path: Path) -> None:
    boards.add("a-unknown-kind", ["1 1 30 30 9", "1 1 30 30 1"])
    boards.add("b-no-annotation", None)
    boards.add("c-no-image", ["1 1 30 30 1"]).unlink()
    boards.add("d-no-picture", ["1 1 30 30 1"]).write_bytes(b"nothing")
    cut_short = boards.add("e-truncated", ["1 1 30 30 1"])
    cut_short.write_bytes(cut_short.read_bytes()[:5000])
    with pytest.raises(UserError) as caught:
        run(boards.root)
    summary, *problems = str(caught.value).splitlines()
    assert len(problems) == 5
    for stem in ("a-unknown-kind.txt:1", "b-no-ann", "c-no-image.txt", "d-no-picture", "e-truncated"):
        assert sum(stem in p for p in problems) == 1
    assert summary.startswith("5 problems in the data")
    assert "crop.on_error: skip" in summary
    assert list((tmp_path / "out").iterdir()) == []


def test_a_truncated_image_alone_stops_the_step_too(boards: Boards, run: Run, tmp_path: Path) -> None:
    path = boards.root / "group1" / "g1" / "003_test.png"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="003_test"):
        run(boards.root)
    assert list((tmp_path / "out").iterdir()) == []


def test_many_mistakes_are_counted_and_the_first_listed(boards: Boards, run: Run) -> None:
    boards.add("bad", ["1 1 30 30 9"] * 50)
    with pytest.raises(UserError) as caught:
        run(boards.root)
    summary, *problems, last = str(caught.value).splitlines()
    assert summary.startswith("50 problems in the data")
    assert len(problems) == 20
    assert last == "  - and 30 more"


def test_skipped_data_is_listed_in_the_report(boards: Boards, run: Run, tmp_path: Path) -> None:
    boards.add("bad", ["1 1 30 30 9", "20 30 40 60 1"])
    path = boards.add("torn", ["20 30 40 60 1"])
    path.write_bytes(path.read_bytes()[:5000])
    _, crop_set = run(boards.root, on_error="skip")
    assert sum(crop_set.counts["open"].values()) == 13
    page = (tmp_path / "out" / "report.html").read_text()
    assert "bad.txt:1" in page
    assert "torn_test.png" in page
    assert "2 problems in the data" in page


def test_skipping_everything_names_what_was_wrong(boards: Boards, run: Run) -> None:
    for i in range(12):
        (boards.root / "group1" / "g1" / f"{i:03d}_test.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match="000_test.png: not an image") as caught:
        run(boards.root, on_error="skip")
    assert len(str(caught.value).splitlines()) == 13


def test_skipping_may_leave_too_little(boards: Boards, run: Run) -> None:
    for i in range(12):
        path = boards.root / "group1" / "g1" / f"{i:03d}_test.png"
        path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="class open: 0 training crops and 0 reference crops"):
        run(boards.root, on_error="skip")


@pytest.mark.parametrize("setting", [{"min_train_per_class": 1, "min_reference_per_class": 1}, {}])
def test_the_report_opens_with_whether_there_is_enough(boards: Boards, run: Run, tmp_path: Path, setting: dict) -> None:
    run(boards.root, **setting)
    page = (tmp_path / "out" / "report.html").read_text()
    assert ("All 2 classes have enough crops." in page) == bool(setting)
    assert ("2 of 2 classes have few crops" in page) != bool(setting)


def test_the_same_part_on_both_sides_is_pointed_out(boards: Boards, run: Run, tmp_path: Path) -> None:
    run(boards.root)
    assert "Look-alikes" not in (tmp_path / "out" / "report.html").read_text()
    first = (boards.root / "group1" / "g1" / "000_test.png").read_bytes()
    for path in (boards.root / "group1" / "g1").iterdir():
        path.write_bytes(first)
    run(boards.root)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Look-alikes" in page
    assert "crop.same_part" in page


def test_an_earlier_output_is_replaced_and_other_folders_are_not(boards: Boards, run: Run, tmp_path: Path) -> None:
    folder, _ = run(boards.root)
    (folder / "train" / "left.txt").write_text("over")
    run(boards.root)
    assert not (folder / "train" / "left.txt").exists()
    (folder / "crops.json").unlink()
    with pytest.raises(UserError, match="holds something that this step did not write"):
        run(boards.root)
    assert (folder / "train" / "metadata.jsonl").exists()


def test_an_output_that_cannot_be_written_is_a_users_mistake(boards: Boards, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        step.crop(
            CropConfig(resolution=64),
            str(boards.root),
            "r1",
            tmp_path / "file" / "crops",
            tmp_path / "r.html",
        )


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "does not exist"), ("file.txt", "is a file"), ("empty", "holds no files"), (" ", "empty; give")],
)
def test_a_wrong_dataset_is_named(run: Run, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file.txt").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path / name if name.strip() else Path(" "))
    assert "dataset: " in str(caught.value)


def test_real_boards(shared_data: Path, run: Run, tmp_path: Path) -> None:
    folder, crop_set = run(
        shared_data / "deeppcb", classes=["pin-hole"], max_train_per_class=40, max_reference_per_class=25
    )
    assert crop_set.counts == {"pin-hole": {"train": 40, "reference": 25}}
    for split in SPLITS:
        for crop in read_crops(folder, split):
            with Image.open(folder / split / crop.file_name) as image:
                x0, y0, x1, y1 = crop.box
                inside = np.asarray(image.convert("L"))[y0:y1, x0:x1]
            # A pin-hole is a light spot in black copper.
            assert inside.max() > 200
            assert inside.min() < 60
    assert (tmp_path / "out" / "report.html").stat().st_size > 50_000


def test_all_real_annotations_are_read(shared_data: Path) -> None:
    from components.crop.survey import survey

    boards = survey(CropConfig(resolution=64), str(shared_data / "deeppcb"))
    assert boards.images == 341
    assert {name: sum(n.values()) for name, n in boards.counts.items()} == {
        "copper": 340,
        "mousebite": 475,
        "open": 442,
        "pin-hole": 348,
        "short": 307,
        "spur": 390,
    }
    tiles = survey(CropConfig(resolution=64), str(shared_data / "magnetic-tile"))
    assert tiles.images == 234
    assert list(tiles.counts) == ["MT_Blowhole"]
    assert sum(tiles.counts["MT_Blowhole"].values()) == 115


def test_settings_reach_the_output_as_plain_data(boards: Boards, run: Run) -> None:
    folder, crop_set = run(boards.root)
    assert CropConfig.model_validate(crop_set.settings).resolution == 64
    assert {f.name for f in dataclasses.fields(CropSet)} == set(json.loads((folder / "crops.json").read_text()))
