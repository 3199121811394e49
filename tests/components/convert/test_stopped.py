"""What stops the convert step, and that nothing is published then."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from components.artifacts import CheckpointRef
from components.convert import writer
from components.convert.mismatch import Mismatch
from components.errors import UserError

from .runs import Run

pytestmark = pytest.mark.integration


@pytest.fixture
def nothing_published(run: Run) -> Any:
    yield
    assert run.published() == []
    assert not (run.outputs / "model").exists()


def test_the_written_file_is_damaged(run: Run, monkeypatch: pytest.MonkeyPatch, nothing_published: None) -> None:
    write = writer.write

    def damaged(path: Path, *arguments: Any) -> None:
        write(path, *arguments)
        with path.open("r+b") as file:
            file.seek(-2, 2)
            file.write(b"\x12\x34")

    monkeypatch.setattr(writer, "write", damaged)
    with pytest.raises(Mismatch, match="differ from the checkpoint"):
        run.convert()


def test_the_weights_are_not_finite(run: Run, tmp_path: Path, nothing_published: None) -> None:
    file = tmp_path / "trained" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["conv_out.bias"][0] = float("nan")
    save_file(tensors, file)
    run.store.at("train/diverged/step-000100").put_tree(tmp_path / "trained")
    uri = run.store.at("train/diverged/step-000100").uri
    run.choose(100, checkpoints=[dataclasses.asdict(CheckpointRef(100, uri, ["unet"]))], fingerprint="e" * 64)
    with pytest.raises(UserError, match=r"unet: tensor conv_out\.bias: holds NaN"):
        run.convert()


def test_the_checkpoint_is_gone(run: Run, nothing_published: None) -> None:
    uri = run.store.at("train/run/step-000900").uri
    run.choose(100, checkpoints=[dataclasses.asdict(CheckpointRef(100, uri, ["unet"]))])
    with pytest.raises(UserError, match="step-000900"):
        run.convert()


def test_the_decision_names_an_unknown_step(run: Run, nothing_published: None) -> None:
    run.choose(100, checkpoints=[dataclasses.asdict(CheckpointRef(0, None, []))])
    with pytest.raises(UserError, match=r"step 100 is not in its index \(0\)"):
        run.convert()


@pytest.mark.parametrize("name", ["", "Boards", "a/b", "../x", "x" * 64])
def test_the_name_cannot_be_used(run: Run, name: str, nothing_published: None) -> None:
    with pytest.raises(UserError, match="model_name"):
        run.convert(name=name)


def test_there_is_no_decision(run: Run, nothing_published: None) -> None:
    (run.best / "best.json").unlink()
    with pytest.raises(UserError, match=r"best\.json: not found"):
        run.convert()
