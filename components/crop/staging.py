"""An output folder that is either complete or not there."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.errors import UserError


@contextmanager
def new_folder(path: Path, marker: str) -> Iterator[Path]:
    """A folder beside `path` to write in; it becomes `path` when the block ends without an exception.

    A folder already at `path` is replaced when it is empty or holds a file named `marker`, which says
    that this step wrote it.

    Raises:
        UserError: when `path` holds something else, or its parent cannot be written to.
    """
    if path.exists() and not (path.is_dir() and ((path / marker).is_file() or not any(path.iterdir()))):
        raise UserError(f"{path}: holds something that this step did not write; give another folder or remove it")
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); the folder above it must exist and be writable"
        ) from None
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{path}: the disk is full ({error.strerror}); free some space or write elsewhere") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
