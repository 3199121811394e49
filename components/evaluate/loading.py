"""The networks that this evaluation measures with: EfficientNet-Lite0 always, others where they are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.evaluate.config import EvaluateConfig
from components.evaluate.measure import Classifiers
from components.evaluate.networks.inception import Inception
from components.evaluate.networks.places import fetch
from components.evaluate.networks.transformer import Clip, DinoV2
from components.extractor import Extractor, Lite0
from components.progress import log


def load(config: EvaluateConfig, folder: Path) -> tuple[dict[str, Extractor], dict[str, str]]:
    """Extractors by name, and for each that is not there the reason.

    A network that is named but cannot be had or read costs its metrics, not the evaluation; a warning says so.

    Args:
        folder: gets the weights that have to be fetched.
    """
    made: dict[str, Extractor] = {Lite0.name: Lite0()}
    missing: dict[str, str] = {}
    kinds: dict[str, Callable[[Path], Any]] = {"inception": Inception, "dinov2": DinoV2, "clip": Clip}
    for name, kind in kinds.items():
        place = getattr(config, name)
        if place is None:
            missing[name] = f"no weights are named; give evaluate.{name}"
            continue
        try:
            made[name] = kind(fetch(place, folder / name))
        except UserError as error:
            missing[name] = str(error)
            log(f"warning: evaluate.{name}: {error}; what rests on it is not measured")
    return made, missing


def classifiers(extractors: Mapping[str, Extractor]) -> Classifiers:
    """Those of the networks that classify as well, by their features."""
    return {
        name: made.logits
        for name, made in extractors.items()
        if isinstance(made, Lite0) or (isinstance(made, Inception) and made.classifier is not None)
    }
