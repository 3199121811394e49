"""What the step has measured so far, and the files that it leaves in the end."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components import artifacts
from components.artifacts import CheckpointIndex, CheckpointMetrics, CheckpointRef, Metrics
from components.evaluate import measure, page, pictures
from components.evaluate.config import EvaluateConfig
from components.evaluate.crops import read
from components.evaluate.curve import curve
from components.evaluate.draw import SHOWN, Drawn
from components.evaluate.measure import Measured
from components.evaluate.real import Real
from components.progress import log
from components.storage import Store


class Evaluation:
    """The checkpoints of one run, measured one after another; step 0 comes first."""

    def __init__(self, config: EvaluateConfig, index: CheckpointIndex, real: Real) -> None:
        self.config, self.index, self.real = config, index, real
        self.rows: list[CheckpointMetrics] = []
        self._drawn: dict[int, Drawn] = {}

    def add(self, ref: CheckpointRef, drawn: Drawn | None) -> CheckpointMetrics:
        """Measure what `ref` drew (None: it drew nothing); its row."""
        if drawn is None:
            row = CheckpointMetrics(ref.step, f"step {ref.step} (diverged)", {}, {})
        else:
            per_class = measure.of_checkpoint(drawn.features, drawn.distances, self.real.features)
            label = f"step {ref.step}" if ref.step else "base"
            row = CheckpointMetrics(ref.step, label, _data(measure.average(per_class)), _class_data(per_class))
            # The features are measured; only pictures are needed from here on.
            self._drawn[ref.step] = dataclasses.replace(drawn, features={}, distances={})
        self.rows.append(row)
        return row

    def metrics(self) -> Metrics:
        """All numbers, as ``metrics.json`` holds them."""
        features = self.real.features
        floor = measure.floor(features, self.config.images_per_class)
        return Metrics(
            checkpoints=[dataclasses.asdict(row) for row in self.rows],
            floor=_data(measure.average(floor)),
            floor_per_class=_class_data(floor),
            higher_is_better=features.directions(),
            absent=features.absent(),
            extractor=self.real.extractor.record,
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
            settings={"crop": self.real.crops.settings, "evaluate": self.config.model_dump(mode="json")},
        )

    def finish(self, store: Store, images: Path, metrics: Path, report: Path) -> None:
        """Write everything; `store` gets page and numbers first: KFP keeps nothing of a step that fails."""
        measured, crops = self.metrics(), self.real.crops
        plot = curve(self.rows, measured.floor)
        shown = {name: read(crops.paths["reference"][name][:SHOWN], crops.resolution) for name in crops.classes}
        best = page.best_row(self.rows)
        pairs = [(pair, self.real.view(pair.view)) for pair in self._drawn[best.step].pairs]
        title = f"Run {self.index.fingerprint} on {self.index.base_model}, crops of {crops.origin['dataset']}"
        html = page.page(measured, title, plot, shown, self._drawn, pairs, best.label)
        kept = store.at("train", self.index.fingerprint, "reports")
        kept.put_bytes("evaluate.html", html.encode(), "text/html")
        data = json.dumps(dataclasses.asdict(measured), allow_nan=False).encode()
        kept.put_bytes("metrics.json", data, "application/json")
        log(f"report: {kept.uri}/evaluate.html")

        (metrics / "images").mkdir(parents=True, exist_ok=True)
        if images.is_dir():
            shutil.copytree(images, metrics / "images", dirs_exist_ok=True)
        labelled = [(row.label, self._drawn[row.step].shown) for row in self.rows if row.step in self._drawn]
        pictures.comparison(shown, labelled, SHOWN).save(metrics / "comparison.png")
        (metrics / "curve.svg").write_text(plot, encoding="utf-8")
        artifacts.write_json(metrics / "metrics.json", measured)
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(html, encoding="utf-8")


def _data(measured: Measured) -> dict[str, dict[str, Any]]:
    return {name: dataclasses.asdict(estimate) for name, estimate in measured.items()}


def _class_data(per_class: Mapping[str, Measured]) -> dict[str, dict[str, dict[str, Any]]]:
    return {name: _data(measured) for name, measured in per_class.items()}
