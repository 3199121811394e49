"""What a published model says of itself, as the strings of a ``.safetensors`` header.

Keys ``modelspec.*`` follow the Stability AI Model Metadata Standard 1.0.0, which AUTOMATIC1111,
ComfyUI and sd-scripts show; ``ss_*`` are what sd-scripts write into a LoRA and AUTOMATIC1111 and managers of LoRAs
read there; ``defect_diffusion.*`` are this project's, JSON where they hold more than a word. There is no date in here:
equal input gives an equal file, byte for byte.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components import hub
from components.adapters import Adapter
from components.artifacts import CheckpointIndex, Decision, TrainedOn
from components.convert.architecture import Architecture
from components.convert.config import ConvertConfig
from components.convert.layout import COMPONENTS, Component
from components.images import VERSION
from components.models.catalog import LORA


@dataclass(frozen=True)
class Facts:
    """All that the model's descriptions are made from."""

    name: str
    config: ConvertConfig
    decision: Decision
    index: CheckpointIndex
    architecture: Architecture
    scheduler: dict[str, Any]  #: the scheduler's config
    adapter: Adapter | None = None  #: the updates that a LoRA checkpoint is
    has_samples: bool = False  #: whether there is a picture of what it draws

    @property
    def has_whole(self) -> bool:
        """Whether the model is published as one file that every program loads."""
        return self.adapter is None or self.config.lora != "kohya"

    @property
    def has_lora(self) -> bool:
        """Whether a LoRA is published."""
        return self.adapter is not None and self.config.lora != "merged"

    @property
    def components(self) -> tuple[Component, ...]:
        """What is in the whole model's file."""
        return tuple(component for component in COMPONENTS if component != "vae" or self.config.include_vae)

    def whole_name(self, version: str) -> str:
        """Path of the whole model's file in the published tree."""
        return f"{self.name}-{version}.{self.config.format}"

    def lora_name(self, version: str) -> str:
        """Path of the LoRA in the published tree: in a folder of its own beside a whole model."""
        return f"{'lora/' if self.has_whole else ''}{self.name}-{version}{LORA}"

    def file(self, version: str) -> str:
        """Path of the file that the version is about."""
        return self.whole_name(version) if self.has_whole else self.lora_name(version)

    @property
    def title(self) -> str:
        return self.config.title or self.name

    @property
    def trained_on(self) -> TrainedOn | None:
        """What it was made from; None where the decision does not say it all, as those of earlier releases."""
        known = {**self.decision.crops, "base_revision": self.index.base_revision}
        names = [field.name for field in dataclasses.fields(TrainedOn)]
        return TrainedOn(**{name: known[name] for name in names}) if all(map(known.get, names)) else None

    @property
    def base_name(self) -> str:
        """The base model without the folders in which it happened to lie."""
        named = self.index.base_model
        if named.startswith(hub.SCHEME):
            return hub.parse(named).name
        return named if hub.is_name(named) else re.split(r"[/\\]", named.rstrip("/\\"))[-1]


def code_version() -> str:
    """The version of this project that is running: as installed, or of the sources where it is not, as in an image."""
    try:
        return importlib.metadata.version("defect-diffusion")
    except importlib.metadata.PackageNotFoundError:
        return VERSION


def header_metadata(facts: Facts) -> dict[str, str]:
    """The ``__metadata__`` of the whole model's file: names and values are strings, as the format demands."""
    index, decision = facts.index, facts.decision
    made = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": facts.architecture.name,
        "modelspec.implementation": "https://github.com/CompVis/stable-diffusion",
        "modelspec.title": facts.title,
        "modelspec.description": facts.config.description,
        "modelspec.license": facts.config.licence,
        "modelspec.resolution": f"{index.resolution}x{index.resolution}",
        "modelspec.prediction_type": "v" if facts.architecture.prediction == "v_prediction" else "epsilon",
        "modelspec.trigger_phrase": "; ".join(index.prompts[name] for name in sorted(index.prompts)),
        "modelspec.tags": "defect-diffusion, dreambooth",
        "defect_diffusion.base_model": facts.base_name,
        "defect_diffusion.base_revision": index.base_revision,
        "defect_diffusion.step": str(decision.step),
        "defect_diffusion.crops_digest": index.crops_digest,
        "defect_diffusion.fingerprint": index.fingerprint,
        "defect_diffusion.prompts": _json(index.prompts),
        "defect_diffusion.metrics": _json(
            {
                "chosen": decision.chosen.get("metrics", {}),
                "base": decision.base.get("metrics", {}),
                "floor": decision.floor,
            }
        ),
        "defect_diffusion.generation": _json(decision.generation),
        "defect_diffusion.scheduler": _json(_finite(facts.scheduler)),
        "defect_diffusion.dtype": facts.config.dtype,
        "defect_diffusion.code_version": code_version(),
    }
    return {key: value for key, value in made.items() if value}


def lora_metadata(facts: Facts) -> dict[str, str]:
    """The ``__metadata__`` of the LoRA's file.

    Raises:
        ValueError: for a checkpoint that is no LoRA.
    """
    adapter, settings, architecture = facts.adapter, facts.index.settings, facts.architecture
    if adapter is None:
        raise ValueError(f"{facts.name} is no LoRA")
    component = min(adapter.updates)  # all components have the same rank
    second, v = architecture.second, architecture.prediction == "v_prediction"
    trained = {
        "ss_learning_rate": settings.get("learning_rate"),
        "ss_unet_lr": settings.get("learning_rate"),
        "ss_text_encoder_lr": settings.get("text_encoder_lr"),
        "ss_lr_scheduler": settings.get("lr_scheduler"),
        "ss_lr_warmup_steps": settings.get("lr_warmup_steps"),
        "ss_max_train_steps": settings.get("max_train_steps"),
        "ss_gradient_accumulation_steps": settings.get("gradient_accumulation_steps"),
        "ss_gradient_checkpointing": settings.get("gradient_checkpointing"),
        "ss_max_grad_norm": settings.get("max_grad_norm"),
        "ss_mixed_precision": settings.get("mixed_precision"),
        "ss_noise_offset": settings.get("noise_offset"),
        "ss_min_snr_gamma": settings.get("snr_gamma"),
        "ss_seed": settings.get("seed"),
    }
    counts: Mapping[str, Mapping[str, int]] = facts.decision.crops.get("counts") or {}
    tags = {name: {prompt: counts.get(name, {}).get("train", 0)} for name, prompt in facts.index.prompts.items()}
    made = {
        "ss_output_name": facts.name,
        "ss_network_module": "networks.lora",
        "ss_network_dim": adapter.rank(component),
        "ss_network_alpha": adapter.alpha(component),
        "ss_base_model_version": f"sd_{'v2' if second else 'v1'}{'_v' if v else ''}",
        "ss_v2": second,
        "ss_sd_model_name": facts.base_name,
        "ss_steps": facts.decision.step,
        "ss_resolution": f"({facts.index.resolution}, {facts.index.resolution})",
        "ss_num_train_images": sum(split.get("train", 0) for split in counts.values()) or None,
        "ss_tag_frequency": _json(tags),
        "ss_zero_terminal_snr": bool(facts.scheduler.get("rescale_betas_zero_snr")),
        **trained,
        "modelspec.architecture": f"{architecture.name}/lora",
        "modelspec.implementation": "diffusers",
    }
    return {**header_metadata(facts), **{key: str(value) for key, value in made.items() if value is not None}}


def _finite(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's configuration without infinities, which are no JSON: diffusers writes one into DPM-Solver's."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in scheduler.items()
    }


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
