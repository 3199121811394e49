"""Measure base models on one protocol, as a table: what their autoencoders lose, and what they draw.

    python -m pipelines.quickstart.compare_bases --base DIR [--base DIR …] --crops DIR [--crops DIR …]

`--crops` is what the crop step writes, of real images that no base has seen. Columns: size; for each set of crops the
pixels that the autoencoder puts on the wrong side of mid-grey, its peak signal-to-noise ratio, the fine texture it
keeps, and `kd_lite0` × 10³ of its reconstructions of the training crops against the held-out crops (0: none can tell
them apart); and `kd_lite0` × 10³ of pictures drawn by caption against drawn pictures of the same caption. What
fine-tuning makes of a base is measured by `make study`. Imports torch.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.image.kid import poly_mmd

from components import decoding, sampling
from components.artifacts import CropSet, Split, read_crops, read_json
from components.errors import UserError
from components.extractor import Lite0
from components.progress import log
from pipelines.quickstart.crops import SIZE, draw_picture
from pipelines.quickstart.export_base import reconstruct, reconstruction_errors

Crops = NDArray[np.uint8]  # (n, SIZE, SIZE, 3)

DRAWN = ("scan", "green photo", "grey photo", "metal tile")  # of `crops.MIX`
DRAWN_PICTURES, SAMPLES, STEPS, GUIDANCE = 12, 96, 20, 2.0


@dataclass(frozen=True)
class RealCrops:
    """A set of real crops: what an autoencoder is given, and others to hold what comes out against."""

    name: str
    train: Mapping[str, Crops]  # class → crops
    reference: Mapping[str, Crops]


def read(folder: Path) -> RealCrops:
    """The crop step's output. Raises UserError for other folders and crops of another size."""
    listed = read_json(folder / "crops.json", CropSet)
    if listed.resolution != SIZE:
        raise UserError(f"--crops {folder}: crops of {listed.resolution} pixels; cut them with crop.resolution={SIZE}")
    splits: tuple[Split, ...] = ("train", "reference")
    found = {split: {name: _pixels(folder, split, name) for name in listed.classes} for split in splits}
    return RealCrops(Path(listed.dataset).name, found["train"], found["reference"])


def _pixels(folder: Path, split: Split, name: str) -> Crops:
    images = []
    for crop in read_crops(folder, split):
        if crop.defect == name:
            images.append(np.asarray(decoding.read(folder / split / crop.file_name, "RGB")))
    return np.stack(images)


def drawn_crops(what: str, count: int) -> tuple[str, Crops]:
    """A caption and `count` crops of newly drawn pictures that it describes, at native scale."""
    pictures = [draw_picture(np.random.default_rng([99, i]), what) for i in range(DRAWN_PICTURES)]
    rng = np.random.default_rng(99)
    crops = []
    for i in range(count):
        picture = pictures[i % len(pictures)].image
        y, x = (int(v) for v in rng.integers(0, len(picture) - SIZE + 1, 2))
        crops.append(picture[y : y + SIZE, x : x + SIZE])
    return pictures[0].caption, np.stack(crops)


def distance(extractor: Lite0, made: Crops, real: Crops) -> float:
    """Kernel distance × 10³ of equally many features: unbiased, 0 where nothing tells the two apart."""
    n = min(len(made), len(real))
    there, drawn = (torch.from_numpy(extractor.features(images[:n])) for images in (real, made))
    return 1e3 * float(poly_mmd(there, drawn))


def row(base: Path, real: list[RealCrops], drawn: Mapping[str, tuple[str, Crops]], extractor: Lite0) -> list[str]:
    """One base's cells."""
    model = sampling.load(base, "cpu")
    size = sum(path.stat().st_size for path in base.rglob("*.safetensors"))
    cells = [f"`{base.name}`", f"{size / 1e6:.1f} MB"]
    for crops in real:
        errors = reconstruction_errors(model.vae, np.concatenate(list(crops.train.values())))
        made = {name: reconstruct(model.vae, images) for name, images in crops.train.items()}
        lost = np.mean([distance(extractor, made[name], crops.reference[name]) for name in made])
        cells += [f"{errors.wrong_percent:.2f} %", f"{errors.psnr:.1f} dB", f"{errors.texture:.0%}", f"{lost:.0f}"]
    for caption, pictures in drawn.values():
        seeds = range(SAMPLES)
        batches = sampling.generate(
            model, [caption] * SAMPLES, seeds, size=SIZE, steps=STEPS, guidance=GUIDANCE, batch_size=32
        )
        cells.append(f"{distance(extractor, np.concatenate(list(batches)), pictures):.0f}")
    return cells


def table(bases: list[Path], folders: list[Path]) -> str:
    """Markdown. Raises UserError for a folder that is no base or holds no crops, before anything is measured."""
    real = [read(folder) for folder in folders]
    if wrong := [f"--base {base}: no diffusers folder" for base in bases if not (base / "model_index.json").is_file()]:
        raise UserError(*wrong)
    extractor = Lite0("cpu")
    drawn = {what: drawn_crops(what, SAMPLES) for what in DRAWN}
    titles = ["base", "weights"]
    for crops in real:
        titles += [f"{crops.name}: wrong side", "PSNR", "fine texture", "kd_lite0"]
    titles += [f"draws {what}" for what in DRAWN]
    lines = [titles, ["---"] * len(titles)]
    floor = ["real against real", "", *(cell for crops in real for cell in ("", "", "", _floor(extractor, crops)))]
    for base in bases:
        log(f"measuring {base}")
        lines.append(row(base, real, drawn, extractor))
    lines.append([*floor, *("" for _ in DRAWN)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _floor(extractor: Lite0, crops: RealCrops) -> str:
    values = [distance(extractor, crops.train[name], crops.reference[name]) for name in crops.train]
    return f"{np.mean(values):.0f}"


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.quickstart.compare_bases", description="Measure base models on one protocol."
    )
    parser.add_argument("--base", type=Path, action="append", required=True, metavar="DIR", help="a diffusers folder")
    parser.add_argument(
        "--crops", type=Path, action="append", required=True, metavar="DIR", help="the crop step's output"
    )
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        print(table(given.base, given.crops))
    except UserError as error:
        parser.exit(error.status, f"{error}\n")


if __name__ == "__main__":
    main()
