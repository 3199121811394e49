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
from safetensors import SafetensorError

from components.base_model import contents
from components.base_model.layout import WEIGHTED
from components.errors import UserError
from components.progress import log

# What diffusers and transformers raise over configurations and weights that they do not understand.
_UNLOADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    TypeError,
    AttributeError,
    LookupError,
    ZeroDivisionError,
    SafetensorError,
)


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


def load(folder: Path, place: str = "") -> BaseModel:
    """Load the base model from a checked folder, offline.

    Args:
        place: where the user has it, for messages; `folder`, if not given.

    Raises:
        UserError: for a model of another kind, for parts that do not fit their configuration or each other, and for
            weights that are no numbers.
    """
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    place = place or str(folder)
    unet = _weighted(UNet2DConditionModel, folder, "unet", place, torch_dtype=torch.float32)
    vae = _weighted(AutoencoderKL, folder, "vae", place, torch_dtype=torch.float32)
    text_encoder = _weighted(CLIPTextModel, folder, "text_encoder", place, dtype=torch.float32)
    tokenizer = _loaded(CLIPTokenizer, folder, "tokenizer", place)
    noise = _loaded(DDPMScheduler, folder, "scheduler", place)
    channels = vae.config.latent_channels
    if unet.config.in_channels not in (channels, 2 * channels + 1):
        raise UserError(
            f"{place}/unet: {unet.config.in_channels} input channels for latents of {channels}; supported are "
            f"{channels}, and {2 * channels + 1} for inpainting (latents, mask, masked latents)"
        )
    if noise.config.prediction_type not in ("epsilon", "v_prediction"):
        raise UserError(
            f"{place}/scheduler: prediction type {noise.config.prediction_type!r}; "
            "supported are epsilon and v_prediction"
        )
    _check_text(tokenizer, text_encoder, unet, place)
    return BaseModel(tokenizer, text_encoder, vae, unet, noise, {part: _config(folder / part) for part in WEIGHTED})


def _loaded(kind: Any, folder: Path, part: str, place: str, **how: Any) -> Any:
    """A part as `kind` loads it from the folder's own files."""
    try:
        return kind.from_pretrained(folder / part, local_files_only=True, **how)
    except _UNLOADABLE as error:
        said = " ".join(str(error).split()).replace(str(folder), place)
        raise UserError(
            f"{place}/{part}: cannot be loaded as {kind.__name__} ({type(error).__name__}: {said[:300]}); its files "
            "are damaged, or its weights and its config.json are not of one model: copy the base model again"
        ) from None


def _weighted(kind: Any, folder: Path, part: str, place: str, **how: Any) -> Any:
    """A part with weights, all of which the folder holds and which are numbers; in evaluation mode."""
    model, found = _loaded(kind, folder, part, place, use_safetensors=True, output_loading_info=True, **how)
    contents.refuse_missing(found["missing_keys"], f"{place}/{part}")
    if unused := sorted(found["unexpected_keys"]):
        log(f"{place}/{part}: {len(unused)} tensors are not used, its config.json knows none of them ({unused[0]}, …)")
    ends = ((name, torch.stack(weight.aminmax())) for name, weight in model.named_parameters())
    wrong = [name for name, least_and_most in ends if not torch.isfinite(least_and_most).all()]
    if wrong:
        raise UserError(
            f"{place}/{part}: {len(wrong)} tensors hold values that are no numbers ({wrong[0]}, …), so nothing can be "
            "learned from there; copy the base model again, or take it from another source"
        )
    return model.eval().requires_grad_(False)


def _check_text(tokenizer: Any, text_encoder: Any, unet: Any, place: str) -> None:
    """Hold the parts that text passes through to each other.

    Raises:
        UserError: naming those that do not fit.
    """
    length, width = text_encoder.config.max_position_embeddings, text_encoder.config.hidden_size
    problems = []
    if tokenizer.model_max_length > 1_000_000:  # what transformers takes for "not given"
        raise UserError(
            f"{place}/tokenizer: tokenizer_config.json gives no model_max_length; write the {length} of the text "
            "encoder there"
        )
    if tokenizer.model_max_length > length:
        problems.append(f"tokenizer: texts of {tokenizer.model_max_length} tokens, the text encoder takes {length}")
    if unet.config.cross_attention_dim != width:
        problems.append(f"unet: takes texts {unet.config.cross_attention_dim} wide, the text encoder makes {width}")
    if problems:
        raise UserError(
            *(f"{place}/{problem}; they are not of one model: copy the base model again" for problem in problems)
        )


def _config(part: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((part / "config.json").read_text(encoding="utf-8"))
    # The base's may be half; what is trained here is not.
    return {key: value for key, value in data.items() if key not in ("dtype", "torch_dtype")}
