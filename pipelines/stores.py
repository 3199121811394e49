"""The store that a command works on: the user's own where ``--store`` names it, else the workdir's embedded one."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import UserError

if TYPE_CHECKING:
    from components.storage import Store


def flags() -> argparse.ArgumentParser:
    """A parent parser with ``--store`` and ``--workdir``."""
    made = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    made.add_argument(
        "--store", metavar="URI",
        help="your own store, s3://bucket/prefix, reached by the STORE_* variables (default: the embedded one)",
    )  # fmt: skip
    made.add_argument("--workdir", type=Path, default=Path("runs"), metavar="FOLDER", help="where runs are (runs)")
    return made


@contextlib.contextmanager
def opened(given: argparse.Namespace, otherwise: str, create: bool = False) -> Iterator[Store]:
    """The store that the flags name.

    Args:
        otherwise: what to do first where the workdir holds no store, for the message.
        create: make the embedded store where there is none.

    Raises:
        UserError: where it is not clear which store is meant, or there is none.
    """
    from components.storage import Store
    from pipelines.embedded_store import EmbeddedStore

    if given.store is not None:
        yield Store.from_env(given.store)
        return
    if endpoint := os.environ.get("STORE_ENDPOINT_URL"):
        raise UserError(
            f"--store: not given, though STORE_ENDPOINT_URL is {endpoint}: say where in that store "
            "(--store s3://bucket/prefix), or unset the variable for the embedded store"
        )
    folder = given.workdir / ".local" / "store"
    if not create and not folder.is_dir():
        raise UserError(f"--workdir {given.workdir}: no store in it; {otherwise}, or give --store")
    with EmbeddedStore(folder) as embedded:
        yield Store.from_env(embedded.uri, embedded.environ)
