"""The kind overlay's job, its script run against SeaweedFS started as KFP starts it."""

from __future__ import annotations

import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.errors import UserError
from components.storage import Store
from pipelines import free_ports, tied_process
from tests.k8s.conftest import K8S

pytestmark = pytest.mark.integration

_GRPC = 10_000


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server without buckets and users; the variables that the job's container would have."""
    folder = tmp_path_factory.mktemp("seaweed")
    ports = free_ports.remembered(folder / "ports.json", ("master", "volume", "filer", "s3"), _GRPC)
    flags = [f"-{name}.port={port}" for name, port in ports.items()]
    flags += [f"-{name}.port.grpc={port + _GRPC}" for name, port in ports.items()]
    scripts = sysconfig.get_path("scripts")
    path = scripts + os.pathsep + os.environ["PATH"]
    with (folder / "weed.log").open("wb") as log:
        server = tied_process.start(
            [f"{scripts}/weed", "-logtostderr=true", "server", f"-dir={folder}", "-s3", "-iam", "-filer", *flags]
            + ["-master.volumePreallocate=false", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"],
            env={"PATH": path, "HOME": str(folder)},
            stdout=log,
            stderr=log,
        )
    try:
        _wait(ports["s3"])
        yield {
            "PATH": path,
            "HOME": str(folder),
            "BUCKET": "defect-diffusion",
            "MASTER": f"127.0.0.1:{ports['master']}",
            "FILER": f"127.0.0.1:{ports['filer']}",
            "STORE_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
            "STORE_ACCESS_KEY_ID": "our-key",
            "STORE_SECRET_ACCESS_KEY": "our-secret",
        }
    finally:
        server.kill()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("SeaweedFS did not start")


def run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    script = K8S / "overlays" / "kind" / "bucket.sh"
    return subprocess.run(["sh", str(script)], env=environment, capture_output=True, text=True, timeout=120)


def test_it_makes_a_bucket_and_a_user_of_that_bucket_alone(seaweed: dict[str, str], tmp_path: Path) -> None:
    for _ in range(2):  # run again, it changes nothing
        done = run(seaweed)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "our-secret" not in done.stdout + done.stderr
    subprocess.run(
        ["weed", "shell", f"-master={seaweed['MASTER']}", f"-filer={seaweed['FILER']}"],
        input="s3.bucket.create -name other\n",
        text=True,
        env=seaweed,
        capture_output=True,
        check=True,
    )
    (tmp_path / "file").write_text("content")
    own = Store.from_env("s3://defect-diffusion/tree", seaweed)
    own.put_tree(tmp_path)
    own.get_tree(tmp_path / "back")
    assert (tmp_path / "back" / "file").read_text() == "content"
    own.delete_tree()
    with pytest.raises(UserError, match="denies access"):
        Store.from_env("s3://other", seaweed).put_bytes("key", b"content")
