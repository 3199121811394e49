"""Publish a model under ``<store>/models/<name>/<version>/`` and point ``latest.json`` at it.

A version is named by the time of publication and a digest of the tensors, after all that are there. It exists
for readers once its manifest does; ``latest.json`` moves after that (`components.models.catalog`). Publishing the
same model again (a retried step) finds the version that is already there; two publishers at once both succeed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.models import catalog
from components.progress import log
from components.storage import Conflict, Manifest, Store, version_after

_ATTEMPTS = 5
_MOST_WAIT = 2.0  #: seconds between attempts at most


@dataclass(frozen=True)
class Identity:
    """What makes two publications the same: equal tensors, described equally."""

    tensors_digest: str
    description_digest: str  #: of all that is published beside the tensors


def find(models: Store, identity: Identity) -> tuple[str, Manifest] | None:
    """The newest published version of exactly this model, if there is one.

    Args:
        models: ``<store>/models/<name>``.
    """
    for version in reversed(catalog.versions(models)):
        if version.endswith(identity.tensors_digest[:12]):
            manifest = models.at(version).manifest()
            if manifest is not None and _made_by(identity).items() <= manifest.made_by.items():
                return version, manifest
    return None


def publish(
    models: Store, identity: Identity, made_by: Mapping[str, Any], lay_out: Callable[[str], Path]
) -> tuple[str, Manifest]:
    """Upload a new version; readers see it when all of it is there.

    Args:
        models: ``<store>/models/<name>``.
        made_by: kept in the version's manifest beside `identity`.
        lay_out: makes the tree of the version with the name it is given, and says where; may be called again.

    Raises:
        Conflict: where other publishers took every name that was tried.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        version = version_after(models.folders(), identity.tensors_digest)
        try:
            return version, models.at(version).put_tree(lay_out(version), {**_made_by(identity), **made_by})
        except Conflict:
            # Equal tensors, described otherwise, in the same second: both may have stopped, so not in step again.
            if attempt == _ATTEMPTS:
                raise
            log(f"version {version} is being published with another description; trying another name")
            time.sleep(random.uniform(0, _MOST_WAIT))
    raise AssertionError("unreachable")


def _made_by(identity: Identity) -> dict[str, Any]:
    return {
        "step": "convert",
        "tensors_digest": identity.tensors_digest,
        "description_digest": identity.description_digest,
    }
