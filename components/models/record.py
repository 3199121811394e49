"""What a published version says of how it was made: ``made_by.model`` in its manifest.

For programs what the model card is for people: `python -m pipelines models` shows and compares it, and clean-up
follows it from a version to its run, checkpoint and base model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class ModelRecord:
    """How a version was made."""

    step: int  #: of the chosen checkpoint; 0 is the base itself
    run: str  #: fingerprint of the training run
    checkpoint_uri: str | None  #: tree of the chosen checkpoint; None at step 0
    base_uri: str  #: tree of the base model
    base_model: str
    base_revision: str
    dataset: str  #: as the user named it; empty where it is not known, as the next two
    dataset_revision: str
    dataset_version: str
    crops_digest: str
    resolution: int  #: side of the training crops, pixels
    prompts: dict[str, str]  #: class → prompt
    metric: str  #: what it was chosen by
    mode: str  #: "min" or "max"
    improved: bool  #: on the base, beyond the interval
    metrics: dict[str, Any]  #: metric → `Estimate` as data
    base_metrics: dict[str, Any]  #: the same of the base
    generation: dict[str, Any]  #: how the measured images were generated
    settings: dict[str, Any]  #: of the run, as in ``config.yaml``
    dtype: str
    licence: str
    code_version: str
    schema: int = SCHEMA


def record_of(made_by: Mapping[str, Any]) -> ModelRecord | None:
    """The record in a manifest's `made_by`; None where there is none that can be read."""
    data = made_by.get("model")
    if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
        return None
    known = {field.name for field in dataclasses.fields(ModelRecord)}
    try:
        return ModelRecord(**{name: value for name, value in data.items() if name in known})
    except TypeError:
        return None
