"""The embedded server: who may talk to it, what it keeps, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from components.errors import Unavailable, UserError
from components.storage import Store
from pipelines import embedded_store as module
from pipelines import free_ports
from pipelines.embedded_store import EmbeddedStore

pytestmark = pytest.mark.integration

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends children with their parent")


def at(server: EmbeddedStore) -> Store:
    return Store.from_env(server.uri, server.environ)


def status(url: str, data: bytes | None = None) -> int:
    try:
        with urllib.request.urlopen(url, data=data, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def all_listen(server: EmbeddedStore, seconds: float = 20.0) -> None:
    """Wait for the parts that come up after S3, which is all that the server's start waits for."""
    deadline = time.monotonic() + seconds
    for port in ports(server).values():
        for number in (port, port + 10_000):
            with socket.socket() as line:
                while line.connect_ex(("127.0.0.1", number)) and time.monotonic() < deadline:
                    time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def ports(server: EmbeddedStore) -> dict[str, int]:
    known: dict[str, int] = json.loads((server.folder / "ports.json").read_text())
    return known


def test_nobody_reads_or_writes_without_credentials(embedded_store: EmbeddedStore) -> None:
    at(embedded_store).put_bytes("private/k", b"secret")
    endpoint = embedded_store.environ["STORE_ENDPOINT_URL"]
    assert status(endpoint) == 403
    assert status(f"{endpoint}/defect-diffusion/private/k") == 403
    assert status(f"{endpoint}/defect-diffusion?list-type=2") == 403
    put = urllib.request.Request(f"{endpoint}/defect-diffusion/private/k", b"x", method="PUT")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(put, timeout=5)
    assert at(embedded_store).get_bytes("private/k") == b"secret"


def test_the_parts_behind_s3_want_a_token_and_show_no_pages(embedded_store: EmbeddedStore) -> None:
    at(embedded_store).put_bytes("private/k", b"secret")
    all_listen(embedded_store)
    port = ports(embedded_store)
    filer = f"http://127.0.0.1:{port['filer']}"
    assert status(f"{filer}/") == 401
    assert status(f"{filer}/buckets/defect-diffusion/private/k") == 401
    assert status(f"{filer}/buckets/defect-diffusion/evil", b"x") == 401
    assert status(f"http://127.0.0.1:{port['volume']}/1,01") == 401
    assert status(f"http://127.0.0.1:{port['admin']}/") == 404


def test_it_listens_on_loopback_only(embedded_store: EmbeddedStore) -> None:
    psutil = pytest.importorskip("psutil")
    all_listen(embedded_store)
    listening = [c.laddr for c in psutil.Process(embedded_store.pid).net_connections("inet") if c.status == "LISTEN"]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    expected = {number for port in ports(embedded_store).values() for number in (port, port + 10_000)}
    assert {address.port for address in listening} == expected


def test_what_it_keeps_is_the_owners_alone(embedded_store: EmbeddedStore) -> None:
    folder = embedded_store.folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "s3.json").stat().st_mode & 0o777 == 0o600
    assert embedded_store.environ["STORE_SECRET_ACCESS_KEY"] not in embedded_store.log.read_text()
    assert embedded_store.environ["STORE_SECRET_ACCESS_KEY"] not in repr(embedded_store)


@linux
def test_it_yields_the_processor_to_what_uses_it(embedded_store: EmbeddedStore) -> None:
    assert os.getpriority(os.PRIO_PROCESS, embedded_store.pid) > os.getpriority(os.PRIO_PROCESS, 0)
    ours, its = (_session_group(who) for who in ("self", embedded_store.pid))
    if its is None:  # though it leads a session
        assert ours is None
        pytest.skip("this kernel does not group processes by session")
    assert ours is None or its[0] != ours[0]
    assert its[1] > (ours[1] if ours else 0)


def _session_group(process: int | str) -> tuple[str, int] | None:
    """A process's group by session and its niceness; None where this kernel has none, or in the first session."""
    path = Path(f"/proc/{process}/autogroup")
    # "/autogroup-25 nice 0"; there and empty for what never left the session of the first process
    words = path.read_text().split() if path.exists() else []
    return (words[0], int(words[-1])) if words else None


def test_its_memory_is_known(embedded_store: EmbeddedStore) -> None:
    assert 30e6 < embedded_store.peak_bytes() < 1e9


def test_what_was_written_is_there_at_the_next_start(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "store") as first:
        at(first).put_bytes("a", b"1" * 100_000)
        generation = at(first).generation()
        pid, environ, sockets = first.pid, dict(first.environ), ports(first)
    assert not alive(pid)
    left = [p.name for p in Path("/tmp").glob("seaweedfs-*.sock")]
    assert not [name for name in left for port in sockets.values() if f"-{port}.sock" in name]
    for round_ in range(2):
        with EmbeddedStore(tmp_path / "store") as again:
            assert again.environ == environ
            assert at(again).get_bytes("a") == b"1" * 100_000
            assert at(again).generation() == generation
            at(again).put_bytes(f"b{round_}", b"2" * 100_000)
    with EmbeddedStore(tmp_path / "store") as last:
        assert [info.key for info in at(last).list()] == ["GENERATION", "a", "b0", "b1"]
        assert at(last).get_bytes("b0") == b"2" * 100_000


