"""Training of the tiny base model's autoencoder on drawn crops. Imports torch.

Loss: L1 at four scales, so that wrong areas cost more than wrong pixels; L1 on gradients for crisp edges; colour;
the local amount of fine texture, which no pixelwise loss asks for; a little KL divergence. Each image weighs by the
inverse of its contrast.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from components.progress import Progress
from pipelines.quickstart.adversary import Adversary
from pipelines.quickstart.crops import Pictures
from pipelines.quickstart.networks import build_vae
from pipelines.quickstart.state import load_state, save_state

COLOUR_RATE, COLOUR_STEPS = 4e-4, 500  # a higher rate from the start never learns colour
RATE = 8e-4  # twice that undoes what was learnt
DECODER_RATE = 5e-4
GRADIENT, TEXTURE, CHROMA, DIVERGENCE = 0.5, 1.0, 4.0, 2e-4  # weights of the loss beside L1
REFINED_TEXTURE = 3.0  # in the refinement: the latents are settled, what they lost may be made up
ADVERSARY, ADVERSARY_AFTER = 0.15, 200  # weight of its verdict in the refinement, and the steps that it first learns
RECOLOURED = 0.25  # share of the crops
PURE = 0.95  # of the way from grey to black or white
BLEMISHES = 3.0  # their weight in the refinement
OUTSIDE = 0.05  # of a difference beyond black and white counts
SAVE_EVERY_S = 60.0


def to_signal(crops: "torch.Tensor") -> torch.Tensor:
    """(n, h, w, 3) uint8 to (n, 3, h, w) float32 in -1..1."""
    return crops.permute(0, 3, 1, 2).float() / 127.5 - 1


def recolour(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Give some of (n, 3, h, w) images two random colours for black and white.

    Drawn pictures are mostly grey: an autoencoder that sees them alone settles on shades of grey for thousands of
    steps, and would know no colours but the drawn ones.
    """
    ends = torch.rand((2, len(images), 3, 1, 1), generator=generator) * 2 - 1
    chosen = torch.rand((len(images), 1, 1, 1), generator=generator) < RECOLOURED
    return torch.where(chosen, ends[0] + (images + 1) / 2 * (ends[1] - ends[0]), images)


def fine_texture(images: torch.Tensor) -> torch.Tensor:
    """Mean strength of detail finer than 2 pixels, per 4×4 pixels."""
    smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    return F.avg_pool2d((images - smooth).abs(), 4)


def chroma(images: torch.Tensor) -> torch.Tensor:
    """Colour without brightness: red and blue against green, per 4×4 pixels."""
    return tint(F.avg_pool2d(images, 4))


def tint(images: torch.Tensor) -> torch.Tensor:
    """Red and blue against green, (n, 2, h, w), of each pixel."""
    return images[:, 0::2] - images[:, 1:2]


def clipped(images: torch.Tensor) -> torch.Tensor:
    """What is left of (n, 3, h, w) images in pixels of 8 bits, with a slope beyond black and white to come back by.

    Judged without it, a decoder stays short of pure black and white, and its white is never even.
    """
    inside = images.clamp(-1, 1)
    return inside + OUTSIDE * (images - inside)


