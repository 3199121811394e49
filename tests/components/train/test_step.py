"""The train step on the tiny model and the real store: what moves, what is published, how it resumes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file

from components import adapters, sampling
from components.artifacts import (
    CheckpointIndex,
    Crop,
    CropSet,
    PublishedModel,
    read_json,
    write_crops,
    write_json,
)
from components.checkpoints import fetch_checkpoint
from components.errors import UserError
from components.leases import run_scope
from components.storage import Store
from components.train import loop
from components.train.config import TrainConfig
from components.train.step import train
from tests.components.convert.examples import decision
from tests.components.test_leases import ended
from tests.tiny_model import write_pipeline

pytestmark = pytest.mark.integration

Train = Callable[..., CheckpointIndex]

SETTINGS: dict[str, Any] = {
    "max_train_steps": 4,
    "checkpointing_steps": 2,
    "train_batch_size": 2,
    "learning_rate": 1e-3,
    "state_every": 0,
    "num_threads": 1,
}


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps the first precision it was asked for, for the life of the process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def place(store: Store, request: pytest.FixtureRequest) -> Store:
    """A prefix of the test's own."""
    return store.at("test-train", request.node.name)


def call(crops: Path, base: Path, place: Store, out: Path, **settings: Any) -> CheckpointIndex:
    train(
        TrainConfig(**{**SETTINGS, **settings}),
        crops=crops,
        base_model=str(base),
        base_revision="b" * 64,
        generation="1",
        store=place.uri,
        checkpoints=out,
        metrics=out.with_name(out.name + "-metrics"),
        report=out.with_suffix(".html"),
    )
    return read_json(out / "index.json", CheckpointIndex)


@pytest.fixture
def run(crops: Path, tiny_base: Path, place: Store, tmp_path: Path) -> Train:
    def run(base: Path = tiny_base, folder: str = "out", **settings: Any) -> CheckpointIndex:
        return call(crops, base, place, tmp_path / folder, **settings)

    return run


