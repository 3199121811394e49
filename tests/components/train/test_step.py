"""The train step on the tiny model and the real store: what moves, and what is published."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from components import adapters, sampling
from components.artifacts import CheckpointIndex, Crop, CropSet, PublishedModel, read_json, write_crops, write_json
from components.checkpoints import fetch_checkpoint
from components.errors import UserError
from components.leases import run_scope
from components.storage import Store
from tests.components.convert.examples import decision
from tests.components.test_leases import ended
from tests.components.train.actions import Train, call, moved, weights
from tests.tiny_model import write_pipeline

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def plain(crops: Path, tiny_base: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> CheckpointIndex:
    """The run with `actions.SETTINGS`, trained once for the tests that only look at it."""
    return call(crops, tiny_base, store.at("test-train", "plain"), tmp_path_factory.mktemp("plain") / "out")


def test_the_unet_moves_and_nothing_else_does(plain: CheckpointIndex, tmp_path: Path) -> None:
    assert [ref.step for ref in plain.refs()] == [0, 2, 4]
    base, middle, last = (weights(plain, step, tmp_path / "w") for step in (0, 2, 4))
    assert moved(base["unet"], middle["unet"])
    assert moved(middle["unet"], last["unet"])
    for part in ("vae", "text_encoder"):
        assert not moved(base[part], last[part])
    assert all(torch.isfinite(t).all() for t in last["unet"].values())


def test_the_text_encoder_moves_when_it_is_trained(run: Train, tmp_path: Path) -> None:
    index = run(train_text_encoder=True, text_encoder_lr=1e-2)
    base, last = (weights(index, step, tmp_path / "w") for step in (0, 4))
    assert moved(base["text_encoder"], last["text_encoder"])
    assert moved(base["unet"], last["unet"])
    assert not moved(base["vae"], last["vae"])


@pytest.mark.parametrize("text", [False, True])
def test_lora_moves_its_target_modules_and_leaves_the_rest(run: Train, tmp_path: Path, text: bool) -> None:
    index = run(use_lora=True, lora_rank=2, lora_alpha=4.0, learning_rate=1e-2, train_text_encoder=text)
    ref = index.refs()[-1]
    assert ref.adapter
    assert ref.components == (["text_encoder", "unet"] if text else ["unet"])
    base, last = (weights(index, step, tmp_path / "w") for step in (0, 4))
    changed = {part: {k for k in base[part] if not torch.equal(base[part][k], last[part][k])} for part in base}
    targets = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")
    assert changed["unet"] == {k for k in base["unet"] if k.endswith(targets)}
    assert changed["vae"] == set()
    targets = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "out_proj.weight")
    assert changed["text_encoder"] == ({k for k in base["text_encoder"] if k.endswith(targets)} if text else set())
    values = [torch.linalg.svdvals(last["unet"][k] - base["unet"][k]) for k in sorted(changed["unet"])]
    large = [v for v in values if v[0] > 1e-3]
    assert large
    # The updates' own rank; below it is what adding them to the weights rounds.
    assert all(v[2] < 1e-3 * v[0] for v in large)


def test_the_fused_lora_draws_what_the_adapters_draw(run: Train, tiny_base: Path, tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    index = run(use_lora=True, learning_rate=1e-2)
    ref = index.refs()[-1]
    fused = UNet2DConditionModel.from_pretrained(fetch_checkpoint(index, ref, tmp_path / "w"), subfolder="unet")
    tree = tmp_path / "tree"
    Store.from_env(str(ref.uri)).get_tree(tree)
    assert sum(file.stat().st_size for file in tree.iterdir()) < 500_000
    adapted = UNet2DConditionModel.from_pretrained(tiny_base, subfolder="unet")
    given = torch.randn(1, 4, 8, 8), 10, torch.randn(1, 7, 64)
    before = adapted(*given).sample
    adapted.load_lora_adapter(load_file(tree / adapters.FILE), prefix="unet")
    after = adapted(*given).sample
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(fused(*given).sample, after, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["lora", "inpainting"])
def test_what_every_method_leaves_is_converted(run: Train, place: Store, tmp_path: Path, method: str) -> None:
    """Convert reads its file back and compares it with the checkpoint; nothing is published that differs."""
    from components.convert.config import ConvertConfig
    from components.convert.step import convert

    if method == "lora":
        index = run(use_lora=True, learning_rate=1e-2)
    else:
        index = run(base=write_pipeline(tmp_path / "nine", in_channels=9))
    write_json(tmp_path / "best" / "best.json", decision(index, 4))
    convert(ConvertConfig(dtype="fp32"), tmp_path / "best", method, place.uri, tmp_path / "model")
    model = read_json(tmp_path / "model" / "model.json", PublishedModel)
    tree = tmp_path / "published"
    Store.from_env(model.uri).get_tree(tree)
    published = load_file(tree / model.file)
    trained = weights(index, 4, tmp_path / "w")["unet"]
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    there = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    assert torch.equal(published[there], trained[name])
    assert not torch.equal(trained[name], weights(index, 0, tmp_path / "w")["unet"][name])


def test_class_images_are_drawn_once_and_trained_on(
    plain: CheckpointIndex, run: Train, place: Store, tmp_path: Path
) -> None:
    prior = {"with_prior_preservation": True, "class_prompt": "a photo", "num_class_images": 3, "learning_rate": 1e-4}
    a, b = (weights(run(**more), 4, tmp_path / "a")["unet"] for more in (prior, {**prior, "prior_loss_weight": 0.1}))
    assert moved(a, b)
    trees = [info for info in place.list() if "class-images/" in info.key]
    assert sum(info.key.endswith(".png") for info in trees) == 3
    # The second run took what the first had drawn.
    assert sum(info.key.endswith("MANIFEST.json") for info in trees) == 1
    with pytest.raises(UserError, match=r"class_prompt 'A photo of dark' is the prompt of dark too"):
        run(**{**prior, "class_prompt": "A photo of dark"})


def test_crops_without_a_defect_are_what_is_preserved(
    plain: CheckpointIndex, crops: Path, tiny_base: Path, place: Store, tmp_path: Path
) -> None:
    prior = {
        "with_prior_preservation": True,
        "class_images": "crops",
        "class_prompt": "a good surface",
        "learning_rate": 1e-4,
    }
    with pytest.raises(UserError, match=r"none without a defect; set crop\.normal_per_image"):
        call(crops, tiny_base, place, tmp_path / "none", **prior)
    found = []
    for level in (20, 230):
        folder = tmp_path / f"crops-{level}"
        shutil.copytree(crops, folder)
        Image.new("RGB", (64, 64), (level,) * 3).save(folder / "free.png")
        (folder / "normal" / "train").mkdir(parents=True)
        (folder / "free.png").rename(folder / "normal" / "train" / "free.png")
        nothing = (0, 0, 0, 0)
        write_crops(folder / "normal", "train", [Crop("free.png", "unused", "", "a.png", (0, 0, 64, 64), nothing)])
        # Crops of another content have another digest.
        crop_set = dataclasses.replace(read_json(crops / "crops.json", CropSet), digest=f"{level:064d}")
        write_json(folder / "crops.json", crop_set)
        index = call(folder, tiny_base, place, tmp_path / f"out-{level}", **prior)
        found.append(weights(index, 4, tmp_path / f"weights-{level}")["unet"])
    assert moved(*found)
    assert not [info for info in place.list() if "class-images/" in info.key]


def test_a_unet_that_inpaints_learns_from_masks_and_draws(run: Train, tmp_path: Path) -> None:
    base = write_pipeline(tmp_path / "nine", in_channels=9)
    index = run(base=base)
    before, after = (weights(index, step, tmp_path / "w") for step in (0, 4))
    changed = (before["unet"]["conv_in.weight"] != after["unet"]["conv_in.weight"]).flatten(2).any(2).any(0)
    assert changed.tolist() == [True] * 9
    model = sampling.load(fetch_checkpoint(index, index.refs()[-1], tmp_path / "w"), "cpu")
    [image] = sampling.generate(model, ["a photo of dark"], [0], size=64, steps=2)
    assert image.shape == (1, 64, 64, 3)


def test_only_the_newest_checkpoints_are_kept(run: Train, place: Store) -> None:
    index = run(checkpointing_steps=1, checkpoints_total_limit=2, state_every=1)
    assert [ref.step for ref in index.refs()] == [0, 3, 4]
    there = {key for info in place.list() if "/step-" in (key := info.key)}
    assert {key.split("/step-")[1][:6] for key in there} == {"000003", "000004"}


def test_passes_decide_the_steps(run: Train) -> None:
    # 6 crops in batches of 2.
    assert [ref.step for ref in run(num_train_epochs=2).refs()] == [0, 2, 4, 6]
    with pytest.raises(UserError, match=r"num_train_epochs \(1\) over 6 crops are 3 steps"):
        run(num_train_epochs=1, lr_warmup_steps=3)
    with pytest.raises(UserError, match=r"3 steps, and train\.checkpointing_steps \(4\) is above that; lower it"):
        run(num_train_epochs=1, checkpointing_steps=4)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_ema": True, "ema_decay": 0.5},
        {"snr_gamma": 5.0},
        {"gradient_accumulation_steps": 2},
        {"augment": "dihedral", "lr_scheduler": "cosine", "lr_warmup_steps": 1},
        {"mixed_precision": "bf16"},
        {"gradient_checkpointing": True, "train_text_encoder": True},
        {"prompt_dropout": 0.9},
        {"seed": 1},
        {"noise_offset": 0.5},
        {"lr_scheduler": "polynomial", "lr_power": 2.0},
        {"lr_scheduler": "cosine_with_restarts", "lr_num_cycles": 2},
        {"scale_lr": True},
    ],
    ids=lambda s: ",".join(s),
)
def test_each_setting_changes_what_is_learned_and_leaves_it_finite(
    plain: CheckpointIndex, run: Train, tmp_path: Path, settings: dict[str, Any]
) -> None:
    changed = run(**settings)
    assert plain.fingerprint != changed.fingerprint
    a, b = (weights(i, 4, tmp_path / n) for i, n in ((plain, "p"), (changed, "c")))
    assert moved(a["unet"], b["unet"])
    assert all(torch.isfinite(t).all() for t in b["unet"].values())


def test_gradient_checkpointing_changes_memory_and_not_the_gradients(
    plain: CheckpointIndex, run: Train, tmp_path: Path
) -> None:
    a = weights(plain, 2, tmp_path / "p")["unet"]
    b = weights(run(gradient_checkpointing=True), 2, tmp_path / "c")["unet"]
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5)


def test_every_checkpoint_is_a_folder_that_diffusers_loads(plain: CheckpointIndex, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    for ref in plain.refs():
        folder = fetch_checkpoint(plain, ref, tmp_path / "w")
        pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, safety_checker=None)
        assert pipeline.unet.config.in_channels == 4


def test_the_page_shows_the_curve_and_is_in_the_store(run: Train, place: Store, tmp_path: Path) -> None:
    index = run()
    page = (tmp_path / "out.html").read_text()
    assert "loss curve" in page
    assert index.fingerprint in page
    stored = place.at("train", index.fingerprint, "reports").get_bytes("train.html")
    assert stored == page.encode()


def test_the_run_was_held_against_cleanup(plain: CheckpointIndex, store: Store) -> None:
    assert ended(store.at("test-train", "plain"), run_scope(plain.fingerprint)) == ["train"]
