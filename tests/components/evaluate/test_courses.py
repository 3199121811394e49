"""Whole evaluations: a checkpoint that draws the real thing, one that was killed, the model published last."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.artifacts import (
    PUBLISHED,
    CheckpointIndex,
    Decision,
    Metrics,
    PublishedModel,
    read_json,
    write_json,
)
from components.checkpoints import fetch_checkpoint
from components.evaluate.step import evaluate
from components.storage import Store
from tests.components.evaluate.examples import (
    CONFIG,
    COUNTS,
    PROMPTS,
    publish_run,
    same,
    shifted,
    write_crop_set,
)
from tests.conftest import ROOT

pytestmark = pytest.mark.integration


def test_a_checkpoint_that_draws_the_real_thing_wins(tmp_path: Path, store: Store, tiny_base: Path) -> None:
    """Crops drawn by one checkpoint with other noise: that one is at the floor, the base is not."""
    from components import sampling

    place = store.at("evaluate", uuid.uuid4().hex)
    crops = write_crop_set(tmp_path / "crops", {"bar": {"train": 12, "reference": 12}})
    prompts = {"bar": PROMPTS["bar"]}
    checkpoints = publish_run(place, tiny_base, tmp_path, prompts, {10: same, 20: shifted})
    index = read_json(checkpoints / "index.json", CheckpointIndex)
    model = sampling.load(fetch_checkpoint(index, index.refs()[2], tmp_path / "whole"), device="cpu")
    for number, split in enumerate(("train", "reference")):
        drawn = sampling.generate(
            model, [PROMPTS["bar"]] * 12, range(1000 * number, 1000 * number + 12), size=64, steps=3
        )
        for i, image in enumerate(np.concatenate(list(drawn))):
            Image.fromarray(image).save(crops / split / "images" / "bar" / f"{i:03d}.png")

    config = CONFIG.model_copy(update={"images_per_class": 12})
    evaluate(config, crops, checkpoints, place.uri, tmp_path / "metrics", tmp_path / "report.html")
    metrics = read_json(tmp_path / "metrics" / "metrics.json", Metrics)
    base, _, right = (row.metrics["kd_lite0"] for row in metrics.rows())
    assert right["high"] < base["value"]
    assert right["low"] < metrics.floor["kd_lite0"]["high"]
    assert "nothing to mix it up with" in metrics.absent["class_alignment"]
    assert "class_alignment" not in metrics.floor
    assert "training helped" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_an_evaluation_killed_at_any_time_goes_on_with_the_same_numbers(
    tmp_path: Path, place: Store, tiny_base: Path
) -> None:
    """Killed as soon as the first batch is in the store, as a node is lost; then run again to its end."""
    crops = write_crop_set(tmp_path / "crops", COUNTS)
    checkpoints = publish_run(place, tiny_base, tmp_path, PROMPTS, {})
    (tmp_path / "config.json").write_text(CONFIG.model_dump_json(), encoding="utf-8")
    flags = {"crops": crops, "checkpoints": checkpoints, "store": place.uri, "config": tmp_path / "config.json"}
    flags |= {"metrics": tmp_path / "killed", "report": tmp_path / "killed.html"}
    command = [sys.executable, "-m", "components", "evaluate", *(f"--{key}={value}" for key, value in flags.items())]
    kept = place.at("train", "f" * 16, "evaluating")
    killed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(kept.list()) and time.monotonic() < deadline:
        assert killed.poll() is None
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert 0 < len(list(kept.list())) < 4  # two classes, two batches each
    assert not (tmp_path / "killed").exists()

    made = []
    for name in ("again", "whole"):
        metrics = tmp_path / name
        evaluate(CONFIG, crops, checkpoints, place.uri, metrics, tmp_path / f"{name}.html")
        assert list(kept.list()) == []  # what was kept has served
        images = {path.relative_to(metrics): path.read_bytes() for path in sorted(metrics.rglob("*.png"))}
        made.append((read_json(metrics / "metrics.json", Metrics), images))
    assert made[0] == made[1]


def test_the_model_published_last_is_measured_like_a_checkpoint(tmp_path: Path, place: Store, tiny_base: Path) -> None:
    """Published from step 100, in half precision: it draws what that draws, but for rounding."""
    from components.convert.config import ConvertConfig
    from components.convert.step import convert

    crops = write_crop_set(tmp_path / "crops", COUNTS)
    checkpoints = publish_run(place, tiny_base, tmp_path, PROMPTS, {100: shifted})
    index = read_json(checkpoints / "index.json", CheckpointIndex)
    none: dict[str, Any] = {"step": 100, "label": "step 100", "metrics": {}, "per_class": {}}
    decision = Decision(
        100, "kd_lite0", "min", none, none, {}, ["chosen"], True, dataclasses.asdict(index),
        {"prompts": PROMPTS, "counts": COUNTS},
    )  # fmt: skip
    write_json(tmp_path / "best" / "best.json", decision)
    convert(ConvertConfig(compare_images=False), tmp_path / "best", "bars", place.uri, tmp_path / "model")
    version = read_json(tmp_path / "model" / "model.json", PublishedModel).version

    config = CONFIG.model_copy(update={"images_per_class": 4})
    out = tmp_path / "metrics"
    # Which version, the step finds out.
    evaluate(config, crops, checkpoints, place.uri, out, tmp_path / "report.html", "bars")
    found = read_json(out / "metrics.json", Metrics)
    row, own = found.published(), found.rows()[1]
    assert row is not None
    assert row.label == f"published {version}"
    assert row.metrics["kd_lite0"]["value"] == pytest.approx(own.metrics["kd_lite0"]["value"], rel=0.05)
    difference = found.difference("kd_lite0", 100, PUBLISHED)
    assert difference is not None
    assert abs(difference.value) < 0.05 * own.metrics["kd_lite0"]["value"]
    images = sorted(path.name for path in (out / "images" / f"published-{version}" / "bar").iterdir())
    assert len(images) == 4
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"the model published last (published {version}): paired difference" in page
