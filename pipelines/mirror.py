"""The ``mirror`` command: a base model copied into the store, for clusters without internet.

It lies in ``<store>/base-models/<name>--<revision>`` as a tree, in diffusers' layout whatever it was before, and
``base_model: s3://…`` reads it there. Clean-up leaves it alone.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from pipelines import stores

if TYPE_CHECKING:
    from components.storage import Manifest, Store

_WORKERS = 4


def add_parser(commands: Any) -> None:
    """Add the command to the command line's."""
    made = commands.add_parser(
        "mirror", parents=[stores.flags()], allow_abbrev=False, help="copy a base model into the store",
        description="Copy a base model into the store, in diffusers' layout: weights as safetensors, configurations "
        "and tokenizer, and nothing else of what a repository holds. Killed, the same command goes on where it was.",
    )  # fmt: skip
    made.add_argument(
        "base", metavar="BASE",
        help="hf://owner/name@revision, a diffusers folder, or a single file (.safetensors, .ckpt, .pt)",
    )  # fmt: skip


def mirror(flags: argparse.Namespace) -> int:
    """Copy the base model and say where it is."""
    from components.base_model.places import kind_of
    from components.base_model.revision import base_revision

    kind = kind_of(flags.base)
    if kind == "tree":
        raise UserError(f"{flags.base}: is in a store already; base_model reads it there")
    if kind == "object" and flags.store is None:
        raise UserError(f"{flags.base}: is in a store of your own; name where to with --store s3://bucket/prefix")
    revision = base_revision(flags.base, _WORKERS)
    with stores.opened(flags, "", create=True) as store:
        place = store.at("base-models", f"{_name(flags.base)}--{revision[:12]}")
        manifest = place.manifest() or _copied(flags.base, revision, place)
    print("\n".join(_said(flags.base, place, manifest)), flush=True)
    return 0


def _copied(base: str, revision: str, place: Store) -> Manifest:
    from components import hub
    from components.base_model import layout
    from components.base_model.opening import opened

    with opened(base, revision) as folder:
        if base.startswith(hub.SCHEME):
            hub.check(folder)
        files = layout.files_of(folder)
        papers = {path.name: path for pattern in layout.PAPERS for path in folder.glob(pattern)}
        made_by = {"command": "mirror", "base_model": base, "revision": revision, "licence": _licence(folder)}
        return place.put_files({**files, **papers}, made_by)


def _name(base: str) -> str:
    """What people call it, as a part of a key: ``owner--name``, or the name of the folder or file."""
    from components import hub
    from components.base_model.places import SUFFIXES

    if base.startswith(hub.SCHEME):
        return hub.parse(base).name.replace("/", "--")
    path = PurePosixPath(base) if "://" in base else Path(base).expanduser().resolve()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem if path.name.endswith(SUFFIXES) else path.name)


def _licence(folder: Path) -> str:
    """What the model card names; "" where there is no card, or it names none."""
    from components.documents import parse_yaml

    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    head = re.match(r"---\n(.*?)\n---\n", text, flags=re.DOTALL)
    try:
        said = parse_yaml(head[1]) if head else {}
    except ValueError:
        return ""
    return str(said.get("license") or "") if isinstance(said, dict) else ""


def _said(base: str, place: Store, manifest: Manifest) -> list[str]:
    from components.progress import size

    licence = manifest.made_by.get("licence") or "not stated; see where it comes from"
    return [
        f"{base}, revision {manifest.made_by['revision']}",
        f"place     {place.uri}",
        f"files     {len(manifest.files)}, {size(manifest.total_bytes)}",
        f"licence   {licence}",
        f"use it with --set base_model={place.uri}",
    ]
