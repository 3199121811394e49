"""The generate command: as a process, on the shipped base model and on a published file made of it."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components import sampling
from components.convert import writer
from components.convert.companion import write_companion
from components.convert.layout import targets
from components.convert.source import Source
from tests.conftest import ROOT
from tests.environment import without_store
from tests.tiny_model import write_pipeline

BASE = ROOT / "pipelines" / "quickstart" / "base"
PROMPTS = {"short": "a scan of a printed circuit board", "pin-hole": "a photo of a metal tile"}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "pipelines", "generate", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**without_store(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def generate(cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, env=environment(), timeout=300)


def refused(cwd: Path, *arguments: str | Path) -> str:
    done = generate(cwd, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def pixels(out: Path, label: str) -> np.ndarray:
    files = sorted((out / "images" / label).glob("*.png"))
    return np.stack([np.asarray(Image.open(f)) for f in files]).astype(int)


def write_file(base: Path, folder: Path, metadata: dict[str, str], dtype: str = "fp16") -> Path:
    """A diffusers folder as one file with its configuration beside it, in `folder`."""
    folder.mkdir(exist_ok=True)
    with Source(base) as source:
        write_companion(base, folder / "config")
        entries = writer.plan(source, targets(source.configs, source.tensors), dtype)
        writer.write(folder / "boards.safetensors", source, entries, metadata)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model as the convert step publishes one: a file that knows its classes, and config/."""
    metadata = {
        "format": "pt",
        "modelspec.resolution": "64x64",
        "defect_diffusion.prompts": json.dumps(PROMPTS),
        "defect_diffusion.generation": json.dumps({"num_inference_steps": 2, "guidance_scale": 2.0}),
    }
    return write_file(BASE, tmp_path_factory.mktemp("published"), metadata)


