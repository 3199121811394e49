"""The ``models`` command: the published models of a store, by name and version."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.progress import size
from pipelines import stores

if TYPE_CHECKING:
    from components.storage import Store

_VERSIONED = "NAME[@VERSION]"


def add_parser(commands: Any) -> None:
    """Add the command to the command line's."""
    made = commands.add_parser(
        "models",
        allow_abbrev=False,
        help="published models: list, show, diff, pull, promote, rollback, push",
        description="Look at the published models of a store, fetch one, choose which version is the latest (the one "
        "that readers get who name none), and push one to the Hugging Face hub.",
    )
    actions = made.add_subparsers(dest="action", required=True, metavar="ACTION")
    where = stores.flags()

    def add(action: str, help: str) -> argparse.ArgumentParser:
        return actions.add_parser(action, parents=[where], allow_abbrev=False, help=help)

    listed = add("list", "all versions: step, metric against the base, data set, size, which is the latest")
    listed.add_argument("name", nargs="?", metavar="NAME", help="of this model only")
    shown = add("show", "what a version is: facts, files, digests, how to generate with it")
    shown.add_argument("name", metavar=_VERSIONED, help="a model, at its latest or at a given version")
    compared = add("diff", "what two versions differ in: settings, data, metrics, prompts, weights")
    compared.add_argument("a", metavar="A", help=_VERSIONED)
    compared.add_argument("b", metavar="B", help=_VERSIONED)
    pulled = add("pull", "fetch a version to a folder, every file held against its digest")
    pulled.add_argument("name", metavar=_VERSIONED, help="a model, at its latest or at a given version")
    pulled.add_argument(
        "folder", type=Path, metavar="DIR", help="killed, the same command goes on with what is missing"
    )
    promoted = add("promote", "make a version the latest; newer ones are taken back")
    promoted.add_argument("name", metavar="NAME@VERSION", help="the version to use from now on")
    back = add("rollback", "make the version before the latest one the latest")
    back.add_argument("name", metavar="NAME", help="a published model")
    pushed = add("push", "put a version into a repository of the Hugging Face hub, in one commit")
    pushed.add_argument("name", metavar=_VERSIONED, help="a model, at its latest or at a given version")
    pushed.add_argument("repository", metavar="OWNER/REPO", help="made where it is absent, private")
    pushed.add_argument(
        "--public", action="store_true", help="one that is made is public: who looks may see your defects"
    )
    pushed.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file that holds the hub's token (default: HF_TOKEN)"
    )


def models(flags: argparse.Namespace) -> int:
    """Do what the action says."""
    actions = {"list": _list, "show": _show, "diff": _diff, "pull": _pull, "promote": _promote, "rollback": _rollback}
    actions["push"] = _push
    with stores.opened(flags, "a run publishes a model") as store:
        lines = actions[flags.action](flags, store)
    print("\n".join(lines), flush=True)
    return 0


def _list(flags: argparse.Namespace, store: Store) -> list[str]:
    from components.models import catalog
    from pipelines.models.describe import listing
    from pipelines.models.published import every

    names = [flags.name] if flags.name else catalog.names(store)
    found = [version for name in names for version in every(store, name)]
    return listing(found) if found else [f"no published models in {store.uri}; a run publishes one"]


def _show(flags: argparse.Namespace, store: Store) -> list[str]:
    from pipelines.models.describe import details
    from pipelines.models.published import find

    return details(find(store, flags.name), embedded=flags.store is None)


def _diff(flags: argparse.Namespace, store: Store) -> list[str]:
    from pipelines.models.difference import difference
    from pipelines.models.published import find

    return difference(find(store, flags.a), find(store, flags.b))


def _pull(flags: argparse.Namespace, store: Store) -> list[str]:
    from pipelines.models.published import find

    found, folder = find(store, flags.name), flags.folder
    found.fetch(folder)
    return [
        f"{found.label}: {len(found.manifest.files)} files, {size(found.manifest.total_bytes)}, in {folder}; every "
        "file has the digest that was published",
        f"generate with it: python -m pipelines generate --model {folder} --out new-images",
    ]


def _promote(flags: argparse.Namespace, store: Store) -> list[str]:
    name, at, version = flags.name.partition("@")
    if not at:
        raise UserError(f"{flags.name}: name the version to promote, {name}@VERSION; models list {name} shows them")
    return _moved(store, name, version)


def _rollback(flags: argparse.Namespace, store: Store) -> list[str]:
    if "@" in flags.name:
        raise UserError(f"{flags.name}: rollback takes a name alone; models promote {flags.name} names a version")
    return _moved(store, flags.name, None)


def _push(flags: argparse.Namespace, store: Store) -> list[str]:
    from pipelines.models import hub
    from pipelines.models.published import find

    token = hub.token(flags.token_file)
    found = find(store, flags.name)
    address = hub.push(found, flags.repository, token, private=not flags.public)
    return [f"{found.label} is in {flags.repository}: {address}"]


def _moved(store: Store, name: str, version: str | None) -> list[str]:
    """Promote `version`, or go back by one where it is None; a clean-up is kept away meanwhile."""
    from components.leases import held, model_scope
    from components.models import catalog

    place = catalog.place_of(store, name)
    before = catalog.latest(place)
    with held(store, model_scope(name), "models"):
        now = catalog.promote(place, version) if version is not None else catalog.rollback(place)
    was = before.version if before is not None else "none"
    lines = [f"{name}: the latest version is {now.version} (it was {was})"]
    if version is not None and now.version != version:
        lines.append(f"{now.version} was published meanwhile; promote {version} again if it is to be the latest")
    if now.withdrawn:
        lines.append(f"taken back: {', '.join(sorted(now.withdrawn))}; a version published from now on is the latest")
    return lines
