"""What only a machine with a GPU can show: ``make gpu-check``.

Trains a base for a few steps with each setting that needs a GPU, or is otherwise on one, and prints a table: whether it
runs, whether what it published is finite and has moved, steps a second, peak GPU memory. Then whether a step waits for
the GPU anywhere, whether a run that is interrupted ends with the weights of an undisturbed one, and what each way of
attention takes (`attention`). The base is the quickstart's; with ``--full-size`` one of Stable Diffusion 1.x's sizes
with random weights, at 512 px, whose memory is what a user's would be. Not covered: what is learned.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from components.artifacts import CheckpointIndex, CropSet, read_json, write_crops, write_json
from components.checkpoints import fetch_checkpoint
from components.storage import Store
from components.train.config import TrainConfig
from components.train.loop import Trainer
from components.train.step import train
from pipelines.embedded_store import EmbeddedStore
from tests.bench import attention
from tests.bench.full_size import write_model
from tests.bench.train import BASE, SIDE, draw_crops

FULL_SIDE = 512
SETTINGS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32, not channels_last": {"channels_last": False},
    "float32, no prefetch": {"prefetch": False},
    "float32, deterministic": {"deterministic": True},
    "TF32": {"allow_tf32": True},
    "bf16": {"mixed_precision": "bf16"},
    "bf16, not channels_last": {"mixed_precision": "bf16", "channels_last": False},
    "bf16, no prefetch": {"mixed_precision": "bf16", "prefetch": False},
    "fp16 with scaler": {"mixed_precision": "fp16"},
    "8-bit Adam": {"use_8bit_adam": True},
    "8-bit Adam, bf16": {"use_8bit_adam": True, "mixed_precision": "bf16"},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "compiled": {"compile": True},
    "compiled, bf16": {"compile": True, "mixed_precision": "bf16"},
    "text encoder, average": {"train_text_encoder": True, "use_ema": True},
    "LoRA, bf16": {"use_lora": True, "mixed_precision": "bf16"},
    "LoRA, bf16, gradient checkpointing": {
        "use_lora": True,
        "mixed_precision": "bf16",
        "gradient_checkpointing": True,
    },
    "two GPUs": {"num_processes": 2},
}


class Interrupted(Exception):
    """Stands for the end of the process."""


class Check:
    """Runs of the train step on one base and one set of crops, each with other settings."""

    def __init__(self, folder: Path, store: str, base: Path, side: int, batch: int, steps: int) -> None:
        self.folder, self.store, self.base, self.batch, self.steps = folder, store, base, batch, steps
        listed = draw_crops(folder / "crops" / "train", side)
        write_crops(folder / "crops", "train", listed)
        prompts = {crop.defect: crop.text for crop in listed}
        write_json(
            folder / "crops" / "crops.json", CropSet(side, sorted(prompts), prompts, {}, "c" * 64, "drawn", "d" * 64)
        )

    def run(self, **settings: Any) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Train; the last checkpoint's UNet, and the run's numbers."""
        AcceleratorState._reset_state(reset_partial_state=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        processes = settings.get("num_processes", 1)
        usual = {
            "max_train_steps": self.steps,
            "checkpointing_steps": self.steps,
            "train_batch_size": self.batch // processes,
            "learning_rate": 1e-4,
            "state_every": 0,
        }
        out = self.folder / "out"
        train(
            TrainConfig(**{**usual, **settings}),
            crops=self.folder / "crops",
            base_model=str(self.base),
            base_revision="b" * 64,
            generation="1",
            store=self.store,
            checkpoints=out / "checkpoints",
            metrics=out / "metrics",
            report=out / "report.html",
        )
        index = read_json(out / "checkpoints" / "index.json", CheckpointIndex)
        [file] = (fetch_checkpoint(index, index.refs()[-1], out / "whole") / "unet").glob("*.safetensors")
        found = load_file(file), json.loads((out / "metrics" / "training.json").read_text())["numbers"]
        # So that the disk holds one run's, and the next one trains, whatever its settings are.
        Store.from_env(self.store).at("train", index.fingerprint).delete_tree()
        shutil.rmtree(out)
        return found

    def row(self, name: str) -> str:
        try:
            weights, numbers = self.run(**SETTINGS[name])
        except Exception as error:
            # One setting that fails is a line of the table, not its end.
            return f"| {name} | {type(error).__name__}: {' '.join(str(error).split())[:110]} | | |"
        base = load_file(next((self.base / "unet").glob("*.safetensors")))
        finite = all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
        moved = any(not torch.equal(base[key].float(), weights[key].float()) for key in base)
        verdict = "ok" if finite and moved else f"finite {finite}, moved {moved}"
        speed, memory = numbers["steps_per_second"], numbers.get("peak_gpu_memory_gb", 0)
        return f"| {name} | {verdict} | {speed:.1f} | {memory:.2f} |"

    def waits(self, **settings: Any) -> str:
        """Whether a step, once the first is done, waits for the GPU; torch raises where it knows of it."""
        original = Trainer.step

        def step(self: Trainer) -> Any:
            if self.done == 0:
                return original(self)
            torch.cuda.set_sync_debug_mode("error")
            try:
                return original(self)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        try:
            with instead_of_a_step(step):
                self.run(**settings)
        except RuntimeError as error:
            return f"a step waits for the GPU with {settings}: {' '.join(str(error).split())[:200]}"
        return f"no step waits for the GPU with {settings}"

    def resumed(self, **settings: Any) -> str:
        """How far apart the weights of an undisturbed run and of one that is interrupted and goes on are, as a line."""
        try:
            return f"resumed with {settings}: weights differ by {self.apart(**settings):.3g} at most (0: bit-exact)"
        except Exception as error:
            return f"not resumed with {settings}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"

    def apart(self, **settings: Any) -> float:
        """The largest difference between a weight of the one and of the other."""
        original, half = Trainer.step, self.steps // 2

        def step(self: Trainer) -> Any:
            if self.done == half + 1:
                raise Interrupted
            return original(self)

        whole, _ = self.run(**settings)
        with contextlib.suppress(Interrupted), instead_of_a_step(step):
            self.run(state_every=half, **settings)
        again, _ = self.run(state_every=half, **settings)
        return max(float((whole[key] - again[key]).abs().max()) for key in whole)


@contextlib.contextmanager
def instead_of_a_step(step: Callable[[Trainer], Any]) -> Iterator[None]:
    original = Trainer.step
    Trainer.step = step  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Trainer.step = original  # type: ignore[method-assign]


def lines(check: Check, names: Iterable[str]) -> Iterator[str]:
    """What is found, as it is found."""
    yield from ("| setting | result | steps/s | peak GPU memory, GB |", "|---|---|---|---|")
    yield from map(check.row, names)
    yield ""
    if torch.cuda.is_available():
        yield check.waits()
        yield check.waits(mixed_precision="bf16", train_text_encoder=True, use_ema=True)
        yield check.waits(mixed_precision="fp16")
    yield check.resumed()
    yield check.resumed(deterministic=True)
    yield check.resumed(deterministic=True, mixed_precision="bf16", use_ema=True)
    yield ""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    yield from attention.table(device, attention.TOKENS if device.type == "cuda" else 256)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    flags.add_argument("--full-size", action="store_true", help="with a model of Stable Diffusion 1.x's sizes")
    flags.add_argument("--without", action="store_true", help="run without a GPU, too: to try this program itself")
    flags.add_argument("--only", nargs="+", choices=SETTINGS, default=[*SETTINGS], metavar="SETTING", help="some rows")
    given = flags.parse_args()
    if not (torch.cuda.is_available() or given.without):
        sys.exit("gpu-check: there is no GPU that torch can use here")
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as temporary, EmbeddedStore(Path(temporary, "s")) as server:
        os.environ.update(server.environ)
        folder, base, side, batch, steps = Path(temporary), BASE, SIDE, 8, 20
        if given.full_size:
            base, side, batch, steps = folder / "base", FULL_SIDE, 2, 6
            write_model(base)
        print(f"{name}, torch {torch.__version__}, batch {batch} at {side} px\n", flush=True)
        for line in lines(Check(folder, server.uri, base, side, batch, steps), given.only):
            print(line, flush=True)


if __name__ == "__main__":
    main()
