"""The evaluate step on a real store, a real (tiny) model and real files."""

from __future__ import annotations

import csv
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.artifacts import (
    CheckpointIndex,
    Metrics,
    read_json,
)
from components.evaluate.config import EvaluateConfig
from components.evaluate.drawing import seeds
from components.evaluate.step import evaluate
from components.leases import run_scope
from components.runtime import Result
from components.storage import Store, digest_of
from tests.browser import DESKTOP, PHONE, chromium
from tests.components.evaluate.examples import (
    CONFIG,
    COUNTS,
    PROMPTS,
    diverged,
    publish_run,
    same,
    shifted,
    write_crop_set,
)
from tests.components.test_leases import ended

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Run:
    """One finished evaluation and where its files are."""

    store: Store
    crops: Path
    checkpoints: Path
    metrics: Path
    report: Path
    result: Result


def run(
    folder: Path, store: Store, base: Path, changes: dict[int, Callable[[Any], None]], config: EvaluateConfig = CONFIG,
    counts: dict[str, dict[str, int]] = COUNTS, settings: dict[str, Any] | None = None,
) -> Run:  # fmt: skip
    place = store.at("evaluate", uuid.uuid4().hex)
    crops = write_crop_set(folder / "crops", counts)
    checkpoints = publish_run(place, base, folder, {name: PROMPTS[name] for name in counts}, changes, settings=settings)
    metrics, report = folder / "metrics", folder / "report.html"
    # A model that is not there any more is no reason to fail.
    result = evaluate(config, crops, checkpoints, place.uri, metrics, report, "bars", "gone")
    return Run(place, crops, checkpoints, metrics, report, result)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, store: Store, tiny_base: Path) -> Run:
    return run(tmp_path_factory.mktemp("run"), store, tiny_base, {100: same, 200: shifted, 300: diverged})


def measured(run: Run) -> Metrics:
    return read_json(run.metrics / "metrics.json", Metrics)


def test_every_checkpoint_is_measured_class_by_class(finished: Run) -> None:
    metrics = measured(finished)
    rows = metrics.rows()
    assert [(row.step, row.label) for row in rows] == [
        (0, "base"), (100, "step 100"), (200, "step 200"), (300, "step 300 (diverged)"),
    ]  # fmt: skip
    of_classes = {"kd_lite0", "fd_lite0", "diversity_lite0", "memorised", "memorised_pixels", "nearest_train"}
    of_classes |= {"class_alignment"}
    expected = of_classes | {"is_lite0"}
    for row in rows[:3]:
        # Images may share no nearest crop, so this one is there or not.
        assert set(row.metrics) - {"diversity_in_clusters_lite0"} == expected
        assert set(row.per_class) == set(PROMPTS)
        for name in of_classes:
            values = [row.per_class[c][name]["value"] for c in PROMPTS]
            assert row.metrics[name]["value"] == pytest.approx(np.mean(values))
        for c in PROMPTS:
            assert (row.per_class[c]["kd_lite0"]["n"], row.per_class[c]["kd_lite0"]["m"]) == (6, 5)
    assert set(metrics.floor) - {"diversity_in_clusters_lite0"} == expected
    assert metrics.floor_per_class["bar"]["kd_lite0"]["n"] == 6
    assert set(metrics.higher_is_better) == expected - {"nearest_train", "diversity_lite0"}
    assert metrics.higher_is_better["class_alignment"]
    assert {"fid", "kid", "clip_score", "inception_score", "kd_dinov2", "kd_lite0_subsets"} <= set(metrics.absent)
    # Five held-out crops are too few for five neighbours.
    assert "more than nearest_k = 5 are needed" in metrics.absent["precision_lite0"]
    # The model's card says which images it was made of.
    assert metrics.dataset == {
        "dataset": "drawn",
        "dataset_revision": "r" * 64,
        "dataset_version": "",
        "asked_revision": "",
        "crop_settings": digest_of({}),
    }


