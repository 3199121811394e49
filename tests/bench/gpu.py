"""What only a machine with a GPU can show: ``make gpu-check``.

Trains the quickstart's base for a few steps with each setting that needs a GPU, or is for one, and prints a table:
whether it runs, whether what it published is finite and has moved, steps a second, peak GPU memory; then whether a run
that is interrupted ends with the weights of an undisturbed one. `torch.compile` is not covered.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from components.artifacts import CheckpointIndex, CropSet, read_json, write_crops, write_json
from components.checkpoints import fetch_checkpoint
from components.train.config import TrainConfig
from components.train.loop import Trainer
from components.train.step import train
from pipelines.embedded_store import EmbeddedStore
from tests.bench.train import BASE, SIDE, draw_crops

STEPS = 20
SETTINGS: dict[str, dict[str, Any]] = {
    "float32": {},
    "TF32": {"allow_tf32": True},
    "bf16": {"mixed_precision": "bf16"},
    "fp16 with scaler": {"mixed_precision": "fp16"},
    "8-bit Adam": {"use_8bit_adam": True},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "compiled": {"compile": True},
    "compiled, bf16": {"compile": True, "mixed_precision": "bf16"},
    "text encoder, average": {"train_text_encoder": True, "use_ema": True},
    "LoRA, bf16": {"use_lora": True, "mixed_precision": "bf16"},
    "two GPUs": {"num_processes": 2, "train_batch_size": 4},
}


class Interrupted(Exception):
    """Stands for the end of the process."""


def run(folder: Path, store: str, name: str, **settings: Any) -> dict[str, torch.Tensor]:
    """Train; the last checkpoint's UNet."""
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.cuda.reset_peak_memory_stats()
    out = folder / name.replace(" ", "-")
    config = {"max_train_steps": STEPS, "checkpointing_steps": STEPS, "train_batch_size": 8, "learning_rate": 1e-4}
    train(
        TrainConfig(**{**config, "state_every": 0, **settings}),
        crops=folder / "crops",
        base_model=str(BASE),
        base_revision="b" * 64,
        generation="1",
        store=f"{store}/{out.name}",
        checkpoints=out / "checkpoints",
        metrics=out / "metrics",
        report=out / "report.html",
    )
    index = read_json(out / "checkpoints" / "index.json", CheckpointIndex)
    [file] = (fetch_checkpoint(index, index.refs()[-1], out / "whole") / "unet").glob("*.safetensors")
    return load_file(file)


def row(folder: Path, store: str, name: str) -> str:
    try:
        weights = run(folder, store, name, **SETTINGS[name])
    except Exception as error:
        # One setting that fails is a line of the table, not its end.
        return f"| {name} | {type(error).__name__}: {' '.join(str(error).split())[:110]} | | |"
    base = load_file(next((BASE / "unet").glob("*.safetensors")))
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    moved = any(not torch.equal(base[key].float(), weights[key].float()) for key in base)
    numbers = json.loads((folder / name.replace(" ", "-") / "metrics" / "training.json").read_text())["numbers"]
    verdict = "ok" if finite and moved else f"finite {finite}, moved {moved}"
    return f"| {name} | {verdict} | {numbers['steps_per_second']:.1f} | {numbers.get('peak_gpu_memory_gb', 0):.2f} |"


def resumed(folder: Path, store: str) -> str:
    whole = run(folder, store, "whole")
    original = Trainer.step

    def step(self: Trainer) -> Any:
        if self.done == STEPS // 2 + 1:
            raise Interrupted
        return original(self)

    Trainer.step = step  # type: ignore[method-assign]
    try:
        run(folder, store, "broken", state_every=STEPS // 2)
    except Interrupted:
        pass
    finally:
        Trainer.step = original  # type: ignore[method-assign]
    again = run(folder, store, "broken", state_every=STEPS // 2)
    apart = max(float((whole[key] - again[key]).abs().max()) for key in whole)
    return f"resumed after an interruption: largest difference of a weight {apart:.3g} (0 is bit-exact)"


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("gpu-check: there is no GPU that torch can use here")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, batch 8 at {SIDE} px\n")
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as temporary, EmbeddedStore(Path(temporary, "s")) as server:
        os.environ.update(server.environ)
        folder = Path(temporary)
        listed = draw_crops(folder / "crops" / "train")
        write_crops(folder / "crops", "train", listed)
        prompts = {crop.defect: crop.text for crop in listed}
        write_json(
            folder / "crops" / "crops.json",
            CropSet(SIDE, sorted(prompts), prompts, {}, "c" * 64, "drawn", "d" * 64),
        )
        lines = [row(folder, server.uri, name) for name in SETTINGS]
        print("| setting | result | steps/s | peak GPU memory, GB |\n|---|---|---|---|", *lines, sep="\n")
        print("\n" + resumed(folder, server.uri))


if __name__ == "__main__":
    main()
