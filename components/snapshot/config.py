"""Settings of the snapshot step."""

from __future__ import annotations

from pydantic import Field

from components.settings import Settings


class SnapshotConfig(Settings):
    """How the data set is looked at; nothing here changes what a revision means."""

    workers: int = Field(4, ge=1, le=64, description="files read at the same time to compute their digests")
