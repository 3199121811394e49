"""How much memory a training step of a full-size model needs, worked out: ``python -m tests.bench.step_memory``.

Forward pass, backward pass and AdamW of a UNet of Stable Diffusion 1.5's sizes on tensors that have shapes and no
content, counting the bytes that are alive at the same time, the text encoder's weights beside them. It is what PyTorch
asks its allocator for, with attention as PyTorch has it on a CPU (the flash algorithm); what a GPU's libraries and the
allocator need beside it (1 to 2 GB, by rule of thumb) is not in it. First, the same of what comes before the steps.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from components.base_model.families import Family, configuration
from components.train import data, prior
from components.train.config import TrainConfig

#: Of the text encoder, which stays beside the UNet: 123 million weights in float32.
TEXT_ENCODER = 4 * 123_060_480


class Alive(TorchDispatchMode):
    """Counts the bytes of all tensors that are made below it, while they are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[weakref.ref[Any]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        seen = weakref.ref(storage)
        if seen in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(seen)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, seen, size)

    def _gone(self, seen: weakref.ref[Any], size: int) -> None:
        self._seen.discard(seen)
        self.now -= size


def peak_of(side: int, batch: int, lora: bool, bf16: bool, checkpointing: bool) -> int:
    """Bytes alive at most in the second step on images of `side` pixels, the text encoder's weights included."""
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig
    from torch._subclasses.fake_tensor import FakeTensorMode

    config, settings = configuration(Family(1, False), "epsilon")["unet/config.json"], TrainConfig()
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(config).train()
        if lora:
            unet.requires_grad_(False)
            targets = settings.lora_target_modules
            unet.add_adapter(LoraConfig(r=settings.lora_rank, lora_alpha=settings.lora_rank, target_modules=targets))
    if checkpointing:
        unet.enable_gradient_checkpointing()
    with FakeTensorMode(), Alive() as alive:
        for module in unet.modules():
            for name, weight in module.named_parameters(recurse=False):
                made = torch.nn.Parameter(torch.empty(weight.shape), requires_grad=weight.requires_grad)
                module.register_parameter(name, made)
        trained = [weight for weight in unet.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, fused=True)
        for _ in range(2):
            alive.peak = alive.now
            noisy, text = torch.randn(batch, 4, side // 8, side // 8), torch.randn(batch, 77, 768)
            times = torch.zeros(batch, dtype=torch.int64)
            with torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext():
                loss = unet(noisy, times, text).sample.float().square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return alive.peak + TEXT_ENCODER


def before_training(side: int) -> tuple[int, int]:
    """Bytes alive at most while crops of `side` pixels are encoded and while class images are drawn, in float32."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from torch._subclasses.fake_tensor import FakeTensorMode

    configs = configuration(Family(1, False), "epsilon")
    with FakeTensorMode(), Alive() as vae, torch.no_grad():
        encoder: Any = AutoencoderKL.from_config(configs["vae/config.json"])
        weights = vae.peak = vae.now
        encoder.encode(torch.randn(data.at_once(32, side, side), 3, side, side))
    with FakeTensorMode(), Alive() as unet, torch.no_grad():
        drawer: Any = UNet2DConditionModel.from_config(configs["unet/config.json"])
        unet.peak = unet.now
        guided = 2 * prior.at_once(side)
        drawer(torch.randn(guided, 4, side // 8, side // 8), torch.tensor(3), torch.randn(guided, 77, 768))
    return vae.peak, unet.peak + weights + TEXT_ENCODER


def main() -> None:
    flags = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    flags.add_argument("--side", type=int, default=512, help="of the images, pixels")
    flags.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    given = flags.parse_args()
    encoding, drawing = before_training(given.side)
    print(f"encoding crops: {encoding / 1e9:.1f} GB, drawing class images: {drawing / 1e9:.1f} GB", flush=True)
    for lora, bf16, checkpointing in itertools.product((True, False), (False, True), (True, False)):
        what = f"{'LoRA' if lora else 'full'}, {'bf16' if bf16 else 'float32'}"
        peaks = (peak_of(given.side, batch, lora, bf16, checkpointing) / 1e9 for batch in given.batches)
        found = ", ".join(f"batch {batch}: {peak:.1f} GB" for batch, peak in zip(given.batches, peaks))
        print(f"{what}{', gradient checkpointing' if checkpointing else ''}: {found}", flush=True)


if __name__ == "__main__":
    main()
