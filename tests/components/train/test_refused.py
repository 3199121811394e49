"""Models and settings that cannot be trained, or not on this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.storage import Store
from components.train.config import TrainConfig
from tests.components.train.actions import Train

pytestmark = pytest.mark.integration


def test_what_this_machine_lacks_is_said(run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="bitsandbytes"):
        run(use_8bit_adam=True)
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(tmp_path / "none"),))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    with pytest.raises(UserError, match=r"train\.compile: torch cannot compile for the cpu here"):
        run(compile=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lora_target_modules": ["to_q", "to_nothing"]}, "'to_nothing' is no module of unet"),
        ({"lora_target_modules": ["norm1"]}, "'norm1' is (LayerNorm|GroupNorm) in unet"),
        ({"lora_target_modules": ["attn1"]}, "'attn1' is Attention in unet; .*: conv, .*to_k, to_out.0, to_q, to_v"),
        ({"lora_target_modules": [""]}, "'' is UNet2DConditionModel in unet"),
        ({"lora_text_target_modules": ["mlp"]}, "lora_text_target_modules: 'mlp' is CLIPMLP in text_encoder"),
        (
            {"lora_text_target_modules": ["token_embedding"]},
            "'token_embedding' is Embedding in text_encoder; .*: fc1, ",
        ),
    ],
)
def test_modules_that_no_update_can_be_added_to_are_refused(
    settings: dict[str, Any], said: str, run: Train, place: Store
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        run(use_lora=True, train_text_encoder=True, **settings)
    assert len(caught.value.problems) == 1
    assert not [info for info in place.list() if "step-" in info.key]


def edited(base: Path, folder: Path, file: str, change: Callable[[dict[str, Any]], None]) -> Path:
    shutil.copytree(base, folder)
    data = json.loads((folder / file).read_text())
    change(data)
    (folder / file).write_text(json.dumps(data))
    return folder


def test_models_that_cannot_be_trained_are_refused_by_name(
    run: Train, tiny_base: Path, tmp_path: Path, place: Store
) -> None:
    def named(name: str) -> Callable[[dict[str, Any]], None]:
        return lambda data: data.update(_class_name=name)

    sdxl = edited(tiny_base, tmp_path / "xl", "model_index.json", named("StableDiffusionXLPipeline"))
    with pytest.raises(UserError, match=r"StableDiffusionXLPipeline; supported are Stable Diffusion 1\.x and 2\.x"):
        run(base=sdxl)
    sample = edited(
        tiny_base,
        tmp_path / "sample",
        "scheduler/scheduler_config.json",
        lambda data: data.update(prediction_type="sample"),
    )
    with pytest.raises(UserError, match="'sample'"):
        run(base=sample)
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny_base, pickled)
    for file in (pickled / "unet").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(UserError, match="safetensors"):
        run(base=pickled)
    with pytest.raises(UserError, match=r"no model_index\.json"):
        run(base=tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        run(base=tmp_path / "nowhere")
    assert not [info for info in place.list() if "train/" in info.key]


def test_settings_refuse_what_cannot_work() -> None:
    for wrong in (
        {"max_train_steps": 0},
        {"learning_rate": 0},
        {"ema_decay": 1.0},
        {"max_train_steps": 10, "checkpointing_steps": 11},
        {"max_train_steps": 10, "checkpointing_steps": 5, "lr_warmup_steps": 10},
        {"lr_scheduler": "sudden"},
    ):
        with pytest.raises(ValueError, match=next(reversed(wrong))):
            TrainConfig(**wrong)
