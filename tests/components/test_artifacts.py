"""Files that steps hand to each other, read back: complete and of the declared types, or refused by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from components.artifacts import CheckpointIndex, Crop, CropSet, Metrics, read_crops, read_json, write_crops
from components.errors import UserError
from components.executor_input import ExecutorInput
from tests.components.convert.examples import checkpoint_index, estimate, metrics

INDEX = dataclasses.asdict(checkpoint_index("s3://bucket/base-models/x", []))
MEASURED = {
    **{"schema": 1, "checkpoints": [metrics(0, "base", 0.1)], "floor": {"kd_lite0": estimate(0.1)}},
    **{"floor_per_class": {}, "higher_is_better": {}, "absent": {}, "extractor": {}, "generation": {}},
    "crops_digest": "c",
}


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (CheckpointIndex, INDEX | {"checkpoints": 5}, "checkpoints: .*valid array"),
        (CheckpointIndex, INDEX | {"checkpoints": [{"step": "0"}]}, r"checkpoints\.0"),
        (CheckpointIndex, INDEX | {"checkpoints": [{"step": 0, "uri": 3, "components": []}]}, r"checkpoints\.0"),
        (CheckpointIndex, INDEX | {"prompts": ["a"]}, "prompts: "),
        (Metrics, MEASURED | {"checkpoints": [{"step": 0}]}, r"checkpoints\.0"),
        (Metrics, MEASURED | {"checkpoints": [metrics(0, "base", 0.1) | {"metrics": {"x": 1}}]}, r"checkpoints\.0"),
        (Metrics, MEASURED | {"floor": {"kd_lite0": {"value": "small"}}}, r"floor\.kd_lite0"),
        (Metrics, MEASURED | {"floor": {"kd_lite0": {"value": float("nan")}}}, "not JSON compliant|Out of range"),
        (CropSet, {"schema": 1}, "resolution: Field required"),
    ],
)
def test_what_is_of_another_type_is_refused_where_it_is_read(
    kind: type, content: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "it.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"it\.json: not a complete {kind.__name__} \({message}"):
        read_json(tmp_path / "it.json", kind)


def test_what_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    (tmp_path / "it.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="nested too deeply"):
        read_json(tmp_path / "it.json", Metrics)


def test_what_was_measured_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "it.json").write_text(json.dumps(MEASURED | {"of a later release": 1}))
    found = read_json(tmp_path / "it.json", Metrics)
    assert found.checkpoints == MEASURED["checkpoints"]
    assert found.rows()[0].label == "base"


def test_names_may_hold_what_ends_a_line_elsewhere(tmp_path: Path) -> None:
    crop = Crop("a.png", "one\u2028two\x85three\x1cfour\nfive", "d\u2029", "s", (0, 0, 8, 8), (1, 1, 4, 4))
    write_crops(tmp_path, "train", [crop, crop])
    assert read_crops(tmp_path, "train") == [crop, crop]


@pytest.mark.parametrize("name", ["../outside.png", "/etc/passwd", "a/../../b", "", "a\0b", "C:\\x"])
@pytest.mark.parametrize("key", ["file_name", "mask_file_name"])
def test_a_crop_outside_its_folder_is_refused(key: str, name: str, tmp_path: Path) -> None:
    crop = {
        "file_name": "a.png",
        "text": "t",
        "defect": "d",
        "source": "s",
        "window": [0, 0, 8, 8],
        "box": [1, 1, 4, 4],
    }
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metadata.jsonl").write_text(json.dumps(crop) + "\n" + json.dumps(crop | {key: name}) + "\n")
    with pytest.raises(UserError, match=rf"metadata\.jsonl: not a complete Crop \({key}"):
        read_crops(tmp_path, "train")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[" * 100_000,
        '{"outputs": {"outputFile": "/tmp/x"}, "inputs": {"parameterValues": [1]}}',
        '{"outputs": {"outputFile": 3}}',
        '{"outputs": {"outputFile": "a\\u0000b"}}',
        '{"outputs": {"outputFile": "/tmp/x", "artifacts": {"a": {"artifacts": [{"name": "a"}]}}}}',
        '{"outputs": {"outputFile": "/tmp/x", "artifacts": {"a": {"artifacts": [{"uri": 7}]}}}}',
    ],
)
def test_what_is_no_executor_input_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="not a KFP ExecutorInput"):
        ExecutorInput.parse(text)
