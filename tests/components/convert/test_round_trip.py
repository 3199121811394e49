"""Models of the shapes of Stable Diffusion 1.5, 2.1 and inpainting, there and back: names, shapes and every value.

Real block structure and reduced widths; the full widths' names and shapes are in `test_layout`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.convert import verify, writer
from components.convert.source import Source

from . import published_layout as published
from .conftest import MakeCheckpoint
from .published_layout import Shapes
from .test_file import convert

WIDTHS = (32, 64, 96, 96)
WORDS = 514  # the tests' tokenizer
UNET: dict[str, Any] = {"block_out_channels": WIDTHS, "norm_num_groups": 32}
VAE = {"block_out_channels": WIDTHS, "layers_per_block": 2, "norm_num_groups": 32}
SD15 = {"unet": {**UNET, "attention_head_dim": 8}, "vae": VAE, "text": {"num_hidden_layers": 12}}
SD21 = {
    "unet": {**UNET, "attention_head_dim": (1, 2, 3, 3), "use_linear_projection": True},
    "vae": VAE,
    "text": {"num_hidden_layers": 23, "hidden_act": "gelu"},
}
INPAINTING = {**SD15, "unet": {**UNET, "attention_head_dim": 8, "in_channels": 9}}

VERSION_1 = published.autoencoder(WIDTHS) | published.clip(32, 64, 12, WORDS)
LAYOUTS: dict[str, tuple[dict[str, Any], Shapes]] = {
    "SD 1.5": (SD15, VERSION_1 | published.unet(WIDTHS, 32)),
    "SD 2.1": (
        SD21,
        published.unet(WIDTHS, 32, linear=True)
        | published.autoencoder(WIDTHS)
        | published.open_clip(32, 64, 23, WORDS),
    ),
    "inpainting": (INPAINTING, VERSION_1 | published.unet(WIDTHS, 32, channels=9)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_exact_in_fp32_and_a_plain_cast_in_halves(make_checkpoint: MakeCheckpoint, tmp_path: Path, name: str) -> None:
    shape, layout = LAYOUTS[name]
    checkpoint = make_checkpoint(**shape)
    whole: dict[str, torch.Tensor] = {}
    for dtype in ("fp32", "fp16", "bf16"):
        file, companion, entries = convert(checkpoint, tmp_path, dtype)
        tensors = load_file(file)
        assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == layout
        with Source(checkpoint) as source:
            # By diffusers' own loader, tensor by tensor against the cast of the checkpoint's.
            assert verify.compare_tensors(file, companion, source, dtype) == sum(map(len, source.tensors.values()))
        whole = whole or tensors
        for entry in entries:
            expected = whole[entry.name] if entry.dtype == "I64" else whole[entry.name].to(writer.DTYPES[dtype][0])
            assert torch.equal(tensors[entry.name], expected), entry.name
