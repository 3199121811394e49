"""Flags of the ``generate`` command, apart from its work: the command line shows its help without loading that."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command to the command line's."""
    made = commands.add_parser(
        "generate",
        allow_abbrev=False,
        help="draw new images with a trained model",
        description="Draw new images with a trained model: one that was published here, a file, or any Stable "
        "Diffusion 1.x or 2.x folder. Killed, the same command goes on where it was.",
    )
    made.add_argument(
        "--model", required=True, metavar="MODEL",
        help="name of a model published in --workdir (NAME or NAME@VERSION), an s3:// place, a .safetensors file, or a "
        "diffusers folder",
    )  # fmt: skip
    made.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the images go (imagefolder)")
    made.add_argument(
        "--class", dest="classes", action="append", default=[], metavar="NAME",
        help="class to draw, with the prompt that it was trained with; may be repeated (default: every class)",
    )  # fmt: skip
    made.add_argument(
        "--prompt", dest="prompts", action="append", default=[], metavar="TEXT", help="other words; may be repeated"
    )
    made.add_argument("-n", "--count", type=int, default=100, metavar="N", help="images of each (100)")
    made.add_argument("--seed", type=int, default=0, help="seed of each first image; the next has the next (0)")
    made.add_argument("--steps", type=int, help="sampler steps (as the model was measured with, or 25)")
    made.add_argument(
        "--guidance", type=float, help="guidance scale, 1 is none (as the model was measured with, or 7.5)"
    )
    made.add_argument("--size", type=int, metavar="PX", help="side of the images (what the model was trained with)")
    made.add_argument("--batch-size", type=int, metavar="N", help="images at once; changes speed and memory only")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to draw (auto)")
    made.add_argument(
        "--config",
        type=Path,
        metavar="FOLDER",
        help="diffusers folder of the base, for a file without config/ beside it",
    )
    made.add_argument(
        "--crops", type=Path, metavar="FOLDER",
        help="the crop step's output, to say how near each image is to a training crop (found by itself after a run "
        "in --workdir)",
    )  # fmt: skip
    made.add_argument("--workdir", type=Path, default=Path("runs"), metavar="FOLDER", help="where runs are (runs)")
