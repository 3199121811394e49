"""The train step on the tiny model and the real store: what moves, what is published, how it resumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from components.artifacts import CheckpointIndex, read_json
from components.checkpoints import fetch_checkpoint
from components.errors import UserError
from components.leases import run_scope
from components.storage import Store
from components.train import loop
from components.train.config import TrainConfig
from components.train.step import train
from tests.components.test_leases import ended

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

    def step(self: loop.Trainer) -> torch.Tensor:
        if self.done == 5 and not steps:
            steps.append(self.done)
            raise Killed
        return original(self)

    monkeypatch.setattr(loop.Trainer, "step", step)
    with pytest.raises(Killed):
        run(folder="broken", **settings)
    assert not (tmp_path / "broken").exists()
    resumed_from: list[int] = []

    def watched(self: loop.Trainer) -> torch.Tensor:
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
    monkeypatch.setattr(loop.Trainer, "step", lambda self: original(self) * (float("nan") if self.done > 2 else 1))
    with pytest.raises(UserError, match=r"step 3.*learning_rate"):
        run()
    assert not (tmp_path / "out").exists()
    keys = {info.key for info in place.list()}
    assert any("step-000002/MANIFEST.json" in key for key in keys)
    assert not any("step-000004" in key or (key.endswith("index.json") and "/train/" in key) for key in keys)


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
