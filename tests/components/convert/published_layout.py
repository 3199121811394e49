"""Names and shapes of the tensors in the original Stable Diffusion files, from their regular structure.

Written down from the files' own architecture (latent-diffusion's UNet and autoencoder, CLIP as transformers named it,
OpenCLIP), without a look at the code under test. Left out are what no loader reads: the noise schedule's tables, the
averaged copy (``model_ema``), and of OpenCLIP the 24th layer, ``text_projection`` and ``logit_scale``, which Stable
Diffusion 2 does not use and a diffusers checkpoint does not hold.
"""

from __future__ import annotations

from collections.abc import Sequence

Shapes = dict[str, tuple[int, ...]]


def _affine(prefix: str, out: int, *rest: int) -> Shapes:
    return {f"{prefix}.weight": (out, *rest), f"{prefix}.bias": (out,)}


def unet(
    widths: Sequence[int] = (320, 640, 1280, 1280), context: int = 768, channels: int = 4, linear: bool = False
) -> Shapes:
    """``model.diffusion_model.``: four levels of two layers, attention in all but the last.

    Args:
        context: width of the text's states.
        channels: 9 where it inpaints.
        linear: whether attention is projected by matrices instead of convolutions, as in Stable Diffusion 2.
    """
    first = widths[0]

    def resnet(at: str, given: int, made: int) -> Shapes:
        return {
            **_affine(f"{at}.in_layers.0", given),
            **_affine(f"{at}.in_layers.2", made, given, 3, 3),
            **_affine(f"{at}.emb_layers.1", made, 4 * first),
            **_affine(f"{at}.out_layers.0", made),
            **_affine(f"{at}.out_layers.3", made, made, 3, 3),
            **(_affine(f"{at}.skip_connection", made, given, 1, 1) if given != made else {}),
        }

    def attention(at: str, width: int) -> Shapes:
        ends = () if linear else (1, 1)
        block = f"{at}.transformer_blocks.0"
        made = {**_affine(f"{at}.norm", width), **_affine(f"{at}.proj_in", width, width, *ends)}
        for name, seen in (("attn1", width), ("attn2", context)):
            made[f"{block}.{name}.to_q.weight"] = (width, width)
            made[f"{block}.{name}.to_k.weight"] = made[f"{block}.{name}.to_v.weight"] = (width, seen)
            made |= _affine(f"{block}.{name}.to_out.0", width, width)
        made |= _affine(f"{block}.ff.net.0.proj", 8 * width, width)
        made |= _affine(f"{block}.ff.net.2", width, 4 * width)
        for i in (1, 2, 3):
            made |= _affine(f"{block}.norm{i}", width)
        return made | _affine(f"{at}.proj_out", width, width, *ends)

    made = {**_affine("time_embed.0", 4 * first, first), **_affine("time_embed.2", 4 * first, 4 * first)}
    made |= _affine("input_blocks.0.0", first, channels, 3, 3)
    kept, width, number, last = [first], first, 1, len(widths) - 1
    for level, wide in enumerate(widths):
        for _ in range(2):
            made |= resnet(f"input_blocks.{number}.0", width, wide)
            made |= attention(f"input_blocks.{number}.1", wide) if level < last else {}
            width, number = wide, number + 1
            kept.append(width)
        if level < last:
            made |= _affine(f"input_blocks.{number}.0.op", width, width, 3, 3)
            number += 1
            kept.append(width)
    made |= resnet("middle_block.0", width, width) | attention("middle_block.1", width)
    made |= resnet("middle_block.2", width, width)
    number = 0
    for level in range(last, -1, -1):
        for layer in range(3):
            made |= resnet(f"output_blocks.{number}.0", width + kept.pop(), widths[level])
            width = widths[level]
            made |= attention(f"output_blocks.{number}.1", width) if level < last else {}
            if layer == 2 and level > 0:
                made |= _affine(f"output_blocks.{number}.{2 if level < last else 1}.conv", width, width, 3, 3)
            number += 1
    made |= _affine("out.0", first) | _affine("out.2", 4, first, 3, 3)
    return {f"model.diffusion_model.{name}": shape for name, shape in made.items()}


