"""The two containers that a model is written in, each filled tensor by tensor without holding any.

Both are opened on an empty file with all that is to come, given the tensors' bytes in that order, and closed.

``.safetensors`` (https://github.com/huggingface/safetensors#format): 8 bytes of header length, JSON, then the data in
the header's order without gaps.

``.ckpt``: what ``torch.save`` writes (https://docs.pytorch.org/docs/stable/notes/serialization.html), a zip archive of
uncompressed records: a pickle that says which tensor is which part of which record, then a record a tensor, each
beginning at a multiple of 64 bytes so that it can be used where it lies. As in the original Stable Diffusion files the
tensors are under ``state_dict``; the metadata is beside it, where other programs do not look.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import torch

from components.checkpoint_file import METADATA


@dataclass(frozen=True)
class Tensor:
    """What a container has to know of a tensor before its values come."""

    name: str
    dtype: str  #: as safetensors writes it: "F32", "F16", "BF16", "I64"
    shape: tuple[int, ...]
    bytes: int


class Container(Protocol):
    """A file that is being filled."""

    def begin(self, tensor: Tensor) -> None:
        """The next pieces are of this one; in the order of the constructor's list."""

    def write(self, piece: memoryview) -> None:
        """Some more of its bytes."""

    def close(self) -> None:
        """All tensors are there."""


class Safetensors:
    """A ``.safetensors`` file."""

    def __init__(self, file: BinaryIO, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> None:
        header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
        start = 0
        for tensor in tensors:
            end = start + tensor.bytes
            header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
            start = end
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        self._file = file
        self._file.write(struct.pack("<Q", len(text)) + text)

    def begin(self, tensor: Tensor) -> None:
        pass

    def write(self, piece: memoryview) -> None:
        self._file.write(piece)

    def close(self) -> None:
        pass


_STORAGES: dict[str, Any] = {
    "F32": torch.FloatStorage,
    "F16": torch.HalfStorage,
    "BF16": torch.BFloat16Storage,
    "I64": torch.LongStorage,
}
_ALIGNED = 64
#: Bytes of a record's local header that are always there, and those of the sizes beyond 4 GB that zipfile puts last.
_LOCAL_HEADER, _LARGE_SIZES = 30, 20
#: The extra field that torch fills up with, too: "FB".
_FILLING = 0x4246


class Ckpt:
    """A ``.ckpt`` file."""

    def __init__(self, file: BinaryIO, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> None:
        self._file = file
        self._archive = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)
        self._numbers = {tensor.name: number for number, tensor in enumerate(tensors)}
        self._record: Any = None
        self._add("data.pkl", _pickled(tensors, metadata))
        self._add("byteorder", b"little")

    def begin(self, tensor: Tensor) -> None:
        self._end()
        self._record = self._open(f"data/{self._numbers[tensor.name]}")

    def write(self, piece: memoryview) -> None:
        self._record.write(piece)

    def close(self) -> None:
        self._end()
        self._add("version", b"3\n")
        self._archive.close()

    def _add(self, name: str, content: bytes) -> None:
        with self._open(name) as record:
            record.write(content)

    def _open(self, name: str) -> Any:
        info = zipfile.ZipInfo(f"archive/{name}")
        head = self._file.tell() + _LOCAL_HEADER + len(info.filename) + 4 + _LARGE_SIZES
        filling = -head % _ALIGNED
        info.extra = struct.pack("<HH", _FILLING, filling) + bytes(filling)
        return self._archive.open(info, "w", force_zip64=True)

    def _end(self) -> None:
        if self._record is not None:
            self._record.close()
            self._record = None


def _pickled(tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> bytes:
    """The pickle that ``torch.load`` reads, with record i for the i-th tensor."""
    made = io.BytesIO()
    state = {tensor.name: _Rebuilt(tensor, number) for number, tensor in enumerate(tensors)}
    _Pickler(made, protocol=2).dump({"state_dict": state, METADATA: dict(sorted(metadata.items()))})
    return made.getvalue()


@dataclass(frozen=True)
class _Stored:
    """A record of the archive."""

    tensor: Tensor
    number: int


@dataclass(frozen=True)
class _Rebuilt:
    """Pickles as a tensor does that is all of its record."""

    tensor: Tensor
    number: int

    def __reduce__(self) -> tuple[Any, ...]:
        shape = self.tensor.shape
        strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
        whole: tuple[Any, ...] = (_Stored(self.tensor, self.number), 0, shape, strides, False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, whole


class _Pickler(pickle.Pickler):
    def persistent_id(self, given: Any) -> tuple[Any, ...] | None:
        if not isinstance(given, _Stored):
            return None
        return "storage", _STORAGES[given.tensor.dtype], str(given.number), "cpu", math.prod(given.tensor.shape)
