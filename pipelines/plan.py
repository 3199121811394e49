"""What a run is going to do, said before it does it: images, steps, time and disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts import write_json
from components.base_model import layout
from components.crop.survey import Survey, survey
from components.errors import UserError
from components.evaluate.config import too_few
from components.progress import duration, size
from pipelines.config import PipelineConfig

if TYPE_CHECKING:
    from pipelines.local import Outcome

#: Seconds on 2 cores with the quickstart model at 64 px: for one image through one training step, for
#: one generated image and sampler step, and for the rest of a run. `make run` prints what it took.
_REFERENCE = {"train_image": 0.040, "sample_step": 0.036, "other": 30.0}


def describe(config: PipelineConfig, workdir: Path) -> str:
    """The plan, for a terminal. A data set in a remote store is counted by the crop step only.

    Raises:
        UserError: for mistakes in the data set's annotations and classes with too few crops to measure, before
            anything is run.
    """
    found = None if "://" in config.dataset else survey(config.crop, config.dataset)
    if found is not None and (problems := too_few(found.counts)):
        raise UserError(*problems)
    if found is not None:
        crops = sum(split["train"] for split in found.counts.values())
        config = config.model_copy(update={"train": config.train.resolved(crops)})
    about = []
    if found is not None:
        skipped = f"; {found.skipped} problems skipped" if found.skipped else ""
        about.append(f"{found.images} images, annotations as {found.format}{skipped}")
        width = max(len(name) for name in found.counts)
        about += [
            f"{name:<{width}}  {split['train']:>4} to train on  {split['reference']:>4} to measure against"
            for name, split in sorted(found.counts.items())
        ]
    base = Path(config.base_model)
    weights = _weights(base) if base.is_dir() else None
    lines = [
        *overview(config, about),
        f"time         {_time(config, found, workdir)}",
        f"disk         {disk(config, weights, found.counts if found is not None else None)}",
    ]
    return "\n".join(lines)


def overview(config: PipelineConfig, about_images: Sequence[str]) -> list[str]:
    """What a run does wherever it runs, a line each; `about_images` go below the data set."""
    return [
        f"model        {config.model_name}",
        f"images       {config.dataset}",
        *(f"             {line}" for line in about_images),
        f"base model   {config.base_model}",
        f"training     {_length(config)} of {config.train.batch} crops at {config.crop.resolution} px",
        f"checkpoints  {_checkpoints(config)} and the base, each measured on {config.evaluate.images_per_class} images "
        "a class",
    ]


def remember(config: PipelineConfig, outcome: Outcome, workdir: Path) -> None:
    """Keep what the steps took, so that the next plan on this machine knows."""
    seconds = {cost.step: cost.seconds for cost in outcome.steps if not cost.cached}
    rates = _rates(config, workdir) or {}
    classes = len(outcome.decision.index["prompts"])
    # A run that is found complete in the store takes seconds, which say nothing of training.
    if seconds.get("train", 0) > 20:
        rates["train_image"] = seconds["train"] / outcome.decision.index["checkpoints"][-1]["images_seen"]
    if "evaluate" in seconds:
        rates["sample_step"] = seconds["evaluate"] / _sample_steps(config, classes)
    if len(seconds) == len(outcome.steps):
        rates["other"] = sum(s for step, s in seconds.items() if step not in ("train", "evaluate"))
    write_json(_rates_file(config, workdir), rates)


def _length(config: PipelineConfig) -> str:
    """How long training is: in passes where the crops that decide the steps are not counted yet."""
    passes = config.train.num_train_epochs
    return f"{config.train.max_train_steps} steps" if passes is None else f"{passes} passes in steps"


def _checkpoints(config: PipelineConfig) -> int:
    made = -(-config.train.max_train_steps // config.train.checkpointing_steps)
    return min(made, config.train.checkpoints_total_limit or made)


def _images_trained(config: PipelineConfig) -> int:
    return config.train.max_train_steps * config.train.batch


def _sample_steps(config: PipelineConfig, classes: int) -> int:
    evaluate = config.evaluate
    return (_checkpoints(config) + 1) * classes * evaluate.images_per_class * evaluate.num_inference_steps


def _rates_file(config: PipelineConfig, workdir: Path) -> Path:
    name = Path(config.base_model).name or "base"
    return workdir / ".local" / "rates" / f"{name}-{config.crop.resolution}.json"


def _rates(config: PipelineConfig, workdir: Path) -> dict[str, float] | None:
    """Seconds a unit of work: of earlier runs here, or of the reference machine for its own model."""
    known = _rates_file(config, workdir)
    if known.is_file():
        rates: dict[str, float] = json.loads(known.read_text(encoding="utf-8"))
        return rates if set(_REFERENCE) <= set(rates) else {**_REFERENCE, **rates}
    if Path(config.base_model).parent.name == "quickstart" and config.crop.resolution == 64:
        return dict(_REFERENCE)
    return None


def _time(config: PipelineConfig, found: Survey | None, workdir: Path) -> str:
    rates = _rates(config, workdir)
    if rates is None:
        return "not known for this base model and resolution: a first run here measures it"
    if found is None:
        return "not known before the data set is counted"
    seconds = rates["other"] + rates["train_image"] * _images_trained(config)
    seconds += rates["sample_step"] * _sample_steps(config, len(found.counts))
    whence = "as earlier runs here" if _rates_file(config, workdir).is_file() else "on 2 cores"
    return f"about {duration(seconds)} {whence}, less what the cache answers"


def disk(
    config: PipelineConfig, weights: Mapping[str, int] | None, counts: Mapping[str, Mapping[str, int]] | None
) -> str:
    """What a run leaves, in words.

    Args:
        weights: bytes of each part with weights of the base model; None where it is not at hand.
        counts: class → crops by split; None where they are not counted yet: checkpoints and model alone are.
    """
    if weights is None:
        return "not known before the base model is fetched"
    trained = weights["unet"] + (weights["text_encoder"] if config.train.train_text_encoder else 0)
    whole = sum(weights.values())
    # Checkpoints are float32 whatever the base is stored in; the model file is half of that.
    total = whole + _checkpoints(config) * 2 * trained + 2 * whole
    if counts is not None:
        pixels = 3 * config.crop.resolution**2
        crops = sum(sum(split.values()) for split in counts.values())
        generated = (_checkpoints(config) + 1) * len(counts) * config.evaluate.images_per_class
        total += (crops + 2 * generated) * pixels
    return f"about {size(total)}"


def _weights(base: Path) -> dict[str, int]:
    """Bytes of each part with weights of a diffusers folder."""
    files = {path: file for path, file in layout.files_of(base).items() if path.endswith(".safetensors")}
    return {
        part: sum(file.stat().st_size for path, file in files.items() if path.startswith(f"{part}/"))
        for part in layout.WEIGHTED
    }
