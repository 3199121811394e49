"""How fast the crop step is, and how much memory it takes: ``make bench-crop``.

Draws noise over gradients as images of 1024 × 1024 pixels with four boxes each, and runs, each in a process of its
own, the step and the bare loop that no implementation can do without: decode, crop, resize, encode, in as many
threads as there are cores. Once for each number of cores. Both run in the same minutes on the same machine; their
ratio is what can be compared between machines.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from components.crop.config import CropConfig
from components.crop.images import picture
from components.crop.step import crop
from components.crop.window import cut_image, window_around
from components.parallel import cores, parallel
from components.progress import Progress

SIDE, RESOLUTION = 1024, 512
#: Two at native resolution, two that are reduced.
BOXES = ((40, 60, 90, 130), (500, 480, 620, 600), (100, 200, 600, 700), (420, 20, 1000, 560))
_PNG_LEVEL = 3


def draw(folder: Path, images: int) -> None:
    """JPEG photographs with a table of boxes; two classes."""
    random = np.random.default_rng(0)
    ramp = np.linspace(40, 200, SIDE, dtype=np.float32)
    noise = random.normal(0, 12, (SIDE, SIDE, 3)).astype(np.float32)
    folder.mkdir(parents=True)
    lines = ["image,class,x0,y0,x1,y1"]
    for i in range(images):
        shift = int(random.integers(SIDE))
        pixels = np.roll(noise, shift, axis=1) + ramp[:, None, None] + np.roll(ramp, shift)[None, :, None] / 4
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:05d}.jpg", quality=92)
        lines += [f"{i:05d}.jpg,{'scratch' if j % 2 else 'dent'},{','.join(map(str, b))}" for j, b in enumerate(BOXES)]
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")


def bare(folder: Path, out: Path) -> None:
    """Decode, crop, resize, encode: the same crops as files, and nothing else."""
    config = CropConfig(resolution=RESOLUTION)

    def work(path: Path) -> None:
        with picture(path) as image:
            for j, box in enumerate(BOXES):
                window = window_around(box, *image.size, RESOLUTION, config.context)
                cut_image(image, window, RESOLUTION).save(out / f"{path.stem}-{j}.png", compress_level=_PNG_LEVEL)

    out.mkdir()
    paths = sorted(folder.glob("*.jpg"))
    parallel(work, paths, cores(), Progress("bare", len(paths), write=lambda line: None))


def step(folder: Path, out: Path) -> None:
    """The step, as a pipeline calls it."""
    crop(CropConfig(resolution=RESOLUTION), str(folder), "r", out / "crops", out / "report.html")


def measure(what: str, folder: Path, used: int) -> dict[str, float]:
    """Seconds and peak memory (bytes) of one child process that may use `used` cores."""
    chosen = sorted(os.sched_getaffinity(0))[:used]
    with tempfile.TemporaryDirectory(dir=folder.parent) as out:
        command = [sys.executable, "-m", "tests.bench.crop", "--child", what, str(folder), str(Path(out) / "made")]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, chosen)
        )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def child(what: str, folder: Path, out: Path) -> None:
    """Run one of both and print what it took."""
    started = time.perf_counter()
    {"step": step, "bare": bare}[what](folder, out)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    flags.add_argument("--images", type=int, nargs="+", default=[200, 2000], help="sizes of the data sets (200 2000)")
    flags.add_argument("--child", nargs=3, metavar=("WHAT", "FOLDER", "OUT"), help=argparse.SUPPRESS)
    given = flags.parse_args()
    if given.child:
        child(given.child[0], Path(given.child[1]), Path(given.child[2]))
        return
    usable = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    print(
        f"{usable} cores, load {load:.1f} before{' (busy: compare the ratio only)' if load > 0.5 else ''}", flush=True
    )
    print("| images | cores | step, images/s | bare loop, images/s | step / bare | step, peak MB | bare, peak MB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for images in given.images:
        root = Path(tempfile.mkdtemp(prefix="bench-crop-"))
        try:
            draw(root / "data", images)
            for used in range(1, usable + 1):
                plain, made = measure("bare", root / "data", used), measure("step", root / "data", used)
                rates = images / made["seconds"], images / plain["seconds"]
                print(
                    f"| {images} | {used} | {rates[0]:.1f} | {rates[1]:.1f} | {rates[0] / rates[1]:.0%} "
                    f"| {made['peak'] / 1e6:.0f} | {plain['peak'] / 1e6:.0f} |",
                    flush=True,
                )
        finally:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
