"""A compiled UNet learns what it learns otherwise, and is published and resumed like any other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from components.errors import UserError
from components.storage import Store
from components.train import compilation
from components.train.loop import Trainer
from components.train.run import Run
from tests.components.train.test_states import BOTH, assert_same, everything, trained, trainer
from tests.conftest import ROOT
from tests.tiny_model import write_pipeline

pytestmark = pytest.mark.integration

STEPS = 3


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a UNet of one layer and one block of attention: a compiler writes a library for each of its operations."""
    folder = write_pipeline(tmp_path_factory.mktemp("compile") / "base")
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        mid_block_type=None,
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=8,
    ).save_pretrained(folder / "unet")
    return folder


@pytest.fixture(scope="module")
def _compiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder for all tests here, since compiling takes a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
        try:
            compilation.check(torch.device("cpu"), tmp_path_factory.mktemp("compiled"))
        except UserError as error:
            pytest.skip(str(error))
        yield


def losses(of: Trainer, steps: int) -> list[float]:
    return [float(of.step()[0]) for _ in range(steps)]


@pytest.mark.usefixtures("_compiler")
def test_the_loss_is_near_the_eager_runs(base: Path) -> None:
    # A rate at which one run's roundings do not part it from the other's within these steps.
    eager = losses(trainer(base, learning_rate=1e-4), STEPS)
    made = trainer(base, learning_rate=1e-4, compile=True)
    before = [p.detach().clone() for p in made.parameters]
    torch._dynamo.utils.counters.clear()
    assert losses(made, STEPS) == pytest.approx(eager, rel=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert any(not torch.equal(old, new) for old, new in zip(before, made.parameters))


@pytest.mark.usefixtures("_compiler")
def test_it_is_published_and_resumed_like_any_other(base: Path, store: Store, tmp_path: Path) -> None:
    place = store.at("test-compile")
    run = Run(place, "f" * 16)
    ended = trained(base, run, {1: BOTH}, compile=True, use_ema=True)
    [ref] = run.refs
    Store.from_env(str(ref.uri)).get_tree(tmp_path / "checkpoint")
    read = UNet2DConditionModel.from_pretrained(tmp_path / "checkpoint", subfolder="unet", use_safetensors=True)
    original = UNet2DConditionModel.from_pretrained(base, subfolder="unet", use_safetensors=True)
    assert read.state_dict().keys() == original.state_dict().keys()
    assert any(not torch.equal(a, b) for a, b in zip(read.parameters(), original.parameters()))
    again = trainer(base, compile=True, use_ema=True)
    Run(place, "f" * 16).resume(again)
    ended.step()
    again.step()
    assert_same(everything(again), everything(ended))


def test_without_a_compiler_there_is_one_message(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, torch\n"
        "from components.errors import UserError\n"
        "from components.train import compilation\n"
        "try:\n"
        "    compilation.check(torch.device('cpu'), pathlib.Path(sys.argv[1]))\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    environ = {**os.environ, "CXX": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environ,
        check=True,
    )
    assert done.stdout.startswith("train.compile: torch cannot compile for the cpu here (")
    assert "install a C++ compiler" in done.stdout
    assert len(done.stdout.splitlines()) == 1
