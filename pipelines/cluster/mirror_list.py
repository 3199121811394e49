"""What a cluster without internet must be given, a line each.

Images of the steps and of what runs beside them, and the weights that the settings name. Not covered: the images of
Kubeflow Pipelines itself, which its own manifests name (k8s/README.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from components import images
from pipelines.cluster.profile import Profile
from pipelines.config import PipelineConfig

_K8S = Path(__file__).parent.parent.parent / "k8s"


def mirror_list(config: PipelineConfig, profile: Profile, only: str | None) -> list[str]:
    """The lines of the list."""
    steps = sorted({profile.images.reference(step) for step in images.STEPS})
    weights = list(weights_of(config))
    if only == "images":
        return steps
    if only == "weights":
        return [place for place, _ in weights]
    return [
        "images of the steps",
        *(f"  {reference}" for reference in steps),
        "images beside them",
        *(f"  {reference}  ({manifest})" for reference, manifest in beside()),
        "weights",
        *(f"  {place}  ({what})" for place, what in weights),
    ]


def weights_of(config: PipelineConfig) -> Iterable[tuple[str, str]]:
    """Each place that the settings take weights from, and what is to be done with it."""
    evaluate = config.evaluate
    named = {
        "base_model": config.base_model,
        "evaluate.inception": evaluate.inception,
        "evaluate.dinov2": evaluate.dinov2,
        "evaluate.clip": evaluate.clip,
    }
    for setting, place in named.items():
        if place is None:
            continue
        if place.startswith("s3://"):
            yield place, f"{setting}: in the store already"
        elif place.startswith("hf://"):
            yield place, f"{setting}: on the hub; copy it into the store with `mirror` and name it there"
        else:
            yield place, f"{setting}: on this machine; copy it into the store with `mirror` and name it there"


def beside() -> Iterable[tuple[str, str]]:
    """Images that manifests of ours name, and in which of them; none where there are no manifests, as installed."""
    for path in sorted(_K8S.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            for reference in _images(document):
                yield reference, path.relative_to(_K8S.parent).as_posix()


def _images(data: Any) -> Iterable[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            if key == "image" and isinstance(value, str):
                yield value
            else:
                yield from _images(value)
    elif isinstance(data, list):
        for value in data:
            yield from _images(value)
