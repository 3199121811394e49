"""Low-rank adapters on the base model: added with peft, and named as they are published."""

from __future__ import annotations

from typing import Any

import torch

from components.errors import UserError
from components.train.config import TrainConfig
from components.train.model import BaseModel

_SUFFIX = ".default"


def targets(config: TrainConfig) -> dict[str, list[str]]:
    """Component → the modules that get an adapter."""
    text = {"text_encoder": config.lora_text_target_modules} if config.train_text_encoder else {}
    return {"unet": config.lora_target_modules, **text}


def add(base: BaseModel, config: TrainConfig) -> None:
    """Add trainable adapters to frozen components; the model computes what it did before.

    Raises:
        UserError: where peft is not installed, or no module of the name is in the component.
    """
    try:
        from peft import LoraConfig
    except ImportError:
        raise UserError("train.use_lora needs the package peft; install this project's extra 'torch'") from None
    # The adapters' first values are drawn from torch's own generator.
    torch.manual_seed(config.seed)
    for component, modules in targets(config).items():
        part: Any = getattr(base, component)
        names = [name for name, _ in part.named_modules()]
        unknown = [m for m in modules if not any(name == m or name.endswith(f".{m}") for name in names)]
        if unknown:
            raise UserError(f"train.lora target modules {', '.join(unknown)}: there are none in {component}")
        # peft's annotation asks for whole numbers, its arithmetic does not.
        alpha: Any = config.alpha
        part.add_adapter(LoraConfig(r=config.lora_rank, lora_alpha=alpha, target_modules=modules))


def published(name: str) -> str:
    """A trained parameter's name in a published file: without the adapter's."""
    return name.replace(f"{_SUFFIX}.weight", ".weight")


def ranks(config: TrainConfig) -> dict[str, dict[str, Any]]:
    """What a reader must know of each component's adapters."""
    return {
        component: {"r": config.lora_rank, "lora_alpha": config.alpha, "target_modules": modules}
        for component, modules in targets(config).items()
    }
