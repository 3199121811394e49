"""Crops and checkpoints that evaluate refuses: named, and nothing is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from components.errors import UserError
from components.evaluate.step import evaluate
from components.storage import Store
from tests.components.evaluate.examples import CONFIG, COUNTS, PROMPTS, diverged, publish_run, same, write_crop_set

pytestmark = pytest.mark.integration


def refused(folder: Path, store: Store, crops: Path, checkpoints: Path) -> str:
    metrics, report = folder / "metrics", folder / "report.html"
    with pytest.raises(UserError) as caught:
        evaluate(CONFIG, crops, checkpoints, store.uri, metrics, report)
    assert not metrics.exists()
    assert not report.exists()
    return str(caught.value)


def test_too_few_crops_are_named_for_every_class(tmp_path: Path, place: Store, tiny_base: Path) -> None:
    counts = {"bar": {"train": 4, "reference": 3}, "pin hole": {"train": 2, "reference": 4}}
    crops = write_crop_set(tmp_path / "crops", counts)
    said = refused(tmp_path, place, crops, publish_run(place, tiny_base, tmp_path, PROMPTS, {}))
    assert "class 'bar' has 3 reference crops, evaluate needs 4; raise crop.reference_fraction" in said
    assert "class 'pin hole' has 2 train crops" in said


def test_crops_of_another_run(tmp_path: Path, place: Store, tiny_base: Path) -> None:
    crops = write_crop_set(tmp_path / "crops", COUNTS, digest="e" * 64)
    said = refused(tmp_path, place, crops, publish_run(place, tiny_base, tmp_path, PROMPTS, {}))
    assert "not the crops that the checkpoints were trained with" in said


def test_a_source_image_on_both_sides(tmp_path: Path, place: Store, tiny_base: Path) -> None:
    crops = write_crop_set(tmp_path / "crops", COUNTS)
    listing = crops / "reference" / "metadata.jsonl"
    listing.write_text(listing.read_text(encoding="utf-8").replace("reference-bar-2", "train-bar-1"), encoding="utf-8")
    said = refused(tmp_path, place, crops, publish_run(place, tiny_base, tmp_path, PROMPTS, {}))
    assert "train-bar-1.png" in said


@pytest.mark.parametrize("damage", ["missing", "truncated", "resized"])
def test_a_damaged_crop_is_named(tmp_path: Path, place: Store, tiny_base: Path, damage: str) -> None:
    crops = write_crop_set(tmp_path / "crops", COUNTS)
    path = crops / "reference" / "images" / "bar" / "001.png"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:900])
    else:
        Image.new("RGB", (32, 64)).save(path)
    said = refused(tmp_path, place, crops, publish_run(place, tiny_base, tmp_path, PROMPTS, {}))
    assert str(path) in said
    assert "run crop again" in said


def test_a_checkpoint_gone_from_the_store(tmp_path: Path, place: Store, tiny_base: Path) -> None:
    crops = write_crop_set(tmp_path / "crops", COUNTS)
    checkpoints = publish_run(place, tiny_base, tmp_path, PROMPTS, {100: same})
    place.at("train", "f" * 16, "step-000100").delete_tree()
    said = refused(tmp_path, place, crops, checkpoints)
    assert "checkpoint 100 is gone" in said


def test_a_base_that_draws_nothing(tmp_path: Path, place: Store, tiny_base: Path) -> None:
    from diffusers import UNet2DConditionModel

    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    unet = UNet2DConditionModel.from_pretrained(tiny_base, subfolder="unet")
    diverged(unet)
    unet.save_pretrained(base / "unet")
    crops = write_crop_set(tmp_path / "crops", COUNTS)
    said = refused(tmp_path, place, crops, publish_run(place, base, tmp_path, PROMPTS, {}))
    assert "the base model tiny is broken" in said
