"""One optimizer step, held against the same step written out, and class images in batches that a GPU holds."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import pytest
import torch
from accelerate import Accelerator

from components.train import data, model, prior
from components.train.config import TrainConfig
from components.train.loop import Trainer


def trainer(base: model.BaseModel, config: TrainConfig) -> Trainer:
    shape = (3, 1, 4, 8, 8)
    latents = data.LatentSet(torch.randn(shape), torch.rand(shape), torch.zeros(3, dtype=torch.int64), ["a photo"])
    return Trainer(base, latents, config, Accelerator(cpu=True, mixed_precision=config.mixed_precision))


@pytest.mark.integration
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_what_is_computed_has_the_precision_that_was_asked_for(
    tiny_base: Path, precision: Literal["no", "bf16"]
) -> None:
    made = trainer(model.load(tiny_base), TrainConfig(train_batch_size=2, mixed_precision=precision))
    kinds: set[torch.dtype] = set()
    for layer in made.base.unet.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(lambda module, given, made: kinds.add(made.dtype))
    made.step()
    assert kinds == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert {parameter.dtype for parameter in made.parameters} == {torch.float32}


@pytest.mark.integration
@pytest.mark.parametrize("limit", [1e-3, 1e6], ids=["clipped", "not clipped"])
def test_a_step_is_adamw_on_clipped_gradients(tiny_base: Path, limit: float) -> None:
    config = TrainConfig(train_batch_size=2, learning_rate=1e-3, max_grad_norm=limit, adam_epsilon=1e-3)
    base = model.load(tiny_base)
    made = trainer(base, config)
    reference = copy.deepcopy(base.unet)
    made._loss(0).backward()
    for mine, theirs in zip(base.unet.parameters(), reference.parameters()):
        theirs.grad, mine.grad = mine.grad, None
    norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), limit)
    torch.optim.AdamW(reference.parameters(), lr=1e-3, weight_decay=config.adam_weight_decay, eps=1e-3).step()
    _, found = made.step()
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
