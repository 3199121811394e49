"""The evaluate step: every checkpoint draws, and what it draws is measured against real crops."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from components import artifacts, sampling
from components.artifacts import CheckpointIndex, CheckpointMetrics, CheckpointRef, Estimate
from components.checkpoints import fetch_checkpoint, step_name
from components.errors import UserError
from components.evaluate import page
from components.evaluate.config import EvaluateConfig
from components.evaluate.crops import folder_names
from components.evaluate.crops import load as load_crops
from components.evaluate.draw import Drawn, draw
from components.evaluate.real import Real
from components.evaluate.results import Evaluation
from components.extractor import load as load_extractor
from components.leases import held, run_scope
from components.progress import Progress, duration, log, size
from components.runtime import InputPath, OutputPath, Result
from components.storage import Store


def evaluate(
    config: EvaluateConfig,
    crops: InputPath,
    checkpoints: InputPath,
    store: str,
    metrics: OutputPath,
    report: OutputPath,
) -> Result:
    """Measure every checkpoint against real crops that training never saw.

    Each checkpoint of `checkpoints` (``index.json``), the untrained base at step 0 included, draws the
    same number of images of each class from the same prompts and the same noise. `metrics` receives
    ``metrics.json``, ``images/<step>/<class>/*.png``, ``comparison.png`` and ``curve.svg``; `report` the
    page. Page and numbers are also put into the store, below the run's ``reports``, before anything else
    is written. One checkpoint is in memory at a time.

    Raises:
        UserError: for crops that are not those trained with, too few crops of a class, a checkpoint that is
            gone from the store, and a base model that draws nothing.
    """
    started = time.monotonic()
    torch.set_num_threads(config.num_threads or os.cpu_count() or 1)
    index = artifacts.read_json(checkpoints / "index.json", CheckpointIndex)
    listed = load_crops(crops, index)
    real = Real.of(listed, load_extractor(config.extractor), index.settings.get("augment"))
    evaluation = Evaluation(config, index, real)
    scope = run_scope(index.fingerprint)
    with held(Store.from_env(store), scope, "evaluate"), tempfile.TemporaryDirectory(prefix="evaluate-") as temporary:
        total = len(index.refs()) * len(listed.classes) * config.images_per_class
        progress = Progress("drawing and measuring", total, "image")
        done = 0

        def seen(count: int) -> None:
            nonlocal done
            done += count
            progress.update(done)

        for number, ref in enumerate(index.refs(), start=1):
            row = evaluation.add(ref, _drawn(config, index, ref, real, Path(temporary), seen))
            # A checkpoint that draws nothing counts as done.
            done = number * total // len(index.refs())
            progress.update(done)
            log(f"{row.label}: {_line(row)}")
        evaluation.finish(Store.from_env(store), Path(temporary) / "images", metrics, report)
    best, base = page.best_row(evaluation.rows), evaluation.rows[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    log(f"evaluate: {total} images in {duration(time.monotonic() - started)}, peak memory {size(peak)}")
    shown: dict[str, str | int | float] = {"checkpoint": best.label}
    shown.update({name: estimate["value"] for name, estimate in best.metrics.items()})
    shown["kd_lite0_base"] = base.metrics["kd_lite0"]["value"]
    return Result(metadata={"metrics": shown})


def _drawn(
    config: EvaluateConfig,
    index: CheckpointIndex,
    ref: CheckpointRef,
    real: Real,
    temporary: Path,
    seen: Callable[[int], None],
) -> Drawn | None:
    """What the checkpoint draws; None when that is no numbers."""
    names = folder_names(real.crops.classes)
    images = temporary / "images" / step_name(ref.step)
    folder = fetch_checkpoint(index, ref, temporary / "models")
    try:
        return draw(
            sampling.load(folder),
            {name: index.prompts[name] for name in real.crops.classes},
            config,
            real.crops.resolution,
            real.extractor,
            real.features.views,
            {name: images / names[name] for name in real.crops.classes},
            seen,
        )
    except sampling.NotFiniteError as error:
        if ref.step == 0:
            raise UserError(f"the base model {index.base_model} is broken: {error}; mirror it again") from None
        log(f"step {ref.step} is left out: {error}; training diverged, lower train.learning_rate")
        shutil.rmtree(images, ignore_errors=True)
        return None
    finally:
        shutil.rmtree(folder)


def _line(row: CheckpointMetrics) -> str:
    if not row.metrics:
        return "not measured"
    kd, fd = Estimate(**row.metrics["kd_lite0"]), row.metrics["fd_lite0"]["value"]
    low, high = (kd.low or 0.0) * 1e3, (kd.high or 0.0) * 1e3
    return f"kd_lite0 ×10³ {kd.value * 1e3:.1f} [{low:.1f}, {high:.1f}]  fd_lite0 {fd:.1f}"