@linux
def test_a_killed_server_has_lost_nothing_at_the_next_start(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "store") as first:
        for number in range(30):
            at(first).put_bytes(f"k{number:02d}", bytes([number]) * 200_000)
        os.kill(first.pid, signal.SIGKILL)
        assert wait_until_gone(first.pid)
    with EmbeddedStore(tmp_path / "store") as again:
        for number in range(30):
            assert at(again).get_bytes(f"k{number:02d}") == bytes([number]) * 200_000


@linux
def test_a_killed_run_takes_its_server_along_and_the_next_one_starts(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from pipelines.embedded_store import EmbeddedStore\n"
        "from components.storage import Store\n"
        "with EmbeddedStore(Path(sys.argv[1])) as store:\n"
        "    Store.from_env(store.uri, store.environ).put_bytes('k', b'1')\n"
        "    print(store.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "store")], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        server = int(run.stdout.readline())
        assert alive(server)
        run.kill()
    assert wait_until_gone(server)
    with EmbeddedStore(tmp_path / "store") as again:
        assert at(again).get_bytes("k") == b"1"


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = EmbeddedStore(tmp_path / "store")
    thread = threading.Thread(target=server.__enter__)
    thread.start()
    thread.join()
    try:
        time.sleep(0.3)
        at(server).put_bytes("k", b"1")
    finally:
        server.__exit__(None, None, None)


def test_a_second_run_on_the_folder_is_told_who_has_it(embedded_store: EmbeddedStore) -> None:
    with pytest.raises(UserError) as caught:
        EmbeddedStore(embedded_store.folder).__enter__()
    message = str(caught.value)
    assert str(embedded_store.folder) in message
    assert f"process {os.getpid()}, its server {embedded_store.pid}" in message
    assert at(embedded_store).get_bytes("never/written") is None


def test_a_server_that_ends_at_its_start_shows_its_log(tmp_path: Path) -> None:
    (tmp_path / "store" / "data").mkdir(parents=True)
    (tmp_path / "store" / "data" / "filerldb2").write_text("not a folder")
    server = EmbeddedStore(tmp_path / "store")
    with pytest.raises(Unavailable, match="did not start; its log") as caught:
        server.__enter__()
    assert "filerldb2" in str(caught.value)
    (tmp_path / "store" / "data" / "filerldb2").unlink()
    with server:
        at(server).put_bytes("k", b"1")


def test_ports_that_others_have_taken_are_left_to_them(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "store") as first:
        at(first).put_bytes("k", b"1")
        before = ports(first)
    with socket.create_server(("127.0.0.1", before["s3"])), EmbeddedStore(tmp_path / "store") as again:
        assert ports(again)["s3"] != before["s3"]
        assert at(again).get_bytes("k") == b"1"


def test_a_port_taken_at_the_last_moment_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        names = free_ports.remembered(tmp_path / "ports.json", module._LISTENERS, 10_000)
        names["s3"] = taken.getsockname()[1]
        (tmp_path / "ports.json").write_text(json.dumps(names))
        monkeypatch.setattr(free_ports, "is_free", lambda port, offset: True)
        with EmbeddedStore(tmp_path) as server:
            assert ports(server)["s3"] != names["s3"]
            at(server).put_bytes("k", b"1")


def test_the_users_aws_keys_do_not_open_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-users-own")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-users-own-secret")
    with EmbeddedStore(tmp_path / "store") as server:
        keys = {"STORE_ACCESS_KEY_ID": "the-users-own", "STORE_SECRET_ACCESS_KEY": "the-users-own-secret"}
        with pytest.raises(UserError, match="refuses the credentials"):
            Store.from_env(server.uri, {**server.environ, **keys}).get_bytes("k")


def test_folders_that_cannot_hold_it_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"{tmp_path}/file/store: cannot hold the object store"):
        EmbeddedStore(tmp_path / "file" / "store").__enter__()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "s3.json").write_text("{}")
    with pytest.raises(UserError, match="s3.json: damaged; delete it"):
        EmbeddedStore(tmp_path / "store").__enter__()
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: _Disk(10**12, 9 * 10**9))
    with pytest.raises(UserError, match="only 9.0 GB of the disk's 1.0 TB are free"):
        EmbeddedStore(tmp_path / "other").__enter__()


class _Disk:
    def __init__(self, total: int, free: int) -> None:
        self.total, self.free = total, free


def test_without_the_program_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="weed, the embedded object store, is not installed"):
        EmbeddedStore(tmp_path / "store").__enter__()
    assert not (tmp_path / "store").exists()
