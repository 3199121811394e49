"""Which version of a data set a location means."""

from __future__ import annotations

from components.versions import dvc, pushed
from components.versions.dvc_location import is_dvc
from components.versions.version import Version


def version_of(location: str, revision: str = "") -> Version | None:
    """The version that a location names; None for a folder, an archive or a prefix, which have none.

    Args:
        location: a data set as users name it.
        revision: its revision where it is known already, as snapshot gives it: of a pushed data set that version is
            returned. A git branch is read where it is now, and what is returned says at which revision. Anything that
            is no SHA-256 is passed over.

    Raises:
        UserError: for a version that is not there, and where there is nothing of that revision.
        Unavailable: the store does not answer.
    """
    if is_dvc(location):
        return dvc.at_revision(location)
    return pushed.at_version(location, revision) if "://" in location else None
