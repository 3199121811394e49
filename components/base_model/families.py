"""Which Stable Diffusion a single file holds, by the names and shapes of its tensors, and that family's configuration.

The sizes and schedules are those published for Stable Diffusion 1.5 and 2.1 and for the ones of them that inpaint
(Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", and the releases' own settings).
A file does not say whether Stable Diffusion 2.x predicts noise or v: that comes from beside it. Not covered: the
tokenizer, which is 1.5 MB of vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from components.base_model.layout import INDEX, SUPPORTED
from components.errors import UserError

Prediction = Literal["epsilon", "v_prediction"]

UNET = "model.diffusion_model."
_FIRST = f"{UNET}input_blocks.0.0.weight"
_CONTEXT = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_OPEN_CLIP = "cond_stage_model.model."
_TEXT_NAMES, _VAE_NAMES = ("cond_stage_model.transformer.", _OPEN_CLIP), "first_stage_model."

#: Beginning of a tensor's name, as the file's or below `UNET` → what such a file is.
_OTHERS = {
    "conditioner.embedders.": "Stable Diffusion XL",
    "joint_blocks.": "Stable Diffusion 3",
    "double_blocks.": "Flux",
    "down_blocks.": "one network of a diffusers folder (give the folder)",
    "text_model.": "a text encoder alone",
    "lora_unet_": "a LoRA update, not a model",
    "unet.down_blocks.": "a LoRA update, not a model",
    "encoder.": "an autoencoder alone",
    "control_model.": "a ControlNet",
}


@dataclass(frozen=True)
class Family:
    """A generation of Stable Diffusion, with or without the channels to inpaint."""

    generation: Literal[1, 2]
    inpaints: bool

    def __str__(self) -> str:
        return f"Stable Diffusion {self.generation}.x{' inpainting' if self.inpaints else ''}"


def recognised(shapes: Mapping[str, Sequence[int]], file: str) -> Family:
    """The family of a file in the original key layout.

    Args:
        shapes: tensor name → shape.
        file: for messages.

    Raises:
        UserError: naming what else the file holds, where that is known, and what is supported.
    """
    if _FIRST not in shapes or _CONTEXT not in shapes:
        kinds = (what for begin, what in _OTHERS.items() if any(n.removeprefix(UNET).startswith(begin) for n in shapes))
        raise UserError(f"{file}: {next(kinds, 'no Stable Diffusion in its original layout')}; {SUPPORTED}")
    missing = [
        what
        for what, begins in (("autoencoder", _VAE_NAMES), ("text encoder", _TEXT_NAMES))
        if not any(name.startswith(begins) for name in shapes)
    ]
    if missing:
        raise UserError(f"{file}: holds no {' and no '.join(missing)}; give a file with the whole model")
    channels = shapes[_FIRST][1]
    if channels not in (4, 9):
        raise UserError(f"{file}: its UNet takes {channels} channels (4, or 9 to inpaint, are known); {SUPPORTED}")
    return Family(2 if any(name.startswith(_OPEN_CLIP) for name in shapes) else 1, channels == 9)


def check_sizes(shapes: Mapping[str, Sequence[int]], family: Family, file: str) -> None:
    """Refuse a file whose networks are of other sizes than the published ones, which `write` describes.

    Raises:
        UserError: asking for the file's own configuration.
    """
    found = (shapes[_FIRST][0], shapes[_CONTEXT][1])
    published = (_UNET_CONFIG["block_out_channels"][0], _TEXT_WIDTH[family.generation])
    if found != published:
        raise UserError(
            f"{file}: {family} has {published[0]} channels and {published[1]} text features, this file {found[0]} and "
            f"{found[1]}; put its configuration, a diffusers folder without weights, beside it as config/"
        )


def write(folder: Path, family: Family, prediction: Prediction) -> None:
    """Write the family's configuration as a diffusers folder without weights and tokenizer."""
    for part, config in configuration(family, prediction).items():
        path = folder / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def configuration(family: Family, prediction: Prediction) -> dict[str, dict[str, Any]]:
    """Path of a JSON file in a diffusers folder → its content."""
    second, v = family.generation == 2, prediction == "v_prediction"
    unet = {
        **_UNET_CONFIG,
        "in_channels": 9 if family.inpaints else 4,
        "cross_attention_dim": _TEXT_WIDTH[family.generation],
        # Heads of a level in the first generation, each 64 wide in the second.
        "attention_head_dim": [5, 10, 20, 20] if second else 8,
        "use_linear_projection": second,
        "upcast_attention": second and v,
        "sample_size": 96 if v else 64,
    }
    return {
        INDEX: {
            "_class_name": "StableDiffusionInpaintPipeline" if family.inpaints else "StableDiffusionPipeline",
            "feature_extractor": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", _SCHEDULER["_class_name"]],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
        "scheduler/scheduler_config.json": {**_SCHEDULER, "prediction_type": prediction},
        "text_encoder/config.json": _OPEN_CLIP_TEXT if second else _CLIP_TEXT,
        "unet/config.json": unet,
        "vae/config.json": {**_VAE, "sample_size": 768 if v else 512},
    }


_TEXT_WIDTH = {1: 768, 2: 1024}

_UNET_CONFIG: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 4,
}
_VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
}
_TEXT: dict[str, Any] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "layer_norm_eps": 1e-5,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
#: CLIP ViT-L/14's text encoder.
_CLIP_TEXT = {
    **_TEXT,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
    "pad_token_id": 49407,
}
#: OpenCLIP ViT-H/14's, without its last layer.
_OPEN_CLIP_TEXT = {
    **_TEXT,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 1024,
    "pad_token_id": 0,
}
_SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
