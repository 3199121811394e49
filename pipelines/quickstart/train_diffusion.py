"""Training of the tiny base model's denoiser and text encoder on cached latents. Imports torch.

The cache holds posteriors of random crops; a part of it is drawn anew at regular steps, so that training sees far
more crops than fit in memory and encoding stays cheap. All randomness comes from (seed, step): a run that goes on
from a saved state ends with the weights of one that was never stopped.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from components.progress import Progress, log
from pipelines.quickstart.crops import SIZE, Pictures
from pipelines.quickstart.networks import DOWNSCALE, build_text_encoder, build_unet, token_ids, training_scheduler
from pipelines.quickstart.state import load_state, save_state
from pipelines.quickstart.train_vae import cosine, to_signal

RATE = 1e-3
RESTART = 2 / 3  # of the first cycle's rate
EMA_DECAY = 0.999
EMPTY_PROMPTS = 0.1
SHARDS, SHARD_CROPS = 12, 1024
REDRAW_EVERY = 320  # steps between two shards drawn anew
SAVE_EVERY_S = 120.0


class LatentCache:
    """Posteriors of random crops with their captions' tokens, in shards that are drawn anew one after another."""

    def __init__(self, pictures: Pictures, vae: AutoencoderKL, tokenizer: CLIPTokenizer, scaling: float) -> None:
        self.pictures, self.vae, self.tokenizer, self.scaling = pictures, vae, tokenizer, scaling
        self.held: list[tuple[int, bool] | None] = [None] * SHARDS
        self.shape = (vae.config.latent_channels, SIZE // DOWNSCALE, SIZE // DOWNSCALE)
        self.mean = torch.empty(SHARDS * SHARD_CROPS, *self.shape)
        self.deviation = torch.empty_like(self.mean)
        self.tokens = torch.empty(SHARDS * SHARD_CROPS, tokenizer.model_max_length, dtype=torch.long)

    def prepare(self, step: int, focused: bool) -> None:
        """Hold what training reads at `step`, however many steps were skipped since the last call."""
        newest = step // REDRAW_EVERY
        for shard in range(SHARDS):
            # Before the first redraw of a shard its generation is the shard's own number.
            generation = shard if newest < SHARDS else newest - (newest - shard) % SHARDS
            if self.held[shard] != (generation, focused):
                self._draw(shard, generation, focused)
                self.held[shard] = generation, focused

    @torch.no_grad()
    def _draw(self, shard: int, generation: int, focused: bool) -> None:
        crops, captions = self.pictures.crop_batch(SHARD_CROPS, 1, generation, focused=focused)
        rows = slice(shard * SHARD_CROPS, (shard + 1) * SHARD_CROPS)
        means, deviations = [], []
        for part in torch.from_numpy(crops).split(64):
            posterior = self.vae.encode(to_signal(part)).latent_dist
            means.append(posterior.mean)
            deviations.append(posterior.std)
        self.mean[rows], self.deviation[rows] = torch.cat(means), torch.cat(deviations)
        self.tokens[rows] = token_ids(self.tokenizer, captions)

    def batch(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled latents (n, 4, 16, 16), sampled from their posteriors, and tokens (n, 77)."""
        rows = torch.randint(len(self.mean), (size,), generator=generator)
        noise = torch.randn((size, *self.shape), generator=generator)
        return (self.mean[rows] + self.deviation[rows] * noise) * self.scaling, self.tokens[rows]


@torch.no_grad()
def latent_scaling(pictures: Pictures, vae: AutoencoderKL) -> float:
    """The factor that gives latents unit deviation, as Stable Diffusion's 0.18215 does for its own."""
    crops = torch.from_numpy(pictures.crop_batch(512, 3)[0])
    return 1.0 / float(vae.encode(to_signal(crops)).latent_dist.sample(torch.Generator().manual_seed(0)).std())


def prediction_loss(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    latents: torch.Tensor,
    tokens: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Mean squared error of the predicted velocity at random times."""
    scheduler = training_scheduler()
    noise = torch.randn(latents.shape, generator=generator)
    times = torch.randint(scheduler.config.num_train_timesteps, (len(latents),), generator=generator)
    noisy = scheduler.add_noise(latents, noise, times)
    # Most captions repeat within a batch: each is encoded once.
    unique, where = tokens.unique(dim=0, return_inverse=True)
    words = text_encoder(unique).last_hidden_state[where]
    return F.mse_loss(unet(noisy, times, words).sample, scheduler.get_velocity(latents, noise, times))


def cycle_factor(step: int, cycles: Sequence[int]) -> float:
    """Learning-rate factor with warm restarts (Loshchilov and Hutter, "SGDR", 2017): later cycles start lower."""
    first, start = True, 0
    for length in cycles:
        if step < start + length:
            return (1.0 if first else RESTART) * cosine(step - start, length)
        first, start = False, start + length
    return 0.0


class Average:
    """Exponential moving average of networks' parameters, faster at first."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        self.live = [p for n in networks for p in n.parameters()]
        self.kept = [p.detach().clone() for p in self.live]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after `step`."""
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.kept, [p.detach() for p in self.live], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the networks' parameters and the averages."""
        for live, kept in zip(self.live, self.kept, strict=True):
            now = live.detach().clone()
            live.copy_(kept)
            kept.copy_(now)


def train_diffusion(
    pictures: Pictures,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    work: Path,
    cycles: Sequence[int],
    batch: int,
    seed: int,
) -> tuple[UNet2DConditionModel, CLIPTextModel, float, float]:
    """Train for one batch after another, saving to `work`/diffusion.pt; goes on from there when called again.

    `cycles` are the lengths of the learning rate's cycles in batches; those after the first look at focused crops. A
    finished training goes on when called with
    one more cycle, and ends as if it had been called with all of them at once.

    Returns the averaged networks, the latents' scaling factor and the seconds that training took.
    """
    steps = sum(cycles)
    torch.manual_seed(seed + 1)
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    trained = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=1e-2, fused=True)
    average = Average([unet, text_encoder])
    scaling, first, before = latent_scaling(pictures, vae), 0, 0.0
    state = load_state(work / "diffusion.pt")
    if state:
        unet.load_state_dict(state["unet"])
        text_encoder.load_state_dict(state["text_encoder"])
        optimizer.load_state_dict(state["optimizer"])
        average.kept = state["average"]
        scaling, first, before = state["scaling"], state["step"], state["seconds"]
    cache = LatentCache(pictures, vae, tokenizer, scaling)
    empty = token_ids(tokenizer, [""])[0]
    log(f"latents: scaling factor {scaling:.4f}, encoding {SHARDS * SHARD_CROPS} crops")
    if first < steps:
        cache.prepare(first, first >= cycles[0])
    progress = Progress("denoiser", steps, every=15.0)
    progress.begin(first)
    started = saved = time.monotonic()
    mean_loss = 0.0
    for step in range(first, steps):
        cache.prepare(step, step >= cycles[0])
        generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + step)
        latents, tokens = cache.batch(batch, generator)
        tokens = torch.where(torch.rand((batch, 1), generator=generator) < EMPTY_PROMPTS, empty, tokens)
        for group in optimizer.param_groups:
            group["lr"] = RATE * cycle_factor(step, cycles)
        loss = prediction_loss(unet, text_encoder, latents, tokens, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        average.update(step)
        mean_loss = loss.item() if step == first else 0.98 * mean_loss + 0.02 * loss.item()
        progress.update(step + 1, loss=mean_loss)
        if time.monotonic() - saved > SAVE_EVERY_S or step == steps - 1:
            saved = time.monotonic()
            save_state(work / "diffusion.pt", {
                "unet": unet.state_dict(), "text_encoder": text_encoder.state_dict(),
                "optimizer": optimizer.state_dict(), "average": average.kept, "scaling": scaling,
                "step": step + 1, "seconds": before + saved - started,
            })  # fmt: skip
    average.swap()
    return unet.eval(), text_encoder.eval(), scaling, before + time.monotonic() - started
