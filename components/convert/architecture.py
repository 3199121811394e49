"""What a checkpoint is to other programs: its family, and where it leaves what they take for granted.

AUTOMATIC1111 and ComfyUI recognise a Stable Diffusion file by its tensors and build the network from a
fixed description of that family; what is not in a tensor's shape (heads, normalisation groups, the
scheduler) they take from there. A file that differs loads there with wrong results or not at all, and
without a word. diffusers builds from the configs instead, and loads all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.base_model import families
from components.convert.layout import Component, is_open_clip

#: What those programs take for granted of a family's configs, and what diffusers and transformers take a config to
#: mean that does not say it.
DEFAULTS: dict[Component, dict[str, Any]] = {
    "unet": {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "transformer_layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "act_fn": "silu",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "cross_attention_dim": 1280,
        "attention_head_dim": 8,
        "use_linear_projection": False,
    },
    "vae": {
        "block_out_channels": [64],
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 32,
        "scaling_factor": 0.18215,
    },
    "text_encoder": {
        "max_position_embeddings": 77,
        "vocab_size": 49408,
        "hidden_size": 512,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
    },
}


@dataclass(frozen=True)
class Architecture:
    """A checkpoint's family and how it differs from it."""

    name: str  #: as in ``modelspec.architecture``
    prediction: str  #: "epsilon" or "v_prediction"
    differences: tuple[str, ...]  #: config keys whose value the family does not have, with the value
    scheduler_notes: tuple[str, ...]  #: what a program that knows only the family must be told
    second: bool = False  #: of Stable Diffusion 2.x, by its text encoder

    @property
    def standard(self) -> bool:
        """Whether the networks are those of Stable Diffusion 1.x or 2.x, tensor for tensor."""
        return not self.differences


def recognise(configs: Mapping[Component, Mapping[str, Any]], scheduler: Mapping[str, Any]) -> Architecture:
    """The architecture of a checkpoint with these ``config.json`` and this scheduler config."""
    second = is_open_clip(configs["text_encoder"])
    prediction = scheduler.get("prediction_type", "epsilon")
    published = families.configuration(families.Family(2 if second else 1, inpaints=False), prediction)
    differences = [
        f"{component} {key} = {value}"
        for component in configs
        for key, default in DEFAULTS[component].items()
        if (value := configs[component].get(key, default)) != published[f"{component}/config.json"].get(key, default)
    ]
    if differences:
        name = "stable-diffusion-custom"
    elif second:
        name = "stable-diffusion-v2-768-v" if prediction == "v_prediction" else "stable-diffusion-v2-512"
    else:
        name = "stable-diffusion-v1"
    notes = []
    # Programs tell v-prediction in a 2.x file by themselves, never in a 1.x file.
    if prediction == "v_prediction" and not second:
        notes.append("v-prediction")
    if scheduler.get("rescale_betas_zero_snr"):
        notes.append("zero terminal SNR")
    return Architecture(name, prediction, tuple(differences), tuple(notes), second)
