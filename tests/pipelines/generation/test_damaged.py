"""Damaged models and folders of images: a message, before anything is drawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file

from components import sampling
from components.errors import UserError
from pipelines.generation import command, nearest, plan
from pipelines.generation.source import Source, find
from tests.conftest import ROOT

BASE = ROOT / "pipelines" / "quickstart" / "base"


def edited(tmp_path: Path, file: str, key: str, value: object) -> Path:
    folder = Path(shutil.copytree(BASE, tmp_path / "model"))
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    return folder


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("vae/config.json", "block_out_channels", None),
        ("vae/config.json", "block_out_channels", 1),
        ("vae/config.json", "block_out_channels", []),
        ("vae/config.json", "block_out_channels", [8] * 5000),
        ("unet/config.json", "sample_size", None),
        ("unet/config.json", "sample_size", "x"),
        ("unet/config.json", "sample_size", {}),
        ("unet/config.json", "sample_size", -1),
        ("unet/config.json", "sample_size", 10**30),
        ("unet/config.json", "layers_per_block", 10**6),
        ("text_encoder/config.json", "num_hidden_layers", 10**6),
        ("unet/config.json", "in_channels", []),
    ],
)
def test_a_damaged_config_is_refused(file: str, key: str, value: object, tmp_path: Path) -> None:
    folder = edited(tmp_path, file, key, value)
    with pytest.raises(UserError, match=f"--model {folder}: "), find(str(folder), tmp_path) as source:
        plan.sampling(source, None, None, None)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("unet/config.json", "act_fn", 1),
        ("unet/config.json", "conv_in_kernel", None),
        ("vae/config.json", "layers_per_block", None),
        ("text_encoder/config.json", "hidden_size", "x"),
        ("scheduler/scheduler_config.json", "beta_end", "x"),
        ("scheduler/scheduler_config.json", "trained_betas", []),
        ("scheduler/scheduler_config.json", "prediction_type", "x"),
        ("scheduler/scheduler_config.json", "timestep_spacing", []),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(file: str, key: str, value: object, tmp_path: Path) -> None:
    folder = edited(tmp_path, file, key, value)
    with pytest.raises(UserError, match="cannot be loaded"):
        sampling.load(folder, "cpu")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_not_all_there_are_not_made_up(part: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BASE, tmp_path / "model"))
    file = next((folder / part).glob("*.safetensors"))
    tensors = load_file(file)
    lost = sorted(tensors)[0]
    del tensors[lost]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"{folder}/{part}: its weights lack 1 of the tensors .* \({lost}\)"):
        sampling.load(folder, "cpu")


def test_a_model_that_flows_instead_of_taking_noise_away_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BASE, tmp_path / "model"))
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    with pytest.raises(UserError, match="cannot be loaded .*FlowMatchEulerDiscreteScheduler without betas"):
        sampling.load(folder, "cpu")


@pytest.mark.parametrize(
    "said", ['{"num_inference_steps": "x"}', '{"num_inference_steps": 1e9}', '{"guidance_scale": []}']
)
def test_a_header_that_says_no_number_is_refused(said: str) -> None:
    source = Source("model", BASE, metadata={"defect_diffusion.generation": said, "modelspec.resolution": "64x64"})
    with pytest.raises(UserError, match="--model model: its header says "):
        plan.sampling(source, None, None, None)


@pytest.mark.parametrize(
    "record",
    [
        *(
            '{"identity":{}}',
            "[" * 100_000,
            "[]",
            "1",
            '{"identity":[],"prompts":{}}',
            '{"identity":{},"prompts":{"a":1}}',
        ),
        *('{"identity":{},"prompts":[]}', "{", "\udcff"),
    ],
)
def test_a_folder_whose_record_is_damaged_is_refused(record: str, tmp_path: Path) -> None:
    (tmp_path / "generate.json").write_text(record, errors="surrogateescape")
    with pytest.raises(UserError, match=f"--out {tmp_path}: generate.json .*; name another folder"):
        plan.open_folder(tmp_path, {"steps": 1}, {"dent": "a dent"})


def test_files_of_others_among_the_images_are_left_alone(tmp_path: Path) -> None:
    plan.open_folder(tmp_path, {"steps": 1}, {"dent": "a dent"})
    (tmp_path / "images" / "dent").mkdir(parents=True)
    for name in ("dent-000003.png", "mine.png", "dent-x.png", "dent-.png"):
        (tmp_path / "images" / "dent" / name).write_bytes(b"")
    assert [picture.seed for picture in command._present(tmp_path)] == [3]


@pytest.mark.parametrize("content", ["[]", "[" * 100_000, "{", '{"digest": ["x"]}'])
def test_crops_of_another_run_that_are_damaged_are_passed_over(content: str, tmp_path: Path) -> None:
    folder = tmp_path / ".local" / "artifacts" / "run" / "crop" / "crops"
    folder.mkdir(parents=True)
    (folder / "crops.json").write_text(content)
    assert nearest.crops_of("x", tmp_path) is None