def blemishes(made: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """What is seen at once although it is faint: tints on grey, and specks on pure black and white."""
    pure = images.abs() > PURE
    return ((made - images).abs() * pure).mean() + (tint(made) - tint(images)).abs().mean()


def weights(images: torch.Tensor) -> torch.Tensor:
    """How much each of (n, 3, h, w) images counts, (n,).

    A scan has several times the contrast of a photograph: unweighted, losses would be about scans alone.
    """
    return (0.5 / (0.1 + images.std(dim=(1, 2, 3)))).clamp(max=2.0)


def reconstruction_loss(made: torch.Tensor, images: torch.Tensor, texture: float) -> torch.Tensor:
    """How unlike two batches of (n, 3, h, w) images are; `texture` is the weight of fine texture's strength.

    What is `made` by a decoder goes through `clipped` first.
    """

    def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean(dim=(1, 2, 3))

    loss = distance(made, images)
    for scale in (2, 4, 8):
        loss = loss + 0.5 * distance(F.avg_pool2d(made, scale), F.avg_pool2d(images, scale))
    for axis in (2, 3):
        loss = loss + GRADIENT * distance(made.diff(dim=axis), images.diff(dim=axis))
    loss = loss + texture * distance(fine_texture(made), fine_texture(images))
    weighted = (loss * weights(images)).mean()
    # Squared: most crops are grey, and the absolute error would be content with grey for all.
    return weighted + CHROMA * F.mse_loss(chroma(made), chroma(images))


def cosine(step: int, steps: int, warmup: int = 100) -> float:
    """Learning-rate factor: linear warm-up, cosine to zero."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))


def autoencoder_rate(step: int, steps: int) -> float:
    """Learning rate of a step: a low one until colour is there, then one cosine cycle of a higher one."""
    if step < COLOUR_STEPS:
        return COLOUR_RATE * min(1.0, (step + 1) / 100)
    factor = cosine(step - COLOUR_STEPS, steps - COLOUR_STEPS, warmup=1)
    return min(RATE * factor, COLOUR_RATE + (RATE - COLOUR_RATE) * (step - COLOUR_STEPS) / 300)


def decoder_rate(step: int, steps: int) -> float:
    """Learning rate of a step of the refinement."""
    return DECODER_RATE * cosine(step, steps)


@dataclass(frozen=True)
class Stage:
    """One training of the autoencoder, or of a part of it: what its requests for crops and randomness derive from."""

    name: str
    key: int  # tells its crops from another stage's
    steps: int
    batch: int
    seed: int
    texture: float  # weight of fine texture's strength in the loss
    rate: Callable[[int, int], float]  # learning rate of a step, given how many there are


def train_vae(pictures: Pictures, work: Path, steps: int, batch: int, seed: int) -> tuple[AutoencoderKL, float]:
    """Train for `steps` batches, saving to `work`/vae.pt as it goes; goes on from there when called again.

    Returns the frozen autoencoder and the seconds that its training took.
    """
    torch.manual_seed(seed)
    vae = build_vae()
    stage = Stage("autoencoder", 0, steps, batch, seed, TEXTURE, autoencoder_rate)
    return vae, _fit(vae, pictures, work / "vae.pt", stage)


def refine_decoder(vae: AutoencoderKL, pictures: Pictures, work: Path, steps: int, batch: int, seed: int) -> float:
    """Train the decoder alone for `steps` more batches, saving to `work`/decoder.pt as it goes.

    Beside the loss there is an adversary now, which asks for grain. Latents stay what they are, so the denoiser may
    be trained before or meanwhile. Returns the seconds it took.
    """
    vae.requires_grad_(False)
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)
    torch.manual_seed(seed + 5)
    stage = Stage("decoder", 5, steps, batch, seed, REFINED_TEXTURE, decoder_rate)
    return _fit(vae, pictures, work / "decoder.pt", stage, Adversary())


def _fit(vae: AutoencoderKL, pictures: Pictures, file: Path, stage: Stage, adversary: Adversary | None = None) -> float:
    """Train what requires gradients, from the state in `file` on; freeze all of it; return the seconds taken."""
    trained = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=1e-4, fused=True)
    state = load_state(file)
    first, total = 0, 0.0
    if state:
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if adversary is not None:
            adversary.restore(state["adversary"])
        first, total = state["step"], state["seconds"]
    vae.train()
    progress = Progress(stage.name, stage.steps, every=15.0)
    progress.begin(first)
    seconds, started = total, time.monotonic()
    saved = started
    for step in range(first, stage.steps):
        generator = torch.Generator().manual_seed((stage.seed + stage.key) * 1_000_003 + step)
        crops = torch.from_numpy(pictures.crop_batch(stage.batch, stage.key, step)[0])
        images = recolour(to_signal(crops), generator)
        for group in optimizer.param_groups:
            group["lr"] = stage.rate(step, stage.steps)
        posterior = vae.encode(images).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
        made = clipped(vae.decode(latents).sample)
        loss = reconstruction_loss(made, images, stage.texture)
        divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        total_loss = loss + DIVERGENCE * divergence
        if adversary is not None:
            total_loss = total_loss + BLEMISHES * blemishes(made, images)
        if adversary is not None and step >= ADVERSARY_AFTER:
            total_loss = total_loss + ADVERSARY * adversary.loss(made, weights(images).square())
        optimizer.zero_grad(set_to_none=True)
        total_loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if adversary is not None:
            adversary.learn(images, made.detach())
        progress.update(step + 1, loss=loss.item())
        now = time.monotonic()
        if now - saved > SAVE_EVERY_S or step == stage.steps - 1:
            total, saved = seconds + now - started, now
            state = {"model": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1, "seconds": total}
            save_state(file, state | ({"adversary": adversary.state()} if adversary is not None else {}))
    vae.eval().requires_grad_(False)
    return total
