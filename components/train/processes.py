"""Several processes that train one model, each on its share of every batch: one a GPU, in one pod.

The step starts them and trains nothing itself, so that it can end them: a collective that waits for a process that
is gone would wait for an hour. Only the first of them, the main process, talks to the store. What they compute together
is torch.distributed's (accelerate sets it up from the variables below, as ``accelerate launch`` would; that command
would hide how a process ended). Not covered: several pods.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from components.cores import usable_cores
from components.errors import Unavailable, UserError
from components.explained import explained
from components.progress import log
from components.runtime import heed_sigterm
from components.train.config import TrainConfig
from components.train.interruption import termination
from components.train.uploads import OUTAGE_SECONDS

Job = TypeVar("Job")

#: How long a process waits for the others: longer than the main one waits for the store.
_PATIENCE = timedelta(seconds=2 * OUTAGE_SECONDS)
#: How long what the other processes have to say is waited for once one of them has ended.
_GRACE_SECONDS = 2.0


def accelerator(config: TrainConfig) -> Accelerator:
    """This process's accelerator: by itself, or one of those that `train_together` started.

    Raises:
        UserError: for more processes than there are GPUs, where there is one, and for a precision that needs one.
    """
    gpus = torch.cuda.device_count()
    if gpus and config.num_processes > gpus:
        raise UserError(
            f"train.num_processes is {config.num_processes}, and there are {gpus} GPUs here; lower it, or give the "
            "step more (accelerator in the cluster's profile)"
        )
    if not gpus:
        if config.mixed_precision == "fp16":
            raise UserError(
                "train.mixed_precision: fp16 needs a GPU, and there is none here; set it to no or bf16, or give the "
                "step one (accelerator in the cluster's profile)"
            )
        if config.allow_tf32:
            log("train: allow_tf32 has no effect where there is no GPU")
    made = Accelerator(
        mixed_precision=config.mixed_precision,
        cpu=gpus == 0,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=_PATIENCE),
            # Saves a second copy of the gradients.
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
        ],
    )
    torch.set_num_threads(threads(config))
    return made


def threads(config: TrainConfig) -> int:
    """CPU threads of each process: as the settings say, else all cores that may be used, shared out."""
    return config.num_threads or max(1, usable_cores() // config.num_processes)


def settled(config: TrainConfig, before: int | None) -> TrainConfig:
    """`config` with a number of threads: its own, else that of an earlier attempt, `before`, else this machine's.

    Another number would give other last bits, so that an attempt that goes on would not end with the weights of one
    that was left alone.
    """
    here = threads(config)
    count = config.num_threads or before or here
    if count != here:
        log(f"train: threads a process: {count}, as before the interruption; the cores here are enough for {here}")
    return config.model_copy(update={"num_threads": count})


def train_together(work: Callable[[Job], None], job: Job, config: TrainConfig) -> None:
    """Have `work(job)` done by `config.num_processes` processes; they end together.

    Args:
        work: a function of a module, that the processes can import.
        job: what they need to know; pickled.

    Raises:
        UserError, Unavailable: what the first process to raise one has raised.
        SystemExit: after a SIGTERM, which the main process answers, or when a process was killed.
    """
    # Forked, they would inherit threads' locks and a CUDA context.
    context = multiprocessing.get_context("spawn")
    port = _free_port()
    ranks: list[BaseProcess] = []
    ends: list[Connection] = []
    with termination() as asked:
        try:
            for rank in range(config.num_processes):
                ours, theirs = context.Pipe(duplex=False)
                variables = _variables(rank, config, port)
                process = context.Process(target=_work, args=(work, job, variables, theirs), name=f"train-{rank}")
                process.start()
                theirs.close()
                ranks.append(process)
                ends.append(ours)
            log(f"train: {len(ranks)} processes of {threads(config)} threads")
            _watch(ranks, ends, asked)
        finally:
            for started in ranks:
                started.kill()
                started.join()


def _variables(rank: int, config: TrainConfig, port: int) -> dict[str, str]:
    """What torch.distributed and accelerate read; the processes meet on the loopback interface."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(config.num_processes),
        "LOCAL_WORLD_SIZE": str(config.num_processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        # A pod's own name need not resolve.
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
        "OMP_NUM_THREADS": str(threads(config)),
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _watch(ranks: Sequence[BaseProcess], ends: Sequence[Connection], asked: Callable[[], bool]) -> None:
    """Return when all processes have done their work; raise what one of them could not do it for."""
    running, forwarded = dict(zip(ends, ranks)), False
    while running:
        if asked() and not forwarded:
            # The main process saves the state; the others hold nothing that it does not.
            os.kill(ranks[0].pid or 0, signal.SIGTERM)
            forwarded = True
        for end in wait(list(running), timeout=0.2):
            assert isinstance(end, Connection)
            process = running.pop(end)
            error = _said(end, process)
            if error is not None:
                raise _clearest([error, *_others(running)])


def _said(end: Connection, process: BaseProcess) -> BaseException | None:
    """How a process ended: None where its work is done."""
    with contextlib.suppress(EOFError):
        said: BaseException | None = pickle.loads(end.recv_bytes())
        return said
    process.join()
    code = process.exitcode or 0
    if code >= 0:
        return SystemExit(code or 1)
    name = signal.Signals(-code).name
    hint = "; that is what happens where memory runs out" if -code == signal.SIGKILL else ""
    log(f"train: process {process.name} was ended by {name}{hint}")
    return SystemExit(128 - code)


def _others(running: dict[Connection, BaseProcess]) -> list[BaseException]:
    """What the other processes say of their end within a moment: the first to speak may be a bystander."""
    found, until = [], time.monotonic() + _GRACE_SECONDS
    while running and (ready := wait(list(running), timeout=max(0.0, until - time.monotonic()))):
        for end in ready:
            assert isinstance(end, Connection)
            error = _said(end, running.pop(end))
            if error is not None:
                found.append(error)
    return found


def _clearest(errors: Sequence[BaseException]) -> BaseException:
    """The error that says most: the user's mistake, then a service that is away, then a status."""

    def order(error: BaseException) -> int:
        kinds = (UserError, Unavailable, SystemExit)
        return next(i for i, kind in enumerate(kinds) if isinstance(error, kind))

    return min(errors, key=order)


def _work(work: Callable[[Job], None], job: Job, variables: dict[str, str], end: Connection) -> None:
    """A process's life. Errors are sent, not raised: who is waiting for it would fail for its being gone."""
    os.environ.update(variables)
    # Ctrl-C reaches the whole group; the step ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Before training, and after it, there is nothing to save.
    heed_sigterm()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if variables["RANK"] != "0":
        # All say the same.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    said: BaseException | None = None
    try:
        work(job)
    except SystemExit as error:
        said = error
    except Exception as error:
        # Here, since what led to an error is lost on the way to the step.
        said = explained(error, "train")
        if said is None:
            traceback.print_exc()
            said = SystemExit(1)
    end.send_bytes(pickle.dumps(said))
    if said is not None:
        signal.pause()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
