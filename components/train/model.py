"""The base model: loaded, checked to be of a kind that can be trained here, and described.

Supported are Stable Diffusion 1.x and 2.x pipelines in diffusers' folder layout with safetensors
weights: one CLIP text encoder, a UNet of 4 channels or of 9 (inpainting), epsilon or v-prediction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from components.base_model.layout import WEIGHTED
from components.errors import UserError


@dataclass
class BaseModel:
    """The parts of a Stable Diffusion pipeline, float32, in evaluation mode."""

    tokenizer: Any
    text_encoder: Any
    vae: Any
    unet: Any
    noise: Any  #: DDPMScheduler with the base's own betas and prediction type
    configs: dict[str, dict[str, Any]]  #: component with weights → its ``config.json``, without a number type

    @property
    def inpaints(self) -> bool:
        """Whether the UNet takes a mask and what is left of the image beside the latents."""
        return bool(self.unet.config.in_channels > self.vae.config.latent_channels)


def load(folder: Path) -> BaseModel:
    """Load the base model from a checked folder, offline."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    weights = {"torch_dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", **weights)
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", **weights)
    channels = vae.config.latent_channels
    if unet.config.in_channels not in (channels, 2 * channels + 1):
        raise UserError(
            f"{folder}/unet: {unet.config.in_channels} input channels for latents of {channels}; supported are "
            f"{channels}, and {2 * channels + 1} for inpainting (latents, mask, masked latents)"
        )
    text_encoder = CLIPTextModel.from_pretrained(
        folder / "text_encoder", dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    noise = DDPMScheduler.from_pretrained(folder, subfolder="scheduler", local_files_only=True)
    if noise.config.prediction_type not in ("epsilon", "v_prediction"):
        raise UserError(
            f"{folder}/scheduler: prediction type {noise.config.prediction_type!r}; "
            "supported are epsilon and v_prediction"
        )
    for part in (unet, vae, text_encoder):
        part.eval().requires_grad_(False)
    return BaseModel(tokenizer, text_encoder, vae, unet, noise, {part: _config(folder / part) for part in WEIGHTED})


def _config(part: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((part / "config.json").read_text(encoding="utf-8"))
    # The base's may be half; what is trained here is not.
    return {key: value for key, value in data.items() if key not in ("dtype", "torch_dtype")}
