"""Write tensors to one ``.safetensors`` file, a few megabytes at a time.

The header is computed first, from the sources' headers; then each tensor is read memory-mapped, cast
and written piece by piece, so that memory does not grow with the model. Format: safetensors
(https://github.com/huggingface/safetensors#format): 8 bytes of header length, JSON, then the data in
the header's order without gaps.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

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

#: Values cast and written at once; bounds the memory whatever a tensor's size.
_PIECE = 1 << 20

#: As many refused tensors as an error names.
_LISTED = 8


@dataclass(frozen=True)
class Entry:
    """One tensor of the file to be."""

    target: Target
    dtype: str  #: as safetensors writes it
    shape: tuple[int, ...]
    bytes: int


def plan(source: Source, targets: Sequence[Target], dtype: str) -> list[Entry]:
    """The file's tensors in the order in which they will lie: wide types first, then by name.

    Wide types first keeps every tensor aligned to its own size, as the reference writer does.
    """
    entries = []
    for target in targets:
        if not target.sources:
            positions = source.configs[target.component].get("max_position_embeddings", 77)
            entries.append(Entry(target, "I64", (1, positions), 8 * positions))
            continue
        shapes = [source.tensors[target.component][name].shape for name in target.sources]
        shape = (sum(s[0] for s in shapes), *shapes[0][1:])
        if target.pointwise:
            shape = (*shape[:2], 1, 1)
        torch_dtype, name = DTYPES[dtype]
        entries.append(Entry(target, name, shape, math.prod(shape) * torch_dtype.itemsize))
    return sorted(entries, key=lambda e: (e.dtype != "I64", e.target.name))


def write(path: Path, source: Source, entries: Sequence[Entry], metadata: Mapping[str, str]) -> None:
    """Write the planned file to `path`, all or nothing, and flush it to the disk.

    Raises:
        UserError: naming each tensor with values that are not finite, or too large for the target type.
    """
    problems: list[str] = []
    with _atomically(path) as file:
        file.write(_header(entries, metadata))
        total = sum(entry.bytes for entry in entries)
        progress, done = Progress("write model", max(total // 1_000_000, 1), unit="MB"), 0
        for entry in entries:
            for piece in _pieces(source, entry, problems):
                # Without refused tensors the file is complete; with them it is dropped below.
                if not problems:
                    file.write(piece)
            done += entry.bytes
            progress.update(done // 1_000_000)
        if problems:
            more = [f"and {len(problems) - _LISTED} more tensors"] if len(problems) > _LISTED else []
            raise UserError(*problems[:_LISTED], *more)


def _header(entries: Sequence[Entry], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    start = 0
    for entry in entries:
        header[entry.target.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [start, start + entry.bytes],
        }
        start += entry.bytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


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
            if not bool(torch.isfinite(cast).all()):
                problems.append(_refusal(f"{target.component}: tensor {name}", piece, entry.dtype))
                return
            yield cast.view(torch.uint8).numpy().data


def _refusal(where: str, piece: torch.Tensor, dtype: str) -> str:
    if not bool(torch.isfinite(piece).all()):
        return (
            f"{where}: holds NaN or infinite values; training diverged: choose an earlier checkpoint or "
            "lower train.learning_rate"
        )
    largest = piece.abs().max().item()
    return f"{where}: {largest:.4g} is too large for {dtype}; set convert.dtype to bf16 or fp32"


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
