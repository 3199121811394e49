"""What the step has measured so far, and the files that it leaves in the end."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components import artifacts, images
from components.artifacts import (
    PUBLISHED,
    CheckpointIndex,
    CheckpointMetrics,
    Difference,
    Metrics,
)
from components.evaluate import measure, page, pictures, tables
from components.evaluate.config import EvaluateConfig
from components.evaluate.crops import read
from components.evaluate.curve import curve
from components.evaluate.draw import SHOWN, Drawn
from components.evaluate.measure import MAIN, Measured
from components.evaluate.metrics import KernelDistance, kernel_difference, mean_of
from components.evaluate.real import Real
from components.progress import log
from components.storage import Store


class Evaluation:
    """The checkpoints of one run, measured one after another; step 0 comes first, the published model last.

    Args:
        work: folder for what is written while they are measured.
    """

    def __init__(self, config: EvaluateConfig, index: CheckpointIndex, real: Real, work: Path) -> None:
        self.config, self.index, self.real = config, index, real
        self._images = work / "images.tsv"
        self.rows: list[CheckpointMetrics] = []
        self.incumbent: CheckpointMetrics | None = None
        #: Why the published model is not compared with, where it should have been.
        self.no_incumbent: str | None = None
        self._drawn: dict[int, Drawn] = {}
        self._kernels: dict[int, dict[str, dict[str, KernelDistance]]] = {}

    def add(self, step: int, label: str, drawn: Drawn | None) -> CheckpointMetrics:
        """Measure what a checkpoint drew (None: it drew nothing); its row."""
        if drawn is None:
            row = CheckpointMetrics(step, f"{label} (diverged)", {}, {})
        else:
            measured = measure.of_checkpoint(drawn.images, self.real.features, self.config)
            row = CheckpointMetrics(step, label, _data(measured.overall), _class_data(measured.per_class))
            self._kernels[step] = measured.kernels
            tables.add_images(self._images, label, drawn.rows)
            # Measured and written down; only pictures are needed from here on.
            self._drawn[step] = dataclasses.replace(drawn, images={}, rows=[])
        if step == PUBLISHED:
            self.incumbent = row
        else:
            self.rows.append(row)
        best = page.best_row(self.rows).step
        for other, drew in self._drawn.items():
            # Pairs are shown of the best one alone.
            if other != best and drew.pairs:
                self._drawn[other] = dataclasses.replace(drew, pairs=[], pixel_pairs=[])
        return row

    def metrics(self) -> Metrics:
        """All numbers, as ``metrics.json`` holds them."""
        floor = measure.floor(self.real.features, self.config)
        absent = measure.missing(self.real.features, self.config, self.real.missing)
        if self.no_incumbent is not None:
            absent["published"] = self.no_incumbent
        records = {name: made.record for name, made in self.real.extractors.items()}
        return Metrics(
            checkpoints=[dataclasses.asdict(row) for row in self.rows],
            floor=_data(floor.overall),
            floor_per_class=_class_data(floor.per_class),
            higher_is_better=measure.directions(floor.overall),
            absent=absent,
            extractor=records.pop(MAIN),
            generation={
                "images_per_class": self.config.images_per_class,
                "sampler": "DPM-Solver++ (2M)",
                "num_inference_steps": self.config.num_inference_steps,
                "guidance_scale": self.config.guidance_scale,
                "seed": self.config.seed,
                "resolution": self.real.crops.resolution,
            },
            crops_digest=self.index.crops_digest,
            dataset=self.real.crops.origin,
            settings={"crop": self.real.crops.settings, "evaluate": self._settings()},
            incumbent=None if self.incumbent is None else dataclasses.asdict(self.incumbent),
            differences=[dataclasses.asdict(difference) for difference in self._differences()],
            other_extractors=list(records.values()),
        )

    def _differences(self) -> list[Difference]:
        found = []
        for (a, of_a), (b, of_b) in itertools.combinations(self._kernels.items(), 2):
            for name, classes in of_a.items():
                mean = mean_of([kernel_difference(classes[c], of_b[name][c]) for c in classes])
                if mean.low is not None and mean.high is not None:
                    found.append(Difference(name, a, b, mean.value, mean.low, mean.high))
        return found

    def _settings(self) -> dict[str, Any]:
        """The settings that a number can depend on: not how many draw at the same time."""
        return self.config.model_dump(mode="json", exclude={"shards", "workers"})

    def _made_of(self) -> dict[str, str]:
        """Digests, settings and versions, for the page."""
        digests = {
            "digest of the crops": self.index.crops_digest,
            "revision of the base model": self.index.base_revision,
            "digest of the sources": images.source_reference("evaluate").rpartition(":")[2],
        }
        settings = {f"setting: {name}": str(value) for name, value in self._settings().items()}
        packages = ("torch", "diffusers", "transformers", "numpy")
        versions = {f"version: {name}": importlib.metadata.version(name) for name in packages}
        return digests | settings | versions

    def finish(self, store: Store, kept_images: Path, metrics: Path, report: Path) -> None:
        """Write everything; `store` gets page and numbers first: KFP keeps nothing of a step that fails."""
        measured, crops = self.metrics(), self.real.crops
        plot = curve(self.rows, measured.floor, self.incumbent)
        shown = {name: read(crops.paths["reference"][name][:SHOWN], crops.resolution) for name in crops.classes}
        best = page.best_row(self.rows)
        drawn = self._drawn[best.step]
        copies = [
            [(pair, self.real.picture(pair.copy)) for pair in pairs] for pairs in (drawn.pairs, drawn.pixel_pairs)
        ]
        title = f"Run {self.index.fingerprint} on {self.index.base_model}, crops of {crops.origin['dataset']}"
        html = page.page(measured, title, plot, shown, self._drawn, copies, best.label, self._made_of())
        reports = store.at("train", self.index.fingerprint, "reports")
        reports.put_bytes("evaluate.html", html.encode(), "text/html")
        data = json.dumps(dataclasses.asdict(measured), allow_nan=False).encode()
        reports.put_bytes("metrics.json", data, "application/json")
        log(f"report: {reports.uri}/evaluate.html")

        (metrics / "images").mkdir(parents=True, exist_ok=True)
        if kept_images.is_dir():
            shutil.copytree(kept_images, metrics / "images", dirs_exist_ok=True)
        rows = [*self.rows, *([self.incumbent] if self.incumbent is not None else [])]
        labelled = [(row.label, self._drawn[row.step].shown) for row in rows if row.step in self._drawn]
        pictures.comparison(shown, labelled, SHOWN).save(metrics / "comparison.png")
        (metrics / "curve.svg").write_text(plot, encoding="utf-8")
        tables.write_metrics(metrics / "metrics.tsv", measured)
        shutil.move(self._images, metrics / "images.tsv")
        artifacts.write_json(metrics / "metrics.json", measured)
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(html, encoding="utf-8")


def _data(measured: Measured) -> dict[str, dict[str, Any]]:
    # What is no number is not reported: neither JSON nor KFP's metadata can hold it.
    return {name: dataclasses.asdict(e) for name, e in measured.items() if math.isfinite(e.value)}


def _class_data(per_class: Mapping[str, Measured]) -> dict[str, dict[str, dict[str, Any]]]:
    return {name: _data(measured) for name, measured in per_class.items()}
