"""What is chosen for a kind of device, and by whom."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from components.train import devices
from components.train.config import TrainConfig
from tests.components.train.actions import Train, weights

GPU, CPU = torch.device("cuda", 1), torch.device("cpu")


@pytest.fixture
def arithmetic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what a process has once."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "unset")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield
    devices.set_arithmetic(TrainConfig())


@pytest.mark.parametrize(
    ("given", "device", "last", "ahead"),
    [
        ({}, GPU, True, True),
        ({}, CPU, False, False),
        ({"use_8bit_adam": True}, GPU, False, True),
        ({"channels_last": False, "prefetch": False}, GPU, False, False),
        ({"channels_last": True, "prefetch": True}, CPU, True, True),
    ],
)
def test_a_gpu_has_its_layout_and_batches_ahead_unless_the_settings_say(
    given: dict[str, bool], device: torch.device, last: bool, ahead: bool
) -> None:
    config = TrainConfig(**given)
    expected = torch.channels_last if last else torch.contiguous_format
    assert devices.memory_format(config, device) == expected
    assert devices.ahead(config, device) == ahead


def test_8bit_adam_and_channels_last_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="channels_last and use_8bit_adam exclude each other"):
        TrainConfig(channels_last=True, use_8bit_adam=True)


def test_deterministic_arithmetic_is_asked_for_and_put_back(arithmetic: None) -> None:
    devices.set_arithmetic(TrainConfig(deterministic=True, allow_tf32=True))
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert torch.backends.cuda.matmul.allow_tf32
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    devices.set_arithmetic(TrainConfig())
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.integration
def test_a_cpu_needs_no_deterministic_algorithms(arithmetic: None, run: Train, tmp_path: Path) -> None:
    settings = {"train_text_encoder": True, "augment": "dihedral"}
    found = [weights(run(deterministic=is_, **settings), 4, tmp_path / f"{is_}") for is_ in (False, True)]
    assert torch.are_deterministic_algorithms_enabled()
    for part in ("unet", "text_encoder"):
        assert all(torch.equal(found[0][part][name], found[1][part][name]) for name in found[0][part])
