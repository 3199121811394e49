"""Low-rank adapters on the base model: added with peft, and named as they are published."""

from __future__ import annotations

from typing import Any

import torch

from components.errors import UserError
from components.train.config import TrainConfig
from components.train.model import BaseModel

_SUFFIX = ".default"
#: What `components.adapters` adds updates to; peft knows more kinds.
_UPDATED = (torch.nn.Linear, torch.nn.Conv2d)
_SETTINGS = {"unet": "lora_target_modules", "text_encoder": "lora_text_target_modules"}


def targets(config: TrainConfig) -> dict[str, list[str]]:
    """Component → the modules that get an adapter."""
    text = {"text_encoder": config.lora_text_target_modules} if config.train_text_encoder else {}
    return {"unet": config.lora_target_modules, **text}


def check(base: BaseModel, config: TrainConfig) -> None:
    """Refuse target modules that cannot be updated, or whose updates no reader here would add to the weights.

    Raises:
        UserError: naming each, what it is, and what may be given.
    """
    problems = []
    for component, modules in targets(config).items():
        parts = dict(getattr(base, component).named_modules())
        may_be = sorted({_last(name) for name, part in parts.items() if isinstance(part, _UPDATED)})
        for module in modules:
            found = [part for name, part in parts.items() if name == module or name.endswith(f".{module}")]
            other = next((type(part).__name__ for part in found if not isinstance(part, _UPDATED)), None)
            if not found or other is not None:
                what = f"is {other} in {component}" if other else f"is no module of {component}"
                problems.append(
                    f"train.{_SETTINGS[component]}: {module!r} {what}; give names of linear layers and convolutions: "
                    f"{', '.join(may_be)}"
                )
    if problems:
        raise UserError(*problems)


def _last(name: str) -> str:
    """What is enough of a module's name: of ``….to_out.0`` the last two parts, since a number alone says nothing."""
    *_, parent, own = f".{name}".split(".")
    return f"{parent}.{own}" if own.isdigit() else own


def add(base: BaseModel, config: TrainConfig) -> None:
    """Add trainable adapters to frozen components; the model computes what it did before.

    Raises:
        UserError: where peft is not installed, and as `check` does.
    """
    try:
        from peft import LoraConfig
    except ImportError:
        raise UserError("train.use_lora needs the package peft; install this project's extra 'torch'") from None
    check(base, config)
    # The adapters' first values are drawn from torch's own generator.
    torch.manual_seed(config.seed)
    for component, modules in targets(config).items():
        part: Any = getattr(base, component)
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
