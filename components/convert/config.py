"""Settings of the convert step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.settings import Settings


class ConvertConfig(Settings):
    """How the chosen checkpoint is written, checked and described."""

    dtype: Literal["fp16", "bf16", "fp32"] = Field(
        default="fp16",
        description="number type of the weights in the file: fp16 halves the size and every program reads "
        "it; bf16 where values are too large for fp16; fp32 for training on",
    )
    format: Literal["safetensors", "ckpt"] = Field(
        default="safetensors",
        description="container of the file: safetensors cannot hold code and every program reads it; ckpt, a pickle of "
        "tensors, for programs that read nothing else",
    )
    include_vae: bool = Field(
        default=True,
        description="whether the autoencoder is in the file; without it (a tenth smaller for Stable Diffusion 1.5) it "
        "has to be given to every program that loads the file",
    )
    lora: Literal["both", "merged", "kohya"] = Field(
        default="both",
        description="what becomes of a LoRA checkpoint: merged into the base model, as one file that every program "
        "loads; kohya: the LoRA alone, a few MB, to be used on the base model; both",
    )
    compare_images: bool = Field(
        default=True,
        description="before publishing, also generate one small image from the file and from the checkpoint "
        "and compare them; costs seconds, and memory for the whole model in fp32 (4.3 GB for Stable "
        "Diffusion 1.5)",
    )
    title: str = Field(
        default="", description="name shown by programs that read the file's metadata; empty: the model's name"
    )
    description: str = Field(default="", description="what the model makes, for the model card and the metadata")
    licence: str = Field(
        default="other",
        pattern=r"^[a-z0-9][a-z0-9.\-]*$",
        description="licence as the Hugging Face hub writes it, e.g. apache-2.0 or creativeml-openrail-m; it "
        "has to agree with the base model's",
    )
