"""A Stable Diffusion pipeline small enough for tests: real architecture, random weights, 64 px images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_tokenizer(folder: Path) -> int:
    """A CLIP byte-level vocabulary without merges, so that any text encodes; its size."""
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(byte) for byte in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    merges.write_text("#version: 0.2\n", encoding="utf-8")
    CLIPTokenizer(vocab=str(vocabulary), merges=str(merges), model_max_length=77).save_pretrained(folder)
    return len(tokens)


def write_pipeline(
    folder: Path,
    seed: int = 0,
    widths: tuple[int, ...] = (32, 64, 64, 64),
    in_channels: int = 4,
    hidden_act: str = "quick_gelu",
    **scheduler: Any,
) -> Path:
    """A complete diffusers folder with random weights in safetensors.

    Args:
        widths: channels of the UNet's four levels.
        in_channels: of the UNet; 9 for one that inpaints.
        hidden_act: of the text encoder; "gelu" for OpenCLIP's family, which Stable Diffusion 2.x has.
        scheduler: overrides of its settings.
    """
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    words = write_tokenizer(folder / "tokenizer")
    torch.manual_seed(seed)
    text = CLIPTextConfig(
        vocab_size=words,
        hidden_size=64,
        intermediate_size=128,
        projection_dim=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_act=hidden_act,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )
    down, up = ["DownEncoderBlock2D"] * 4, ["UpDecoderBlock2D"] * 4
    settings = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": False,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "steps_offset": 1,
        "timestep_spacing": "trailing",
    }
    pipeline: Any = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(16, 32, 64, 64),
            down_block_types=down,
            up_block_types=up,
            layers_per_block=1,
            norm_num_groups=8,
            sample_size=64,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=UNet2DConditionModel(
            sample_size=8,
            in_channels=in_channels,
            block_out_channels=widths,
            layers_per_block=2,
            cross_attention_dim=64,
            attention_head_dim=4,
            norm_num_groups=8,
        ),
        scheduler=DDIMScheduler(**{**settings, **scheduler}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder
