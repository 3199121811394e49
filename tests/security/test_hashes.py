"""`make … HASHES=1` with wheels of the tests' own, at torch's version: for CUDA, for CPUs, exchanged on the way."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.security.licences import locked

VERSION = locked()["torch"]


def write_wheel(folder: Path, version: str, content: str) -> str:
    """A wheel of a package named torch with `content`; its digest as pip wants it."""
    info = f"torch-{version}.dist-info"
    path = folder / f"torch-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("torch.py", content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"torch.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


class Project:
    """The project's Makefile with an environment of its own, and a page of links to wheels in the place of an index."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.wheels = folder, folder / "wheels"
        self.wheels.mkdir()
        self.cuda = write_wheel(self.wheels, VERSION, "CUDA")
        self.cpu = write_wheel(self.wheels, f"{VERSION}+cpu", "CPUs")
        links = {f"torch-{VERSION}": self.cuda, f"torch-{VERSION}%2Bcpu": self.cpu}
        page = "".join(f'<a href="{name}-py3-none-any.whl#{d.replace(":", "=")}">.</a>' for name, d in links.items())
        (self.wheels / "index.html").write_text(page)
        shutil.copy(ROOT / "Makefile", folder)
        (folder / "pyproject.toml").touch()
        (folder / "requirements.lock").write_text(f"torch=={VERSION}\n")
        (folder / "requirements.hashes").write_text("# nothing beside torch\n")
        (folder / "requirements.torch.hashes").write_text(f"torch=={VERSION} --hash={self.cuda}\n")

    def install(self, *settings: str) -> subprocess.CompletedProcess[str]:
        """What `make run` with these settings begins with, in an environment without torch."""
        for path in self.folder.glob(".venv/lib/python*/site-packages/torch*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in self.folder.glob(".venv/.hashed*"):
            path.unlink()
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE"))}
        index = (self.wheels / "index.html").as_uri()
        pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": index}
        digests = [s.partition("sha256:")[2] for s in settings if s.startswith("TORCH_HASH=")]
        return self.make("-".join([".venv/.hashed", *digests]), *settings, environ=plain | pip)

    def make(self, *words: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", f"PYTHON={sys.executable}", *words], cwd=self.folder, env=environ, capture_output=True, text=True
        )

    def installed(self) -> list[str]:
        """What the installed torch is for."""
        return [path.read_text() for path in self.folder.glob(".venv/lib/python*/site-packages/torch.py")]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    return Project(tmp_path_factory.mktemp("project"))


def test_the_package_indexs_torch_passes_without_a_word_of_it(project: Project) -> None:
    done = project.install("HASHES=1")
    assert done.returncode == 0, done.stderr
    assert project.installed() == ["CUDA"]


def test_another_indexs_torch_passes_by_its_own_digest(project: Project) -> None:
    done = project.install("HASHES=1", "TORCH_INDEX=unused", f"TORCH_HASH={project.cpu}")
    assert done.returncode == 0, done.stderr
    assert project.installed() == ["CPUs"]


def test_another_indexs_torch_without_a_digest_is_refused(project: Project) -> None:
    done = project.install("HASHES=1", "TORCH_INDEX=unused")
    assert done.returncode == 2
    assert "TORCH_HASH=sha256:" in done.stderr
    assert project.installed() == []


@pytest.mark.parametrize("which", ["cuda", "cpu"])
def test_a_wheel_that_was_exchanged_is_refused(project: Project, which: str) -> None:
    settings = [] if which == "cuda" else [f"TORCH_HASH={project.cpu}"]
    path = project.wheels / f"torch-{VERSION}{'' if which == 'cuda' else '+cpu'}-py3-none-any.whl"
    good = path.read_bytes()
    write_wheel(project.wheels, path.name.split("-")[1], "something else")
    try:
        done = project.install("HASHES=1", *settings)
    finally:
        path.write_bytes(good)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert project.installed() == []


def test_digests_that_changed_are_installed_by_before_pip_chooses(project: Project) -> None:
    assert project.install("HASHES=1").returncode == 0
    installed = project.folder / ".venv" / ".installed"
    installed.touch()
    assert "--require-hashes" not in project.make("-n", ".venv/.installed", "HASHES=1").stdout
    later = time.time() + 10
    os.utime(project.folder / "requirements.hashes", (later, later))
    try:
        assert "--require-hashes" in project.make("-n", ".venv/.installed", "HASHES=1").stdout
    finally:
        installed.unlink()


@pytest.mark.parametrize("settings", [["HASHES=1"], ["TORCH_HASH=sha256:" + 64 * "0"]], ids=["all", "another torch"])
def test_what_was_installed_without_is_not_said_to_be_by_digest(project: Project, settings: list[str]) -> None:
    assert project.install("HASHES=1").returncode == 0
    if settings == ["HASHES=1"]:
        (project.folder / ".venv" / ".hashed").unlink()
    installed = project.folder / ".venv" / ".installed"
    installed.touch()
    try:
        done = project.make(".venv/.installed", *settings)
    finally:
        installed.unlink()
    assert done.returncode == 2
    assert "make clean first" in done.stderr