def autoencoder(widths: Sequence[int] = (128, 256, 512, 512)) -> Shapes:
    """``first_stage_model.``: levels of two layers, one more on the way up; 4 latent channels."""

    def resnet(at: str, given: int, made: int) -> Shapes:
        return {
            **_affine(f"{at}.norm1", given),
            **_affine(f"{at}.conv1", made, given, 3, 3),
            **_affine(f"{at}.norm2", made),
            **_affine(f"{at}.conv2", made, made, 3, 3),
            **(_affine(f"{at}.nin_shortcut", made, given, 1, 1) if given != made else {}),
        }

    def middle(side: str) -> Shapes:
        made = resnet(f"{side}.mid.block_1", widths[-1], widths[-1]) | _affine(f"{side}.mid.attn_1.norm", widths[-1])
        for name in ("q", "k", "v", "proj_out"):
            made |= _affine(f"{side}.mid.attn_1.{name}", widths[-1], widths[-1], 1, 1)
        return made | resnet(f"{side}.mid.block_2", widths[-1], widths[-1])

    made = _affine("encoder.conv_in", widths[0], 3, 3, 3)
    width, last = widths[0], len(widths) - 1
    for level, wide in enumerate(widths):
        for layer in range(2):
            made |= resnet(f"encoder.down.{level}.block.{layer}", width, wide)
            width = wide
        made |= _affine(f"encoder.down.{level}.downsample.conv", width, width, 3, 3) if level < last else {}
    made |= middle("encoder") | _affine("encoder.norm_out", width) | _affine("encoder.conv_out", 8, width, 3, 3)
    made |= _affine("decoder.conv_in", width, 4, 3, 3) | middle("decoder")
    for level in range(last, -1, -1):
        for layer in range(3):
            made |= resnet(f"decoder.up.{level}.block.{layer}", width, widths[level])
            width = widths[level]
        made |= _affine(f"decoder.up.{level}.upsample.conv", width, width, 3, 3) if level else {}
    made |= _affine("decoder.norm_out", width) | _affine("decoder.conv_out", 3, width, 3, 3)
    made |= _affine("quant_conv", 8, 8, 1, 1) | _affine("post_quant_conv", 4, 4, 1, 1)
    return {f"first_stage_model.{name}": shape for name, shape in made.items()}


def clip(width: int = 768, wide: int = 3072, layers: int = 12, words: int = 49408) -> Shapes:
    """``cond_stage_model.transformer.``: the text encoder of Stable Diffusion 1."""
    made: Shapes = {
        "embeddings.position_ids": (1, 77),
        "embeddings.token_embedding.weight": (words, width),
        "embeddings.position_embedding.weight": (77, width),
        **_affine("final_layer_norm", width),
    }
    for i in range(layers):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            made |= _affine(f"encoder.layers.{i}.self_attn.{name}", width, width)
        made |= _affine(f"encoder.layers.{i}.layer_norm1", width) | _affine(f"encoder.layers.{i}.layer_norm2", width)
        made |= _affine(f"encoder.layers.{i}.mlp.fc1", wide, width) | _affine(
            f"encoder.layers.{i}.mlp.fc2", width, wide
        )
    return {f"cond_stage_model.transformer.text_model.{name}": shape for name, shape in made.items()}


def open_clip(width: int = 1024, wide: int = 4096, layers: int = 23, words: int = 49408) -> Shapes:
    """``cond_stage_model.model.``: the text encoder of Stable Diffusion 2; queries, keys and values in one matrix."""
    made: Shapes = {
        "positional_embedding": (77, width),
        "token_embedding.weight": (words, width),
        **_affine("ln_final", width),
    }
    for i in range(layers):
        block = f"transformer.resblocks.{i}"
        made |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        made |= _affine(f"{block}.attn.out_proj", width, width)
        made |= _affine(f"{block}.ln_1", width) | _affine(f"{block}.ln_2", width)
        made |= _affine(f"{block}.mlp.c_fc", wide, width) | _affine(f"{block}.mlp.c_proj", width, wide)
    return {f"cond_stage_model.model.{name}": shape for name, shape in made.items()}
