"""What two published versions differ in: settings, data, base, prompts, metrics, weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from components.models.record import ModelRecord
from pipelines.models.describe import data_set
from pipelines.models.published import Published
from pipelines.table import columns, measured, metric


def difference(a: Published, b: Published) -> list[str]:
    """Lines of what differs, each with both sides; one that says so where nothing does."""
    rows = [("", a.label, b.label)]
    rows += [(name, *sides) for name, sides in _differing(_sides(a), _sides(b))]
    if len(rows) == 1:
        return [f"{a.label} and {b.label} do not differ in weights, settings, data, prompts or metrics"]
    return columns(rows)


def _differing(a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, str]]]:
    for name in dict.fromkeys([*a, *b]):
        sides = a.get(name, "–"), b.get(name, "–")
        if sides[0] != sides[1]:
            yield name, sides


def _sides(found: Published) -> dict[str, str]:
    """Everything that is compared, as text by name."""
    made_by, record = found.manifest.made_by, found.record
    told = {
        "weights": str(made_by.get("tensors_digest", found.weights.sha256))[:12],
        "file": f"sha256 {found.weights.sha256[:12]}, {found.weights.bytes} bytes",
    }
    if record is None:
        return {**told, "record": "how it was made is not recorded"}
    return told | _facts(record)


def _facts(record: ModelRecord) -> dict[str, str]:
    facts = {
        "step": str(record.step),
        "run": record.run,
        "data set": record.dataset,
        "data set's revision": data_set(record),
        "crops": record.crops_digest[:12],
        "base model": f"{record.base_model}, {record.base_revision[:12]}",
        "code": record.code_version,
    }
    facts |= {f"prompt of {name}": prompt for name, prompt in record.prompts.items()}
    facts |= {metric(name): measured(name, estimate) for name, estimate in record.metrics.items()}
    facts |= {f"{metric(name)} of the base": measured(name, estimate) for name, estimate in record.base_metrics.items()}
    return facts | {key: str(value) for key, value in _flat(record.settings)}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by the names that ``--set`` takes."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
