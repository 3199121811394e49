"""How fast the trainer is beside a plain DreamBooth loop, and what publishing costs: ``make bench``, ``bench-train``.

The plain loop does what the description of diffusers' ``train_dreambooth.py`` says, with its defaults: each step
decodes its images from files and encodes them with the VAE, encodes the prompts, and ends with AdamW as torch has it
by default and with the loss read from the device. Both fine-tune the same model on drawn crops of 64 px with the same
batch, thread count, optimizer settings and precision: one with random weights that has Stable Diffusion's proportions
(latents an eighth of the image), or with ``--quickstart`` the base of the quickstart (a quarter, so that more of a step
is the UNet's). The bare forward and backward pass of the UNet is the limit.

They take turns of a few steps in one process, and medians over the turns are compared, of wall and of CPU time, so
that other load on the machine meets all of them alike. Memory is of processes of their own. ``--curves`` trains both
for 200 steps from several seeds and compares what they learned on the same held-out noise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from PIL import Image

from components.artifacts import Crop
from components.storage import Store
from components.train import batches, data, fit, loop, model
from components.train.config import TrainConfig
from components.train.events import Events
from components.train.history import History
from components.train.run import Run
from components.train.uploads import Uploads
from pipelines.embedded_store import EmbeddedStore
from tests.tiny_model import write_pipeline

BASE = Path(__file__).parents[2] / "pipelines" / "quickstart" / "base"
SIDE, CROPS, RATE = 64, 40, 1e-4
WARM, TURN = 2, 4


def draw_crops(folder: Path, side: int = SIDE) -> list[Crop]:
    """Smooth pictures with a spot, of two classes."""
    random, listed = np.random.default_rng(0), []
    folder.mkdir(parents=True)
    for i in range(CROPS):
        coarse = random.integers(40, 200, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        image.paste((20, 20, 20) if i % 2 else (240, 230, 200), (28, 28, 36, 36))
        image.save(folder / f"{i}.png")
        text = f"a photo of a printed circuit board with a {'dark' if i % 2 else 'light'} spot"
        listed.append(Crop(f"{i}.png", text, "spot", f"{i}", (0, 0, side, side), (28, 28, 36, 36)))
    return listed


class Plain:
    """The plain loop: nothing is kept from one step to the next but the weights."""

    def __init__(self, base: Path, folder: Path, listed: list[Crop], config: TrainConfig) -> None:
        self.folder, self.listed, self.config = folder, listed, config
        self.base = model.load(base)
        self.accelerator = Accelerator(cpu=True)
        unet = self.base.unet.train().requires_grad_(True)
        optimizer = torch.optim.AdamW(unet.parameters(), lr=RATE, weight_decay=config.adam_weight_decay)
        scheduler = get_scheduler("constant", optimizer)
        self.unet, self.optimizer, self.scheduler = self.accelerator.prepare(unet, optimizer, scheduler)
        self.random = np.random.default_rng(config.seed)
        self.order: list[int] = []
        torch.manual_seed(config.seed)

    def example(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        crop, base = self.listed[index], self.base
        with Image.open(self.folder / crop.file_name) as opened:
            image = opened.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        if self.random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1
        text = crop.text if self.random.random() >= self.config.prompt_dropout else ""
        ids = base.tokenizer(
            text, truncation=True, padding="max_length", max_length=base.tokenizer.model_max_length, return_tensors="pt"
        )
        return pixels, ids.input_ids[0]

    def step(self) -> float:
        base, count = self.base, self.config.train_batch_size
        while len(self.order) < count:
            self.order += self.random.permutation(len(self.listed)).tolist()
        chosen, self.order = self.order[:count], self.order[count:]
        pixels, ids = (torch.stack(parts) for parts in zip(*(self.example(i) for i in chosen)))
        with torch.no_grad():
            clean = base.vae.encode(pixels).latent_dist.sample() * base.vae.config.scaling_factor
            states = base.text_encoder(ids)[0]
        noise = torch.randn_like(clean)
        times = torch.randint(0, base.noise.config.num_train_timesteps, (count,))
        predicted = self.unet(base.noise.add_noise(clean, noise, times), times, states).sample
        loss = F.mse_loss(predicted.float(), base.noise.get_velocity(clean, noise, times).float())
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.unet.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=False)
        return float(loss.detach().item())


class Bare:
    """Forward and backward pass on one fixed batch of the trainer's."""

    def __init__(self, base: Path, ours: loop.Trainer) -> None:
        self.unet = model.load(base).unet.train().requires_grad_(True)
        drawn = batches.draw(ours.latents, ours.config, 1000, 0)
        self.given = drawn.clean, drawn.times, ours.base.text_encoder(ours.ids)[0][drawn.prompt].detach()

    def step(self) -> None:
        self.unet(*self.given).sample.square().mean().backward()
        self.unet.zero_grad(set_to_none=True)