@pytest.fixture(scope="module")
def plain(crops: Path, tiny_base: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> CheckpointIndex:
    """The run with the settings above, trained once for the tests that only look at it."""
    return call(crops, tiny_base, store.at("test-train", "plain"), tmp_path_factory.mktemp("plain") / "out")


def weights(index: CheckpointIndex, step: int, folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Component → tensors of a checkpoint, as any reader of the store gets them."""
    ref = next(r for r in index.refs() if r.step == step)
    whole = fetch_checkpoint(index, ref, folder)
    found = {}
    for name in ("unet", "vae", "text_encoder"):
        [file] = (whole / name).glob("*.safetensors")
        found[name] = load_file(file)
    return found


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    assert before.keys() == after.keys()
    return any(not torch.equal(before[k].float(), after[k].float()) for k in before)


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


def test_what_this_machine_lacks_is_said(run: Train) -> None:
    with pytest.raises(UserError, match="bitsandbytes"):
        run(use_8bit_adam=True)
    with pytest.raises(UserError, match="to_nothing"):
        run(use_lora=True, lora_target_modules=["to_nothing"])


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


def test_the_same_run_is_found_in_the_store_and_not_trained_again(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(folder="first")

    def unexpected(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(loop.Trainer, "step", unexpected)
    assert run(folder="second") == first


def test_a_run_whose_checkpoint_is_gone_is_trained_again(run: Train, place: Store, tmp_path: Path) -> None:
    first = run(folder="first")
    uri = first.refs()[1].uri
    assert uri is not None
    Store.from_env(uri).delete_tree()
    second = run(folder="second")
    assert second.refs()[1].uri != uri
    a, b = (weights(i, 4, tmp_path / n) for i, n in ((first, "p"), (second, "c")))
    assert not moved(a["unet"], b["unet"])


class Killed(Exception):
    """Stands for the end of the process: nothing after it runs."""


def test_an_interrupted_run_ends_with_the_very_weights_of_an_undisturbed_one(
    run: Train, place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "max_train_steps": 6,
        "state_every": 2,
        "use_ema": True,
        "ema_decay": 0.9,
        "train_text_encoder": True,
        "lr_scheduler": "cosine",
    }
    undisturbed = weights(run(folder="whole", **settings), 6, tmp_path / "p")
    place.at("train").delete_tree()

    original = loop.Trainer.step
    steps: list[int] = []

    def step(self: loop.Trainer) -> tuple[torch.Tensor, torch.Tensor]:
        if self.done == 5 and not steps:
            steps.append(self.done)
            raise Killed
        return original(self)

    monkeypatch.setattr(loop.Trainer, "step", step)
    with pytest.raises(Killed):
        run(folder="broken", **settings)
    assert not (tmp_path / "broken").exists()
    resumed_from: list[int] = []

    def watched(self: loop.Trainer) -> tuple[torch.Tensor, torch.Tensor]:
        resumed_from.append(self.done)
        return original(self)

    monkeypatch.setattr(loop.Trainer, "step", watched)
    resumed = run(folder="resumed", **settings)
    assert resumed_from[0] == 4
    assert [ref.step for ref in resumed.refs()] == [0, 2, 4, 6]
    after = weights(resumed, 6, tmp_path / "c")
    for part in ("unet", "text_encoder"):
        assert not moved(undisturbed[part], after[part])
    assert not list(place.at("train", resumed.fingerprint, "state").list())


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_was_published(
    run: Train, place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loop.Trainer.step

    def broken(self: loop.Trainer) -> tuple[torch.Tensor, torch.Tensor]:
        loss, norm = original(self)
        return loss * (float("nan") if self.done > 2 else 1), norm

    monkeypatch.setattr(loop.Trainer, "step", broken)
    with pytest.raises(UserError, match=r"step 3.*learning_rate"):
        run()
    assert not (tmp_path / "out").exists()
    keys = {info.key for info in place.list()}
    assert any("step-000002/MANIFEST.json" in key for key in keys)
    assert not any("step-000004" in key or (key.endswith("index.json") and "/train/" in key) for key in keys)
    [page] = [key for key in keys if key.endswith("reports/train.html")]
    text = (place.get_bytes(page) or b"").decode()
    assert "the loss at step 3 is nan" in text
    assert "loss curve" in text


def test_the_page_shows_the_curve_and_is_in_the_store(run: Train, place: Store, tmp_path: Path) -> None:
    index = run()
    page = (tmp_path / "out.html").read_text()
    assert "loss curve" in page
    assert index.fingerprint in page
    stored = place.at("train", index.fingerprint, "reports").get_bytes("train.html")
    assert stored == page.encode()


def edited(base: Path, folder: Path, file: str, change: Callable[[dict[str, Any]], None]) -> Path:
    shutil.copytree(base, folder)
    data = json.loads((folder / file).read_text())
    change(data)
    (folder / file).write_text(json.dumps(data))
    return folder


def test_models_that_cannot_be_trained_are_refused_by_name(
    run: Train, tiny_base: Path, tmp_path: Path, place: Store
) -> None:
    def named(name: str) -> Callable[[dict[str, Any]], None]:
        return lambda data: data.update(_class_name=name)

    sdxl = edited(tiny_base, tmp_path / "xl", "model_index.json", named("StableDiffusionXLPipeline"))
    with pytest.raises(UserError, match=r"StableDiffusionXLPipeline; supported are Stable Diffusion 1\.x and 2\.x"):
        run(base=sdxl)
    sample = edited(
        tiny_base,
        tmp_path / "sample",
        "scheduler/scheduler_config.json",
        lambda data: data.update(prediction_type="sample"),
    )
    with pytest.raises(UserError, match="'sample'"):
        run(base=sample)
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny_base, pickled)
    for file in (pickled / "unet").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(UserError, match="safetensors"):
        run(base=pickled)
    with pytest.raises(UserError, match=r"no model_index\.json"):
        run(base=tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        run(base=tmp_path / "nowhere")
    assert not [info for info in place.list() if "train/" in info.key]


def test_settings_refuse_what_cannot_work() -> None:
    for wrong in (
        {"max_train_steps": 0},
        {"learning_rate": 0},
        {"ema_decay": 1.0},
        {"max_train_steps": 10, "checkpointing_steps": 11},
        {"max_train_steps": 10, "checkpointing_steps": 5, "lr_warmup_steps": 10},
        {"lr_scheduler": "sudden"},
    ):
        with pytest.raises(ValueError, match=next(reversed(wrong))):
            TrainConfig(**wrong)


def test_the_run_was_held_against_cleanup(plain: CheckpointIndex, store: Store) -> None:
    assert ended(store.at("test-train", "plain"), run_scope(plain.fingerprint)) == ["train"]
