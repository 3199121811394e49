"""A place of its own for each test, and a faulty line to the store."""

from __future__ import annotations

import contextlib
import socket
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

from components.storage import Store
from pipelines.embedded_store import EmbeddedStore

BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nContent-Length: 82\r\n"
    b"Connection: close\r\n\r\n<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>later</Message></Error>  "
)
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html></html>"


class Line:
    """A TCP line to the store that fails its first connections, each in the way that `fault` says."""

    def __init__(self, target: tuple[str, int], fault: str, times: int) -> None:
        self._target, self._fault, self.left = target, fault, times
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://{}:{}".format(*self._listener.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        faulty, self.left = self.left > 0, self.left - 1
        with near:
            if faulty and self._fault == "drop":
                return
            if faulty and self._fault in ("busy", "page"):
                near.recv(65536)
                near.sendall(BUSY if self._fault == "busy" else PAGE)
                return
            with socket.create_connection(self._target) as far:
                threading.Thread(target=_pump, args=(near, far, 1 << 60), daemon=True).start()
                _pump(far, near, 150_000 if faulty else 1 << 60)

    def close(self) -> None:
        self._listener.close()


def _pump(source: socket.socket, sink: socket.socket, most: int) -> None:
    """Hand bytes on until either end closes or `most` have gone through."""
    with contextlib.suppress(OSError):
        while most > 0 and (data := source.recv(min(65536, most))):
            sink.sendall(data)
            most -= len(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def place(store: Store) -> Store:
    """An empty prefix."""
    return store.at("test", uuid.uuid4().hex)


@pytest.fixture
def over(embedded_store: EmbeddedStore, place: Store) -> Iterator[Callable[[str, int], Store]]:
    """``over(fault, times)``: `place`, reached over a line that fails that often first."""
    lines: list[Line] = []

    def make(fault: str, times: int) -> Store:
        host, _, port = embedded_store.environ["STORE_ENDPOINT_URL"].removeprefix("http://").partition(":")
        lines.append(Line((host, int(port)), fault, times))
        return Store.from_env(place.uri, {**embedded_store.environ, "STORE_ENDPOINT_URL": lines[-1].url})

    yield make
    for line in lines:
        line.close()