@pytest.fixture(scope="module")
def drawn(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images of each class, in batches of three."""
    cwd = tmp_path_factory.mktemp("drawn")
    done = generate(cwd, "--model", published, "--out", "new", "-n", "5", "--batch-size", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    return cwd / "new"


def test_every_class_is_drawn_with_its_own_prompt_in_the_imagefolder_layout(drawn: Path) -> None:
    lines = [json.loads(line) for line in (drawn / "metadata.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    for line in lines:
        assert line["text"] == PROMPTS[line["defect"]]
        with Image.open(drawn / line["file_name"]) as image:
            assert image.size == (64, 64)
            assert image.info["prompt"] == line["text"]
            assert image.info["seed"] == str(line["seed"])
    assert sorted(line["seed"] for line in lines if line["defect"] == "short") == [0, 1, 2, 3, 4]
    assert not list(drawn.rglob("*.part"))
    record = json.loads((drawn / "generate.json").read_text())
    assert record["identity"]["steps"] == 2, "as the model was measured with"
    assert record["identity"]["guidance"] == 2.0
    with Image.open(drawn / "contact-sheet.png") as sheet:
        assert sheet.width > 5 * 96


def test_images_differ_by_seed_and_prompt(drawn: Path) -> None:
    short, tile = pixels(drawn, "short"), pixels(drawn, "pin-hole")
    assert all(np.abs(short[0] - other).mean() > 2 for other in short[1:])
    assert np.abs(short - tile).mean() > 2


@pytest.mark.parametrize("batch", ["1", "5"])
def test_the_batch_changes_nothing(drawn: Path, published: Path, tmp_path: Path, batch: str) -> None:
    done = generate(tmp_path, "--model", published, "--class", "short", "--out", "o", "-n", "5", "--batch-size", batch)
    assert done.returncode == 0, done.stderr
    # Sums in another order: at most a level where a value lies between two.
    assert np.abs(pixels(tmp_path / "o", "short") - pixels(drawn, "short")).max() <= 1


def test_a_diffusers_folder_draws_what_its_published_file_draws(drawn: Path, tmp_path: Path) -> None:
    done = generate(
        tmp_path, "--model", BASE, "--prompt", PROMPTS["short"], "--out", "o", "-n", "5", "--steps", "2",
        "--guidance", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.abs(pixels(tmp_path / "o", "a-scan-of-a-printed-circuit-board") - pixels(drawn, "short")).max() <= 1


def test_a_killed_command_goes_on_where_it_was(published: Path, tmp_path: Path) -> None:
    arguments = (
        "--model",
        published,
        "--class",
        "short",
        "--out",
        "o",
        "-n",
        "12",
        "--batch-size",
        "2",
        "--steps",
        "20",
    )
    process = subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder = tmp_path / "o" / "images" / "short"
    until = time.monotonic() + 200
    while len(list(folder.glob("*.png"))) < 2 and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.glob("*.png")}
    assert 2 <= len(before) < 12
    assert all(Image.open(folder / name).size == (64, 64) for name in before)
    done = generate(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert f"{len(before)} of 12 images are there already" in done.stdout
    assert {name: ((folder / name).stat().st_mtime_ns, (folder / name).read_bytes()) for name in before} == before
    whole = tmp_path / "whole"
    whole.mkdir()
    assert generate(whole, *arguments).returncode == 0
    assert np.abs(pixels(tmp_path / "o", "short") - pixels(whole / "o", "short")).max() <= 1
    assert "all there already" in generate(tmp_path, *arguments).stdout


def test_more_images_and_other_classes_join_a_folder(drawn: Path, published: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    shutil.copytree(drawn, out)
    done = generate(tmp_path, "--model", published, "--out", out, "--class", "short", "-n", "6")
    assert done.returncode == 0, done.stderr
    assert "drew 1" in done.stdout
    assert len((out / "metadata.jsonl").read_text().splitlines()) == 11, "the other class is still listed"


def test_a_folder_of_other_settings_or_of_other_things_is_refused(drawn: Path, published: Path, tmp_path: Path) -> None:
    before = hashlib.sha256((drawn / "generate.json").read_bytes()).hexdigest()
    message = refused(tmp_path, "--model", published, "--out", drawn, "--steps", "3")
    assert "steps 2 → 3" in message
    assert "name another folder" in message
    assert hashlib.sha256((drawn / "generate.json").read_bytes()).hexdigest() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    assert "photo.jpg" in refused(tmp_path, "--model", published, "--out", "mine")
    assert (tmp_path / "mine" / "photo.jpg").exists()


def test_what_is_wrong_is_said_before_anything_is_written(published: Path, tmp_path: Path) -> None:
    assert "knows pin-hole, short" in refused(tmp_path, "--model", published, "--class", "scratch", "--out", "o")
    assert "such as 96" in refused(tmp_path, "--model", published, "--size", "98", "--out", "o")
    assert "--prompt" in refused(tmp_path, "--model", BASE, "--out", "o")
    assert "nothing was published" in refused(tmp_path, "--model", "screws", "--out", "o")
    several = refused(tmp_path, "--model", BASE, "--prompt", " ", "-n", "0", "--steps", "0", "--out", "o")
    assert all(flag in several for flag in ("--prompt", "--count 0", "--steps 0"))
    assert not (tmp_path / "o").exists()


def test_files_that_can_run_code_or_lack_their_configuration_are_refused(published: Path, tmp_path: Path) -> None:
    pickle = tmp_path / "model.ckpt"
    pickle.write_bytes(b"\x80\x04.")
    more = ("--config", BASE, "--prompt", "x", "--out", "o")
    assert "cannot be read as a checkpoint" in refused(tmp_path, "--model", pickle, *more)
    assert "only .safetensors and .ckpt files are read" in refused(
        tmp_path, "--model", pickle.rename(tmp_path / "m.pt"), *more
    )
    alone = tmp_path / "alone.safetensors"
    shutil.copyfile(published / "boards.safetensors", alone)
    assert "--config" in refused(tmp_path, "--model", alone, "--out", "o")
    done = generate(tmp_path, "--model", alone, "--config", BASE, "--out", "o", "--class", "short", "-n", "1")
    assert done.returncode == 0, done.stderr
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(alone.read_bytes()[:5000])
    assert "copy it again" in refused(tmp_path, "--model", damaged, "--config", BASE, "--out", "p")
    assert not (tmp_path / "p").exists()


def test_a_model_that_inpaints_paints_the_whole_image(tmp_path: Path) -> None:
    """From a folder as from a file, and as evaluate lets it."""
    base = write_pipeline(tmp_path / "nine", in_channels=9)
    write_file(base, tmp_path / "published", {"format": "pt"}, "fp32")
    for out, model in (("folder", base), ("file", tmp_path / "published")):
        done = generate(
            tmp_path, "--model", model, "--prompt", "a tile", "--out", out, "-n", "2", "--steps", "2", "--guidance", "2"
        )
        assert done.returncode == 0, done.stderr
    images = pixels(tmp_path / "folder", "a-tile")
    assert np.abs(images - pixels(tmp_path / "file", "a-tile")).max() <= 1
    measured = sampling.generate(sampling.load(base, "cpu"), ["a tile"] * 2, [0, 1], size=64, steps=2, guidance=2.0)
    assert np.abs(images - np.concatenate(list(measured)).astype(int)).max() <= 1


def test_models_of_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(BASE, model)
    config = json.loads((model / "unet" / "config.json").read_text())
    (model / "unet" / "config.json").write_text(json.dumps({**config, "in_channels": 17}))
    assert "takes 17 channels" in refused(tmp_path, "--model", model, "--prompt", "x", "--out", "o")
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionXLPipeline"}))
    assert "StableDiffusionXLPipeline" in refused(tmp_path, "--model", model, "--prompt", "x", "--out", "o")