def test_every_checkpoint_gets_the_same_noise(finished: Run) -> None:
    rows = measured(finished).rows()
    assert rows[1].metrics == rows[0].metrics  # the same weights draw the same images
    assert rows[2].metrics != rows[0].metrics
    first, again, other = (
        np.asarray(Image.open(finished.metrics / "images" / f"step-{step:06d}" / "bar" / "0000.png"))
        for step in (0, 100, 200)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_real_crops_are_closer_to_each_other_than_random_images_are(finished: Run) -> None:
    metrics = measured(finished)
    base = metrics.rows()[0].metrics
    assert metrics.floor["kd_lite0"]["high"] < base["kd_lite0"]["low"]
    assert metrics.floor["fd_lite0"]["value"] < base["fd_lite0"]["value"]
    assert metrics.floor["class_alignment"]["value"] == 1.0
    assert base["memorised"]["value"] == 0.0


def test_a_diverged_checkpoint_is_left_out_and_said(finished: Run) -> None:
    row = measured(finished).rows()[3]
    assert (row.metrics, row.per_class) == ({}, {})
    assert not (finished.metrics / "images" / "step-000300").exists()
    assert "step 300 (diverged)" in finished.report.read_text(encoding="utf-8")


def test_files_for_people(finished: Run) -> None:
    kept = sorted((finished.metrics / "images" / "step-000200" / "pin-hole").iterdir())
    assert [path.name for path in kept] == [f"{i:04d}.png" for i in range(5)]  # images_kept, below images_per_class
    with Image.open(kept[2]) as image:
        assert (image.size, image.mode) == ((64, 64), "RGB")
        assert image.text == {  # type: ignore[attr-defined]
            "prompt": PROMPTS["pin hole"],
            "seed": str(seeds(0, "pin hole", 6)[2]),
        }
    with Image.open(finished.metrics / "comparison.png") as sheet:
        assert sheet.width > 6 * 128
        assert sheet.height > 2 * 4 * 128  # two classes of real, base and two checkpoints
    curve = (finished.metrics / "curve.svg").read_text(encoding="utf-8")
    assert curve.lstrip().startswith("<?xml")
    page = finished.report.read_text(encoding="utf-8")
    assert "http://" not in page
    assert "select_best step decides" in page


def test_the_page_shows_everything_in_a_browser(finished: Run) -> None:
    with chromium() as browser:
        for size, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
            browser.open(finished.report, size, scheme)
            assert browser.value("document.images.length") > 10
            assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
            assert browser.value("document.documentElement.scrollWidth") <= size[0]
            ink, paper = (browser.value(f"getComputedStyle(document.body).{name}") for name in ("color", "background"))
            assert ("rgb(18, 23, 30)" in paper) == (scheme == "dark"), (ink, paper)
        assert browser.printed().startswith(b"%PDF")
        assert browser.complaints == []
        away = [url for url in browser.requests if not url.startswith(("data:", finished.report.resolve().as_uri()))]
        assert away == []


def test_page_and_numbers_are_in_the_store(finished: Run) -> None:
    reports = finished.store.at("train", "f" * 16, "reports")
    assert reports.get_bytes("evaluate.html") == finished.report.read_bytes()
    stored = json.loads(reports.get_bytes("metrics.json") or b"")
    assert stored == json.loads((finished.metrics / "metrics.json").read_text(encoding="utf-8"))


def test_differences_are_paired_by_the_noise(finished: Run) -> None:
    metrics = measured(finished)
    same_weights = metrics.difference("kd_lite0", 100, 0)
    assert same_weights is not None
    assert (same_weights.value, same_weights.low, same_weights.high) == (0, 0, 0)
    base, _, other, _ = metrics.rows()
    there, back = metrics.difference("kd_lite0", 200, 0), metrics.difference("kd_lite0", 0, 200)
    assert there is not None
    assert back is not None
    assert there.value == pytest.approx(other.metrics["kd_lite0"]["value"] - base.metrics["kd_lite0"]["value"])
    assert (back.value, back.low, back.high) == (-there.value, -(there.high or 0), -(there.low or 0))
    assert metrics.difference("kd_lite0", 300, 0) is None  # it drew nothing
    assert metrics.published() is None
    assert "the published model is gone from the store" in metrics.absent["published"]


def test_tables_for_other_programs(finished: Run) -> None:
    metrics = measured(finished)
    with (finished.metrics / "metrics.tsv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    by_name = {(line["checkpoint"], line["class"], line["metric"]): line for line in lines}
    line = by_name["step 200", "bar", "kd_lite0"]
    estimate = metrics.rows()[2].per_class["bar"]["kd_lite0"]
    assert (float(line["value"]), float(line["low"])) == (estimate["value"], estimate["low"])
    assert (line["extractor"], line["n"], line["m"]) == ("lite0", "6", "5")
    assert {name for name, _, _ in by_name} == {"base", "step 100", "step 200", "real against real"}
    with (finished.metrics / "images.tsv").open(encoding="utf-8") as file:
        images = list(csv.DictReader(file, delimiter="\t"))
    assert len(images) == 3 * 2 * 6
    assert [int(i["seed"]) for i in images if (i["checkpoint"], i["defect"]) == ("base", "bar")] == seeds(0, "bar", 6)
    assert all((finished.crops / i["nearest_crop"]).is_file() for i in images)
    assert all(i["clip_score"] == "" for i in images)


def test_flat_numbers_for_the_pipeline_s_ui(finished: Run) -> None:
    shown = finished.result.metadata["metrics"]
    best = min(measured(finished).rows()[:3], key=lambda row: row.metrics["kd_lite0"]["value"])
    assert shown["checkpoint"] == best.label
    assert shown["kd_lite0"] == best.metrics["kd_lite0"]["value"]
    assert (shown["generated_images"], shown["held_out_crops"]) == (12, 10)
    assert all(isinstance(value, (str, int, float)) for value in shown.values())


def test_turned_copies_are_looked_for_where_training_turned_them(tmp_path: Path, store: Store, tiny_base: Path) -> None:
    one = {"bar": {"train": 4, "reference": 4}}
    config = CONFIG.model_copy(update={"images_per_class": 4, "images_kept": 0})
    made = run(tmp_path, store, tiny_base, {}, config, one, settings={"augment": "dihedral"})
    assert measured(made).floor["nearest_train"]["m"] == 16
    assert list((made.metrics / "images").iterdir()) == []


def test_seeds_of_a_class_stay_when_others_come() -> None:
    assert seeds(0, "bar", 3) == seeds(0, "bar", 5)[:3]
    drawn = [*seeds(0, "bar", 500), *seeds(0, "pin hole", 500), *seeds(1, "bar", 500)]
    assert len(set(drawn)) == 1500
    assert max(drawn) < 2**32


def test_the_run_was_held_against_cleanup(finished: Run) -> None:
    index = read_json(finished.checkpoints / "index.json", CheckpointIndex)
    assert ended(finished.store, run_scope(index.fingerprint)) == ["evaluate"]
