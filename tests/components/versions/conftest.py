"""A git repository of data, and DVC itself where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from components.storage import Store
from pipelines.embedded_store import EmbeddedStore

WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


class Repository:
    """A git repository; `dvc` runs DVC in it, which reaches the embedded store by the AWS variables."""

    def __init__(self, root: Path, server: EmbeddedStore, remote: str) -> None:
        self.root, self.remote = root, remote
        self.endpoint = server.environ["STORE_ENDPOINT_URL"]
        self._environ = {
            **os.environ,
            **WHO,
            "HOME": str(root.parent),
            "DVC_NO_ANALYTICS": "1",
            "AWS_ACCESS_KEY_ID": server.environ["STORE_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": server.environ["STORE_SECRET_ACCESS_KEY"],
            "AWS_DEFAULT_REGION": server.environ["STORE_REGION"],
        }
        root.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments], cwd=self.root, env=self._environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def dvc(self, *arguments: str) -> None:
        self.run(find_dvc(), *arguments)

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def commit(self, tag: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", tag)
        self.git("tag", "--force", tag)
        return self.git("rev-parse", "HEAD")

    def location(self, path: str, rev: str = "") -> str:
        return f"dvc+file://{self.root}?path={path}" + (f"&rev={rev}" if rev else "")


def find_dvc() -> str:
    """DVC's program: the variable DVC, else on the PATH."""
    found = os.environ.get("DVC") or shutil.which("dvc")
    if not found:
        pytest.skip("dvc is not installed: pip install 'dvc[s3]', and put it on the PATH or its path into DVC")
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, store: Store, embedded_store: EmbeddedStore) -> Repository:
    return Repository(tmp_path_factory.mktemp("git") / "inspection", embedded_store, f"{store.uri}/{uuid.uuid4().hex}")
