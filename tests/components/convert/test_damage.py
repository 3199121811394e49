"""Files that are damaged after they were written: the comparison with the checkpoint finds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.convert import verify
from components.convert.mismatch import Mismatch
from components.convert.source import Source
from tests.components.convert.files import change, convert


@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.out.2.bias",
        "first_stage_model.decoder.conv_out.weight",
        "cond_stage_model.transformer.text_model.final_layer_norm.weight",
    ],
)
def test_one_changed_value_is_found(checkpoint: Path, tmp_path: Path, name: str) -> None:
    file, companion, entries = convert(checkpoint, tmp_path)
    change(file, lambda t: t[name].view(-1)[:1].add_(0.25))
    verify.check_header(file, entries)
    with Source(checkpoint) as source, pytest.raises(Mismatch, match="1 tensors differ"):
        verify.compare_tensors(file, companion, source, "fp16")


@pytest.mark.parametrize(
    "name",
    ["cond_stage_model.transformer.text_model.final_layer_norm.weight", "model.diffusion_model.out.2.bias"],
)
def test_a_missing_tensor_is_found_by_header_and_by_loading(checkpoint: Path, tmp_path: Path, name: str) -> None:
    file, companion, entries = convert(checkpoint, tmp_path)
    change(file, lambda t: t.pop(name))
    with pytest.raises(Mismatch, match=rf"1 missing \({name}\)"):
        verify.check_header(file, entries)
    with Source(checkpoint) as source, pytest.raises(Mismatch):
        verify.compare_tensors(file, companion, source, "fp16")


def test_a_file_cut_short_is_found(checkpoint: Path, tmp_path: Path) -> None:
    file, _, entries = convert(checkpoint, tmp_path)
    with file.open("r+b") as handle:
        handle.truncate(file.stat().st_size - 1)
    with pytest.raises(Mismatch, match="by its header"):
        verify.check_header(file, entries)


def test_another_scheduler_is_found_by_the_images(checkpoint: Path, tmp_path: Path) -> None:
    file, companion, _ = convert(checkpoint, tmp_path)
    path = companion / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "epsilon"}))
    with pytest.raises(Mismatch, match="of 255 levels"):
        verify.compare_images(file, companion, checkpoint, "fp16", "a photo")
