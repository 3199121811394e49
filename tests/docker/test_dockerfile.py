"""The Dockerfile as text: no daemon is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest

from components import images
from pipelines.container_images import build
from tests.components.test_boundaries import EXCEPTIONS
from tests.conftest import ROOT

DOCKERFILE = ROOT / "docker" / "Dockerfile"


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """pyproject.toml's own table."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    read: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return read


@pytest.fixture(scope="module")
def stages() -> dict[str, str]:
    """Stage → its text."""
    text = DOCKERFILE.read_text(encoding="utf-8")
    parts = re.split(r"^FROM \S+ AS (\w[\w-]*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def test_hadolint_finds_nothing() -> None:
    program = os.environ.get("HADOLINT") or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed: put it on the PATH or its path into the variable HADOLINT")
    done = subprocess.run([program, "--no-color", str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_each_step_has_a_stage_that_copies_its_own_folder_and_starts_it(stages: dict[str, str]) -> None:
    for step in images.STEPS:
        copied = set(re.findall(r"^COPY --from=sources /steps/(\w+) ", stages[step], flags=re.MULTILINE))
        assert copied == {step, *(other for other, _ in EXCEPTIONS.get(step, ()))}
        assert f'ENTRYPOINT ["python3", "-m", "components", "{step}"]' in stages[step]
        assert f"mv components/{images.STEPS[0]}" in stages["sources"]
        assert f"components/{step}" in stages["sources"], "else it would lie in every image"


def test_the_default_base_is_the_one_that_make_images_weighs_against() -> None:
    assert f"ARG BASE={build.BASE}\n" in DOCKERFILE.read_text(encoding="utf-8")


@pytest.mark.parametrize("extras", [["torch"], ["torch", "gpu"]], ids=" ".join)
def test_requirements_are_those_of_the_project(project: dict[str, Any], extras: list[str]) -> None:
    program = ROOT / "docker" / "requirements.py"
    made = subprocess.run([sys.executable, program, *extras], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = [
        *project["dependencies"],
        *(line for extra in extras for line in project["optional-dependencies"][extra]),
    ]
    assert made.stdout.splitlines() == expected
    assert any("bitsandbytes" in line for line in expected) == ("gpu" in extras)


def test_extras_beside_torch_are_installed_where_they_are_asked_for(stages: dict[str, str]) -> None:
    assert "ARG EXTRAS=\n" in stages["torch-packages"]
    assert "requirements.py torch $EXTRAS >torch.txt" in stages["torch-packages"]


def test_the_released_version_is_the_projects(project: dict[str, Any]) -> None:
    assert project["version"] == images.VERSION


def test_what_a_build_sees_is_an_allow_list() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert allowed == {
        "components",
        "pipelines",
        "docker/requirements.py",
        "docker/wheels",
        "pyproject.toml",
        "requirements.lock",
    }
