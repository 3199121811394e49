"""One optimizer step, held against the same step written out, and class images in batches that a GPU holds."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from components.train import data, model, prior
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


@pytest.mark.integration
def test_class_images_are_drawn_as_many_at_once_as_their_pixels_allow(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, batches = model.load(tiny_base), []
    base.unet.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    monkeypatch.setattr(prior, "_DRAWN_PIXELS", 2 * 64 * 64)
    prior._draw(base, tiny_base, "a photo", 3, 64, torch.device("cpu"), tmp_path)
    # Each with the prompt and without.
    assert set(batches) == {4, 2}
    assert len(list(tmp_path.glob("*.png"))) == 3
