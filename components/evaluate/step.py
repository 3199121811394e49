"""The evaluate step: every checkpoint draws, and what it draws is measured against real crops."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch

from components import artifacts, sampling
from components.artifacts import CheckpointIndex, CheckpointMetrics, Estimate
from components.errors import UserError
from components.evaluate import candidates, loading, page
from components.evaluate.arrays import Arrays
from components.evaluate.candidates import Candidate
from components.evaluate.config import EvaluateConfig
from components.evaluate.crops import load as load_crops
from components.evaluate.draw import Drawn, draw
from components.evaluate.drawing import Drawing
from components.evaluate.real import Real
from components.evaluate.results import Evaluation
from components.evaluate.runner import Runner, workers_and_threads
from components.leases import held, run_scope
from components.memory import own_peak
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
    ``reports``, before anything else is written. An evaluation that was interrupted goes on after the last
    batch of images that it drew; what shards drew is found and measured.

    Raises:
        UserError: for crops that are not those trained with, too few crops of a class, a checkpoint that is
            gone from the store, and a base model that draws nothing.
    """
    started = time.monotonic()
    workers, threads = workers_and_threads(config)
    torch.set_num_threads(threads)
    index = artifacts.read_json(checkpoints / "index.json", CheckpointIndex)
    listed = load_crops(crops, index)
    home = Store.from_env(store)
    compared = candidates.of_run(config, index, home, model_name, published_revision)
    scope = run_scope(index.fingerprint)
    with held(home, scope, "evaluate"), tempfile.TemporaryDirectory(prefix="evaluate-") as temporary:
        work = Path(temporary)
        extractors, missing = loading.load(config, work / "networks")
        augment = index.settings.get("augment")
        real = Real(listed, extractors, missing, index.prompts, augment, Arrays(home.at("features")), workers, threads)
        evaluation = Evaluation(config, index, real, work)
        drawing = Drawing(config, index, listed, extractors, home, threads)
        runner = Runner(compared, drawing.images_each, work / "models", workers, threads)

        def used(candidate: Candidate, model: Callable[[], sampling.Model], seen: Callable[[int], None]) -> Drawn:
            name = candidate.name
            return draw(drawing, model, name, real, work / "images" / name, work / "features" / name, seen)

        with closing(runner.run(used)) as all_drawn:
            for candidate, drawn in all_drawn:
                if isinstance(drawn, UserError):
                    evaluation.no_incumbent = str(drawn)
                    log(f"warning: {drawn}; nothing is compared with the published model")
                    continue
                row = evaluation.add(candidate.step, candidate.label, drawn)
                log(f"{row.label}: {_line(row)}")
                shutil.rmtree(work / "features" / candidate.name)
                if drawn is None:
                    shutil.rmtree(work / "images" / candidate.name, ignore_errors=True)
        evaluation.finish(home, work / "images", metrics, report)
        drawing.kept.clear()
    best, base = page.best_row(evaluation.rows), evaluation.rows[0]
    log(f"evaluate: {runner.total} images in {duration(time.monotonic() - started)}, peak memory {size(own_peak())}")
    shown: dict[str, str | int | float] = {"checkpoint": best.label}
    shown.update({name: estimate["value"] for name, estimate in best.metrics.items()})
    shown["kd_lite0_base"] = base.metrics["kd_lite0"]["value"]
    # What all of them rest on: a number without it says little.
    shown |= {"generated_images": best.metrics["kd_lite0"]["n"], "held_out_crops": best.metrics["kd_lite0"]["m"]}
    return Result(metadata={"metrics": shown})


def _line(row: CheckpointMetrics) -> str:
    if not row.metrics:
        return "not measured"
    kd, fd = Estimate(**row.metrics["kd_lite0"]), row.metrics["fd_lite0"]["value"]
    low, high = (kd.low or 0.0) * 1e3, (kd.high or 0.0) * 1e3
    return f"kd_lite0 ×10³ {kd.value * 1e3:.1f} [{low:.1f}, {high:.1f}]  fd_lite0 {fd:.1f}"
