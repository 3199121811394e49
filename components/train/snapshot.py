"""A training run at one step, copied out of the trainer: what is published and what a later attempt resumes from.

Copies lie in the host's memory, so that training goes on while they are written and sent. Files are those
that diffusers' and transformers' ``save_pretrained`` write. Not covered: where they go (`run`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from components.train.history import REMEDY, Diverged

#: Component → the name that its loader looks for.
_FILES = {"unet": "diffusion_pytorch_model.safetensors", "text_encoder": "model.safetensors"}

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Snapshot:
    """Copies of one step. `weights` and `state` share tensors where they are the same."""

    step: int
    images_seen: int
    weights: Mapping[str, Tensors] | None  #: component → name → tensor, to publish; None at no checkpoint
    state: dict[str, Any] | None  #: plain data and tensors; None where no state is due

    def check(self) -> None:
        """Raise Diverged where weights to publish are no numbers: a reader would find out hours later."""
        for component, tensors in (self.weights or {}).items():
            for name, tensor in tensors.items():
                if not torch.isfinite(tensor).all():
                    raise Diverged(
                        f"{component}.{name} is no number after step {self.step}: training diverged. {REMEDY}"
                    )


def copied(value: Any) -> Any:
    """`value` (nested dicts, lists and tuples) with every tensor replaced by a copy in the host's memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(item) for item in value)
    return value


def write_component(folder: Path, component: str, config: Mapping[str, Any], tensors: Tensors) -> None:
    """Write a component as its own ``from_pretrained`` reads it, below `folder`."""
    (folder / component).mkdir(parents=True)
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / component / "config.json").write_text(text, encoding="utf-8")
    save_file(tensors, folder / component / _FILES[component], metadata={"format": "pt"})
