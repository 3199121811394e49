"""Write tensors to one file, a few megabytes at a time.

What the file is to hold is planned first, from the sources' headers; then each tensor is read memory-mapped, cast,
looked through and written piece by piece, so that memory does not grow with the model.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from components.convert.containers import Ckpt, Container, Safetensors, Tensor
from components.convert.layout import Target
from components.convert.source import Source
from components.errors import UserError
from components.progress import Progress

#: dtype setting → torch's dtype and safetensors' name for it.
DTYPES = {
    "fp16": (torch.float16, "F16"),
    "bf16": (torch.bfloat16, "BF16"),
    "fp32": (torch.float32, "F32"),
}

_CONTAINERS: dict[str, Callable[[BinaryIO, Sequence[Tensor], Mapping[str, str]], Container]] = {
    ".safetensors": Safetensors,
    ".ckpt": Ckpt,
}

#: Values cast, looked through and written at once. Bounds the memory whatever a tensor's size; small enough that what
#: was looked through is still in the processor's cache when it is written.
_PIECE = 1 << 18

#: As many refused tensors as an error names.
_LISTED = 8


@dataclass(frozen=True)
class Entry(Tensor):
    """One tensor of the file to be, and where it comes from."""

    target: Target


def plan(source: Source, targets: Sequence[Target], dtype: str) -> list[Entry]:
    """The file's tensors in the order in which they will lie: wide types first, then by name.

    Wide types first keeps every tensor aligned to its own size, as the reference writer does.
    """
    entries = []
    for target in targets:
        if not target.sources:
            positions = source.configs[target.component].get("max_position_embeddings", 77)
            entries.append(Entry(target.name, "I64", (1, positions), 8 * positions, target))
            continue
        shapes = [source.tensors[target.component][name].shape for name in target.sources]
        shape = (sum(s[0] for s in shapes), *shapes[0][1:])
        if target.pointwise:
            shape = (*shape[:2], 1, 1)
        torch_dtype, name = DTYPES[dtype]
        entries.append(Entry(target.name, name, shape, math.prod(shape) * torch_dtype.itemsize, target))
    return sorted(entries, key=lambda e: (e.dtype != "I64", e.name))


def write(path: Path, source: Source, entries: Sequence[Entry], metadata: Mapping[str, str]) -> None:
    """Write the planned file to `path`, all or nothing, and flush it to the disk.

    Its suffix says the container: ``.safetensors`` or ``.ckpt``.

    Raises:
        UserError: naming each tensor with values that are not finite, or too large for the target type.
    """
    problems: list[str] = []
    with _atomically(path) as file:
        with closing(_CONTAINERS[path.suffix](file, entries, metadata)) as container:
            _fill(container, source, entries, problems)
        if problems:
            more = [f"and {len(problems) - _LISTED} more tensors"] if len(problems) > _LISTED else []
            raise UserError(*problems[:_LISTED], *more)


def _fill(container: Container, source: Source, entries: Sequence[Entry], problems: list[str]) -> None:
    total = sum(entry.bytes for entry in entries)
    progress, done = Progress("write model", max(total // 1_000_000, 1), unit="MB"), 0
    for entry in entries:
        container.begin(entry)
        for piece in _pieces(source, entry, problems):
            # Without refused tensors the file is complete; with them it is dropped.
            if not problems:
                container.write(piece)
        done += entry.bytes
        progress.update(done // 1_000_000)


def _pieces(source: Source, entry: Entry, problems: list[str]) -> Iterator[memoryview]:
    """The entry's bytes; a tensor that cannot be written is added to `problems` and left off."""
    target = entry.target
    if not target.sources:
        yield torch.arange(entry.shape[1], dtype=torch.int64).view(torch.uint8).numpy().data
        return
    dtype = next(torch_dtype for torch_dtype, name in DTYPES.values() if name == entry.dtype)
    for name in target.sources:
        for piece in source.read(target.component, name).reshape(-1).split(_PIECE):
            cast = piece.to(dtype)
            if problem := refused(f"{target.component}: tensor {name}", piece, cast, entry.dtype):
                problems.append(problem)
                return
            yield cast.view(torch.uint8).numpy().data


def refused(where: str, values: torch.Tensor, cast: torch.Tensor, dtype: str) -> str | None:
    """Why `values` cannot be written as `cast`, their form as `dtype`: they are not finite there; None if they can."""
    if _finite(cast):
        return None
    if not _finite(values):
        return (
            f"{where}: holds NaN or infinite values; training diverged: choose an earlier checkpoint or "
            "lower train.learning_rate"
        )
    largest = values.abs().max().item()
    return f"{where}: {largest:.4g} is too large for {dtype}; set convert.dtype to bf16 or fp32"


def _finite(values: torch.Tensor) -> bool:
    """Whether all are finite. NaN wins in both extremes: one pass, many times as fast as ``isfinite``."""
    return all(math.isfinite(extreme) for extreme in torch.aminmax(values))


@contextmanager
def _atomically(path: Path) -> Iterator[BinaryIO]:
    """A file that appears at `path` when the block succeeds, and not at all otherwise."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