def trainer(base: Path, folder: Path, listed: list[Crop], config: TrainConfig) -> loop.Trainer:
    loaded = model.load(base)
    images = data.load_images(folder, listed)
    latents = data.encode(loaded.vae, images, [crop.text for crop in listed], config.augment, torch.device("cpu"))
    return loop.Trainer(loaded, latents, config, Accelerator(cpu=True))


def settings(batch: int, seed: int = 0, **more: Any) -> TrainConfig:
    return TrainConfig(train_batch_size=batch, learning_rate=RATE, seed=seed, **more)


def turns(subjects: dict[str, Callable[[], object]], rounds: int, steps: int = TURN) -> dict[str, list[float]]:
    """Subject → median wall and CPU seconds a step, over turns of `steps`."""
    for step in subjects.values():
        for _ in range(WARM):
            step()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, step in subjects.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(steps):
                step()
            taken[name].append(((time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps))
    return {name: [statistics.median(column) for column in zip(*values)] for name, values in taken.items()}


@contextlib.contextmanager
def clocked(subject: loop.Trainer) -> Iterator[dict[str, float]]:
    """Within the block, CPU seconds spent in each part of the trainer's steps."""
    spent: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kw: Any) -> Any:
            started = time.process_time()
            try:
                return function(*args, **kw)
            finally:
                spent[name] = spent.get(name, 0.0) + time.process_time() - started

        return call

    kept = loop.draw, subject.models["unet"].forward, subject.accelerator.backward
    clip, step = subject._clip, subject.optimizer.step
    loop.draw = timed("draw the batch", batches.draw)
    subject.models["unet"].forward = timed("UNet forward", kept[1])
    subject.accelerator.backward = timed("backward", kept[2])
    subject._clip = timed("clip", clip)  # type: ignore[method-assign]
    subject.optimizer.step = timed("AdamW", step)
    try:
        yield spent
    finally:
        loop.draw, subject.models["unet"].forward, subject.accelerator.backward = kept
        subject._clip, subject.optimizer.step = clip, step  # type: ignore[method-assign]


def speed(base: Path, folder: Path, listed: list[Crop], rounds: int) -> None:
    print("| batch | plain loop, ms a step | trainer | bare passes | trainer / plain | bare / plain | peak MB |")
    print("|---|---|---|---|---|---|---|")
    rest = []
    for batch in (8, 1):
        ours = trainer(base, folder, listed, settings(batch))
        plain, bare = Plain(base, folder, listed, settings(batch)), Bare(base, ours)
        found = turns({"plain": plain.step, "ours": ours.step, "bare": bare.step}, rounds)
        peaks = [memory(what, base, batch) for what in ("plain", "ours")]
        cells = [" / ".join(f"{1e3 * t:.0f}" for t in found[name]) for name in ("plain", "ours", "bare")]
        ratios = [" / ".join(f"{a / b:.2f}×" for a, b in zip(found["plain"], found[name])) for name in ("ours", "bare")]
        print(f"| {batch} | {' | '.join(cells + ratios)} | {peaks[0]:.0f} and {peaks[1]:.0f} |", flush=True)
        with clocked(ours) as spent:
            started, steps = time.process_time(), 20
            for _ in range(steps):
                ours.step()
            whole = time.process_time() - started
        spent["the rest"] = whole - sum(spent.values())
        rest.append(f"batch {batch}: " + ", ".join(f"{name} {1e3 * t / steps:.1f} ms" for name, t in spent.items()))
    print("\nTimes and ratios: wall / CPU. Where a step's CPU time goes:", *rest, sep="\n  ", flush=True)


