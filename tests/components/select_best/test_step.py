"""The select_best step with a real store: its files, its page, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.artifacts import SAMPLES, CheckpointIndex, CheckpointRef, Decision, Metrics, read_json, write_json
from components.errors import UserError
from components.select_best.config import SelectBestConfig
from components.select_best.step import select_best
from components.storage import Store
from tests.components.select_best.test_choose import USUAL, estimate, kd

pytestmark = pytest.mark.integration


@pytest.fixture
def place(store: Store) -> Store:
    return store.at("select-best", uuid.uuid4().hex)


def written(folder: Path, measured: Metrics, steps: tuple[int, ...] = (0, 100, 200, 300), digest: str = "d") -> None:
    """The step's inputs below `folder`."""
    index = CheckpointIndex(
        fingerprint="f" * 16,
        base_uri="s3://bucket/base-models/b",
        base_model="tiny",
        base_revision="b" * 64,
        crops_digest=digest,
        resolution=64,
        prompts={"open <b>": "a photo of an open"},
        checkpoints=[dataclasses.asdict(CheckpointRef(step, None, [])) for step in steps],
        settings={},
    )
    floor = {"open <b>": {"kd_lite0": {**estimate(0.0), "n": 40, "m": 21}}}
    write_json(folder / "metrics" / "metrics.json", dataclasses.replace(measured, floor_per_class=floor))
    write_json(folder / "checkpoints" / "index.json", index)


def run(folder: Path, place: Store, config: SelectBestConfig | None = None) -> Decision:
    select_best(
        config or SelectBestConfig(),
        folder / "metrics",
        folder / "checkpoints",
        place.uri,
        folder / "best",
        folder / "decision.html",
    )
    return read_json(folder / "best" / "best.json", Decision)


def test_the_chosen_checkpoints_images_go_with_it(tmp_path: Path, place: Store) -> None:
    written(tmp_path, kd(*USUAL))
    for step, level in (("step-000200", 200), ("step-000300", 30)):
        for name, count in (("open", 7), ("short", 2)):
            folder = tmp_path / "metrics" / "images" / step / name
            folder.mkdir(parents=True)
            for number in range(count):
                shown = level - 20 * (name == "short") + number
                Image.new("RGB", (64, 64), (shown, shown, shown)).save(folder / f"{number:04d}.png")
    assert run(tmp_path, place).step == 200
    with Image.open(tmp_path / "best" / SAMPLES) as picture:
        assert picture.size == (6 * 68 + 4, 2 * 68 + 4)
        middles = np.asarray(picture)[36::68, 36::68, 0].tolist()
    assert middles == [[200, 201, 202, 203, 204, 205], [180, 181, 223, 223, 223, 223]]


def test_decision_and_page(tmp_path: Path, place: Store) -> None:
    written(tmp_path, kd(*USUAL))
    decision = run(tmp_path, place)
    assert (decision.step, decision.metric, decision.mode, decision.improved) == (200, "kd_lite0", "min", True)
    assert decision.chosen["step"] == 200
    assert decision.base["step"] == 0
    assert decision.floor["kd_lite0"]["value"] == 0.002
    assert CheckpointIndex(**decision.index).fingerprint == "f" * 16
    assert decision.crops == {
        "prompts": {"open <b>": "a photo of an open"},
        "counts": {"open <b>": {"train": 40, "reference": 21}},
        "digest": "d",
        "dataset": "/boards",
        "dataset_revision": "r" * 64,
        "dataset_version": "v1",
    }
    page = (tmp_path / "decision.html").read_text(encoding="utf-8")
    assert page.index("Step 200 is the best checkpoint") < page.index("<table")
    assert page.count('<tr class="chosen">') == 1
    chosen = page[page.index('<tr class="chosen">') :]
    assert chosen.index("step 200") < chosen.index("</tr>")
    reports = place.at("train", "f" * 16, "reports")
    assert reports.get_bytes("decision.html") == page.encode()
    said = (tmp_path / "best" / "decision.md").read_text(encoding="utf-8")
    assert reports.get_bytes("decision.md") == said.encode()
    assert not (tmp_path / "best" / SAMPLES).exists(), "no images were kept"
    assert json.loads(reports.get_bytes("decision.json") or b"") == dataclasses.asdict(decision)
    assert said.splitlines()[2].startswith("**Step 200 is the best checkpoint")
    assert "| **step 200** |" in said
    assert decision.runner_up == 300
    assert decision.rejected["base"] == "step 200 is surely better"
    for why in decision.rejected.values():
        assert why in said
        assert why in page


def test_result_for_the_pipeline_s_ui(tmp_path: Path, place: Store) -> None:
    written(tmp_path, kd(*USUAL))
    result = select_best(
        SelectBestConfig(), tmp_path / "metrics", tmp_path / "checkpoints", place.uri, tmp_path / "b", tmp_path / "d"
    )
    assert result.metadata["best"] == {
        "step": 200, "metric": "kd_lite0", "value": 0.02, "improved": "true", "against_published": "",
    }  # fmt: skip


def test_a_refusal_is_in_the_store_before_the_step_fails(
    tmp_path: Path, place: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, kd(*USUAL))
    with pytest.raises(UserError, match="no checkpoint is left to choose from"):
        run(tmp_path, place, SelectBestConfig(constraints={"kd_lite0": "<0.001"}))
    address = f"{place.uri}/train/{'f' * 16}/reports/decision.html"
    assert f"decision: {address}" in capsys.readouterr().out
    page = (place.at("train", "f" * 16, "reports").get_bytes("decision.html") or b"").decode()
    assert "No checkpoint was chosen" in page
    assert "kd_lite0 is 80.0 [60.0, 100.0], and has to be &lt; 1" in page
    assert not (tmp_path / "best").exists()
    assert not (tmp_path / "decision.html").exists()


def test_a_kept_base_is_a_decision_too(tmp_path: Path, place: Store) -> None:
    written(tmp_path, kd((0.02, 0.01, 0.03), *USUAL[1:]))
    decision = run(tmp_path, place)
    assert (decision.step, decision.improved) == (0, False)
    assert decision.chosen == decision.base


@pytest.mark.parametrize(
    ("steps", "digest", "said"),
    [((0, 100, 200), "d", r"steps \[300\] are not in the index"), ((0, 100, 200, 300), "e", "the crops differ")],
)
def test_metrics_of_another_run(tmp_path: Path, place: Store, steps: tuple[int, ...], digest: str, said: str) -> None:
    written(tmp_path, kd(*USUAL), steps, digest)
    with pytest.raises(UserError, match=f"another training run .*{said}.* run evaluate again"):
        run(tmp_path, place)
    assert not (tmp_path / "best").exists()
    assert list(place.list()) == []


def test_missing_and_damaged_metrics(tmp_path: Path, place: Store) -> None:
    written(tmp_path, kd(*USUAL))
    path = tmp_path / "metrics" / "metrics.json"
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics\.json: cannot be read as JSON"):
        run(tmp_path, place)
    path.unlink()
    with pytest.raises(UserError, match=r"metrics\.json: not found"):
        run(tmp_path, place)
