"""What training a full-size model takes in memory: ``python -m tests.bench.full_size lora`` (or ``full``).

Makes a Stable Diffusion 1.5-shaped pipeline with random weights (2 GB on disk), trains it for two steps at 128 px with
the train step, publishing to an embedded store, and prints the peak memory of the training process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from components.artifacts import CropSet, write_crops, write_json
from components.progress import duration, size
from components.train.config import TrainConfig
from components.train.step import train
from pipelines.embedded_store import EmbeddedStore
from tests.bench.train import draw_crops
from tests.tiny_model import write_tokenizer

SIDE = 128
_TEXT = {"text_encoder": "CLIPTextModel", "tokenizer": "CLIPTokenizer"}
WAYS: dict[str, dict[str, Any]] = {
    "full": {"learning_rate": 1e-6},
    "lora": {"learning_rate": 1e-4, "use_lora": True, "gradient_checkpointing": True},
}


def write_model(folder: Path, dtype: str = "float16", width: int = 320) -> None:
    """The pipeline, one part in memory at a time.

    Args:
        width: channels of the UNet's first level; 320 is Stable Diffusion's.
    """
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    words = write_tokenizer(folder / "tokenizer")
    ends = {"bos_token_id": words - 2, "eos_token_id": words - 1, "pad_token_id": words - 1}
    text = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
        **ends,
    )
    down, up = ["DownEncoderBlock2D"] * 4, ["UpDecoderBlock2D"] * 4
    widths = (128, 256, 512, 512)
    parts = {
        "text_encoder": lambda: CLIPTextModel(text),
        "vae": lambda: AutoencoderKL(
            block_out_channels=widths, down_block_types=down, up_block_types=up, layers_per_block=2
        ),
        "unet": lambda: UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, block_out_channels=(width, 2 * width, 4 * width, 4 * width)
        ),
    }
    for name, make in parts.items():
        make().to(getattr(torch, dtype)).save_pretrained(folder / name)
    DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).save_pretrained(
        folder / "scheduler"
    )
    classes = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": "DDPMScheduler"}
    index: dict[str, Any] = {name: ["diffusers", kind] for name, kind in classes.items()}
    index |= {name: ["transformers", kind] for name, kind in _TEXT.items()}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **index}))


def write_crop_set(folder: Path) -> None:
    listed = draw_crops(folder / "train", SIDE)[:4]
    write_crops(folder, "train", listed)
    prompts = {crop.defect: crop.text for crop in listed}
    write_json(
        folder / "crops.json",
        CropSet(SIDE, sorted(prompts), prompts, {}, "c" * 64, "drawn", "d" * 64),
    )


def child(what: str, folder: Path, store: str) -> None:
    """Make the model, or train it in the way `what`, and print seconds and peak bytes."""
    started = time.perf_counter()
    if what == "make":
        write_model(folder / "base")
        write_crop_set(folder / "crops")
    else:
        train(
            TrainConfig(max_train_steps=2, checkpointing_steps=2, train_batch_size=1, state_every=0, **WAYS[what]),
            crops=folder / "crops",
            base_model=str(folder / "base"),
            base_revision="b" * 64,
            generation="1",
            store=store,
            checkpoints=folder / "checkpoints",
            metrics=folder / "metrics",
            report=folder / "report.html",
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([time.perf_counter() - started, peak]))


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    flags.add_argument("way", choices=[*WAYS, "make"])
    flags.add_argument("--child", nargs=2, metavar=("FOLDER", "STORE"), help=argparse.SUPPRESS)
    given = flags.parse_args()
    if given.child:
        child(given.way, Path(given.child[0]), given.child[1])
        return
    with (
        tempfile.TemporaryDirectory(prefix="full-size-") as temporary,
        EmbeddedStore(Path(temporary) / "store") as server,
    ):
        os.environ.update(server.environ)
        for what in ("make", given.way):
            command = [sys.executable, "-m", "tests.bench.full_size", what, "--child", temporary, server.uri]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            seconds, peak = json.loads(done.stdout.splitlines()[-1])
            print(f"{what}: {duration(seconds)}, peak memory {size(peak)}", flush=True)


if __name__ == "__main__":
    main()
