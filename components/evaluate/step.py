"""The evaluate step: every checkpoint draws, and what it draws is measured against real crops."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from components import artifacts, images, sampling
from components.artifacts import PUBLISHED, CheckpointIndex, CheckpointMetrics, CheckpointRef, Estimate
from components.checkpoints import fetch_checkpoint, step_name
from components.errors import UserError
from components.evaluate import loading, page, published
from components.evaluate.arrays import Arrays
from components.evaluate.config import EvaluateConfig
from components.evaluate.crops import folder_names
from components.evaluate.crops import load as load_crops
from components.evaluate.draw import Drawn, draw
from components.evaluate.real import Real
from components.evaluate.results import Evaluation
from components.progress import Progress, duration, log, size
from components.runtime import InputPath, OutputPath, Result
from components.storage import Store, digest_of


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
    same number of images of each class from the same prompts and the same noise; so does version
    `published_revision` of the model `model_name`, where both are given and the settings want it. `metrics` receives
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
    version = published_revision if model_name and config.compare_with_published else ""
    with tempfile.TemporaryDirectory(prefix="evaluate-") as temporary:
        work = Path(temporary)
        extractors, missing = loading.load(config, work / "networks")
        augment = index.settings.get("augment")
        real = Real(listed, extractors, missing, index.prompts, augment, Arrays(home.at("features")))
        evaluation = Evaluation(config, index, real)
        run = _Run(config, index, real, home, work, threads, with_published=bool(version))
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


class _Run:
    """Draws one checkpoint after another, and counts."""

    def __init__(
        self, config: EvaluateConfig, index: CheckpointIndex, real: Real, store: Store, work: Path, threads: int,
        with_published: bool,
    ) -> None:  # fmt: skip
        self._config, self._index, self._real, self._store, self._work = config, index, real, store, work
        self._each = len(real.crops.classes) * config.images_per_class
        self.total = (len(index.refs()) + with_published) * self._each
        self._progress = Progress("drawing and measuring", self.total, "image")
        self._done, self._models = 0, 0
        # All that an image and its features depend on; how many are drawn is not among it.
        made_by = [
            images.source_reference("evaluate"), torch.__version__, torch.cuda.is_available(), threads,
            config.num_inference_steps, config.guidance_scale, config.batch_size, config.seed, real.crops.resolution,
            index.prompts, index.base_revision, [made.record for made in real.extractors.values()],
        ]  # fmt: skip
        #: The batches drawn so far, of this run and this way of drawing.
        self.kept = Arrays(store.at("train", index.fingerprint, "evaluating", digest_of(made_by)[:16]))

    def checkpoint(self, ref: CheckpointRef) -> Drawn | None:
        """What the checkpoint draws; None when that is no numbers."""
        folders: list[Path] = []

        def load() -> sampling.Model:
            folders.append(fetch_checkpoint(self._index, ref, self._work / "models"))
            return sampling.load(folders[0])

        try:
            return self._drawn(load, step_name(ref.step))
        except sampling.NotFiniteError as error:
            if ref.step == 0:
                raise UserError(
                    f"the base model {self._index.base_model} is broken: {error}; mirror it again"
                ) from None
            log(f"step {ref.step} is left out: {error}; training diverged, lower train.learning_rate")
            return None
        finally:
            for folder in folders:
                shutil.rmtree(folder)

    def published(self, model_name: str, version: str) -> Drawn | None:
        """What the published model draws; None when that is no numbers."""
        folder = self._work / "published"
        try:
            return self._drawn(
                lambda: published.fetch(self._store, model_name, version, folder), f"published-{version}"
            )
        except sampling.NotFiniteError as error:
            log(f"the published model {version} is left out: {error}")
            return None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _drawn(self, load: Callable[[], sampling.Model], name: str) -> Drawn:
        classes = self._real.crops.classes
        names, folder = folder_names(classes), self._work / "images" / name
        loaded: list[sampling.Model] = []

        def model() -> sampling.Model:
            if not loaded:
                loaded.append(load())
            return loaded[0]

        self._models += 1
        try:
            return draw(
                model,
                {c: self._index.prompts[c] for c in classes},
                self._config,
                self._real,
                {c: folder / names[c] for c in classes},
                self.kept.at(name),
                self._seen,
            )
        except sampling.NotFiniteError:
            with suppress(FileNotFoundError):
                shutil.rmtree(folder)
            raise
        finally:
            # A checkpoint that draws nothing counts as done.
            self._done = self._models * self._each
            self._progress.update(self._done)

    def _seen(self, count: int) -> None:
        self._done += count
        self._progress.update(self._done)


def _line(row: CheckpointMetrics) -> str:
    if not row.metrics:
        return "not measured"
    kd, fd = Estimate(**row.metrics["kd_lite0"]), row.metrics["fd_lite0"]["value"]
    low, high = (kd.low or 0.0) * 1e3, (kd.high or 0.0) * 1e3
    return f"kd_lite0 ×10³ {kd.value * 1e3:.1f} [{low:.1f}, {high:.1f}]  fd_lite0 {fd:.1f}"
