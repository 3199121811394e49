"""What a written file holds, whatever the container: each tensor's type, shape and bytes, memory-mapped."""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from components.checkpoint_file import read_ckpt

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}


@dataclass(frozen=True)
class Content:
    """One tensor of a file."""

    dtype: str  #: as safetensors writes it
    shape: tuple[int, ...]
    data: memoryview  #: its bytes, where they lie in the file


def contents(path: Path) -> Mapping[str, Content]:
    """The tensors of a ``.safetensors`` or ``.ckpt`` file by name.

    Raises:
        ValueError: when it is no safetensors file, or is cut short.
        UserError: when it is no ``.ckpt`` of tensors alone.
    """
    return _of_ckpt(path) if path.suffix == ".ckpt" else _of_safetensors(path)


def _of_ckpt(path: Path) -> dict[str, Content]:
    return {
        name: Content(
            _NAMES.get(tensor.dtype, str(tensor.dtype)),
            tuple(tensor.shape),
            tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data,
        )
        for name, tensor in read_ckpt(path).items()
    }


def _of_safetensors(path: Path) -> dict[str, Content]:
    with path.open("rb") as file:
        size = path.stat().st_size
        lead = file.read(8)
        length = struct.unpack("<Q", lead)[0] if len(lead) == 8 else size
        if 8 + length > size:
            raise ValueError(f"{path.name}: no safetensors file, or cut short")
        tensors = json.loads(file.read(length))
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[8 + length :]
    tensors.pop("__metadata__", None)
    end = max((info["data_offsets"][1] for info in tensors.values()), default=0)
    if end != len(mapped):
        raise ValueError(f"{path.name}: {size} bytes, {8 + length + end} by its header")
    return {
        name: Content(info["dtype"], tuple(info["shape"]), mapped[slice(*info["data_offsets"])])
        for name, info in tensors.items()
    }
