"""Base models that are damaged, incomplete or put together of two: one message, before anything is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.base_model.revision import base_revision
from components.errors import UserError
from components.storage import Store
from components.train import model
from components.train.config import TrainConfig
from components.train.step import train
from tests.components.train.actions import SETTINGS, Train
from tests.single_file import write_config, write_single_file

pytestmark = pytest.mark.integration

UNET = "unet/diffusion_pytorch_model.safetensors"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 3438167540\n"


def pointer(folder: Path) -> None:
    (folder / UNET).write_text(POINTER)


def cut(folder: Path) -> None:
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:-1000])


def set_to(file: str, **values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**data, **values}))

    return change


def with_tensors(file: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        tensors = load_file(folder / file)
        change(tensors)
        save_file(tensors, folder / file, metadata={"format": "pt"})

    return changed


def without_words(folder: Path) -> None:
    for name in ("vocab.json", "tokenizer.json"):
        (folder / "tokenizer" / name).unlink()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a Git LFS pointer": (pointer, f"{UNET}: a Git LFS pointer .*git lfs pull"),
    "an empty file": (lambda f: (f / UNET).write_bytes(b""), f"{UNET}: no safetensors file"),
    "another file": (lambda f: (f / UNET).write_text("<html>not found"), f"{UNET}: no safetensors file"),
    "cut short": (cut, rf"{UNET}: [\d,]+ bytes of the [\d,]+ that its header says; copy"),
    "an index that names a shard which is not there": (
        lambda f: (f / f"{UNET}.index.json").write_text(
            json.dumps({"weight_map": {"conv_in.bias": "model.safetensors"}})
        ),
        r"unet/.*index.json: names model.safetensors, which is not there",
    ),
    "a configuration that is no JSON": (lambda f: (f / "unet/config.json").write_text("{"), "unet/config.json: not va"),
    "a list for one": (lambda f: (f / "vae/config.json").write_text("[]"), "vae/config.json: no JSON object"),
    "no configuration": (lambda f: (f / "unet/config.json").unlink(), "unet/config.json missing; copy"),
    "no schedule": (lambda f: (f / "scheduler/scheduler_config.json").unlink(), "scheduler missing"),
    "no words": (without_words, "tokenizer/vocab.json and merges.txt missing"),
    "words that are none": (
        lambda f: [(f / "tokenizer" / n).write_text("{}") for n in ("vocab.json", "tokenizer.json")],
        "tokenizer: cannot be loaded",
    ),
    "another width": (
        set_to("unet/config.json", block_out_channels=[64, 64, 64, 64]),
        r"unet: cannot be loaded as UNet2DConditionModel \(.*not of one model",
    ),
    "an unknown layer": (set_to("vae/config.json", down_block_types=["Spiral"] * 4), "vae: cannot be loaded"),
    "a value that is none": (set_to("vae/config.json", block_out_channels=None), "vae: cannot be loaded"),
    "a narrower text encoder": (
        set_to("text_encoder/config.json", intermediate_size=64),
        "text_encoder: cannot be loaded",
    ),
    "a layer more than there are weights": (
        set_to("text_encoder/config.json", num_hidden_layers=3),
        r"text_encoder: its weights lack 16 of the tensors .* \(encoder.layers.2.*, …\)",
    ),
    "a tensor less": (
        with_tensors(UNET, lambda t: t.pop("conv_in.bias")),
        r"unet: its weights lack 1 of the tensors .* \(conv_in.bias\)",
    ),
    "weights that are NaN": (
        with_tensors(UNET, lambda t: t["conv_in.weight"][0].fill_(float("nan"))),
        r"unet: 1 tensors hold values that are no numbers \(conv_in.weight",
    ),
    "weights that are infinite": (
        with_tensors(
            "text_encoder/model.safetensors",
            lambda t: t["embeddings.token_embedding.weight"][0].fill_(float("inf")),
        ),
        "text_encoder: 1 tensors hold values that are no numbers",
    ),
    "a text too long for the text encoder": (
        set_to("tokenizer/tokenizer_config.json", model_max_length=154),
        "tokenizer: texts of 154 tokens, the text encoder takes 77",
    ),
    "no length of texts": (
        set_to("tokenizer/tokenizer_config.json", model_max_length=None),
        "gives no model_max_length; write the 77 of the text encoder there",
    ),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_folder_is_refused_with_its_place(
    damage: Callable[[Path], object], said: str, run: Train, tiny_base: Path, tmp_path: Path, place: Store
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    damage(base)
    with pytest.raises(UserError, match=said) as caught:
        run(base=base)
    assert len(caught.value.problems) == 1
    assert str(base) in str(caught.value)
    assert not [info for info in place.list() if "step-" in info.key]


def refused(crops: Path, base: str, place: Store, out: Path) -> str:
    """What training on `base` ends with."""
    with pytest.raises(UserError) as caught:
        train(TrainConfig(**SETTINGS), crops, base, "b" * 64, "1", place.uri, out, out, out)
    [problem] = caught.value.problems
    return problem


def test_a_damaged_tree_in_a_store_is_refused_with_its_place(
    crops: Path, tiny_base: Path, tmp_path: Path, place: Store
) -> None:
    for number, name in enumerate(("a Git LFS pointer", "cut short", "another width", "weights that are NaN")):
        base, tree = tmp_path / str(number), place.at("mine", str(number))
        shutil.copytree(tiny_base, base)
        DAMAGE[name][0](base)
        tree.put_tree(base)
        said = refused(crops, tree.uri, place.at("runs", str(number)), tmp_path / "out")
        assert said.startswith(f"{tree.uri}/unet")
        assert str(tmp_path) not in said


def test_a_damaged_single_file_is_refused_with_its_place(
    crops: Path, tiny_base: Path, tmp_path: Path, place: Store
) -> None:
    whole = write_single_file(tiny_base, tmp_path / "whole.safetensors").read_bytes()
    broken = load_file(tmp_path / "whole.safetensors")
    broken["model.diffusion_model.input_blocks.0.0.weight"][0] = float("nan")
    save_file(broken, tmp_path / "nan.safetensors")
    write_config(tiny_base, tmp_path / "config")
    files = {
        "lfs.safetensors": (POINTER.encode(), "a Git LFS pointer"),
        "lfs.ckpt": (POINTER.encode(), "a Git LFS pointer"),
        "short.safetensors": (whole[:-1000], "not a readable .safetensors file"),
        "nan.safetensors": ((tmp_path / "nan.safetensors").read_bytes(), "unet: 1 tensors hold values that are no num"),
    }
    for file in (tmp_path / "config").rglob("*.*"):
        place.upload_file(f"mine/{file.relative_to(tmp_path).as_posix()}", file)
    for name, (content, said) in files.items():
        (tmp_path / name).write_bytes(content)
        place.put_bytes(f"mine/{name}", content)
        for base in (str(tmp_path / name), place.uri_of(f"mine/{name}")):
            problem = refused(crops, base, place, tmp_path / "out")
            assert problem.startswith(base)
            assert said in problem


def test_snapshot_refuses_pointers_before_anything_is_read(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    pointer(tmp_path / "base")
    (tmp_path / "whole.ckpt").write_text(POINTER)
    for place in (tmp_path / "base", tmp_path / "whole.ckpt"):
        with pytest.raises(UserError, match=rf"^{place}.*: a Git LFS pointer"):
            base_revision(str(place), 2)


def test_parts_of_two_models_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    set_to("unet/config.json", cross_attention_dim=32)(base)

    def narrow(tensors: dict[str, torch.Tensor]) -> None:
        for name in tensors:
            if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
                tensors[name] = tensors[name][:, :32].contiguous()

    with_tensors(UNET, narrow)(base)
    with pytest.raises(UserError, match=r"unet: takes texts 32 wide, the text encoder makes 64; they are not of one"):
        model.load(base)
