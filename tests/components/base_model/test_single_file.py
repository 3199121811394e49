"""Single-file checkpoints: every tensor arrives in the diffusers folder, and what is no base model is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.base_model import families, layout, tokenizer
from components.base_model.families import Family
from components.base_model.opening import opened
from components.base_model.single_file import convert, prediction_of
from components.convert.layout import targets
from components.convert.source import Stored, expected_shapes
from components.errors import UserError
from components.train import model
from tests.single_file import write_config, write_single_file
from tests.tiny_model import write_pipeline, write_tokenizer

pytestmark = pytest.mark.integration


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Tensors of all parts of a diffusers folder by canonical name, without buffers."""
    found = {}
    for part in layout.WEIGHTED:
        for file in (folder / part).glob("*.safetensors"):
            for name, tensor in load_file(file).items():
                if "position_ids" not in name:
                    found[f"{part}.{name.removeprefix('text_model.')}"] = tensor
    return found


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def single(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base as one file, its configuration beside it."""
    folder = tmp_path_factory.mktemp("single")
    write_config(tiny_base, folder / "config")
    return write_single_file(tiny_base, folder / "model.safetensors")


@pytest.mark.parametrize(
    "kind", [{}, {"hidden_act": "gelu"}, {"in_channels": 9}], ids=["Stable Diffusion 1", "2", "inpainting"]
)
def test_a_file_with_its_configuration_becomes_the_folder_that_it_was_made_of(kind: dict, tmp_path: Path) -> None:
    base = write_pipeline(tmp_path / "base", **kind)
    write_config(base, tmp_path / "one" / "config")
    with opened(str(write_single_file(base, tmp_path / "one" / "model.safetensors"))) as folder:
        assert same(folder, base)
        assert model.load(folder).noise.config.prediction_type == "v_prediction"


def test_a_pickle_of_tensors_becomes_the_same_folder(single: Path, tiny_base: Path, tmp_path: Path) -> None:
    write_config(tiny_base, tmp_path / "config")
    tensors = load_file(single)
    # As training programs leave them: an average beside the weights, and the step.
    average = {"model_ema.decay": torch.ones(1)}
    for name in ("model.ckpt", "model.pt"):
        torch.save({"state_dict": {**tensors, **average}, "global_step": 7}, tmp_path / name)
        assert same(convert(tmp_path / name, tmp_path / f"{name}-folder", "the place"), tiny_base)
        assert not (tmp_path / "model.safetensors").exists()


class Runs:
    """What unpickling must not call."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


def test_a_pickle_that_holds_code_is_refused_and_not_run(single: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {**load_file(single), "x": Runs(tmp_path / "ran")}}, tmp_path / "model.ckpt")
    with pytest.raises(UserError, match="nothing was run"), opened(str(tmp_path / "model.ckpt")):
        pass
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["conditioner.embedders.0.transformer.x", "model.diffusion_model.input_blocks.0.0.weight"], "Diffusion XL"),
        (["model.diffusion_model.joint_blocks.0.context_block.mlp.fc1.weight"], "Stable Diffusion 3"),
        (["double_blocks.0.img_attn.norm.key_norm.scale"], "Flux"),
        (["model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale"], "Flux"),
        (["down_blocks.0.attentions.0.norm.weight"], "give the folder"),
        (["lora_unet_down_blocks_0.lora_down.weight"], "a LoRA update"),
        (["something.else"], "no Stable Diffusion in its original layout"),
    ],
)
def test_other_architectures_are_refused_by_name(tmp_path: Path, names: list[str], said: str) -> None:
    tensors = {name: torch.zeros(1) for name in names}
    save_file(tensors, tmp_path / "other.safetensors")
    torch.save(tensors, tmp_path / "other.ckpt")
    for file in ("other.safetensors", "other.ckpt"):
        with pytest.raises(UserError, match=f"the place: .*{said}.*supported are Stable Diffusion 1.x and 2.x"):
            convert(tmp_path / file, tmp_path / f"{file}-folder", "the place")


