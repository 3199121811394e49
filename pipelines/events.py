"""What train wrote for TensorBoard, fetched from the store into a folder."""

from __future__ import annotations

import re
from pathlib import Path

from components.artifacts import EVENTS
from components.storage import Store

#: As `components.train.events` names them; other objects are nobody's here, and must not say where a file is put.
_FILE = re.compile(r"\d+-[0-9a-f]{8}/events\.out\.tfevents\.\d+\.\d+", re.ASCII)


def fetch(store: Store, run: str, folder: Path) -> bool:
    """Fetch the events of all attempts at the run with this fingerprint into `folder`; whether there are any.

    Args:
        store: its root.
    """
    place = store.at("train", run, "reports", EVENTS)
    keys = [info.key for info in place.list() if _FILE.fullmatch(info.key)]
    for key in keys:
        place.download_file(key, folder / key)
    return bool(keys)
