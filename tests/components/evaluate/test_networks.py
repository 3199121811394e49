"""Networks whose weights the user names: loaded from what the public forms hold, refused otherwise."""

from __future__ import annotations

import shutil
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from components.artifacts import SPLITS, Split
from components.errors import UserError
from components.evaluate import loading, measure, metrics
from components.evaluate.arrays import Arrays
from components.evaluate.config import EvaluateConfig
from components.evaluate.crops import RealCrops, read
from components.evaluate.networks.inception import Inception, network
from components.evaluate.networks.places import fetch
from components.evaluate.networks.transformer import Clip, DinoV2
from components.evaluate.real import Real
from components.storage import Store
from tests.components.evaluate.examples import PROMPTS, SIDE, write_crop_set
from tests.tiny_model import write_tokenizer


def random_images(count: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("clip") / "tiny"
    words = write_tokenizer(folder)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": words, "bos_token_id": words - 2, "eos_token_id": words - 1, "pad_token_id": words - 1}
    vision = {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config={**small, **text}, vision_config={**small, **vision}, projection_dim=16))
    # So that scores are positive: torchmetrics gives 0 for a negative mean.
    model.text_projection.weight.data.neg_()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dino") / "tiny"
    torch.manual_seed(0)
    Dinov2Model(
        Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=14, image_size=28)
    ).save_pretrained(folder)
    return folder


