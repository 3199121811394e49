"""Where each tensor of a diffusers pipeline goes in the original Stable Diffusion key layout.

Names only, derived from the models' configs; no tensor is touched here. Covers Stable Diffusion 1.x
(CLIP text encoder, ``cond_stage_model.transformer``) and 2.x (OpenCLIP text encoder,
``cond_stage_model.model``), at any number of levels, layers and widths. Not covered: Stable Diffusion
XL and later, whose text encoders and embeddings differ.

Source of the layout: the ``input_blocks`` / ``middle_block`` / ``output_blocks`` of the UNet and the
``encoder`` / ``decoder`` of the autoencoder as CompVis' latent-diffusion names them, and OpenCLIP's
``CLIP`` module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from components.errors import UserError

Component = Literal["unet", "vae", "text_encoder"]
COMPONENTS: tuple[Component, ...] = ("unet", "vae", "text_encoder")

Config = Mapping[str, Any]

#: Layers of an OpenCLIP text encoder in this layout. The original has one more that Stable Diffusion
#: 2.x does not use; loaders leave out a layer of that index.
OPEN_CLIP_LAYERS = 23


@dataclass(frozen=True)
class Target:
    """One tensor of the single file: its sources one after another along the first dimension."""

    name: str
    component: Component
    sources: tuple[str, ...]  #: canonical names (see `canonical`); none for token positions 0, 1, 2 …
    pointwise: bool = False  #: a linear layer [out, in] that the layout keeps as convolution [out, in, 1, 1]


def canonical(component: Component, name: str) -> str | None:
    """The name that current diffusers and transformers give a tensor; None for one without weights.

    Files written before diffusers 0.18 name an autoencoder's attention otherwise, and transformers
    before 5.6 put ``text_model.`` before a CLIP text encoder's names and kept its token positions.
    """
    if component == "vae":
        for old, new in _FORMER_VAE_ATTENTION.items():
            name = re.sub(rf"(mid_block\.attentions\.\d+)\.{old}\.", rf"\1.{new}.", name)
    elif component == "text_encoder":
        name = name.removeprefix("text_model.")
        if name == "embeddings.position_ids":
            return None
    return name


def targets(configs: Mapping[Component, Config], names: Mapping[Component, Iterable[str]]) -> list[Target]:
    """The single file's tensors for these canonical source names, each source used exactly once.

    Args:
        configs: each component's ``config.json``.
        names: each component's canonical tensor names.

    Raises:
        UserError: naming every tensor and every config key that this layout has no place for.
    """
    problems: list[str] = []
    made: list[Target] = []
    for component, make in (("unet", _unet), ("vae", _vae), ("text_encoder", _text)):
        try:
            made += make(configs[component], list(names[component]))  # type: ignore[index]
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    return made


def is_open_clip(config: Config) -> bool:
    """Whether a text encoder belongs to the OpenCLIP family, by its activation.

    Raises:
        UserError: for an activation that neither family has.
    """
    activation = config.get("hidden_act", "quick_gelu")
    if activation not in ("quick_gelu", "gelu"):
        raise UserError(
            f"text_encoder/config.json: hidden_act {activation!r}: single-file loaders know quick_gelu "
            "(CLIP, Stable Diffusion 1.x) and gelu (OpenCLIP, 2.x); use a base model with one of them"
        )
    return bool(activation == "gelu")


# ---------------------------------------------------------------------------------------------- UNet

_UNET_TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_TRANSFORMER = re.compile(
    r"(norm|proj_in|proj_out|transformer_blocks\.\d+\."
    r"(norm[123]|attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2)))\.(weight|bias)"
)


def _unet(config: Config, names: list[str]) -> list[Target]:
    layers = config.get("layers_per_block", 2)
    if not isinstance(layers, int):
        if len(set(layers)) != 1:
            raise UserError(
                f"unet/config.json: layers_per_block {list(layers)}: single-file loaders expect the same "
                "number at every level; use a base model with one number"
            )
        layers = layers[0]
    attention_up = [kind.startswith("CrossAttn") for kind in config["up_block_types"]]
    pairs = {name: _unet_name(name, layers, attention_up) for name in names}
    return _checked("unet", pairs, "model.diffusion_model.")


def _unet_name(name: str, layers: int, attention_up: list[bool]) -> str | None:
    stem, _, kind = name.rpartition(".")
    if stem in _UNET_TOP:
        return f"{_UNET_TOP[stem]}.{kind}"
    if found := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", name):
        side, level, part, layer, tail = found.groups()
        # A level on the way down has a slot for its downsampler after its layers; a level on the way
        # up has one layer more and shares the last one's slot with its upsampler.
        slot = int(level) * (layers + 1) + int(layer) + (side == "down")
        return _unet_part(f"{'input' if side == 'down' else 'output'}_blocks.{slot}", part, tail)
    if found := re.fullmatch(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(weight|bias)", name):
        return f"input_blocks.{(int(found[1]) + 1) * (layers + 1)}.0.op.{found[2]}"
    if found := re.fullmatch(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.(weight|bias)", name):
        level = int(found[1])
        return f"output_blocks.{level * (layers + 1) + layers}.{1 + attention_up[level]}.conv.{found[2]}"
    if found := re.fullmatch(r"mid_block\.resnets\.([01])\.(.+)", name):
        tail = _resnet(found[2], _UNET_RESNET)
        return tail and f"middle_block.{2 * int(found[1])}.{tail}"
    if (found := re.fullmatch(r"mid_block\.attentions\.0\.(.+)", name)) and _TRANSFORMER.fullmatch(found[1]):
        return f"middle_block.1.{found[1]}"
    return None


def _unet_part(block: str, part: str, tail: str) -> str | None:
    if part == "attentions":
        return f"{block}.1.{tail}" if _TRANSFORMER.fullmatch(tail) else None
    new = _resnet(tail, _UNET_RESNET)
    return new and f"{block}.0.{new}"


def _resnet(tail: str, table: Mapping[str, str]) -> str | None:
    stem, _, kind = tail.rpartition(".")
    return f"{table[stem]}.{kind}" if stem in table and kind in ("weight", "bias") else None


# --------------------------------------------------------------------------------------- autoencoder

_FORMER_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", r"proj_attn": "to_out.0"}
_VAE_RESNET = {name: name for name in ("norm1", "conv1", "norm2", "conv2")} | {"conv_shortcut": "nin_shortcut"}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_VAE_TOP = {
    f"{side}.{old}": f"{side}.{new}"
    for side in ("encoder", "decoder")
    for old, new in (("conv_in", "conv_in"), ("conv_out", "conv_out"), ("conv_norm_out", "norm_out"))
} | {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}


def _vae(config: Config, names: list[str]) -> list[Target]:
    levels = len(config["block_out_channels"])
    pairs = {name: _vae_name(name, levels) for name in names}
    made = _checked("vae", pairs, "first_stage_model.")
    pointwise = re.compile(r"first_stage_model\.(en|de)coder\.mid\.attn_1\.(q|k|v|proj_out)\.weight")
    return [Target(t.name, t.component, t.sources, pointwise=bool(pointwise.fullmatch(t.name))) for t in made]


def _vae_name(name: str, levels: int) -> str | None:
    stem, _, kind = name.rpartition(".")
    if stem in _VAE_TOP:
        return f"{_VAE_TOP[stem]}.{kind}"
    if found := re.fullmatch(r"(encoder\.down|decoder\.up)_blocks\.(\d+)\.(.+)", name):
        side, level, tail = found.groups()
        # The decoder's levels are counted from the finest in the layout, from the coarsest in diffusers.
        block = f"{side}.{int(level) if side == 'encoder.down' else levels - 1 - int(level)}"
        if inner := re.fullmatch(r"resnets\.(\d+)\.(.+)", tail):
            new = _resnet(inner[2], _VAE_RESNET)
            return new and f"{block}.block.{inner[1]}.{new}"
        if inner := re.fullmatch(r"(down|up)samplers\.0\.conv\.(weight|bias)", tail):
            return f"{block}.{inner[1]}sample.conv.{inner[2]}"
        return None
    if found := re.fullmatch(r"(encoder|decoder)\.mid_block\.resnets\.([01])\.(.+)", name):
        new = _resnet(found[3], _VAE_RESNET)
        return new and f"{found[1]}.mid.block_{int(found[2]) + 1}.{new}"
    if found := re.fullmatch(r"(encoder|decoder)\.mid_block\.attentions\.0\.(.+)", name):
        new = _resnet(found[2], _VAE_ATTENTION)
        return new and f"{found[1]}.mid.attn_1.{new}"
    return None


# -------------------------------------------------------------------------------------- text encoder

_OPEN_CLIP_TOP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_TEXT_LAYER = re.compile(
    r"encoder\.layers\.(\d+)\.(layer_norm[12]|mlp\.fc[12]|self_attn\.(q_proj|k_proj|v_proj|out_proj))"
    r"\.(weight|bias)"
)


def _text(config: Config, names: list[str]) -> list[Target]:
    if is_open_clip(config):
        return _open_clip(config, names)
    pairs = {name: name if name in _OPEN_CLIP_TOP or _TEXT_LAYER.fullmatch(name) else None for name in names}
    prefix = "cond_stage_model.transformer.text_model."
    made = _checked("text_encoder", pairs, prefix)
    return [*made, Target(f"{prefix}embeddings.position_ids", "text_encoder", ())]


def _open_clip(config: Config, names: list[str]) -> list[Target]:
    count = config.get("num_hidden_layers", 12)
    if count > OPEN_CLIP_LAYERS:
        raise UserError(
            f"text_encoder/config.json: num_hidden_layers {count}: single-file loaders leave out layer "
            f"{OPEN_CLIP_LAYERS + 1} of an OpenCLIP text encoder; use one with at most {OPEN_CLIP_LAYERS}"
        )
    pairs: dict[str, str | None] = {}
    packed: dict[str, tuple[str, ...]] = {}
    for name in names:
        found = _TEXT_LAYER.fullmatch(name)
        if found is None:
            pairs[name] = _OPEN_CLIP_TOP.get(name)
            continue
        layer, part, kind = found[1], found[2], found[4]
        block = f"transformer.resblocks.{layer}"
        if part in _OPEN_CLIP_LAYER:
            pairs[name] = f"{block}.{_OPEN_CLIP_LAYER[part]}.{kind}"
        else:
            parts = tuple(f"encoder.layers.{layer}.self_attn.{p}_proj.{kind}" for p in "qkv")
            packed[f"{block}.attn.in_proj_{kind}"] = parts
    prefix = "cond_stage_model.model."
    made = _checked("text_encoder", pairs, prefix)
    return made + [Target(prefix + name, "text_encoder", parts) for name, parts in packed.items()]


def _checked(component: Component, pairs: Mapping[str, str | None], prefix: str) -> list[Target]:
    unknown = [name for name, new in pairs.items() if new is None]
    if unknown:
        raise UserError(
            *(
                f"{component}: tensor {name}: the Stable Diffusion 1.x/2.x layout has no place for it; "
                "use a base model of that family"
                for name in unknown[:10]
            ),
            *([f"{component}: and {len(unknown) - 10} more tensors like these"] if len(unknown) > 10 else []),
        )
    return [Target(prefix + new, component, (name,)) for name, new in pairs.items() if new is not None]
