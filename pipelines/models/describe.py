"""Published versions as lines of text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.models.record import ModelRecord
from components.progress import size
from pipelines.models.published import Published
from pipelines.table import columns, measured, metric

_SHORT = 12  # digits of a digest


def listing(versions: Sequence[Published]) -> list[str]:
    """A line a version."""
    rows = [("name", "version", "", "step", "chosen by", "data set", "size")]
    for found in versions:
        record = found.record
        mark = "latest" if found.latest else "taken back" if found.withdrawn else ""
        rows.append(
            (
                found.name,
                found.version,
                mark,
                str(record.step) if record else "–",
                _against_base(record) if record else "–",
                data_set(record) if record else "–",
                size(found.weights.bytes),
            )
        )
    return columns(rows)


def details(found: Published, embedded: bool) -> list[str]:
    """All that is known of a version, its files, and how to generate with it.

    Args:
        embedded: whether it lies in the embedded store, where ``generate`` finds it by name.
    """
    mark = " (the latest)" if found.latest else " (taken back)" if found.withdrawn else ""
    weights = found.weights
    tensors = str(found.manifest.made_by.get("tensors_digest", "–"))
    rows = [("place", found.place.uri), ("published", found.manifest.created)]
    rows += [("weights", f"{weights.path}, {size(weights.bytes)}"), ("sha256", weights.sha256), ("tensors", tensors)]
    lines = [f"{found.name}, version {found.version}{mark}"]
    record = found.record
    if record is None:
        lines += columns(rows) + ["how it was made is not recorded in its manifest"]
    else:
        lines += columns(rows + _facts(record)) + _prompts(record) + _metrics(record)
    files = [(f"  {entry.path}", size(entry.bytes), entry.sha256[:_SHORT]) for entry in found.manifest.files]
    model = found.label if embedded else found.place.uri
    return [
        *lines,
        "files",
        *columns(files),
        "use it",
        f"  python -m pipelines generate --model {model} --out new-images",
    ]


def data_set(record: ModelRecord) -> str:
    """The data set's version, or its revision where it has none."""
    return record.dataset_version or record.dataset_revision[:_SHORT] or "–"


def _against_base(record: ModelRecord) -> str:
    name = record.metric
    return f"{metric(name)} {_value(name, record.metrics)}, base {_value(name, record.base_metrics)}"


def _value(name: str, metrics: Mapping[str, Any]) -> str:
    return measured(name, metrics.get(name))


def _facts(record: ModelRecord) -> list[tuple[str, str]]:
    better = "better than the base" if record.improved else "not better than the base by the intervals"
    revision = f", revision {record.dataset_revision[:_SHORT]}" if record.dataset_revision else ""
    version = f", version {record.dataset_version}" if record.dataset_version else ""
    return [
        ("step", f"{record.step} of run {record.run}"),
        ("chosen by", f"{record.metric} ({record.mode}): {better}"),
        ("data set", f"{record.dataset or '–'}{version}{revision}"),
        ("base", f"{record.base_model}, revision {record.base_revision[:_SHORT]}"),
        ("images", f"{record.resolution} × {record.resolution} pixels"),
        ("licence", record.licence),
        ("made by", f"defect-diffusion {record.code_version}, {record.dtype} weights"),
    ]


def _prompts(record: ModelRecord) -> list[str]:
    return ["prompts", *columns([(f"  {name}", prompt) for name, prompt in sorted(record.prompts.items())])]


def _metrics(record: ModelRecord) -> list[str]:
    rows = [("  metric", "this", "base")]
    for name in sorted(record.metrics):
        rows.append((f"  {metric(name)}", _value(name, record.metrics), _value(name, record.base_metrics)))
    return ["measured (95 % intervals)", *columns(rows)]
