"""How fast a full-size model is converted beside a copy of the same bytes: ``make bench-convert``.

Makes Stable Diffusion 1.5-shaped checkpoints with random weights in float32, of about 1 and 4 GB, and does in turn,
each time in a process of its own:

    write    the writer of the convert step: sources opened, the file planned, written, flushed to the disk
    copy     a copy of the file that came out, flushed to the disk
    script   the way of diffusers' convert_diffusers_to_original_stable_diffusion.py: every state dict loaded, renamed
             in memory, saved by safetensors; flushed to the disk. With this project's names, since the script's own
             are wrong with current transformers, so that both do the same work
    digest   the digest of the file's tensors, and
    proof    the file loaded by diffusers and compared tensor by tensor: what the step does besides

Time is the median, with libraries imported, and includes waiting for the disk; beside it what the process computed,
which a busy machine does not change; memory is the anonymous memory added meanwhile, at its highest.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from components.progress import size
from tests.bench.full_size import write_model

#: Label → channels of the UNet's first level.
SIZES = {"1 GB": 128, "4 GB": 320}
_SAMPLED_EVERY = 0.002  # seconds


def write(checkpoint: Path, file: Path, dtype: str) -> None:
    from components.convert import writer
    from components.convert.layout import targets
    from components.convert.source import Source

    with Source(checkpoint) as source:
        entries = writer.plan(source, targets(source.configs, source.tensors), dtype)
        writer.write(file, source, entries, {"format": "pt"})


def copy(checkpoint: Path, file: Path, dtype: str) -> None:
    target = file.with_name("copy")
    shutil.copyfile(file, target)
    flush(target)
    target.unlink()


def script(checkpoint: Path, file: Path, dtype: str) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from components.convert.layout import COMPONENTS, canonical, targets
    from components.convert.source import Source

    with Source(checkpoint) as source:
        renamed = targets(source.configs, source.tensors)
    loaded: dict[str, dict[str, torch.Tensor]] = {}
    for component in COMPONENTS:
        whole = load_file(next((checkpoint / component).glob("*.safetensors")))
        loaded[component] = {str(canonical(component, name)): tensor for name, tensor in whole.items()}
    state = {}
    for target in renamed:
        if target.sources:
            tensor = torch.cat([loaded[target.component][name] for name in target.sources])
            state[target.name] = tensor.reshape(*tensor.shape, 1, 1) if target.pointwise else tensor
    if dtype == "fp16":
        state = {name: tensor.half() for name, tensor in state.items()}
    made = file.with_name("script.safetensors")
    save_file(state, made)
    flush(made)
    made.unlink()


def digest(checkpoint: Path, file: Path, dtype: str) -> None:
    from components.convert.digest import tensors_digest

    tensors_digest(file)


def proof(checkpoint: Path, file: Path, dtype: str) -> None:
    from components.convert import verify
    from components.convert.companion import write_companion
    from components.convert.source import Source

    with tempfile.TemporaryDirectory() as config, Source(checkpoint) as source:
        source.check()
        write_companion(checkpoint, Path(config))
        verify.compare_tensors(file, Path(config), source, dtype)


class Run(NamedTuple):
    """What one of the ways took."""

    seconds: float
    computed: float  #: seconds of the process's own, of both threads
    added: int  #: bytes


WAYS: dict[str, Callable[[Path, Path, str], None]] = {way.__name__: way for way in (write, copy, script, digest, proof)}


def flush(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def anonymous() -> int:
    """Anonymous memory of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@contextmanager
def peak() -> Iterator[list[int]]:
    """The most anonymous memory that the block adds, bytes, once it has ended."""
    before, highest, ended = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(_SAMPLED_EVERY):
            highest[0] = max(highest[0], anonymous() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield highest
    finally:
        ended.set()
        thread.join()


def child(way: str, checkpoint: Path, file: Path, dtype: str) -> None:
    """Do one of the ways and print its seconds and bytes."""
    import diffusers  # noqa: F401
    import torch

    import components.convert.proven  # noqa: F401

    torch.set_num_threads(1)
    torch.zeros(1 << 20).half()
    started, computed = time.perf_counter(), time.process_time()
    with peak() as added:
        WAYS[way](checkpoint, file, dtype)
        seconds, computed = time.perf_counter() - started, time.process_time() - computed
    print(json.dumps([seconds, computed, added[0]]))


def measure(way: str, checkpoint: Path, file: Path, dtype: str) -> Run:
    command = [sys.executable, "-m", "tests.bench.convert", "--child", way, str(checkpoint), str(file), dtype]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Run(*json.loads(done.stdout.splitlines()[-1]))


def compare(checkpoint: Path, label: str, dtype: str, rounds: int) -> None:
    """Print a line for each way."""
    file = checkpoint.parent / "model.safetensors"
    found: dict[str, list[Run]] = {way: [] for way in WAYS}
    measure("write", checkpoint, file, dtype)  # the first reads the sources from the disk
    for number in range(rounds):
        for way in WAYS:
            if way in ("write", "copy") or number == 0:
                found[way].append(measure(way, checkpoint, file, dtype))
    base = statistics.median(run.seconds for run in found["copy"])
    for way, runs in found.items():
        times = sorted(run.seconds for run in runs)
        median = statistics.median(times)
        spread = f" ({times[0]:.1f} to {times[-1]:.1f})" if len(runs) > 1 else ""
        computed = statistics.median(run.computed for run in runs)
        cells = [f"{label}, {dtype}", size(file.stat().st_size), way, f"{median:.1f}{spread}", f"{median / base:.2f}"]
        cells += [f"{computed:.1f}", size(max(run.added for run in runs))]
        print(f"| {' | '.join(cells)} |", flush=True)
    file.unlink()


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    flags.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="(both)")
    flags.add_argument("--dtypes", nargs="+", choices=("fp32", "fp16"), default=["fp32", "fp16"], help="(both)")
    flags.add_argument("--rounds", type=int, default=3, metavar="N", help="of writing and copying in turn (3)")
    flags.add_argument("--make", nargs=2, metavar=("WIDTH", "FOLDER"), help=argparse.SUPPRESS)
    flags.add_argument("--child", nargs=4, metavar=("WAY", "CHECKPOINT", "FILE", "DTYPE"), help=argparse.SUPPRESS)
    given = flags.parse_args()
    if given.make:
        write_model(Path(given.make[1]), "float32", int(given.make[0]))
        return
    if given.child:
        child(given.child[0], Path(given.child[1]), Path(given.child[2]), given.child[3])
        return
    load = os.getloadavg()[0]
    print(f"load {load:.1f} before{' (busy: compare the ratio only)' if load > 0.5 else ''}", flush=True)
    print("| checkpoint | file | way | seconds | × copy | of them computing | anonymous memory added |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for label in given.sizes:
        with tempfile.TemporaryDirectory(prefix="bench-convert-") as folder:
            checkpoint = Path(folder) / "checkpoint"
            command = [sys.executable, "-m", "tests.bench.convert", "--make", str(SIZES[label]), str(checkpoint)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            for dtype in given.dtypes:
                compare(checkpoint, label, dtype, given.rounds)


if __name__ == "__main__":
    main()
