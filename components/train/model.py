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

from components.errors import UserError

#: Parts of a pipeline's folder that are needed; a safety checker or feature extractor is left behind.
COMPONENTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
WEIGHTED = ("text_encoder", "unet", "vae")


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


def check_folder(folder: Path) -> None:
    """Hold a folder to the supported layout before anything heavy is loaded.

    Raises:
        UserError: naming what is missing or not supported.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise UserError(f"{folder}: no model_index.json; base_model must be a diffusers folder of Stable Diffusion")
    try:
        name = json.loads(index.read_text(encoding="utf-8")).get("_class_name")
    except (ValueError, AttributeError):
        raise UserError(f"{index}: not valid JSON; copy the base model again") from None
    if name not in ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline"):
        raise UserError(
            f"{index}: the pipeline is a {name}; supported are Stable Diffusion 1.x and 2.x "
            "(StableDiffusionPipeline) and those of them that inpaint (StableDiffusionInpaintPipeline). SDXL, SD 3 "
            "and Flux are not"
        )
    missing = [part for part in COMPONENTS if not (folder / part).is_dir()]
    missing += [
        f"{part}/*.safetensors"
        for part in WEIGHTED
        if part not in missing and not any((folder / part).glob("*.safetensors"))
    ]
    if missing:
        raise UserError(f"{folder}: {', '.join(missing)} missing; weights must be safetensors, pickles are not loaded")


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


def files_of(folder: Path) -> list[Path]:
    """The files of a base model worth storing: configurations, tokenizer and float32 or half weights.

    Where a part has several weight files (variants such as ``.fp16.``, pickles beside safetensors),
    only the ones that `load` reads are kept.
    """
    kept = [folder / "model_index.json"]
    for part in COMPONENTS:
        for path in sorted((folder / part).rglob("*")):
            variant = ".fp16." in path.name or ".non_ema." in path.name
            if path.is_file() and path.suffix in (".json", ".txt", ".safetensors") and not variant:
                kept.append(path)
    return kept
