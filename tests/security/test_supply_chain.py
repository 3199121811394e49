"""What is installed: at the locked versions, by digest where that is asked for, under licences that are known."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT
from tests.security.licences import installed, is_allowed, locked


def hashed(file: str) -> dict[str, str]:
    """Package → version of a file in which each has well-formed digests."""
    text = (ROOT / file).read_text(encoding="utf-8")
    found = {}
    for name, version, hashes in re.findall(r"^([\w.-]+)==([^\s;]+)[^\n]*((?:\n +--hash=[^\n]*)*)", text, re.M):
        digests = re.findall(r"--hash=(\S+)", hashes)
        assert digests, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in digests), name
        found[name] = version
    return found


def test_the_hashed_files_have_the_versions_of_the_lock_and_digests_for_each() -> None:
    rest, torch, gpu = (hashed(f"requirements.{kind}hashes") for kind in ("", "torch.", "gpu."))
    assert gpu == {"bitsandbytes": locked()["bitsandbytes"]}
    assert rest == {name: version for name, version in locked().items() if name not in ("torch", "bitsandbytes")}
    assert torch["torch"] == locked()["torch"]
    brought = [name for name in torch if re.match(r"cuda-|nvidia-|triton$", name)]
    assert len(brought) > 15
    assert set(torch) == {"torch", "setuptools", *brought}, "nothing that is in the other file, too"


def test_what_is_installed_is_what_is_locked() -> None:
    found = {name: version.partition("+")[0] for name, version, _ in installed()}
    assert len(found) > 80
    assert found == {name: version for name, version in locked().items() if name in found}


def test_every_dependency_is_under_a_known_licence() -> None:
    assert [(name, licence) for name, _, licence in installed() if not is_allowed(licence)] == []


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "AGPL", "MIT AND GPL-2.0", "", "Proprietary", "LGPL-2.1"])
def test_other_licences_are_told(licence: str) -> None:
    assert not is_allowed(licence)
