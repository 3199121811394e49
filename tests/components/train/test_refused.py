"""Models and settings that cannot be trained, or not on this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from components.errors import SettingsError, UserError
from components.settings import decode
from components.storage import Store
from components.train import config as settings
from components.train import processes
from components.train.config import TrainConfig
from pipelines.config import load
from tests.components.train.actions import Train

pytestmark = pytest.mark.integration


def test_what_this_machine_lacks_is_said(run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="bitsandbytes"):
        run(use_8bit_adam=True)
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(tmp_path / "none"),))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    with pytest.raises(UserError, match=r"train\.compile: torch cannot compile for the cpu here"):
        run(compile=True)


def test_what_needs_a_gpu_is_refused_or_said_to_do_nothing(
    run: Train, place: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=r"train\.mixed_precision: fp16 needs a GPU.*set it to no or bf16"):
        run(mixed_precision="fp16")
    assert not [info for info in place.list() if "/train/" in info.key and "step-" in info.key]
    processes.accelerator(TrainConfig(allow_tf32=True))
    assert "allow_tf32 has no effect" in capsys.readouterr().out


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
    flow = tmp_path / "flow"
    shutil.copytree(tiny_base, flow)
    FlowMatchEulerDiscreteScheduler().save_pretrained(flow / "scheduler")
    with pytest.raises(UserError, match=r"scheduler_config\.json: a FlowMatchEulerDiscreteScheduler without betas"):
        run(base=flow)
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
        {"lr_scheduler": "polynomial", "learning_rate": 1e-7},
    ):
        with pytest.raises(ValueError, match=next(reversed(wrong))):
            TrainConfig(**wrong)


#: Setting → another value than its default, and what it counts with.
IDLE: dict[str, tuple[Any, dict[str, Any]]] = {
    "text_encoder_lr": (1e-6, {"train_text_encoder": True}),
    "lr_num_cycles": (3, {"lr_scheduler": "cosine_with_restarts"}),
    "lr_power": (2.0, {"lr_scheduler": "polynomial"}),
    "lora_rank": (16, {"use_lora": True}),
    "lora_alpha": (4.0, {"use_lora": True}),
    "lora_target_modules": (["to_q"], {"use_lora": True}),
    "lora_text_target_modules": (["q_proj"], {"use_lora": True, "train_text_encoder": True}),
    "ema_decay": (0.5, {"use_ema": True}),
    "class_prompt": ("a photo", {"with_prior_preservation": True}),
    "class_images": ("crops", {"with_prior_preservation": True, "class_prompt": "a photo"}),
    "num_class_images": (5, {"with_prior_preservation": True, "class_prompt": "a photo"}),
    "prior_loss_weight": (0.5, {"with_prior_preservation": True, "class_prompt": "a photo"}),
}


@pytest.mark.parametrize("name", IDLE)
def test_a_setting_that_would_do_nothing_is_refused(name: str) -> None:
    value, others = IDLE[name]
    with pytest.raises(SettingsError) as refused:
        decode(TrainConfig, {name: value}, "train")
    [problem] = refused.value.problems
    needed = next(key for key in others if key != "class_prompt")
    assert problem.startswith(f"train.{name}: has no effect without {needed}: ")
    # The default does no harm, and settings arrive complete; with what it needs, any value counts.
    default = TrainConfig.model_fields[name].default
    assert TrainConfig(**{name: default}) == TrainConfig()
    assert getattr(TrainConfig(**{name: value, **others}), name) == value
    for key in others:
        if key != "class_prompt":
            with pytest.raises(ValueError, match=key):
                TrainConfig(**{name: value, **{k: v for k, v in others.items() if k != key}})


def test_what_a_switch_that_is_given_turns_off_lies_idle() -> None:
    # As a flag over a file of settings has it: what the file gives cannot be left out.
    config = TrainConfig(use_ema=False, ema_decay=0.5, use_lora=False, lora_rank=16, with_prior_preservation=False)
    assert config == TrainConfig()
    assert TrainConfig(**config.model_dump()) == config
    quickstart = load("quickstart", ["train.use_ema=false"])
    assert quickstart.train.ema_decay == TrainConfig().ema_decay


def test_settings_that_would_do_nothing_are_reported_together() -> None:
    assert settings._COUNTS_WITH.keys() == IDLE.keys()
    with pytest.raises(SettingsError) as refused:
        decode(TrainConfig, {"ema_decay": 0.5, "num_class_images": 7, "learning_rate": 0.5}, "train")
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "train.ema_decay",
        "train.num_class_images",
    ]
    with pytest.raises(ValueError, match=r"num_class_images\n.*class_images: draw"):
        TrainConfig(with_prior_preservation=True, class_prompt="a", class_images="crops", num_class_images=7)


def test_complete_settings_are_taken_back() -> None:
    for given in (
        TrainConfig(),
        TrainConfig(use_ema=True, ema_decay=0.5, lr_scheduler="polynomial", lr_power=3.0),
        TrainConfig(use_lora=True, lora_rank=16, train_text_encoder=True, text_encoder_lr=1e-6),
    ):
        assert decode(TrainConfig, given.model_dump(mode="json"), "train") == given
        # As KFP hands them on: without what is null.
        assert decode(TrainConfig, given.model_dump(mode="json", exclude_none=True), "train") == given
