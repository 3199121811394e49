"""Publish a model under ``<store>/models/<name>/<version>/`` and point ``latest.json`` at it.

A version is the time of publication and a digest of the tensors, so that two publishers cannot take the
same one. It exists for readers once its manifest does; ``latest.json`` is written after that, in one
request. Publishing the same model again (a retried step) finds the version that is already there.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts import TrainedOn
from components.storage import Manifest, Store


@dataclass(frozen=True)
class Identity:
    """What makes two publications the same: equal tensors, described equally."""

    tensors_digest: str
    description_digest: str  #: of metadata, model card and settings

    @property
    def suffix(self) -> str:
        """The part of a version name that belongs to the tensors."""
        return self.tensors_digest[:12]


def new_version(identity: Identity, now: float | None = None) -> str:
    """``YYYYMMDDTHHMMSSZ-<12 hexadecimal digits>``: sorts by time."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)) + "-" + identity.suffix


def find(models: Store, identity: Identity) -> tuple[str, Manifest] | None:
    """The newest published version of exactly this model, if there is one.

    Args:
        models: ``<store>/models/<name>``.
    """
    ending = f"-{identity.suffix}/MANIFEST.json"
    versions = sorted((info.key.partition("/")[0] for info in models.list() if info.key.endswith(ending)), reverse=True)
    for version in versions:
        manifest = models.at(version).manifest()
        if manifest is not None and _made_by(identity).items() <= manifest.made_by.items():
            return version, manifest
    return None


def publish(models: Store, version: str, tree: Path, identity: Identity, trained_on: TrainedOn | None) -> Manifest:
    """Upload the folder `tree` as this version; readers see it when all of it is there."""
    origin = {} if trained_on is None else {"trained_on": dataclasses.asdict(trained_on)}
    return models.at(version).put_tree(tree, made_by={**_made_by(identity), **origin})


def point_latest(models: Store, version: str, file: str, sha256: str) -> None:
    """Make `version` the one that readers get who do not name one."""
    stamp = version.partition("-")[0]
    published = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    latest = {"schema": 1, "version": version, "published": published, "file": file, "sha256": sha256}
    data = (json.dumps(latest, indent=2) + "\n").encode()
    if models.get_bytes("latest.json") != data:
        models.put_bytes("latest.json", data, content_type="application/json")


def _made_by(identity: Identity) -> dict[str, Any]:
    return {
        "step": "convert",
        "tensors_digest": identity.tensors_digest,
        "description_digest": identity.description_digest,
    }
