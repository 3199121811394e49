"""What depends on the kind of device: how tensors lie in memory, what is done ahead, how exact arithmetic is."""

from __future__ import annotations

import os

import torch

from components.train.config import TrainConfig


def memory_format(config: TrainConfig, device: torch.device) -> torch.memory_format:
    """How the weights of convolutions lie in memory, which what they compute takes over."""
    # bitsandbytes puts weights that lie otherwise into new memory, where the average of weights would not see them.
    usual = device.type == "cuda" and not config.use_8bit_adam
    chosen = usual if config.channels_last is None else config.channels_last
    return torch.channels_last if chosen else torch.contiguous_format


def ahead(config: TrainConfig, device: torch.device) -> bool:
    """Whether a batch is made while the step before it computes."""
    return device.type == "cuda" if config.prefetch is None else config.prefetch


def set_arithmetic(config: TrainConfig) -> None:
    """Have torch compute as the settings want it; before anything is computed on a GPU."""
    torch.backends.cuda.matmul.allow_tf32 = config.allow_tf32
    torch.backends.cudnn.deterministic = config.deterministic
    if config.deterministic:
        # What torch asks for: cuBLAS reads it when it begins.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)
