"""The same run with several seeds: a table and a picture that say what a setting is worth.

One seed proves little on forty crops. A study runs the pipeline once for each seed (training and
generation; the split stays) and writes `<name>.md` and `<name>.png`. The picture holds generated
images only, so that it can be shown where the real ones must not be.
"""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts import HEADLINE, CheckpointMetrics, Metrics
from components.cores import usable_cores
from components.errors import UserError
from components.progress import duration, size
from pipelines import class_table, local, study_picture
from pipelines.class_table import interval
from pipelines.config import PipelineConfig


@dataclass(frozen=True)
class SeedResult:
    """One seed's run."""

    seed: int
    outcome: local.Outcome

    @property
    def improved(self) -> bool:
        """Whether the chosen checkpoint's upper bound lies below the base's value."""
        return self.outcome.decision.improved


def run(config: PipelineConfig, workdir: Path, seeds: Sequence[int], output: Path, command: Sequence[str]) -> Path:
    """Run `config` (prepared) once a seed; the path of the page.

    Raises:
        UserError: without seeds, or where `output` is no folder.
    """
    if not seeds:
        raise UserError("--seeds: give at least one number")
    if not output.is_dir():
        raise UserError(f"--output {output}: no such folder; make it first")
    results = []
    for seed in seeds:
        print(f"\n━━ seed {seed} " + "━" * 68, flush=True)
        seeded = config.model_copy(
            update={
                "model_name": f"{config.model_name}-seed{seed}",
                "train": config.train.model_copy(update={"seed": seed}),
                "evaluate": config.evaluate.model_copy(update={"seed": seed}),
            }
        )
        results.append(SeedResult(seed, local.run(seeded, workdir)))
    picture = output / f"{config.model_name}.png"
    study_picture.draw(results[0].outcome).save(picture, optimize=True)
    page = output / f"{config.model_name}.md"
    page.write_text(_page(config, results, picture.name, command), encoding="utf-8")
    return page


def _page(config: PipelineConfig, results: Sequence[SeedResult], picture: str, command: Sequence[str]) -> str:
    first = results[0].outcome.metrics
    generation = first.generation
    floor = interval(first.floor.get("kd_lite0"))
    good = sum(result.improved for result in results)
    index = results[0].outcome.decision.index
    classes = ", ".join(sorted(index["prompts"]))
    lines = [
        f"# {config.model_name}",
        "",
        f"Made by `{shlex.join(command)}`.",
        "",
        f"Classes: {classes}. {config.train.max_train_steps} steps of "
        f"{config.train.batch} crops at "
        f"{config.crop.resolution} px, learning rate {config.train.learning_rate:g}, "
        f"text encoder {'trained' if config.train.train_text_encoder else 'frozen'}; "
        f"{config.evaluate.images_per_class} images a class, {config.evaluate.num_inference_steps} sampler steps, "
        f"guidance {config.evaluate.guidance_scale:g}. Base model {Path(index['base_model']).name}, digest "
        f"`{index['base_revision'][:12]}`; crops, digest `{first.crops_digest[:12]}`.",
        "",
        f"**On {good} of {len(results)} seeds the upper bound of the chosen checkpoint lies below the base's "
        f"value.** `kd_lite0` × 10³ with its 95 % interval, against held-out real crops; real against real: {floor}.",
        "",
        "| checkpoint | " + " | ".join(f"seed {r.seed}" for r in results) + " |",
        "|---|" + "---|" * len(results),
    ]
    for rows in zip(*(r.outcome.metrics.rows() for r in results)):
        cells = [
            f"**{interval(row.metrics.get('kd_lite0'))}**"
            if row.step == result.outcome.decision.step
            else interval(row.metrics.get("kd_lite0"))
            for row, result in zip(rows, results)
        ]
        lines.append(f"| {rows[0].label} | " + " | ".join(cells) + " |")
    lines += ["", "Bold: the checkpoint that select_best chose.", ""]
    per_class = [c for r in results for c in class_table.results(r.outcome.metrics, r.outcome.decision.step, r.seed)]
    lines += class_table.text(per_class, first.floor_per_class)
    lines += _others(first, results)
    lines += [
        f"![{classes}: base and checkpoints]({picture})",
        "",
        study_picture.caption(results[0].outcome, results[0].seed),
        "",
    ]
    peak = max(r.outcome.peak_bytes for r in results)
    seconds = [cost.seconds for r in results for cost in r.outcome.steps]
    lines.append(
        f"{duration(sum(seconds))} for {len(results)} runs on {usable_cores()} cores ({platform.machine()}), "
        f"{size(peak)} of memory at most."
    )
    lines.append(f"Sampler: {generation.get('sampler', 'DPM-Solver++')}.")
    return "\n".join(lines) + "\n"


def _others(first: Metrics, results: Sequence[SeedResult]) -> list[str]:
    """The other metrics that matter most, of the base and of the chosen checkpoint."""
    names = [n for n in HEADLINE if n != "kd_lite0" and n in first.rows()[0].metrics]
    if not names:
        return []
    lines = ["| seed | checkpoint | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for result in results:
        for row in result.outcome.metrics.rows():
            if row.step in (0, result.outcome.decision.step):
                lines.append(f"| {result.seed} | {row.label} | " + " | ".join(_plain(row, n) for n in names) + " |")
    lines.append("| | real against real | " + " | ".join(_number(first.floor.get(n)) for n in names) + " |")
    return [*lines, ""]


def _plain(row: CheckpointMetrics, name: str) -> str:
    return _number(row.metrics.get(name))


def _number(estimate: dict[str, Any] | None) -> str:
    return "–" if estimate is None else f"{estimate['value']:.3g}"
