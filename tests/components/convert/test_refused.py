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
