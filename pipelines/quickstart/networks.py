"""The tiny base model's networks: Stable Diffusion's architecture with small widths.

Shapes and widths only; how they are trained is in `train_vae` and `train_diffusion`. Imports torch.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipelines.quickstart.crops import SIZE

VAE_WIDTHS = (16, 32, 64)
DOWNSCALE = 2 ** (len(VAE_WIDTHS) - 1)
LATENT_CHANNELS = 4
UNET_WIDTHS = (32, 64, 96, 96)
UNET_HEADS = (1, 2, 2, 2)  # diffusers' name for them is attention_head_dim
TEXT_WIDTH = 64

# v-prediction, zero terminal signal-to-noise ratio and trailing steps belong together (Lin et al., "Common
# Diffusion Noise Schedules and Sample Steps are Flawed", 2024).
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


def build_vae() -> AutoencoderKL:
    """The autoencoder: 64×64 pixels to 4×16×16 latents."""
    widths = VAE_WIDTHS
    # Two groups: a group of two channels, which eight would give at the finest level, normalises an even area to a
    # mere sign, and colour and brightness of plain surfaces are lost.
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
        sample_size=SIZE,
    )
    _pass_signals(vae)
    return vae


@torch.no_grad()
def _pass_signals(vae: AutoencoderKL) -> None:
    """Initialise the autoencoder as a nearly norm-preserving linear map (Xiao et al., "Dynamical Isometry", 2018).

    With the default initialisation each layer of the long straight path shrinks what it carries; brightness, the
    strongest signal, is amplified first and colour not within thousands of steps. Here every convolution on the
    straight path starts orthogonal in its middle tap, and every residual branch starts silent.
    """
    for name, module in vae.named_modules():
        branch = ".resnets." in name and "shortcut" not in name
        if name.endswith((".conv2", ".to_out.0")):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
        elif isinstance(module, nn.Conv2d) and not branch:
            middle = torch.empty(module.weight.shape[:2])
            nn.init.orthogonal_(middle)
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
            centre = module.weight.shape[2] // 2
            module.weight[:, :, centre, centre] = middle
    # The norms before the last layers divide by the strength of all channels together: a constant beside the
    # signal keeps the difference between a dark and a light even area.
    for part in (vae.encoder, vae.decoder):
        nn.init.normal_(part.conv_in.bias, std=0.5)
    # Posteriors start narrow; the latter half of the moments is the logarithm of their variance.
    vae.quant_conv.weight[LATENT_CHANNELS:] = 0
    vae.quant_conv.bias[LATENT_CHANNELS:] = -4.0


def build_unet() -> UNet2DConditionModel:
    """The denoiser: four levels of two layers as in Stable Diffusion 1; most of its work is done at 8×8 and 4×4."""
    return UNet2DConditionModel(
        sample_size=SIZE // DOWNSCALE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=UNET_WIDTHS,
        layers_per_block=2,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=UNET_HEADS,
        norm_num_groups=8,
    )


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer that `corpus.train_tokenizer` wrote."""
    return CLIPTokenizer.from_pretrained(str(folder))


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text transformer of two layers, 64 wide, for this tokenizer's ids."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Captions as (n, 77) int64, padded and cut the way Stable Diffusion's pipeline does."""
    encoded = tokenizer(
        captions, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    return encoded.input_ids


def training_scheduler() -> DDPMScheduler:
    """Adds noise and gives the velocity to predict."""
    return DDPMScheduler(**SCHEDULE, clip_sample=False)


def sampling_scheduler() -> DPMSolverMultistepScheduler:
    """The scheduler that is saved with the model: good pictures in 20 steps."""
    return DPMSolverMultistepScheduler(**SCHEDULE, steps_offset=1)


def parameters(network: nn.Module) -> int:
    """How many parameters a network has."""
    return sum(p.numel() for p in network.parameters())
