"""The evaluate step: every checkpoint draws, and what it draws is measured against real crops."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

from components import artifacts
from components.artifacts import PUBLISHED, CheckpointIndex, CheckpointMetrics, Estimate
from components.errors import UserError
from components.evaluate import loading, page
from components.evaluate.arrays import Arrays
from components.evaluate.config import EvaluateConfig
from components.evaluate.crops import load as load_crops
from components.evaluate.real import Real
from components.evaluate.results import Evaluation
from components.evaluate.runner import Runner
from components.leases import held, run_scope
from components.models import catalog
from components.progress import duration, log, size
from components.runtime import InputPath, OutputPath, Result
from components.storage import Store


def evaluate(
    config: EvaluateConfig,
    crops: InputPath,
    checkpoints: InputPath,
    store: str,
    metrics: OutputPath,
    report: OutputPath,
    model_name: str = "",
    published_revision: str = "",
) -> Result:
    """Measure every checkpoint against real crops that training never saw.

    Each checkpoint of `checkpoints` (``index.json``), the untrained base at step 0 included, draws the
    same number of images of each class from the same prompts and the same noise; so does the model that was
    published last as `model_name`, or its version `published_revision`, where the settings want it. `metrics` receives
    ``metrics.json``, ``metrics.tsv``, ``images.tsv``, ``images/<step>/<class>/*.png``, ``comparison.png``
    and ``curve.svg``; `report` the page. Page and numbers are also put into the store, below the run's
    ``reports``, before anything else is written. One checkpoint is in memory at a time. An evaluation that
    was interrupted goes on after the last batch of images that it drew.

    Raises:
        UserError: for crops that are not those trained with, too few crops of a class, a checkpoint that is
            gone from the store, and a base model that draws nothing.
    """
    started = time.monotonic()
    threads = config.num_threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    index = artifacts.read_json(checkpoints / "index.json", CheckpointIndex)
    listed = load_crops(crops, index)
    home = Store.from_env(store)
    version = (published_revision or _published_last(home, model_name)) if config.compare_with_published else ""
    scope = run_scope(index.fingerprint)
    with held(home, scope, "evaluate"), tempfile.TemporaryDirectory(prefix="evaluate-") as temporary:
        work = Path(temporary)
        extractors, missing = loading.load(config, work / "networks")
        augment = index.settings.get("augment")
        real = Real(listed, extractors, missing, index.prompts, augment, Arrays(home.at("features")))
        evaluation = Evaluation(config, index, real)
        run = Runner(config, index, real, home, work, threads, with_published=bool(version))
        for ref in index.refs():
            row = evaluation.add(ref.step, f"step {ref.step}" if ref.step else "base", run.checkpoint(ref))
            log(f"{row.label}: {_line(row)}")
        if version:
            try:
                row = evaluation.add(PUBLISHED, f"published {version}", run.published(model_name, version))
                log(f"{row.label}: {_line(row)}")
            except UserError as error:
                evaluation.no_incumbent = str(error)
                log(f"warning: {error}; nothing is compared with the published model")
        evaluation.finish(home, work / "images", metrics, report)
        run.kept.clear()
    best, base = page.best_row(evaluation.rows), evaluation.rows[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    log(f"evaluate: {run.total} images in {duration(time.monotonic() - started)}, peak memory {size(peak)}")
    shown: dict[str, str | int | float] = {"checkpoint": best.label}
    shown.update({name: estimate["value"] for name, estimate in best.metrics.items()})
    shown["kd_lite0_base"] = base.metrics["kd_lite0"]["value"]
    return Result(metadata={"metrics": shown})


def _published_last(store: Store, model_name: str) -> str:
    """The version that ``latest.json`` names; empty where nothing is published.

    Asked for here and not by snapshot, whose outputs are what the cache knows a run by: every published model would
    make the next run, on unchanged data, another one.
    """
    found = catalog.latest(store.at("models", model_name)) if model_name else None
    return "" if found is None else found.version


def _line(row: CheckpointMetrics) -> str:
    if not row.metrics:
        return "not measured"
    kd, fd = Estimate(**row.metrics["kd_lite0"]), row.metrics["fd_lite0"]["value"]
    low, high = (kd.low or 0.0) * 1e3, (kd.high or 0.0) * 1e3
    return f"kd_lite0 ×10³ {kd.value * 1e3:.1f} [{low:.1f}, {high:.1f}]  fd_lite0 {fd:.1f}"
