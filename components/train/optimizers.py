"""AdamW and the course of its learning rate, as the settings want them."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.optimization import get_scheduler

from components.errors import UserError
from components.train.config import TrainConfig


def optimizer(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over parameter groups that have their own rates.

    Raises:
        UserError: for 8-bit moments without bitsandbytes or without a GPU.
    """
    settings: dict[str, Any] = {
        # Each group has its own; `polynomial` falls to the same absolute rate from whatever stands here.
        "lr": config.learning_rate,
        "betas": (config.adam_beta1, config.adam_beta2),
        "weight_decay": config.adam_weight_decay,
        "eps": config.adam_epsilon,
    }
    if config.use_8bit_adam:
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError:
            raise UserError(
                "train.use_8bit_adam: the package bitsandbytes is not installed; install it, or set it to false"
            ) from None
        if not torch.cuda.is_available():
            raise UserError("train.use_8bit_adam: needs a GPU, and there is none here; unset it")
        made: torch.optim.Optimizer = AdamW8bit(groups, **settings)
        return made
    # Fused: one pass over the parameters instead of one for each of AdamW's operations, the largest single
    # saving of a step at small batches, on CPU and GPU alike.
    return torch.optim.AdamW(groups, fused=True, **settings)


def schedule(optimizer: torch.optim.Optimizer, config: TrainConfig) -> Any:
    """The learning rate's course over `max_train_steps`, by optimizer step."""
    name = "constant_with_warmup" if config.lr_scheduler == "constant" else config.lr_scheduler
    return get_scheduler(
        name,
        optimizer,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=config.max_train_steps,
        num_cycles=config.lr_num_cycles,
        power=config.lr_power,
    )
