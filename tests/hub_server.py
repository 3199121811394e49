"""A stand-in for the Hugging Face hub: the part of its interface that resolving and fetching a repository uses."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_tests"


@dataclass
class HubServer:
    """One repository, `name`, whose files are those of `folder`; branch ``main`` and tag ``v1.0`` are `commit`."""

    name: str
    folder: Path
    commit: str = COMMIT
    gated: bool = False  #: files go to who sends `TOKEN` only
    broken: bool = False  #: every answer is status 503
    portal: bool = False  #: every answer is a page, as where a network wants to be logged into
    endpoint: str = ""
    requests: list[str] = field(default_factory=list)  #: method and path of each, in the order of their arrival

    def files(self) -> dict[str, Path]:
        return {p.relative_to(self.folder).as_posix(): p for p in sorted(self.folder.rglob("*")) if p.is_file()}

    def answer(self, path: str, token: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content for a path."""
        if self.broken:
            return 503, {}, b"{}"
        if self.portal:
            return 200, {"Content-Type": "text/html"}, b"<html>Welcome</html>"
        if not path.removeprefix("api/models/").startswith(f"{self.name}/"):
            return 401, {"X-Error-Code": "RepoNotFound"}, b"{}"
        kind, _, rest = path.removeprefix("api/models/").removeprefix(f"{self.name}/").partition("/")
        revision, _, file = rest.partition("/")
        if revision not in ("main", "v1.0", self.commit):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        if kind == "revision":
            listed = [{"rfilename": name} for name in self.files()]
            gated = "auto" if self.gated else False
            return (
                200,
                {},
                json.dumps({"id": self.name, "sha": self.commit, "gated": gated, "siblings": listed}).encode(),
            )
        if kind == "tree":
            return 200, {}, json.dumps([self._entry(name, p) for name, p in self.files().items()]).encode()
        if self.gated and token != f"Bearer {TOKEN}":
            return 401, {"X-Error-Code": "GatedRepo"}, b"{}"
        if file not in self.files():
            return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
        content = self.files()[file].read_bytes()
        return 200, {"X-Repo-Commit": self.commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}, content

    def _entry(self, name: str, path: Path) -> dict[str, object]:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return {"type": "file", "path": name, "size": path.stat().st_size, "oid": digest[:40]}


@contextmanager
def served(server: HubServer) -> Iterator[HubServer]:
    """Answer at `server.endpoint`, on the loopback interface, while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.requests.append(f"{self.command} {self.path}")
            path = unquote(urlsplit(self.path).path).lstrip("/")
            status, headers, content = server.answer(path, self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Silent: `requests` says it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server.endpoint = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
