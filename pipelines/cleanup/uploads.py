"""Files that were being sent in parts when their sender was killed: their parts take space and are in no listing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipelines.cleanup.contents import Contents
from pipelines.cleanup.policy import DAY, Policy

if TYPE_CHECKING:
    from components.storage.parts import Upload


def left_over(uploads: Iterable[Upload], contents: Contents, policy: Policy) -> list[Upload]:
    """The uploads that nobody is at any more, by the rule for trees without a manifest: whose they are is not known."""
    running = any(running for _, running in contents.leases.values())
    return [
        upload
        for upload in uploads
        if (age := contents.now - upload.begun.timestamp()) >= policy.grace and not (running and age < DAY)
    ]
