"""The tensors of a ``.ckpt`` file, read without running what it says.

A ``.ckpt`` is a pickle, and unpickling calls whatever the file names. Here torch's restricted unpickler reads it,
which makes tensors, containers, numbers and texts and knows nothing else. Not covered: ``.safetensors``, which cannot
hold code, and TorchScript archives.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError

if TYPE_CHECKING:
    import torch

#: Texts by name that a ``.ckpt`` may hold beside ``state_dict``, as the header of a ``.safetensors`` file does.
METADATA = "metadata"

_REMEDY = "give the model as .safetensors, from a source that you trust"

#: As many names as an error lists.
_LISTED = 5


def read_ckpt(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a ``.ckpt`` by name, on the CPU; memory-mapped where the file allows it.

    They lie at the top level or, as in the original Stable Diffusion files, under ``state_dict``. Numbers and texts
    that training left beside ``state_dict`` (``global_step``, ``epoch``) are passed over.

    Raises:
        UserError: where the file holds anything but tensors (nothing of it was executed), or cannot be read.
    """
    content = _load(path)
    tensors = content.get("state_dict", content)
    if not isinstance(tensors, Mapping) or not tensors:
        raise UserError(f"{path}: holds no tensors by name; is it a Stable Diffusion checkpoint?")
    return _plain(path, tensors)


def ckpt_metadata(path: Path) -> dict[str, str]:
    """The texts that a ``.ckpt`` of this project holds under `METADATA`; none of another's.

    Raises:
        UserError: as `read_ckpt` does.
    """
    found = _load(path).get(METADATA)
    if not isinstance(found, Mapping):
        return {}
    return {key: text for key, text in found.items() if isinstance(key, str) and isinstance(text, str)}


def _load(path: Path) -> Mapping[Any, Any]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=_mappable(path))
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    # What a damaged pickle makes its reader raise is not to be foreseen.
    except Exception as error:
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path}: holds {found[1]}, which is no tensor; loading it would run code, so it was "
                f"refused and nothing was run; {_REMEDY}"
            ) from None
        raise UserError(
            f"{path}: cannot be read as a checkpoint ({type(error).__name__}); it is damaged, cut short or something "
            "else: fetch it again"
        ) from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}, not tensors by name; {_REMEDY}")
    return content


def _mappable(path: Path) -> bool:
    """Whether the file is an archive of uncompressed records, whose bytes can be used where they lie."""
    try:
        with zipfile.ZipFile(path) as archive:
            return all(record.compress_type == zipfile.ZIP_STORED for record in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return False


def _plain(path: Path, tensors: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """What is under the names, refused if any of it is no dense tensor; parameters as plain tensors."""
    import torch

    plain: dict[str, torch.Tensor] = {}
    others: list[str] = []
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            others.append(f"{name!r} ({type(value).__name__})")
        elif value.layout != torch.strided or value.is_meta:
            others.append(f"{name!r} (a tensor that is {'empty' if value.is_meta else 'sparse'})")
        else:
            plain[name] = value.detach()
    if others:
        more = f" and {len(others) - _LISTED} more" if len(others) > _LISTED else ""
        raise UserError(f"{path}: holds {', '.join(others[:_LISTED])}{more} among its tensors; {_REMEDY}")
    return plain
