"""What a published model says of itself, as the strings of a ``.safetensors`` header.

Keys ``modelspec.*`` follow the Stability AI Model Metadata Standard 1.0.0, which AUTOMATIC1111,
ComfyUI and sd-scripts show; ``defect_diffusion.*`` are this project's, JSON where they hold more than
a word. There is no date in here: equal input gives an equal file, byte for byte.
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

from components.artifacts import CheckpointIndex, Decision, TrainedOn
from components.convert.architecture import Architecture
from components.convert.config import ConvertConfig
from components.images import VERSION


@dataclass(frozen=True)
class Facts:
    """All that the model's descriptions are made from."""

    name: str
    config: ConvertConfig
    decision: Decision
    index: CheckpointIndex
    architecture: Architecture
    scheduler: dict[str, Any]  #: the scheduler's config

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
        return named if is_hub_name(named) else re.split(r"[/\\]", named.rstrip("/\\"))[-1]


def is_hub_name(name: str) -> bool:
    """Whether `name` reads as a repository of the Hugging Face hub: ``owner/name``."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None


def code_version() -> str:
    """The version of this project that is running: as installed, or of the sources where it is not, as in an image."""
    try:
        return importlib.metadata.version("defect-diffusion")
    except importlib.metadata.PackageNotFoundError:
        return VERSION


def header_metadata(facts: Facts) -> dict[str, str]:
    """The ``__metadata__`` of the file: names and values are strings, as the format demands."""
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


def _finite(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's configuration without infinities, which are no JSON: diffusers writes one into DPM-Solver's."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in scheduler.items()
    }


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
