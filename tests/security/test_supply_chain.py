"""What is installed: at the locked versions, by digest where that is asked for, under licences that are known."""

from __future__ import annotations

import importlib.metadata
import re

import pytest

from tests.conftest import ROOT
from tests.security.licences import installed, is_allowed, locked

HASHES = ROOT / "requirements.hashes"


def test_the_hashed_file_has_the_versions_of_the_lock_and_a_digest_for_each() -> None:
    blocks = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)[^\n]*((?:\n +--hash=[^\n]*)*)", HASHES.read_text(), re.M)
    assert {name: version for name, version, _ in blocks} == {n: v for n, v in locked().items() if n != "torch"}
    for name, _, hashes in blocks:
        digests = re.findall(r"--hash=(\S+)", hashes)
        assert digests, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in digests), name


def test_what_is_installed_is_what_is_locked() -> None:
    found = {name: importlib.metadata.version(name).partition("+")[0] for name, _, _ in installed()}
    assert len(found) > 80
    assert found == {name: version for name, version in locked().items() if name in found}


def test_every_dependency_is_under_a_known_licence() -> None:
    assert [(name, licence) for name, _, licence in installed() if not is_allowed(licence)] == []


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "AGPL", "MIT AND GPL-2.0", "", "Proprietary", "LGPL-2.1"])
def test_other_licences_are_told(licence: str) -> None:
    assert not is_allowed(licence)
