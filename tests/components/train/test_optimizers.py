"""The learning rate's course, held against what diffusers' scripts make of the same settings."""

from __future__ import annotations

import typing
from typing import Any

import pytest
import torch
from diffusers.optimization import get_scheduler

from components.train import optimizers
from components.train.config import TrainConfig

STEPS, RATE, OTHER = 20, 5e-6, 1e-6


def rates(optimizer: torch.optim.Optimizer, schedule: Any) -> list[list[float]]:
    """Each group's rate, at the first step and after each."""
    found = [schedule.get_last_lr()]
    for _ in range(STEPS):
        optimizer.step()
        schedule.step()
        found.append(schedule.get_last_lr())
    return found


@pytest.mark.parametrize("warmup", [0, 4])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("constant", {}),
        ("linear", {}),
        ("cosine", {}),
        ("cosine_with_restarts", {"lr_num_cycles": 3}),
        ("polynomial", {"lr_power": 2.0}),
        ("polynomial", {}),
    ],
)
def test_the_course_is_that_of_diffusers_scripts(name: str, more: dict[str, Any], warmup: int) -> None:
    config = TrainConfig(
        learning_rate=RATE,
        max_train_steps=STEPS,
        checkpointing_steps=STEPS,
        lr_scheduler=name,
        lr_warmup_steps=warmup,
        **more,
    )
    unet, text = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    ours = optimizers.optimizer([{"params": [unet], "lr": RATE}, {"params": [text], "lr": OTHER}], config)
    plain = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    theirs = get_scheduler(
        "constant_with_warmup" if name == "constant" else name,
        optimizer=plain,
        num_warmup_steps=warmup,
        num_training_steps=STEPS,
        num_cycles=more.get("lr_num_cycles", 1),
        power=more.get("lr_power", 1.0),
    )
    expected = [rate for [rate] in rates(plain, theirs)]
    found = rates(ours, optimizers.schedule(ours, config))
    assert [group[0] for group in found] == pytest.approx(expected, abs=0, rel=1e-9)
    assert [group[1] for group in found] == pytest.approx([rate * OTHER / RATE for rate in expected], abs=0, rel=1e-9)
    if name == "polynomial":
        assert found[-1][0] == pytest.approx(1e-7)


def test_every_course_is_held_against_theirs() -> None:
    tried = {"constant", "linear", "cosine", "cosine_with_restarts", "polynomial"}
    assert set(typing.get_args(TrainConfig.model_fields["lr_scheduler"].annotation)) == tried
