"""What each step trains on, as a function of its number and the seed: crops, views, noise, time steps, prompts.

So is what layers drop out. Training that resumes at a step therefore sees what it would have seen, and no generator's
state is kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from components.train.config import TrainConfig
from components.train.data import LatentSet

#: Share of images that an inpainting UNet paints as a whole, as evaluate lets it.
_WHOLE = 0.25


@dataclass(frozen=True)
class Batch:
    """One forward pass's input."""

    clean: torch.Tensor  #: latents, float32 [batch, 4, height / 8, width / 8]
    noise: torch.Tensor  #: of the same shape
    times: torch.Tensor  #: time steps, int64 [batch]
    prompt: torch.Tensor  #: indices of prompts, int64 [batch]; the number of prompts stands for the empty one
    shown: torch.Tensor | None = None  #: mask and masked latents, [batch, 5, …], for UNets that inpaint
    texts: torch.Tensor | None = None  #: of `by_text`: indices of the prompts that occur, int64, each once

    def to(self, device: torch.device) -> Batch:
        """The same on `device`; the copy of a pinned one may be under way still, for what follows it on the device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """The same in memory that a GPU copies from by itself."""
        return self._each(torch.Tensor.pin_memory)

    def by_text(self) -> Batch:
        """The same with each prompt that occurs once, in `texts`, and `prompt` as indices of these."""
        texts, prompt = torch.unique(self.prompt, return_inverse=True)
        return dataclasses.replace(self, prompt=prompt, texts=texts)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        tensors = {name: value for name, value in vars(self).items() if value is not None}
        return Batch(**{name: change(tensor) for name, tensor in tensors.items()})

    def share(self, part: int, of: int) -> Batch:
        """Part `part` of `of` equal ones."""
        shown = self.shown.chunk(of)[part] if self.shown is not None else None
        clean, noise, times, prompt = (t.chunk(of)[part] for t in (self.clean, self.noise, self.times, self.prompt))
        return Batch(clean, noise, times, prompt, shown)

    def with_class(self, other: Batch, first_prompt: int) -> Batch:
        """This batch and, after it, one of class images, whose prompts count from `first_prompt` on."""
        shown = torch.cat([self.shown, other.shown]) if self.shown is not None and other.shown is not None else None
        return Batch(
            torch.cat([self.clean, other.clean]),
            torch.cat([self.noise, other.noise]),
            torch.cat([self.times, other.times]),
            torch.cat([self.prompt, other.prompt + first_prompt]),
            shown,
        )


def draw(latents: LatentSet, config: TrainConfig, time_steps: int, number: int, stream: int = 0) -> Batch:
    """Batch `number` of a stream (0: crops, 1: class images), on the CPU: all processes' together."""
    count = config.train_batch_size * config.num_processes
    random = generator(config.seed, 2 + 2 * stream, number)
    chosen = batch_indices(len(latents), count, number, config.seed, stream)
    views = torch.randint(latents.mean.shape[1], (count,), generator=random)
    shape = (count, *latents.mean.shape[2:])
    clean = latents.mean[chosen, views] + latents.std[chosen, views] * torch.randn(shape, generator=random)
    noise = torch.randn(shape, generator=random)
    times = torch.randint(time_steps, (count,), generator=random)
    prompt = latents.prompt[chosen].clone()
    prompt[torch.rand(count, generator=random) < config.prompt_dropout] = len(latents.prompts)
    # What some runs alone need comes last, so that the other draws are the same without it.
    if config.noise_offset:
        noise = noise + config.noise_offset * torch.randn((*shape[:2], 1, 1), generator=random)
    if latents.hidden is None:
        return Batch(clean, noise, times, prompt)
    hidden = latents.hidden
    rest = hidden.mean[chosen, views] + hidden.std[chosen, views] * torch.randn(shape, generator=random)
    whole = (torch.rand(count, generator=random) < _WHOLE)[:, None, None, None]
    mask = torch.where(whole, torch.ones(()), hidden.mask[chosen, views])
    return Batch(clean, noise, times, prompt, torch.cat([mask, torch.where(whole, hidden.blank, rest)], 1))


def generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by `key`, so that a step's randomness depends on nothing before it."""
    return torch.Generator().manual_seed(_seed(*key))


def seed_dropout(config: TrainConfig, number: int, part: int, device: torch.device) -> None:
    """Seed torch's own generators, which layers with dropout draw from, for batch `number` and the process `part`.

    Not by `torch.manual_seed`, which takes a tenth of a millisecond where there is no GPU.
    """
    seed = _seed(config.seed, 0, number, part)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _seed(*key: int) -> int:
    # The length, since a SeedSequence takes (1,) and (1, 0) for the same.
    state = np.random.SeedSequence((len(key), *key)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def batch_indices(count: int, batch_size: int, step: int, seed: int, stream: int = 0) -> torch.Tensor:
    """Indices, int64 [batch_size], of the crops in batch number `step` of an endless shuffled stream.

    Every crop comes once before any comes again; the order of each pass derives from (seed, stream, pass).
    """
    first = step * batch_size
    passes = range(first // count, (first + batch_size - 1) // count + 1)
    order = torch.cat([torch.randperm(count, generator=generator(seed, 1 + 2 * stream, number)) for number in passes])
    offset = first - passes.start * count
    return order[offset : offset + batch_size]
