"""A digest of a file's tensors: equal for equal names, types, shapes and values, whatever the container.

The file's own sha256 also covers its metadata (prompts, metrics, title); this one does not.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from components.convert.contents import contents


def tensors_digest(path: Path) -> str:
    """sha256 (hexadecimal) over each tensor's name, dtype, shape and bytes, in the order of names.

    Raises:
        ValueError, UserError: when the file cannot be read, as `contents` says.
    """
    digest = hashlib.sha256()
    for name, content in sorted(contents(path).items()):
        digest.update(json.dumps([name, content.dtype, content.shape]).encode() + b"\n")
        digest.update(content.data)
    return digest.hexdigest()
