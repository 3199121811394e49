"""Checkpoints that are not written: values, tensors, folders and families that do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from components.convert.source import Source
from components.errors import UserError
from tests.components.convert.files import change, convert, copied


def test_values_that_are_not_finite_are_named(checkpoint: Path, tmp_path: Path) -> None:
    broken = copied(checkpoint, tmp_path)

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["conv_in.weight"][0, 0, 0, 0] = float("nan")
        tensors["mid_block.resnets.0.norm1.bias"][-1] = float("inf")

    change(broken / "unet" / "diffusion_pytorch_model.safetensors", spoil)
    with pytest.raises(UserError) as caught:
        convert(broken, tmp_path)
    assert len(caught.value.problems) == 2
    assert "unet: tensor conv_in.weight: holds NaN" in str(caught.value)
    assert "unet: tensor mid_block.resnets.0.norm1.bias: holds NaN or inf" in str(caught.value)
    with pytest.raises(UserError, match="holds NaN"):
        convert(broken, tmp_path, suffix=".ckpt")
    assert not list(tmp_path.glob("model.*"))


def test_values_too_large_for_halves_are_refused_but_fit_bf16(checkpoint: Path, tmp_path: Path) -> None:
    large = copied(checkpoint, tmp_path)
    change(large / "unet" / "diffusion_pytorch_model.safetensors", lambda t: t["conv_out.bias"].fill_(-70000.0))
    with pytest.raises(UserError, match=r"conv_out\.bias: 7e\+04 is too large for F16; set convert\.dtype to bf16"):
        convert(large, tmp_path)
    convert(large, tmp_path, "bf16")


@pytest.mark.parametrize(
    ("file", "edit", "said"),
    [
        (
            "text_encoder/model.safetensors",
            lambda t: t.pop(next(n for n in t if n.endswith("layers.0.mlp.fc1.weight"))),
            r"text_encoder: tensor encoder\.layers\.0\.mlp\.fc1\.weight: missing",
        ),
        (
            "unet/diffusion_pytorch_model.safetensors",
            lambda t: t.update({"lora.weight": torch.zeros(2)}),
            r"unet: tensor lora\.weight: unknown to the model",
        ),
        (
            "vae/diffusion_pytorch_model.safetensors",
            lambda t: t.update({"quant_conv.bias": torch.zeros(3)}),
            r"vae: tensor quant_conv\.bias: shape \[3\], expected \[8\]",
        ),
    ],
)
def test_weights_that_do_not_belong_to_the_config(  # type: ignore[no-untyped-def]
    checkpoint: Path, tmp_path: Path, file: str, edit, said: str
) -> None:
    broken = copied(checkpoint, tmp_path)
    change(broken / file, edit)
    with pytest.raises(UserError, match=said):
        convert(broken, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "model_index.json").unlink(), "model_index.json: not found"),
        (lambda f: (f / "vae" / "config.json").write_text("{"), "vae/config.json: cannot be read as JSON"),
        (lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer: no tokenizer"),
        (lambda f: shutil.rmtree(f / "scheduler"), "scheduler_config.json: not found"),
        (
            lambda f: (f / "text_encoder" / "model.safetensors").write_bytes(b"\x10" + bytes(20)),
            "text_encoder/model.safetensors: not a readable safetensors file",
        ),
        (
            lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").rename(f / "unet" / "x.bin"),
            "x.bin is pickled",
        ),
    ],
)
def test_incomplete_folders(checkpoint: Path, tmp_path: Path, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    broken = copied(checkpoint, tmp_path)
    damage(broken)
    with pytest.raises(UserError, match=said):
        convert(broken, tmp_path)


def test_other_families_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    other = copied(checkpoint, tmp_path)
    index = json.loads((other / "model_index.json").read_text())
    index["text_encoder"] = ["transformers", "CLIPTextModelWithProjection"]
    (other / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="text_encoder is CLIPTextModelWithProjection, expected CLIPTextModel"):
        Source(other)


def _edited(checkpoint: Path, tmp_path: Path, file: str, key: str, value: object) -> Path:
    damaged = copied(checkpoint, tmp_path)
    path = damaged / file
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    return damaged


@pytest.mark.parametrize("value", [1, "x", [], ["diffusers"], {"a": 1}, [None, 1]])
def test_a_part_of_the_index_that_is_no_pair_is_refused(value: object, checkpoint: Path, tmp_path: Path) -> None:
    damaged = _edited(checkpoint, tmp_path, "model_index.json", "unet", value)
    with pytest.raises(UserError, match=r"model_index\.json: unet is .*, expected UNet2DConditionModel"):
        Source(damaged)


@pytest.mark.parametrize("listed", [[], None, {"a": 1}, {"a": ["x"]}, "x"])
def test_a_listing_of_shards_that_is_none_is_refused(listed: object, checkpoint: Path, tmp_path: Path) -> None:
    damaged = copied(checkpoint, tmp_path)
    (damaged / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    listing = damaged / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    listing.write_text(json.dumps({"weight_map": listed}))
    with pytest.raises(UserError, match="no 'weight_map' from tensors to files"):
        Source(damaged)


@pytest.mark.parametrize(
    ("file", "key", "value", "said"),
    [
        ("unet", "layers_per_block", 10**6, "layers_per_block is 1000000, at most 8 is built"),
        ("unet", "layers_per_block", [1, 1, 1, 10**6], "layers_per_block is 1000000"),
        ("unet", "transformer_layers_per_block", [[1], [10**6]], "transformer_layers_per_block is 1000000"),
        ("unet", "block_out_channels", [32] * 1000, "block_out_channels has 1,000 entries, at most 8"),
        ("unet", "block_out_channels", None, "describes no UNet2DConditionModel"),
        ("unet", "norm_num_groups", 0, "describes no UNet2DConditionModel"),
        ("vae", "layers_per_block", 10**6, "layers_per_block is 1000000"),
        ("vae", "block_out_channels", "x", "describes no AutoencoderKL"),
        ("text_encoder", "num_hidden_layers", 10**9, "num_hidden_layers is 1000000000, at most 64"),
        ("text_encoder", "hidden_size", "x", "describes no CLIPTextModel"),
        ("text_encoder", "vocab_size", 10**18, "vocab_size is 1000000000000000000, at most 10,000,000"),
    ],
)
def test_a_config_that_describes_no_model_is_refused(
    file: str, key: str, value: object, said: str, checkpoint: Path, tmp_path: Path
) -> None:
    damaged = _edited(checkpoint, tmp_path, f"{file}/config.json", key, value)
    with Source(damaged) as source, pytest.raises(UserError) as caught:
        source.check()
    assert f"{file}/config.json: {said}" in str(caught.value)
    assert str(caught.value).endswith("write the checkpoint again")
