"""Training of the tiny base model's autoencoder on drawn crops. Imports torch.

Loss: L1 at four scales, so that wrong areas cost more than wrong pixels; L1 on gradients for crisp edges; colour;
the local amount of fine texture, which no pixelwise loss asks for; a little KL divergence. Each image weighs by the
inverse of its contrast.
"""

import math
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from components.progress import Progress
from pipelines.quickstart.crops import Pictures
from pipelines.quickstart.networks import build_vae
from pipelines.quickstart.state import load_state, save_state

RATE = 4e-4  # several times this is faster on black and white, and never learns colour
GRADIENT, TEXTURE, CHROMA, DIVERGENCE = 0.5, 1.0, 4.0, 1e-3  # weights of the loss beside L1
REFINED_TEXTURE = 3.0  # in the refinement: the latents are settled, what they lost may be made up
RECOLOURED = 0.25  # share of the crops
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
    coarse = F.avg_pool2d(images, 4)
    return coarse[:, 0::2] - coarse[:, 1:2]


def reconstruction_loss(made: torch.Tensor, images: torch.Tensor, texture: float) -> torch.Tensor:
    """How unlike two batches of (n, 3, h, w) images are; `texture` is the weight of fine texture's strength."""

    def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean(dim=(1, 2, 3))

    loss = distance(made, images)
    for scale in (2, 4, 8):
        loss = loss + 0.5 * distance(F.avg_pool2d(made, scale), F.avg_pool2d(images, scale))
    for axis in (2, 3):
        loss = loss + GRADIENT * distance(made.diff(dim=axis), images.diff(dim=axis))
    loss = loss + texture * distance(fine_texture(made), fine_texture(images))
    # A scan has several times the contrast of a photograph: unweighted, the loss would be about scans alone.
    contrast = images.std(dim=(1, 2, 3))
    weighted = (loss * (0.5 / (0.1 + contrast)).clamp(max=2.0)).mean()
    # Squared: most crops are grey, and the absolute error would be content with grey for all.
    return weighted + CHROMA * F.mse_loss(chroma(made), chroma(images))


def cosine(step: int, steps: int, warmup: int = 100) -> float:
    """Learning-rate factor: linear warm-up, cosine to zero."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))


def train_vae(pictures: Pictures, work: Path, steps: int, batch: int, seed: int) -> tuple[AutoencoderKL, float]:
    """Train for `steps` batches, saving to `work`/vae.pt as it goes; goes on from there when called again.

    Returns the frozen autoencoder and the seconds that its training took.
    """
    torch.manual_seed(seed)
    vae = build_vae()
    seconds = _fit("autoencoder", vae, pictures, work / "vae.pt", steps, batch, seed, stage=0, texture=TEXTURE)
    return vae, seconds


def refine_decoder(vae: AutoencoderKL, pictures: Pictures, work: Path, steps: int, batch: int, seed: int) -> float:
    """Train the decoder alone for `steps` more batches, saving to `work`/decoder.pt as it goes.

    Latents stay what they are, so the denoiser may be trained before or meanwhile. Returns the seconds it took.
    """
    vae.requires_grad_(False)
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)
    return _fit("decoder", vae, pictures, work / "decoder.pt", steps, batch, seed, stage=5, texture=REFINED_TEXTURE)


def _fit(
    what: str,
    vae: AutoencoderKL,
    pictures: Pictures,
    file: Path,
    steps: int,
    batch: int,
    seed: int,
    stage: int,
    texture: float,
) -> float:
    """Train what requires gradients, from the state in `file` on; freeze all of it; return the seconds taken."""
    trained = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=1e-4, fused=True)
    state = load_state(file)
    first, total = 0, 0.0
    if state:
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, total = state["step"], state["seconds"]
    vae.train()
    progress = Progress(what, steps, every=15.0)
    progress.begin(first)
    seconds, started = total, time.monotonic()
    saved = started
    for step in range(first, steps):
        generator = torch.Generator().manual_seed((seed + stage) * 1_000_003 + step)
        images = recolour(to_signal(torch.from_numpy(pictures.crop_batch(batch, stage, step)[0])), generator)
        for group in optimizer.param_groups:
            group["lr"] = RATE * cosine(step, steps)
        posterior = vae.encode(images).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
        loss = reconstruction_loss(vae.decode(latents).sample, images, texture)
        divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        optimizer.zero_grad(set_to_none=True)
        (loss + DIVERGENCE * divergence).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        progress.update(step + 1, loss=loss.item())
        now = time.monotonic()
        if now - saved > SAVE_EVERY_S or step == steps - 1:
            total, saved = seconds + now - started, now
            state = {"model": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1, "seconds": total}
            save_state(file, state)
    vae.eval().requires_grad_(False)
    return total