def test_clip_score_is_torchmetrics(clip_folder: Path) -> None:
    from torchmetrics.functional.multimodal import clip_score
    from transformers import CLIPModel

    ours, images, texts = Clip(clip_folder), random_images(10, 32), ["a hole", "a bar of copper"] * 5
    model = CLIPModel.from_pretrained(clip_folder)

    class Callable_(nn.Module):
        """torchmetrics' call does not fit transformers 5: what it needs of CLIP, in the form it expects."""

        def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)

        def get_text_features(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return model.text_projection(model.text_model(tokens, attention_mask=mask).pooler_output)

    class Processor:
        def __call__(self, text: list[str] | None = None, images: Any = None, **_: Any) -> dict[str, torch.Tensor]:
            if text is not None:
                return dict(ours._tokenizer(text, padding=True, return_tensors="pt"))
            planes = torch.stack(list(images)).float() / 255
            return {"pixel_values": (planes - ours._mean) / ours._deviation}

    Callable_.config = model.config  # type: ignore[attr-defined]
    pixels = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
    theirs = clip_score(pixels, texts, lambda: (Callable_(), Processor()))
    scores = metrics.clip_scores(ours.features(images), ours.texts(texts))
    assert scores.shape == (10,)
    assert scores.mean() == pytest.approx(float(theirs), rel=1e-4)


def test_a_long_text_keeps_its_end(clip_folder: Path) -> None:
    """CLIP reads a text's embedding at its end token: cut off, it would be another token's."""
    clip, long = Clip(clip_folder), "a hole " * 60
    assert clip.texts([long]) == pytest.approx(clip.texts([long + "more"]), abs=1e-6)
    assert not np.allclose(clip.texts([long]), clip.texts(["a hole"]))


def test_features_have_a_record_and_do_not_depend_on_the_batch(clip_folder: Path, dino_folder: Path) -> None:
    for made in (Clip(clip_folder), DinoV2(dino_folder)):
        images = random_images(11)
        rows = made.features(images)
        assert rows.shape == (11, made.width)
        assert rows.dtype == np.float64
        assert made.features(images[9:10]) == pytest.approx(rows[9:10], abs=1e-4)
        assert len(made.record["weights_sha256"]) == 64
        assert "bicubic" in made.record["resizer"]


def write_inception(folder: Path, script: bool) -> Path:
    """Random weights as PyTorch programs convert them, or as TensorFlow's graph in a TorchScript archive."""
    import components.evaluate.networks.inception as module

    random = torch.Generator().manual_seed(0)
    names = ["conv", *(f"conv_{i}" for i in range(1, 5))] if script else list(module._STEM)
    for number, (block, both) in enumerate(module._BLOCKS.items()):
        prefix = f"mixed_{number}".removesuffix("_0") if script else f"Mixed_{block}"
        names += [f"{prefix}.{name}" for name in both[int(script)].split()]
    tensors: dict[str, torch.Tensor] = {}
    for name, convolution in zip(names, (m for m in network().modules() if isinstance(m, nn.Conv2d))):
        count = convolution.out_channels
        kernel = torch.randn(convolution.weight.shape, generator=random) / convolution.weight[0].numel() ** 0.5
        mean, variance, offset = torch.zeros(count), torch.ones(count), torch.rand(count, generator=random)
        if script:
            tensors |= {f"{name}.weight": kernel, f"{name}.beta": offset, f"{name}.mean": mean, f"{name}.var": variance}
        else:
            tensors |= {f"{name}.conv.weight": kernel, f"{name}.bn.weight": torch.ones(count)}
            tensors |= {f"{name}.bn.bias": offset, f"{name}.bn.running_mean": mean, f"{name}.bn.running_var": variance}
    path = folder / "weights.pt"
    if not script:
        tensors["fc.weight"] = torch.randn(1008, 2048, generator=random)
        torch.save(tensors, path)
        return path
    root = nn.Module()
    for name, tensor in tensors.items():
        parents, _, last = f"net.layers.{name}".rpartition(".")
        place = root
        for parent in parents.split("."):
            if not hasattr(place, parent):
                place.add_module(parent, nn.Module())
            place = getattr(place, parent)
        place.register_buffer(last, tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(root).save(str(path))
    return path


@pytest.mark.filterwarnings("ignore:.torch.jit.*:DeprecationWarning")
def test_inception_s_two_forms_are_one_network(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    converted = Inception(write_inception(tmp_path / "a", script=False), "cpu")
    graph = Inception(write_inception(tmp_path / "b", script=True), "cpu")
    images = random_images(2)
    rows = converted.features(images)
    assert rows.shape == (2, 2048)
    assert graph.features(images) == pytest.approx(rows, rel=1e-5, abs=1e-6)
    assert converted.logits(rows).shape == (2, 1008)
    with pytest.raises(ValueError, match="no classifier"):
        graph.logits(rows)


def test_what_is_no_inception_is_refused(tmp_path: Path) -> None:
    garbage, other = tmp_path / "garbage.pt", tmp_path / "other.pt"
    garbage.write_bytes(b"no weights")
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(1)}, other)
    with pytest.raises(UserError, match=r"garbage\.pt: no PyTorch weights"):
        Inception(garbage)
    with pytest.raises(UserError, match=r"other\.pt: .* not the weights of FID's Inception"):
        Inception(other)
    for content in ({1: torch.zeros(1)}, {"Conv2d_1a_3x3.conv.weight": "text"}):
        torch.save(content, other)
        with pytest.raises(UserError, match=r"other\.pt: holds no named tensors"):
            Inception(other)


@pytest.mark.parametrize(("content", "message"), [(b"{", "cannot be read as JSON"), (b"[1]", "is no mapping")])
def test_a_damaged_preprocessor_s_file_is_named(
    tmp_path: Path, clip_folder: Path, content: bytes, message: str
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    (folder / "preprocessor_config.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"preprocessor_config\.json: {message}"):
        Clip(folder)


@pytest.mark.integration
def test_places(tmp_path: Path, store: Store, clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch(str(clip_folder), tmp_path) == clip_folder
    place = store.at("networks", uuid.uuid4().hex)
    place.at("clip").put_tree(clip_folder)
    place.put_bytes("inception.pt", b"weights")
    assert Clip(fetch(place.at("clip").uri, tmp_path)).width == 16
    assert fetch(place.uri_of("inception.pt"), tmp_path).read_bytes() == b"weights"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for absent, said in (
        (str(tmp_path / "none"), "no such file or folder"),
        (place.uri_of("none.pt"), "none.pt"),
        ("hf://nobody/nothing", "not in the cache"),
    ):
        with pytest.raises(UserError, match=said):
            fetch(absent, tmp_path)


@pytest.mark.parametrize("kind", [Clip, DinoV2])
def test_weights_that_are_not_all_there_are_not_made_up(
    kind: type[Clip | DinoV2], clip_folder: Path, dino_folder: Path, tmp_path: Path
) -> None:
    folder, unused, needed = {
        Clip: (clip_folder, "logit_scale", "visual_projection.weight"),
        DinoV2: (dino_folder, "embeddings.mask_token", "layernorm.bias"),
    }[kind]
    shutil.copytree(folder, tmp_path / "copy")
    file = tmp_path / "copy" / "model.safetensors"
    tensors = load_file(file)
    del tensors[unused]
    save_file(tensors, file, metadata={"format": "pt"})
    images = random_images(2, 32)
    assert np.array_equal(kind(tmp_path / "copy").features(images), kind(folder).features(images))
    del tensors[needed]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"copy: its weights lack 1 of the tensors .* \({needed}\)"):
        kind(tmp_path / "copy")


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no CLIPModel in safetensors"):
        Clip(tmp_path)


def test_what_is_named_is_loaded_and_what_cannot_be_had_costs_its_own_metrics(
    tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = EvaluateConfig(clip=str(clip_folder), dinov2=str(tmp_path / "none"))
    made, missing = loading.load(config, tmp_path)
    assert list(made) == ["lite0", "clip"]
    assert missing == {
        "inception": "no weights are named; give evaluate.inception",
        "dinov2": f"{tmp_path / 'none'}: there is no such file or folder",
    }
    assert f"warning: evaluate.dinov2: {tmp_path / 'none'}" in capsys.readouterr().out


@pytest.mark.integration
def test_a_clip_is_part_of_what_is_known_of_the_real_crops(tmp_path: Path, clip_folder: Path) -> None:
    counts = {name: {"train": 5, "reference": 4} for name in PROMPTS}
    folder = write_crop_set(tmp_path / "crops", counts)
    paths: dict[Split, dict[str, list[Path]]] = {
        split: {name: sorted((folder / split).rglob(f"{name.replace(' ', '-')}/*.png")) for name in PROMPTS}
        for split in SPLITS
    }
    crops = RealCrops(folder, SIDE, sorted(PROMPTS), paths, {})
    made, missing = loading.load(EvaluateConfig(clip=str(clip_folder)), tmp_path)
    real = Real(crops, made, missing, PROMPTS, None, Arrays(None))
    measured = measure.floor(real.features, EvaluateConfig(images_per_class=5)).overall
    assert {"kd_lite0", "fd_lite0", "kd_clip", "fd_clip", "clip_score", "diversity_clip"} <= set(measured)
    by_hand = np.concatenate([
        metrics.clip_scores(made["clip"].features(read(paths["reference"][name], SIDE)), np.repeat(text, 4, 0))
        for name in sorted(PROMPTS)
        for text in [made["clip"].texts([PROMPTS[name]])]  # type: ignore[attr-defined]
    ])  # fmt: skip
    assert measured["clip_score"].value == pytest.approx(by_hand.mean())
