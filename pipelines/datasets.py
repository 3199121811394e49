"""The ``dataset`` command: data sets in the store, by name and version.

They lie in ``<store>/datasets/<name>`` as `components.versions.pushed` describes: in the user's own store where
``--store`` names it, else in the embedded one of the workdir, as for `run`.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.progress import log, size
from pipelines import stores
from pipelines.table import columns

if TYPE_CHECKING:
    from components.storage import Store

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def add_parser(commands: Any) -> None:
    """Add the command to the command line's."""
    made = commands.add_parser(
        "dataset",
        allow_abbrev=False,
        help="keep data sets in the store: push, list, show",
        description="Keep versions of data sets in the store; a pushed one is read by its s3:// place.",
    )
    actions = made.add_subparsers(dest="action", required=True, metavar="ACTION")
    where = stores.flags()
    push = actions.add_parser(
        "push", parents=[where], allow_abbrev=False, help="make a folder the newest version of NAME",
        description="Upload a folder as the newest version of NAME: in parallel, only what the store does not hold. "
        "Killed, the same command goes on where it was.",
    )  # fmt: skip
    push.add_argument("folder", metavar="DIR", help="annotated images: a folder, or an archive of one")
    push.add_argument("name", metavar="NAME", help="lower-case letters, digits, dot, dash, underscore")
    push.add_argument(
        "--format", default="auto", metavar="FORMAT", help="annotation format, for the counts (as crop.format; auto)"
    )
    actions.add_parser("list", parents=[where], allow_abbrev=False, help="list the data sets")
    show = actions.add_parser(
        "show", parents=[where], allow_abbrev=False, help="what a data set holds: classes, sizes, digest, versions"
    )
    show.add_argument("name", metavar="NAME[@VERSION]", help="a data set, at its newest or at a given version")


def dataset(flags: argparse.Namespace) -> int:
    """Do what the action says."""
    lines = {"push": _push, "list": _list, "show": _show}[flags.action](flags)
    print("\n".join(lines), flush=True)
    return 0


def _push(flags: argparse.Namespace) -> list[str]:
    from components.dataset import is_remote, local_copy
    from components.leases import dataset_scope, held
    from components.versions.push import push

    _check_name(flags.name)
    form = _format(flags.format)
    if is_remote(flags.folder):
        raise UserError(f"{flags.folder}: push takes a folder of this machine, or an archive; download it first")
    with local_copy(flags.folder, "dataset") as opened, _store(flags, write=True) as store:
        made_by = {"command": "dataset push", "annotations": _census(form, flags.name, opened.root)}
        place = store.at("datasets", flags.name)
        with held(store, dataset_scope(flags.name), "dataset push"):
            done = push(place, opened.root, made_by)
    files = done.manifest.files
    moved = f"sent {done.sent} of {len(files)} files, {size(done.sent_bytes)}"
    what = "version" if done.new else "nothing new: it is version"
    return [f"{flags.name}: {what} {done.version}, {moved}", *_annotated(done.manifest.made_by), f"use it with --data "
            f"{place.uri}, or {place.uri}@{done.version} for this version"]  # fmt: skip


def _list(flags: argparse.Namespace) -> list[str]:
    from components.versions import pushed

    with _store(flags) as store:
        home = store.at("datasets")
        rows = [("name", "images", "size", "newest version", "versions", "pushed")]
        for name in home.folders():
            place = home.at(name)
            if not pushed.is_pushed(place):
                rows.append((name, "–", "–", "files that were not pushed", "–", "–"))
            elif known := pushed.versions(place):
                newest = pushed.manifest(place, known[-1])
                images = newest.made_by.get("annotations", {}).get("images", "–")
                rows.append(
                    (name, str(images), size(newest.total_bytes), known[-1], str(len(known)), newest.created[:16])
                )
            else:
                rows.append((name, "–", "–", "a push that has not ended", "0", "–"))
    return columns(rows) if len(rows) > 1 else [f"no data sets in {home.uri}; dataset push DIR NAME makes one"]


def _show(flags: argparse.Namespace) -> list[str]:
    from components.versions import pushed

    name, at, version = flags.name.partition("@")
    _check_name(name)
    with _store(flags) as store:
        place = store.at("datasets", name)
        if not pushed.is_pushed(place):
            there = store.at("datasets").folders()
            hint = f"there are: {', '.join(there)}" if there else "there is none yet"
            raise UserError(f"{name}: no data set of this name was pushed to {store.uri} ({hint})")
        known = pushed.versions(place)
        if not at and not known:
            raise UserError(f"{name}: no version is complete; run the push again, it goes on where it was")
        chosen = version if at else known[-1]
        shown = pushed.manifest(place, chosen)
        previous = [pushed.manifest(place, v) for v in known]
    lines = [
        f"{name}, version {chosen}{' (the newest)' if chosen == known[-1] else ''}",
        f"place     {place.uri}@{chosen}",
        f"digest    {shown.digest}",
        f"files     {len(shown.files)}, {size(shown.total_bytes)}",
        f"pushed    {shown.created}",
        *_annotated(shown.made_by),
        "versions",
    ]
    rows = [(f"  {v}", f"{len(m.files)} files", size(m.total_bytes)) for v, m in zip(known, previous)]
    return lines + columns(rows)


def _store(flags: argparse.Namespace, write: bool = False) -> AbstractContextManager[Store]:
    return stores.opened(flags, "push a data set first", create=write)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r}: cannot name a data set; use 1 to 63 lower-case letters, digits, '.', '_' or '-', a letter or "
            "digit first"
        )


def _format(form: str) -> Any:
    from components.crop.config import CropConfig
    from components.settings import decode

    return decode(CropConfig, {"format": form}, "crop").format


def _census(form: Any, name: str, root: Path) -> dict[str, Any]:
    """What is annotated, or why that is not known: data that needs a setting to be read may be pushed all the same."""
    from components.crop.survey import census

    try:
        return dataclasses.asdict(census(form, name, root))
    except UserError as error:
        first = str(error).splitlines()[0]
        log(f"the annotations were not counted: {first}")
        return {"unread": first}


def _annotated(made_by: Mapping[str, Any]) -> list[str]:
    found = made_by.get("annotations", {})
    if "images" not in found:
        return [f"classes   not counted: {found.get('unread', 'pushed by another program')}"]
    problems = f"; {found['problems']} problems" if found["problems"] else ""
    rows = [(f"  {name}", str(number)) for name, number in found["defects"].items()]
    return [
        f"images    {found['images']}, {found['good']} of them good; annotations as {found['format']}{problems}",
        f"defects   {sum(found['defects'].values())}",
        *columns(rows),
    ]
