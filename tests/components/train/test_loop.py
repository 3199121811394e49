"""One optimizer step, held against the same step written out."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from components.train import data, model
from components.train.config import TrainConfig
from components.train.loop import Trainer


@pytest.mark.integration
@pytest.mark.parametrize("limit", [1e-3, 1e6], ids=["clipped", "not clipped"])
def test_a_step_is_adamw_on_clipped_gradients(tiny_base: Path, limit: float) -> None:
    config = TrainConfig(train_batch_size=2, learning_rate=1e-3, max_grad_norm=limit, adam_epsilon=1e-3)
    base = model.load(tiny_base)
    shape = (3, 1, 4, 8, 8)
    latents = data.LatentSet(torch.randn(shape), torch.rand(shape), torch.zeros(3, dtype=torch.int64), ["a photo"])
    trainer = Trainer(base, latents, config, Accelerator(cpu=True))
    reference = copy.deepcopy(base.unet)
    trainer._loss(0).backward()
    for mine, theirs in zip(base.unet.parameters(), reference.parameters()):
        theirs.grad, mine.grad = mine.grad, None
    norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), limit)
    torch.optim.AdamW(reference.parameters(), lr=1e-3, weight_decay=config.adam_weight_decay, eps=1e-3).step()
    _, found = trainer.step()
    torch.testing.assert_close(found, norm)
    for (name, mine), theirs in zip(base.unet.named_parameters(), reference.parameters()):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7, msg=name)
