"""Draws one checkpoint after another, the published model last, and says how far it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from components import images, sampling
from components.artifacts import CheckpointIndex, CheckpointRef
from components.checkpoints import fetch_checkpoint, step_name
from components.errors import UserError
from components.evaluate import published
from components.evaluate.arrays import Arrays
from components.evaluate.config import EvaluateConfig
from components.evaluate.crops import folder_names
from components.evaluate.draw import Drawn, draw
from components.evaluate.real import Real
from components.progress import Progress, log
from components.storage import Store, digest_of


class Runner:
    """One checkpoint is in memory at a time.

    Args:
        store: that holds the run; its finished batches are kept there.
        work: folder for weights and for the images that are kept.
        with_published: whether the published model is going to be drawn, too; for the count.
    """

    def __init__(
        self, config: EvaluateConfig, index: CheckpointIndex, real: Real, store: Store, work: Path, threads: int,
        with_published: bool,
    ) -> None:  # fmt: skip
        self._config, self._index, self._real, self._store, self._work = config, index, real, store, work
        self._each = len(real.crops.classes) * config.images_per_class
        self.total = (len(index.refs()) + with_published) * self._each
        self._progress = Progress("drawing and measuring", self.total, "image")
        self._done, self._models = 0, 0
        # All that a batch of images and its features depend on.
        made_by = [
            images.source_reference("evaluate"), torch.__version__, torch.cuda.is_available(), threads,
            config.num_inference_steps, config.guidance_scale, config.batch_size, config.images_per_class, config.seed,
            real.crops.resolution, index.prompts, index.base_revision,
            [made.record for made in real.extractors.values()],
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
