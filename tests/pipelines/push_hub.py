"""A hub of the tests' own: what `models push` needs of the Hugging Face hub's interface, holding what it is sent.

Git LFS's batch interface and the hub's commits, checked as the hub does: digests of uploads, and no commit of a large
file that was not uploaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Files from this size on are sent by Git LFS, as are weights of any.
_LARGE = 1 << 20


@dataclass
class Hub:
    """What the server knows."""

    token: str
    owners: tuple[str, ...]  #: those in whose name the token may write
    uri: str = ""
    failing: int = 0  #: status that every request gets instead of an answer
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)  #: name → path → content
    private: set[str] = field(default_factory=set)
    commits: list[tuple[str, str]] = field(default_factory=list)  #: repository and message
    uploads: dict[str, bytes] = field(default_factory=dict)  #: by SHA-256

    def answer(self, path: str, headers: Any, body: bytes) -> tuple[int, Any]:
        """Status and JSON for a POST."""
        if self.failing:
            return self.failing, {"error": "try again later"}
        if headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {"error": "Invalid credentials in Authorization header"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        parts = path.removeprefix("/api/models/").strip("/").split("/")
        name = "/".join(parts[:2]).removesuffix(".git")
        if name not in self.repositories:
            return 404, {"error": "Repository not found"}
        action = parts[-1] if parts[-1] == "batch" else parts[2]
        return getattr(self, f"_{action}")(name, body)

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        if name.partition("/")[0] not in self.owners:
            return 403, {"error": "You don't have the rights to create a model under this namespace"}
        if name in self.repositories:
            return 409, {"error": "You already created this model repo", "url": f"{self.uri}/{name}"}
        self.repositories[name] = {}
        if asked.get("private") or asked.get("visibility") == "private":
            self.private.add(name)
        return 200, {"url": f"{self.uri}/{name}", "name": name}

    def _preupload(self, name: str, body: bytes) -> tuple[int, Any]:
        def large(file: dict[str, Any]) -> bool:
            return bool(file["size"] >= _LARGE or file["path"].endswith((".safetensors", ".ckpt")))

        files = [
            {"path": f["path"], "uploadMode": "lfs" if large(f) else "regular", "shouldIgnore": False, "oid": None}
            for f in json.loads(body)["files"]
        ]
        return 200, {"files": files}

    def _batch(self, name: str, body: bytes) -> tuple[int, Any]:
        objects = [
            {**asked, "actions": {"upload": {"href": f"{self.uri}/upload/{asked['oid']}"}}}
            for asked in json.loads(body)["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}

    def _commit(self, name: str, body: bytes) -> tuple[int, Any]:
        files, message = dict(self.repositories[name]), ""
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                content = self.uploads.get(value["oid"])
                if content is None or len(content) != value["size"]:
                    return 400, {"error": f"{value['path']} was not uploaded"}
                files[value["path"]] = content
        self.repositories[name] = files
        self.commits.append((name, message))
        oid = hashlib.sha1(body).hexdigest()
        return 200, {"success": True, "commitOid": oid, "commitUrl": f"{self.uri}/{name}/commit/{oid}"}


@contextmanager
def running(token: str, *owners: str) -> Iterator[Hub]:
    """The server on a free port of this machine."""
    hub = Hub(token, owners)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, said = hub.answer(self.path.partition("?")[0], self.headers, self._body())
            data = json.dumps(said).encode()
            self.send_response(status)
            if "error" in said:
                self.send_header("X-Error-Message", said["error"])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_PUT(self) -> None:
            content, wanted = self._body(), self.path.rpartition("/")[2]
            good = hashlib.sha256(content).hexdigest() == wanted
            if good:
                hub.uploads[wanted] = content
            self.send_response(200 if good else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.uri = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
