"""Small Stable Diffusion checkpoints with random weights: real architecture, written as diffusers does; and a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.storage import Store
from tests.tiny_model import write_tokenizer

from .runs import Run

MakeCheckpoint = Callable[..., Path]


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """Write a checkpoint; keyword arguments override the UNet's, autoencoder's and text encoder's config."""

    def make(
        unet: dict | None = None,
        vae: dict | None = None,
        text: dict | None = None,
        shard_size: str = "10GB",
        dtype: torch.dtype = torch.float32,
    ) -> Path:
        from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

        tokenizer = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
        size = write_tokenizer(tokenizer)
        torch.manual_seed(7)
        levels = len((vae or {}).get("block_out_channels", "1234"))
        pipeline: Any = StableDiffusionPipeline(
            unet=UNet2DConditionModel(
                **{
                    "sample_size": 8,
                    "block_out_channels": (16, 32, 32, 32),
                    "layers_per_block": 2,
                    "cross_attention_dim": 32,
                    "attention_head_dim": 4,
                    "norm_num_groups": 8,
                    **(unet or {}),
                }
            ),
            vae=AutoencoderKL(
                **{
                    "block_out_channels": (8, 16, 16, 16),
                    "down_block_types": ["DownEncoderBlock2D"] * levels,
                    "up_block_types": ["UpDecoderBlock2D"] * levels,
                    "layers_per_block": 1,
                    "norm_num_groups": 8,
                    "sample_size": 64,
                    **(vae or {}),
                }
            ),
            text_encoder=CLIPTextModel(
                CLIPTextConfig(
                    **{
                        "vocab_size": size,
                        "hidden_size": 32,
                        "intermediate_size": 64,
                        "num_hidden_layers": 2,
                        "num_attention_heads": 2,
                        "bos_token_id": size - 2,
                        "eos_token_id": size - 1,
                        "pad_token_id": size - 1,
                        **(text or {}),
                    }
                )
            ),
            tokenizer=CLIPTokenizer.from_pretrained(tokenizer),
            scheduler=DDIMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                prediction_type="v_prediction",
                rescale_betas_zero_snr=True,
                timestep_spacing="trailing",
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            part.to(dtype)
        folder = tmp_path_factory.mktemp("checkpoint")
        pipeline.save_pretrained(folder, max_shard_size=shard_size)
        return folder

    return make


@pytest.fixture(scope="session")
def checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    """A checkpoint at four levels of two layers, in float32; treat it as read-only."""
    return make_checkpoint()


@pytest.fixture
def run(store: Store, checkpoint: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    name = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    own = store.at("convert", name)
    own.at("train/run/base").put_tree(checkpoint)
    trained = tmp_path / "trained" / "unet"
    trained.mkdir(parents=True)
    tensors = load_file(checkpoint / "unet" / "diffusion_pytorch_model.safetensors")
    save_file({key: value * 1.01 for key, value in tensors.items()}, trained / "diffusion_pytorch_model.safetensors")
    (trained / "config.json").write_bytes((checkpoint / "unet" / "config.json").read_bytes())
    own.at("train/run/step-000100").put_tree(tmp_path / "trained")
    made = Run(own, tmp_path / "best", tmp_path / "outputs")
    made.choose(100)
    return made