def test_a_file_that_is_not_whole_is_refused(single: Path, tmp_path: Path) -> None:
    tensors = load_file(single)

    def refused(edited: dict[str, torch.Tensor], said: str) -> None:
        save_file(edited, tmp_path / "part.safetensors")
        with pytest.raises(UserError, match=said), opened(str(tmp_path / "part.safetensors")):
            pass

    refused({n: t for n, t in tensors.items() if not n.startswith("first_stage_model.")}, "holds no autoencoder")
    refused({n: t for n, t in tensors.items() if not n.startswith("cond_stage_model.")}, "holds no text encoder")
    first = "model.diffusion_model.input_blocks.0.0.weight"
    refused({**tensors, first: torch.zeros(32, 5, 3, 3)}, "takes 5 channels")
    refused(tensors, "this file 32 and 64; put its configuration")
    write_config(single.parent / "config", tmp_path / "config")
    refused({n: t for n, t in tensors.items() if n != "model.diffusion_model.out.2.weight"}, "tensors missing")
    (tmp_path / "part.safetensors").write_bytes(b"no header")
    with (
        pytest.raises(UserError, match=r"not a readable \.safetensors file"),
        opened(str(tmp_path / "part.safetensors")),
    ):
        pass


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("family", [Family(1, False), Family(1, True), Family(2, False), Family(2, True)], ids=str)
def test_a_familys_configuration_loads_and_is_recognised_by_its_tensors(
    family: Family, prediction: families.Prediction, tmp_path: Path
) -> None:
    families.write(tmp_path, family, prediction)
    layout.check_class(tmp_path, "here")
    configs = {part: json.loads((tmp_path / part / "config.json").read_text()) for part in layout.WEIGHTED}
    shapes = expected_shapes(configs)  # type: ignore[arg-type]
    stored = {
        part: {name: Stored(None, name, shape, "F32") for name, shape in found.items()}  # type: ignore[arg-type]
        for part, found in shapes.items()
    }
    original = {
        target.name: shapes[target.component][target.sources[0]]
        for target in targets(configs, stored)  # type: ignore[arg-type]
        if target.sources
    }
    assert families.recognised(original, "file") == family
    families.check_sizes(original, family, "file")
    # Of the published weights: 860 million in the first generation's UNet, 866 in the second's.
    count = sum(torch.Size(shape).numel() for shape in shapes["unet"].values()) / 1e6
    assert count == pytest.approx(859.5 if family.generation == 1 else 865.9, abs=0.1)

    from diffusers import DDPMScheduler

    noise = DDPMScheduler.from_pretrained(tmp_path, subfolder="scheduler", local_files_only=True)
    assert noise.config.prediction_type == prediction
    assert float(noise.alphas_cumprod[-1]) == pytest.approx(0.00466, abs=1e-5)


def described(file: Path, family: Family, metadata: dict[str, str] | None = None) -> str:
    return prediction_of(file, family, metadata or {}, str(file))


def test_what_a_second_generation_predicts_comes_from_the_file_or_from_beside_it(tmp_path: Path) -> None:
    file, second = tmp_path / "v2.safetensors", Family(2, False)
    assert described(file, Family(1, False)) == "epsilon"
    assert described(file, second, {"modelspec.prediction_type": "v"}) == "v_prediction"
    assert described(file, second, {"modelspec.prediction_type": "epsilon"}) == "epsilon"
    with pytest.raises(UserError, match=r"say which in v2\.yaml"):
        described(file, second)
    file.with_suffix(".yaml").write_text("model: {params: {parameterization: v}}")
    assert described(file, second) == "v_prediction"
    file.with_suffix(".yaml").write_text("model: {params: {linear_start: 0.00085}}")
    assert described(file, second) == "epsilon"
    file.with_suffix(".yaml").write_text("parameterization: v")
    with pytest.raises(UserError, match=r"v2\.yaml: not a model's settings"):
        described(file, second)


def test_without_a_tokenizer_a_file_is_refused_with_what_to_do(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(single.parent / "config", tmp_path / "config")
    for path in (tmp_path / "config" / "tokenizer").iterdir():
        path.unlink()
    (tmp_path / "model.safetensors").hardlink_to(single)
    monkeypatch.setattr(tokenizer, "PACKAGE", "no_such_package")
    with pytest.raises(
        UserError, match=r"the place: a single file holds no tokenizer; put .*config/tokenizer, or install"
    ):
        convert(tmp_path / "model.safetensors", tmp_path / "folder", "the place")


def test_the_packages_vocabulary_becomes_a_tokenizer(tmp_path: Path) -> None:
    """A vocabulary with two merges in the package's form against one written by other means."""
    from transformers import CLIPTokenizer

    merges = tmp_path / "merges.gz"
    with gzip.open(merges, "wt", encoding="utf-8") as lines:
        lines.write("version: 0.2\nh o\nl e</w>\n")
    tokenizer.write(tmp_path / "made", merges, "!")
    made = CLIPTokenizer.from_pretrained(tmp_path / "made", local_files_only=True)
    size = write_tokenizer(tmp_path / "plain")
    plain = CLIPTokenizer.from_pretrained(tmp_path / "plain", local_files_only=True)
    assert len(made) == size + 2
    assert made("xyz").input_ids[1:-1] == plain("xyz").input_ids[1:-1]
    assert made.convert_ids_to_tokens(made("hole").input_ids) == ["<|startoftext|>", "ho", "le</w>", "<|endoftext|>"]
    assert made("x", padding="max_length").input_ids[-1] == made.convert_tokens_to_ids("!") == 0
