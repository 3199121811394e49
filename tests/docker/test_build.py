"""What `make images` asks Docker for, with a program of that name that notes it. No daemon is needed."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from components import images
from pipelines.container_images import build

PROGRAM = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done >>"$NOTES"
echo --- >>"$NOTES"
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    return tmp_path / "notes"


def asked(notes: Path) -> list[dict[str, str]]:
    """Build argument → value, of each build."""
    calls = [call.split("\n")[:-1] for call in notes.read_text().split("---\n")[:-1]]
    builds = [call for call in calls if call[0] == "build"]
    values = [[value for word, value in itertools.pairwise(call) if word == "--build-arg"] for call in builds]
    return [dict(value.split("=", 1) for value in given) for given in values]


@pytest.mark.parametrize(
    ("gpu", "index", "expected"),
    [
        (False, None, {}),
        (True, None, {"EXTRAS": "gpu", "TORCH_INDEX": ""}),
        (True, "https://example.com/cu130", {"EXTRAS": "gpu", "TORCH_INDEX": "https://example.com/cu130"}),
        (False, "", {"TORCH_INDEX": ""}),
    ],
    ids=["as they are", "for GPUs", "for GPUs from an index", "another torch alone"],
)
def test_images_for_gpus_get_their_extra_and_their_torch(
    notes: Path, gpu: bool, index: str | None, expected: dict[str, str]
) -> None:
    build.build("test", build.BASE, index, None, [], gpu=gpu)
    found = asked(notes)
    assert len(found) == len(images.STEPS) + 1
    for arguments in found:
        assert {name: value for name, value in arguments.items() if name in ("EXTRAS", "TORCH_INDEX")} == expected
