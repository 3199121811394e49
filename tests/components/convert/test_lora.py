"""A LoRA in kohya's format: its names, that diffusers draws the same with it, and that damage does not pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from components import adapters
from components.convert import lora
from components.convert.mismatch import Mismatch
from components.errors import UserError

from .updates import ALPHA, RANK, write_updates

#: Names as kohya's scripts write them.
UNET = "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn2_to_k"
OUT = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0"
TEXT = "lora_te_text_model_encoder_layers_1_self_attn_q_proj"


@pytest.fixture(scope="module")
def both(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Updates of UNet and text encoder."""
    return write_updates(tmp_path_factory.mktemp("both"), checkpoint, ("unet", "text_encoder"))


def draw(base: Path, update: Path | None) -> np.ndarray:
    """An image in float32 by diffusers alone, levels in [0, 1]."""
    from diffusers import StableDiffusionPipeline

    pipeline: Any = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    if update is not None:
        pipeline.load_lora_weights(update.parent, weight_name=update.name, local_files_only=True)
    made = pipeline(
        "a photo",
        num_inference_steps=3,
        height=64,
        width=64,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    )
    return np.asarray(made.images[0])


@pytest.mark.parametrize("components", [("unet",), ("unet", "text_encoder")], ids=["unet", "with text encoder"])
def test_it_draws_what_the_unconverted_adapter_draws(
    checkpoint: Path, tmp_path: Path, components: tuple[str, ...]
) -> None:
    update = write_updates(tmp_path / "update", checkpoint, components)
    file = tmp_path / "lora.safetensors"
    lora.write(file, adapters.read(update), "fp32", {"format": "pt"})
    expected, without = draw(checkpoint, update), draw(checkpoint, None)
    assert np.abs(draw(checkpoint, file) - expected).max() < 1e-4
    assert np.abs(without - expected).max() > 0.05, "the updates change nothing: the comparison says nothing"
    assert lora.compare(file, checkpoint, update, "fp32", "a photo") == pytest.approx(0, abs=0.01)


def test_names_and_shapes_are_kohyas(both: Path, tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    lora.write(file, adapters.read(both), "fp16", {"format": "pt"})
    tensors = load_file(file)
    # 16 blocks of two attentions of four modules, and two layers of four.
    assert len(tensors) == 3 * (16 * 2 * 4 + 2 * 4)
    assert {name.split(".", 1)[1] for name in tensors} == {"lora_down.weight", "lora_up.weight", "alpha"}
    for name, fed, given in ((UNET, 32, 16), (OUT, 32, 32), (TEXT, 32, 32)):
        assert tensors[f"{name}.lora_down.weight"].shape == (RANK, fed)
        assert tensors[f"{name}.lora_up.weight"].shape == (given, RANK)
        assert tensors[f"{name}.alpha"].item() == ALPHA
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda t: t[f"{UNET}.lora_up.weight"].view(-1)[:1].add_(0.5), "unet: 1 updates differ"),
        (lambda t: t[f"{TEXT}.lora_down.weight"].view(-1)[:1].add_(0.5), "text_encoder: 1 updates differ"),
        (lambda t: [t.pop(name) for name in list(t) if name.startswith(f"{OUT}.")], r"unet: tensors 2 missing \(mid"),
        (lambda t: t[f"{UNET}.alpha"].fill_(8), "unet: 1 alphas are not 3.0"),
        (lambda t: [v.fill_(8) for k, v in t.items() if k.endswith("alpha")], r"updates are scaled by \[2.0\]"),
    ],
    ids=["unet", "text encoder", "missing", "one alpha", "alphas"],
)
def test_damage_is_found(checkpoint: Path, both: Path, tmp_path: Path, edit: Any, said: str) -> None:
    file = tmp_path / "lora.safetensors"
    lora.write(file, adapters.read(both), "fp32", {"format": "pt"})
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(Mismatch, match=said):
        lora.compare(file, checkpoint, both, "fp32", None)


def test_updates_that_half_precision_cannot_hold_are_named(both: Path, tmp_path: Path) -> None:
    adapter = adapters.read(both)
    name = next(iter(adapter.updates["unet"]))
    adapter.updates["unet"][name][0, 0] = 1e6
    with pytest.raises(UserError, match="1e.06 is too large for F16; set convert.dtype"):
        lora.write(tmp_path / "lora.safetensors", adapter, "fp16", {})
    assert not (tmp_path / "lora.safetensors").exists()


@pytest.mark.parametrize("kind", ["lora_embedding_A", "lora_A.bias", "lora_A.weight"])
def test_an_update_that_would_be_left_out_is_refused(kind: str, both: Path, checkpoint: Path, tmp_path: Path) -> None:
    whole = adapters.read(both)
    extra = {f"embeddings.token_embedding.{kind}": torch.ones(RANK, 3)}
    updates = {**whole.updates, "text_encoder": {**whole.updates["text_encoder"], **extra}}
    ranks = {part: {"r": RANK, "lora_alpha": ALPHA} for part in updates}
    adapters.write(tmp_path / adapters.FILE, updates, ranks)
    for read in (adapters.read, lambda file: adapters.fuse(checkpoint, file)):
        with pytest.raises(UserError, match=rf"1 tensors are no updates .*text_encoder\.embeddings.*{kind}"):
            read(tmp_path / adapters.FILE)
