"""The key layout, held against diffusers' own conversion in the other direction."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils as reference

from components.convert import layout, writer
from components.convert.layout import canonical, targets
from components.convert.source import Stored, expected_shapes
from components.errors import UserError

from . import published_layout as published

SD15: dict[str, dict[str, Any]] = {
    "unet": {
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "layers_per_block": 2,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "sample_size": 64,
    },
    "vae": {
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 512,
    },
    "text_encoder": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "vocab_size": 49408,
        "hidden_act": "quick_gelu",
        "max_position_embeddings": 77,
    },
}
SD21 = {
    "unet": {
        **SD15["unet"],
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
    "vae": SD15["vae"],
    "text_encoder": {
        **SD15["text_encoder"],
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
    },
}
INPAINTING = {**SD15, "unet": {**SD15["unet"], "in_channels": 9}}
OTHER = {
    "unet": {
        **SD15["unet"],
        "block_out_channels": [32, 64, 96],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 1,
        "transformer_layers_per_block": 2,
    },
    "vae": {
        **SD15["vae"],
        "block_out_channels": [32, 64],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "layers_per_block": 3,
    },
    "text_encoder": {**SD15["text_encoder"], "num_hidden_layers": 3},
}


def planned(configs: Mapping[str, Any]) -> tuple[dict[str, writer.Entry], dict[str, dict[str, tuple[int, ...]]]]:
    """The file that these configs make, by name, and the tensors it is made from; nothing is allocated."""
    shapes = expected_shapes(configs)  # type: ignore[arg-type]
    tensors = {
        component: {name: Stored(None, name, shape, "F32") for name, shape in found.items()}  # type: ignore[arg-type]
        for component, found in shapes.items()
    }
    source = SimpleNamespace(configs=configs, tensors=tensors)
    made = targets(configs, tensors)  # type: ignore[arg-type]
    assert len({target.name for target in made}) == len(made)
    return {entry.target.name: entry for entry in writer.plan(source, made, "fp16")}, shapes  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("configs", [SD15, SD21, OTHER], ids=["sd15", "sd21", "3 levels × 1 layer"])
@pytest.mark.parametrize("component", ["unet", "vae"])
def test_diffusers_converter_maps_every_tensor_back(configs: dict, component: str) -> None:
    entries, shapes = planned(configs)
    numbers = {name: float(i + 1) for i, name in enumerate(shapes[component])}
    # A tensor of one value and the right rank for each entry: the converter moves it, the value tells it.
    fake = {
        name: torch.full((1,) * len(entry.shape), numbers[entry.target.sources[0]])
        for name, entry in entries.items()
        if entry.target.component == component
    }
    convert = {"unet": reference.convert_ldm_unet_checkpoint, "vae": reference.convert_ldm_vae_checkpoint}
    back = convert[component](dict(fake), dict(configs[component]))
    assert {name: tensor.item() for name, tensor in back.items()} == numbers
    assert {name: tensor.dim() for name, tensor in back.items()} == {
        name: len(shape) for name, shape in shapes[component].items()
    }


def test_text_encoder_maps_back() -> None:
    entries, shapes = planned(SD15)
    given = {name: name for name, entry in entries.items() if entry.target.component == "text_encoder"}
    back = {canonical("text_encoder", name) for name in reference.convert_ldm_clip_checkpoint(given)}
    assert back - {None} == set(shapes["text_encoder"])


@pytest.mark.parametrize(
    ("configs", "layout", "counts"),
    [
        # v1-5-pruned-emaonly: 686 + 248 + 197 tensors.
        (SD15, published.unet() | published.autoencoder() | published.clip(), [686, 248, 197]),
        (SD21, published.unet(context=1024, linear=True) | published.autoencoder() | published.open_clip(), None),
        (INPAINTING, published.unet(channels=9) | published.autoencoder() | published.clip(), [686, 248, 197]),
    ],
    ids=["sd15", "sd21", "inpainting"],
)
def test_names_and_shapes_are_those_of_the_original_files(
    configs: dict, layout: published.Shapes, counts: list[int] | None
) -> None:
    entries, _ = planned(configs)
    assert {name: entry.shape for name, entry in entries.items()} == layout
    if counts:
        parts = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model.")
        assert [sum(name.startswith(part) for name in entries) for part in parts] == counts
    assert [name for name, entry in entries.items() if entry.dtype == "I64"] == [
        name for name in layout if name.endswith("position_ids")
    ]


def test_open_clip_layout_packs_queries_keys_and_values() -> None:
    entries, _ = planned(SD21)
    prefix = "cond_stage_model.model.transformer.resblocks.22.attn.in_proj_"
    assert entries[prefix + "weight"].shape == (3072, 1024)
    assert entries[prefix + "bias"].shape == (3072,)
    parts = [name.rpartition("self_attn.")[2] for name in entries[prefix + "bias"].target.sources]
    assert parts == ["q_proj.bias", "k_proj.bias", "v_proj.bias"]
    assert entries["model.diffusion_model.input_blocks.1.1.proj_in.weight"].shape == (320, 320)
    assert not any("position_ids" in name or "text_model" in name for name in entries)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("encoder.mid_block.attentions.0.query.weight", "encoder.mid_block.attentions.0.to_q.weight"),
        ("decoder.mid_block.attentions.0.proj_attn.bias", "decoder.mid_block.attentions.0.to_out.0.bias"),
        ("decoder.mid_block.attentions.0.to_v.bias", "decoder.mid_block.attentions.0.to_v.bias"),
    ],
)
def test_former_names_of_the_autoencoders_attention(name: str, expected: str) -> None:
    assert canonical("vae", name) == expected


def test_text_encoder_names_before_and_since_transformers_5_6() -> None:
    assert canonical("text_encoder", "text_model.final_layer_norm.bias") == "final_layer_norm.bias"
    assert canonical("text_encoder", "final_layer_norm.bias") == "final_layer_norm.bias"
    assert canonical("text_encoder", "text_model.embeddings.position_ids") is None


def test_unknown_tensors_are_named_all_together() -> None:
    names = {component: list(found) for component, found in expected_shapes(SD15).items()}  # type: ignore[arg-type]
    names["unet"].append("add_embedding.linear_1.weight")
    names["vae"].append("encoder.temporal.weight")
    names["text_encoder"].append("text_projection.weight")
    with pytest.raises(UserError) as caught:
        targets(SD15, names)  # type: ignore[arg-type]
    assert len(caught.value.problems) == 3
    for name in ("add_embedding.linear_1.weight", "encoder.temporal.weight", "text_projection.weight"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("component", "change", "said"),
    [
        ("unet", {"layers_per_block": [1, 2, 2, 2]}, "layers_per_block"),
        ("text_encoder", {"hidden_act": "relu"}, "hidden_act 'relu'"),
        ("text_encoder", {"hidden_act": "gelu", "num_hidden_layers": 24}, "num_hidden_layers 24"),
    ],
)
def test_configs_that_loaders_would_misread_are_refused(component: str, change: dict, said: str) -> None:
    configs = {**SD15, component: {**SD15[component], **change}}
    with pytest.raises(UserError, match=said):
        targets(configs, {c: [] for c in layout.COMPONENTS})  # type: ignore[arg-type]
