"""Copies of a trainer: complete, apart from what they were taken of, and read back by `torch.load`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.train.history import Diverged
from components.train.snapshot import Snapshot, packed, unpacked


def test_what_is_packed_comes_back_whatever_becomes_of_the_original(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    group = {"betas": (0.9, 0.999), "fused": True}
    value = {
        "models": {"unet": {"a": weight, "b": torch.tensor([1.5], dtype=torch.bfloat16)}},
        "optimizer": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [group]},
        "average": [torch.arange(4), torch.zeros(0)],
        "scaler": None,
    }
    copy = packed(value)
    with torch.no_grad():
        weight.fill_(-1)
    torch.save(copy, tmp_path / "state.pt")
    for data in (copy, torch.load(tmp_path / "state.pt", weights_only=True)):
        back = unpacked(data)
        assert torch.equal(back["models"]["unet"]["a"], torch.arange(6.0).reshape(2, 3))
        assert back["models"]["unet"]["b"].dtype == torch.bfloat16
        assert back["optimizer"]["state"][0]["step"].shape == ()
        assert back["optimizer"]["state"][0]["step"] == 7
        assert back["optimizer"]["param_groups"] == [group]
        assert [part.numel() for part in back["average"]] == [4, 0]
        assert back["scaler"] is None


def test_room_is_used_again_and_grows(tmp_path: Path) -> None:
    room: dict[str, torch.Tensor] = {}
    small, large = {"a": torch.ones(3)}, {"a": torch.zeros(3), "b": torch.full((2, 2), 5.0)}
    assert torch.equal(unpacked(packed(small, room))["a"], torch.ones(3))
    grown = packed(large, room)
    assert torch.equal(unpacked(grown)["b"], torch.full((2, 2), 5.0))
    address = grown["buffers"]["float32"].data_ptr()
    assert torch.equal(unpacked(packed(small, room))["a"], torch.ones(3))
    again = packed(large, room)
    assert again["buffers"]["float32"].data_ptr() == address
    assert torch.equal(unpacked(again)["a"], torch.zeros(3))
    # What is saved is the copy, and not what else there would be room for.
    torch.save(again, tmp_path / "state.pt")
    assert len(torch.load(tmp_path / "state.pt", weights_only=True)["buffers"]["float32"]) == 7


def test_weights_that_are_no_numbers_are_named() -> None:
    good, bad = torch.ones(2), torch.tensor([1.0, float("inf")])
    Snapshot(5, 10, packed({"unet": {"a": good}}), True, None).check()
    with pytest.raises(Diverged, match=r"unet\.b is no number after step 5"):
        Snapshot(5, 10, packed({"unet": {"a": good, "b": bad}}), True, None).check()
