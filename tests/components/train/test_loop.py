"""One optimizer step, held against the same step written out, and class images in batches that a GPU holds."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from accelerate import Accelerator
from torch.utils._python_dispatch import TorchDispatchMode

from components.train import data, model, prior
from components.train.config import TrainConfig
from components.train.loop import Trainer
from components.train.snapshot import unpacked


def made(folder: Path, **settings: Any) -> Trainer:
    config = TrainConfig(**{"train_batch_size": 2, "learning_rate": 1e-3, **settings})
    shape = (3, 1, 4, 8, 8)
    draws = torch.Generator().manual_seed(0)
    mean, std = torch.randn(shape, generator=draws), torch.rand(shape, generator=draws)
    latents = data.LatentSet(mean, std, torch.zeros(3, dtype=torch.int64), ["a photo"])
    return Trainer(model.load(folder), latents, config, Accelerator(cpu=True, mixed_precision=config.mixed_precision))


class Reads(TorchDispatchMode):
    """Notes the operations in this thread whose result, or its size, a program waits for on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(t is not None and t.dtype == torch.bool for t in args[1])
        if by_mask or name in ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal"):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.integration
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"train_text_encoder": True, "use_ema": True, "snr_gamma": 5.0},
        {"use_lora": True, "train_text_encoder": True},
    ],
    ids=lambda s: ",".join(s),
)
def test_nothing_is_read_back_in_a_step(tiny_base: Path, settings: dict[str, Any]) -> None:
    trainer = made(tiny_base, prefetch=True, **settings)
    with trainer.feed:
        trainer.step()
        # Batches are drawn in another thread, where anything may be asked.
        with Reads() as reads:
            loss, _ = trainer.step()
            assert reads.found == []
            float(loss)
    assert reads.found == ["_local_scalar_dense"]


@pytest.mark.integration
def test_channels_last_is_how_weights_images_and_moments_lie(tiny_base: Path) -> None:
    plain, trainer = made(tiny_base), made(tiny_base, channels_last=True)
    seen = []
    trainer.base.unet.down_blocks[0].resnets[0].register_forward_hook(lambda block, given, result: seen.append(result))
    losses = [float(subject.step()[0]) for subject in (plain, trainer) for _ in range(2)]
    assert losses[:2] == pytest.approx(losses[2:], rel=1e-4)

    def lie_so(subject: Trainer) -> bool:
        tensors = [*subject.parameters, *(m for held in subject.optimizer.state.values() for m in held.values())]
        images = [tensor for tensor in tensors if tensor.dim() == 4]
        assert len(images) > 30
        return all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in images)

    assert all(image.is_contiguous(memory_format=torch.channels_last) for image in seen)
    assert lie_so(trainer)
    assert not lie_so(plain)
    snapshot = trainer.snapshot(publish=True, save=True)
    named, before = snapshot.named()["unet"], dict(trainer.base.unet.named_parameters())
    assert all(torch.equal(named[name], before[name]) for name in before)
    assert snapshot.state is not None
    again = made(tiny_base, channels_last=True)
    again.restore(unpacked(snapshot.state), snapshot.named())
    assert lie_so(again)


@pytest.mark.integration
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_what_is_computed_has_the_precision_that_was_asked_for(
    tiny_base: Path, precision: Literal["no", "bf16"]
) -> None:
    trainer = made(tiny_base, mixed_precision=precision)
    kinds: set[torch.dtype] = set()
    for layer in trainer.base.unet.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(lambda module, given, made: kinds.add(made.dtype))
    trainer.step()
    assert kinds == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert {parameter.dtype for parameter in trainer.parameters} == {torch.float32}


@pytest.mark.integration
@pytest.mark.parametrize("limit", [1e-3, 1e6], ids=["clipped", "not clipped"])
def test_a_step_is_adamw_on_clipped_gradients(tiny_base: Path, limit: float) -> None:
    trainer = made(tiny_base, max_grad_norm=limit, adam_epsilon=1e-3)
    base, decay = trainer.base, trainer.config.adam_weight_decay
    reference = copy.deepcopy(base.unet)
    trainer._loss(0).backward()
    for mine, theirs in zip(base.unet.parameters(), reference.parameters()):
        theirs.grad, mine.grad = mine.grad, None
    norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), limit)
    torch.optim.AdamW(reference.parameters(), lr=1e-3, weight_decay=decay, eps=1e-3).step()
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
