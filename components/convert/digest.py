"""A digest of a ``.safetensors`` file's tensors: equal for equal names, types, shapes and values.

The file's own sha256 also covers its metadata (prompts, metrics, title); this one does not.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

_PIECE = 1 << 20


def header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """The header of a ``.safetensors`` file: tensors by name, metadata, and where the data start.

    Raises:
        ValueError: when the file is no safetensors file, or is cut short.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        lead = file.read(8)
        length = struct.unpack("<Q", lead)[0] if len(lead) == 8 else size
        if 8 + length > size:
            raise ValueError(f"{path.name}: no safetensors file, or cut short")
        tensors = json.loads(file.read(length))
    metadata = tensors.pop("__metadata__", {})
    end = max((info["data_offsets"][1] for info in tensors.values()), default=0)
    if 8 + length + end != size:
        raise ValueError(f"{path.name}: {size} bytes, {8 + length + end} by its header")
    return tensors, metadata, 8 + length


def tensors_digest(path: Path) -> str:
    """sha256 (hexadecimal) over each tensor's name, dtype, shape and bytes, in the order of names.

    Raises:
        ValueError: when the file is no safetensors file, or is cut short.
    """
    tensors, _, start = header(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for name in sorted(tensors):
            info = tensors[name]
            digest.update(json.dumps([name, info["dtype"], info["shape"]]).encode() + b"\n")
            begin, end = info["data_offsets"]
            file.seek(start + begin)
            while begin < end:
                piece = file.read(min(_PIECE, end - begin))
                digest.update(piece)
                begin += len(piece)
    return digest.hexdigest()