def memory(what: str, base: Path, batch: int) -> float:
    command = [sys.executable, "-m", "tests.bench.train", "--child", what, str(base), str(batch)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def child(what: str, base: Path, batch: int) -> None:
    """Train a few steps and print the peak memory in MB."""
    with tempfile.TemporaryDirectory(prefix="bench-train-") as temporary:
        listed = draw_crops(Path(temporary) / "crops")
        made = {"plain": Plain, "ours": trainer}[what](base, Path(temporary) / "crops", listed, settings(batch))
        for _ in range(5):
            made.step()  # type: ignore[attr-defined]
    # Not ru_maxrss, which a new process takes over from the one that started it.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    print(json.dumps(int(line.split()[1]) * 1024 / 1e6))


def publishing(base: Path, folder: Path, listed: list[Crop], pairs: int) -> None:
    """25 steps while all that is due is sent, and 25 while nothing is, in turns; each pair is compared.

    Due are a checkpoint, a state, and the events of all steps since the last.
    """
    ours = trainer(base, folder, listed, settings(8, max_train_steps=1_000_000))
    with tempfile.TemporaryDirectory(prefix="bench-store-") as temporary, EmbeddedStore(Path(temporary)) as server:
        os.environ.update(server.environ)
        run = Run(Store.from_env(server.uri), "bench", limit=2)
        history, events = History(), Events(run.reports, run.attempt, ours.done)

        def step() -> None:
            events.begin()
            history.add(*ours.step(), ours.scheduler.get_last_lr()[0])

        def steps(publish: bool) -> dict[str, float]:
            with Uploads() as uploads:
                wall, own, all_threads, its = time.perf_counter(), time.thread_time(), time.process_time(), cpu(server)
                history.read()
                if publish:
                    snapshot = ours.snapshot(True, True)
                    uploads.submit(events.upload(history), fit.upload(run, ours, snapshot, history.data()))
                for _ in range(25):
                    step()
                wall, own = time.perf_counter() - wall, time.thread_time() - own
                trained = time.perf_counter()
                uploads.ready()
                late = time.perf_counter() - trained
            others = time.process_time() - all_threads - own
            return {"wall": wall, "own": own, "client": others, "server": cpu(server) - its, "late": late}

        step()
        steps(True)
        found = [(steps(False), steps(True)) for _ in range(pairs)]
    checkpoint = sum(p.numel() * 4 for p in ours.parameters)
    print(
        f"\npublishing every 25 steps, batch 8, 1 thread that trains and 1 that uploads, {checkpoint / 1e6:.0f} MB a "
        f"checkpoint and {2 * checkpoint / 1e6:.0f} MB a state; {pairs} pairs, quartiles in brackets:",
        flush=True,
    )
    for key, what in (("wall", "wall"), ("own", "CPU of the thread that trains")):
        costs = [with_[key] / without[key] - 1 for without, with_ in found]
        low, middle, high = statistics.quantiles(costs, n=4)
        seconds = statistics.median(without[key] for without, _ in found)
        print(f"  {what}: {middle:+.1%} [{low:+.1%}, {high:+.1%}] of {seconds:.2f} s", flush=True)
    uploading, serving = (statistics.median(with_[key] for _, with_ in found) for key in ("client", "server"))
    late = sum(with_["late"] > 0.01 for _, with_ in found)
    print(f"  CPU of the upload: {uploading:.2f} s here, {serving:.2f} s in the server; {late} not sent by the next")


def cpu(server: EmbeddedStore) -> float:
    """Seconds that the server has computed for."""
    user, system = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def curves(base: Path, folder: Path, listed: list[Crop], seeds: int) -> None:
    """Both trained for 200 steps: mean loss of the last 100, and loss on the same held-out noise afterwards."""
    print("\n| seed | plain, training | trainer, training | plain, held out | trainer, held out |")
    print("|---|---|---|---|---|")
    for seed in range(seeds):
        config = settings(8, seed, max_train_steps=200)
        plain, ours = Plain(base, folder, listed, config), trainer(base, folder, listed, config)
        losses = [[plain.step() for _ in range(200)], [float(ours.step()[0]) for _ in range(200)]]
        found = [statistics.mean(curve[100:]) for curve in losses]
        found += [held_out(trained, ours) for trained in (plain.base, ours.base)]
        print(f"| {seed} | {' | '.join(f'{value:.4f}' for value in found)} |", flush=True)


@torch.no_grad()
def held_out(base: model.BaseModel, ours: loop.Trainer) -> float:
    """Loss of `base`'s UNet on 512 draws of noise that no training saw."""
    config, total = settings(64, seed=12345), 0.0
    for number in range(8):
        drawn = batches.draw(ours.latents, config, base.noise.config.num_train_timesteps, number)
        states = base.text_encoder(ours.ids)[0][drawn.prompt]
        noisy = base.noise.add_noise(drawn.clean, drawn.noise, drawn.times)
        target = base.noise.get_velocity(drawn.clean, drawn.noise, drawn.times)
        total += float(F.mse_loss(base.unet(noisy, drawn.times, states).sample, target)) / 8
    return total


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    flags.add_argument("--rounds", type=int, default=12, help="turns of each (12)")
    flags.add_argument("--pairs", type=int, default=12, help="pairs of 25 steps with and without publishing (12)")
    flags.add_argument("--curves", type=int, default=0, metavar="SEEDS", help="compare what is learned, too")
    flags.add_argument("--quickstart", action="store_true", help="with the quickstart's base")
    flags.add_argument("--child", nargs=3, metavar=("WHAT", "BASE", "BATCH"), help=argparse.SUPPRESS)
    given = flags.parse_args()
    torch.set_num_threads(1)
    if given.child:
        child(given.child[0], Path(given.child[1]), int(given.child[2]))
        return
    print(f"1 thread, load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores before", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-train-"))
    try:
        listed = draw_crops(folder / "crops")
        base = BASE if given.quickstart else write_pipeline(folder / "base", widths=(32, 64, 128, 128))
        if given.rounds:
            speed(base, folder / "crops", listed, given.rounds)
        if given.pairs:
            publishing(base, folder / "crops", listed, given.pairs)
        if given.curves:
            curves(base, folder / "crops", listed, given.curves)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
