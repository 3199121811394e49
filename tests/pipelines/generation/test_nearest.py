"""Nearness to training crops: a planted copy is found, whichever way it is turned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.artifacts import Crop, read_crops
from components.crop.config import CropConfig
from components.crop.step import crop
from components.errors import UserError
from pipelines.generation import nearest
from pipelines.generation.plan import Picture
from pipelines.quickstart.samples import write_samples


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    write_samples(folder / "boards", images=12, size=320, seed=3)
    config = CropConfig(resolution=64, classes=["pin-hole", "short"])
    crop(config, str(folder / "boards"), "0" * 64, folder / "crops", folder / "report.html")
    return folder / "crops"


def test_a_turned_copy_is_nearer_than_real_crops_are(crops: Path, tmp_path: Path) -> None:
    [first, *_] = [c for c in read_crops(crops, "train") if c.defect == "short"]
    copy = np.rot90(np.asarray(Image.open(crops / "train" / first.file_name)))
    pictures = [Picture("short", "a short", seed) for seed in range(2)]
    for picture, image in zip(pictures, (copy, np.full((96, 96, 3), 90, np.uint8))):
        path = tmp_path / picture.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    found = nearest.measure(pictures, tmp_path, crops)
    copied, plain = (found[picture.file_name] for picture in pictures)
    assert copied.crop == f"train/{first.file_name}"
    assert copied.distance < 1e-4
    assert copied.nearer_than_real
    assert plain.distance > 0.1
    assert not plain.nearer_than_real


def test_a_class_is_held_against_its_own_crops_and_another_prompt_against_all(crops: Path) -> None:
    train = read_crops(crops, "train")
    own: list[Crop] = nearest._of(train, "short")
    assert {c.defect for c in own} == {"short"}
    assert nearest._of(train, "a green board") == list(train)


def test_crops_are_found_by_their_digest(crops: Path, tmp_path: Path) -> None:
    place = tmp_path / ".local" / "artifacts" / "run-1" / "crop" / "crops"
    place.mkdir(parents=True)
    digest = json.loads((crops / "crops.json").read_text())["digest"]
    (place / "crops.json").write_text(json.dumps({"digest": digest}))
    assert nearest.crops_of(digest, tmp_path) == place
    assert nearest.crops_of("other", tmp_path) is None
    assert nearest.crops_of(None, tmp_path) is None


def test_another_folder_is_no_crops(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"crops\.json"):
        nearest.check(tmp_path)
