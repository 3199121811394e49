"""Writing the tiny base model's folder: half-precision weights, model card, sample grid. Imports torch."""

import copy
import platform
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from components.decoding import read
from components.errors import UserError
from pipelines.quickstart.crops import SIZE, Pictures
from pipelines.quickstart.networks import parameters, sampling_scheduler
from pipelines.quickstart.plan import Plan
from pipelines.quickstart.train_vae import fine_texture, to_signal

CARD = Path(__file__).with_name("base_card.md")
PROMPTS = (
    "a scan of a printed circuit board, black copper on white",
    "a scan of a printed circuit board, white copper on black",
    "a photo of a green printed circuit board",
    "a photo of a blue printed circuit board",
    "a photo of a grey printed circuit board",
    "a photo of a chip on a printed circuit board",
    "a photo of a metal tile",
    "a photo of cast metal",
)
GRID_COLUMNS, GRID_STEPS, GRID_GUIDANCE = 9, 20, 2.0


@dataclass
class Training:
    """What made the model, for its card."""

    command: str
    plan: Plan
    vae_seconds: float
    decoder_seconds: float
    seconds: float
    errors: list[str]


@dataclass
class Errors:
    """How far reconstructions are from their originals."""

    wrong_percent: float  # pixels on the other side of mid-grey
    psnr: float  # peak signal-to-noise ratio, dB
    texture: float  # fine texture kept, 1 = all


@torch.no_grad()
def reconstruction_errors(vae: AutoencoderKL, crops: np.ndarray) -> Errors:
    """Errors of encoding and decoding (n, 64, 64, 3) uint8 crops with the posterior's mean."""
    wrong, square, kept, there = 0.0, 0.0, 0.0, 0.0
    for part in torch.from_numpy(crops).split(50):
        images = to_signal(part)
        made = vae.decode(vae.encode(images).latent_dist.mode()).sample.clamp(-1, 1)
        wrong += float(((made.mean(1) > 0) != (images.mean(1) > 0)).float().mean()) * len(part)
        square += float(F.mse_loss(made, images)) * len(part)
        kept += float(fine_texture(made).mean()) * len(part)
        there += float(fine_texture(images).mean()) * len(part)
    n = len(crops)
    return Errors(100 * wrong / n, float(10 * np.log10(4 / max(square / n, 1e-9))), kept / max(there, 1e-9))


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, crops: np.ndarray) -> np.ndarray:
    """(n, 64, 64, 3) uint8 crops, encoded to the posterior's mean and decoded, in 8 bits again."""
    parts = []
    for part in torch.from_numpy(crops).split(50):
        made = vae.decode(vae.encode(to_signal(part)).latent_dist.mode()).sample
        parts.append(((made + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def crops_of_folder(folder: Path, count: int = 500, seed: int = 0) -> np.ndarray:
    """Random native crops of the images below a folder, (count, 64, 64, 3) uint8; masks (.png) are left out."""
    files = sorted(folder.rglob("*.jpg"))
    if not files:
        raise UserError(f"--evaluate-on {folder}: there are no .jpg images below it")
    rng = np.random.default_rng(seed)
    crops: list[np.ndarray] = []
    while len(crops) < count:
        image = np.asarray(read(files[int(rng.integers(len(files)))], "RGB"))
        for _ in range(4):
            y, x = (int(rng.integers(0, s - SIZE + 1)) for s in image.shape[:2])
            crops.append(image[y : y + SIZE, x : x + SIZE])
    return np.stack(crops[:count])


def describe_errors(vae: AutoencoderKL, pictures: Pictures, folders: list[Path]) -> list[str]:
    """One line per source: drawn crops, and the real images of `folders`, which training never saw."""
    sources = {"other crops of the drawn pictures": pictures.crop_batch(500, 4)[0]}
    sources.update({f"real images, `{f.name}`": crops_of_folder(f) for f in folders})
    lines = []
    for name, crops in sources.items():
        errors = reconstruction_errors(vae, crops)
        lines.append(f"| {name} | {errors.wrong_percent:.2f} % | {errors.psnr:.1f} dB | {errors.texture:.0%} |")
    return lines


def build_pipeline(
    vae: AutoencoderKL, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """The parts as a pipeline, without safety checker."""
    pipeline = StableDiffusionPipeline(
        vae=vae, unet=unet, text_encoder=text_encoder, tokenizer=tokenizer, scheduler=sampling_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample_grid(pipeline: StableDiffusionPipeline, seed: int) -> Image.Image:
    """Pictures for `PROMPTS`, one row each."""
    gap = 2
    grid = Image.new("RGB", (GRID_COLUMNS * (SIZE + gap) - gap, len(PROMPTS) * (SIZE + gap) - gap), "white")
    for row, prompt in enumerate(PROMPTS):
        generator = torch.Generator().manual_seed(seed + row)
        made = pipeline(
            prompt, num_images_per_prompt=GRID_COLUMNS, height=SIZE, width=SIZE, num_inference_steps=GRID_STEPS,
            guidance_scale=GRID_GUIDANCE, generator=generator,
        ).images  # fmt: skip
        for column, image in enumerate(made):
            grid.paste(image, (column * (SIZE + gap), row * (SIZE + gap)))
    return grid


def export_base(
    out: Path, vae: AutoencoderKL, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer,
    training: Training,
) -> None:  # fmt: skip
    """Write the model's folder in place of the one at `out`; a reader finds the former or the new one whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    part.chmod(0o755)
    try:
        # The text encoder stays in single precision (0.7 MB): transformers loads it in the precision it was saved
        # in, diffusers loads the others in single precision, and the two must agree.
        half_vae, half_unet = copy.deepcopy(vae).half(), copy.deepcopy(unet).half()
        build_pipeline(half_vae, half_unet, text_encoder, tokenizer).save_pretrained(part)
        for name in ("vocab.json", "merges.txt"):  # for readers that do not know tokenizer.json
            shutil.copyfile(Path(tokenizer.name_or_path) / name, part / "tokenizer" / name)
        # Judged as it is handed over: loaded back from the rounded weights.
        pipeline = StableDiffusionPipeline.from_pretrained(part, safety_checker=None)
        pipeline.set_progress_bar_config(disable=True)
        sample_grid(pipeline, training.plan.seed).save(part / "samples.png", optimize=True)
        (part / "README.md").write_text(model_card(vae, unet, text_encoder, training), encoding="utf-8")
        former = out.with_name(f".{out.name}-former")
        if out.exists():
            out.replace(former)
        part.replace(out)
        shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def model_card(vae: AutoencoderKL, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, training: Training) -> str:
    """The card's text: `base_card.md` with this training's figures."""
    prompts = "\n".join(f"{i}. `{prompt}`" for i, prompt in enumerate(PROMPTS, 1))
    return CARD.read_text(encoding="utf-8").format(
        **asdict(training.plan),
        cycles=" + ".join(map(str, training.plan.steps)),
        command=training.command,
        vae_minutes=training.vae_seconds / 60,
        decoder_minutes=training.decoder_seconds / 60,
        minutes=training.seconds / 60,
        vae_parameters=parameters(vae) / 1e6,
        unet_parameters=parameters(unet) / 1e6,
        text_parameters=parameters(text_encoder) / 1e6,
        scaling=vae.config.scaling_factor,
        errors="\n".join(training.errors),
        prompts=prompts,
        columns=GRID_COLUMNS,
        sampling_steps=GRID_STEPS,
        guidance=GRID_GUIDANCE,
        versions=f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
    )
