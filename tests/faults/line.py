"""A line to the object store that can be disturbed: a proxy that knows where requests and answers end.

It hands on bytes as they are (signatures cover the address), and does to the chosen exchanges what networks, load
balancers and disks do. Exchanges are counted, so that a moment can be chosen by a number.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Literal
from urllib.parse import urlsplit

Kind = Literal["stall", "reset", "lost answer", "busy", "page", "truncate", "flip answer", "flip request", "call"]


@dataclass(frozen=True)
class Exchange:
    """A request and its answer."""

    method: str
    target: str
    sent: int  #: bytes of the request's body
    received: int  #: bytes of the answer's body


@dataclass(frozen=True)
class Disturbance:
    """What happens to some exchanges, one after another, of those that it can happen to."""

    kind: Kind
    at: int  #: the first of them, counted from 0
    times: int = 1
    seconds: float = 0.0  #: of a stall
    status: int = 503  #: of a busy answer
    where: float = 0.5  #: place in the body, 0 to 1
    after: bytes = b""  #: what the body is cut off behind before the place is counted, for a flip
    bit: int = 0  #: number of the bit that is flipped

    def fits(self, method: str, sent: int) -> bool:
        """Whether it can happen to a request of this method with a body of so many bytes."""
        if self.kind == "flip request":
            return method == "PUT" and sent > 0
        if self.kind in ("truncate", "flip answer"):
            return method == "GET"
        return True


class Line:
    """A port of this machine that leads to `endpoint`."""

    def __init__(self, endpoint: str) -> None:
        address = urlsplit(endpoint)
        self._target = (address.hostname or "", address.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._address = self._listener.getsockname()
        self.url = "http://{}:{}".format(*self._address)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False
        self._accepting()
        self.exchanges: list[Exchange] = []
        self.struck = 0  #: exchanges that were disturbed
        self._disturbance: Disturbance | None = None
        self._call: Callable[[], None] = lambda: None
        self._fitting = 0

    def disturb(self, disturbance: Disturbance | None, call: Callable[[], None] = lambda: None) -> None:
        """From now on, count anew and do this; `call` is what the kind of that name does before the exchange."""
        with self._lock:
            self._disturbance, self._call = disturbance, call
            self._fitting = self.struck = 0
            self.exchanges = []

    def refuse(self, seconds: float) -> None:
        """Break off every connection and refuse new ones for a while."""
        self._stop_listening()
        self._break_off()

        def again() -> None:
            time.sleep(seconds)
            with self._lock:
                if not self._closed:
                    self._listener = socket.create_server(self._address, backlog=64)
                    self._accepting()

        threading.Thread(target=again, daemon=True).start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._stop_listening()
        self._break_off()

    def _accepting(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _stop_listening(self) -> None:
        # Closing alone leaves the port open while a thread waits in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _break_off(self) -> None:
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with self._lock:
            self._open.add(near)
        try:
            with near, socket.create_connection(self._target) as far:
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with near.makefile("rb") as requests, far.makefile("rb") as answers:
                    while self._exchange(near, far, requests, answers):
                        pass
        except (OSError, EOFError, ValueError):
            # Either side has gone: so does the other.
            return
        finally:
            with self._lock:
                self._open.discard(near)

    def _exchange(self, near: socket.socket, far: socket.socket, requests: BinaryIO, answers: BinaryIO) -> bool:
        """Hand on one request and its answer; False where the connection is to end."""
        head = _head(requests)
        if not head:
            return False
        method, target = head.split(b" ", 2)[:2]
        body = requests.read(_length(head) or 0)
        what = self._due(method.decode(), len(body))
        if what is not None and not self._before(what, near):
            return False
        if what is not None and what.kind == "flip request":
            body = _flipped(body, what)
        far.sendall(head + body)
        status = _head(answers)
        if not status:
            return False
        answer = _body(answers, status, method)
        with self._lock:
            self.exchanges.append(Exchange(method.decode(), target.decode(), len(body), len(answer)))
        if what is not None and what.kind == "lost answer":
            _reset(near)
            return False
        if what is not None and what.kind == "flip answer":
            answer = _flipped(answer, what)
        if what is not None and what.kind == "truncate":
            near.sendall(status + answer[: int(len(answer) * what.where)])
            return False
        near.sendall(status + answer)
        return b"connection: close" not in status.lower()

    def _due(self, method: str, sent: int) -> Disturbance | None:
        with self._lock:
            what = self._disturbance
            if what is None or not what.fits(method, sent):
                return None
            number, self._fitting = self._fitting, self._fitting + 1
            if not what.at <= number < what.at + what.times:
                return None
            self.struck += 1
            return what

    def _before(self, what: Disturbance, near: socket.socket) -> bool:
        """What happens before the request is handed on; False where it is not."""
        if what.kind == "call":
            self._call()
        elif what.kind == "stall":
            time.sleep(what.seconds)
        elif what.kind == "reset":
            _reset(near)
            return False
        elif what.kind in ("busy", "page"):
            near.sendall(_answer(what.status if what.kind == "busy" else 200))
            return False
        return True


def _head(reader: BinaryIO) -> bytes:
    """Everything up to the empty line; nothing where the other side has ended."""
    lines = []
    while (line := reader.readline()) not in (b"", b"\r\n"):
        lines.append(line)
    return b"".join([*lines, b"\r\n"]) if lines else b""


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return None


def _length(head: bytes) -> int | None:
    value = _header(head, b"content-length")
    return None if value is None else int(value)


def _body(reader: BinaryIO, head: bytes, method: bytes) -> bytes:
    """An answer's body as it is on the line, chunks and all."""
    status = int(head.split(b" ", 2)[1])
    if method == b"HEAD" or status in (204, 304):
        return b""
    length = _length(head)
    if length is not None:
        return reader.read(length)
    if (_header(head, b"transfer-encoding") or b"").lower() != b"chunked":
        return reader.read()
    parts = []
    while True:
        size = reader.readline()
        chunk = reader.read(int(size.split(b";")[0], 16) + 2)
        parts += [size, chunk]
        if len(chunk) == 2:
            return b"".join(parts)


def _flipped(body: bytes, how: Disturbance) -> bytes:
    found = body.find(how.after)
    assert found >= 0, f"{how.after!r} is not in the body that was to be damaged behind it"
    start = found + len(how.after)
    if start >= len(body):
        return body
    place = min(start + int((len(body) - start) * how.where), len(body) - 1)
    return body[:place] + bytes([body[place] ^ (1 << how.bit)]) + body[place + 1 :]


def _answer(status: int) -> bytes:
    """A store's that is busy; with 500 and 200 a page, which is what stands in front of it, or in its place, says."""
    body, kind = (
        b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>later</Message></Error>",
        b"application/xml",
    )
    if status in (200, 500):
        body, kind = b"<html><body>hello</html>", b"text/html"
    head = b"HTTP/1.1 %d Said\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, kind, len(body)) + body


def _reset(near: socket.socket) -> None:
    """End a connection with RST instead of FIN."""
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    near.shutdown(socket.SHUT_RD)
    near.close()
