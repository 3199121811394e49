"""Telling a webhook, through the step's own entry point."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.__main__ import main
from components.errors import Unavailable
from components.notify.step import post


class Webhook(HTTPServer):
    """Takes messages; `statuses` are those of the next answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: list[dict[str, Any]] = []
        self.statuses: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/secret"


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 200:
            assert self.headers["Content-Type"] == "application/json"
            self.server.taken.append(body)
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with Webhook() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv("WEBHOOK_URL", server.url)
        yield server
        server.shutdown()


def told(folder: Path, state: str, page: str = "https://kfp/", only_failures: bool = True) -> int:
    """The step's exit status, called as KFP calls it."""
    given = {
        "status": {"state": state, "pipelineTaskName": "exit-handler-1", "error": {}},
        "run_id": "run-1", "run_name": "boards", "page": page, "only_failures": only_failures,
    }  # fmt: skip
    outputs = {"outputFile": str(folder / "output.json")}
    return main(["notify", json.dumps({"inputs": {"parameterValues": given}, "outputs": outputs})])


def test_a_run_that_failed_is_told_with_a_link(webhook: Webhook, tmp_path: Path) -> None:
    assert told(tmp_path, "FAILED") == 0
    text = "boards did not succeed (KFP says FAILED): https://kfp/#/runs/details/run-1"
    assert webhook.taken == [{"text": text}]
    assert told(tmp_path, "RUNNING", page="") == 0
    assert webhook.taken[1] == {"text": "boards did not succeed (KFP says RUNNING) (run-1)"}


def test_a_run_that_succeeded_is_told_where_that_is_wanted(webhook: Webhook, tmp_path: Path) -> None:
    assert told(tmp_path, "COMPLETE") == 0
    assert webhook.taken == []
    assert told(tmp_path, "COMPLETE", only_failures=False) == 0
    assert webhook.taken[0]["text"].startswith("boards succeeded: ")


def test_what_refuses_is_said_without_the_address(
    webhook: Webhook, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook.statuses = [404]
    assert told(tmp_path, "FAILED") == 2
    said = capsys.readouterr()
    assert "127.0.0.1 refuses the notification (status 404)" in said.err
    assert "secret" not in said.err + said.out
    monkeypatch.setenv("WEBHOOK_URL", "hooks.example.com/secret")
    assert told(tmp_path, "FAILED") == 2
    said = capsys.readouterr()
    assert "holds no http:// or https:// address" in said.err
    assert "hooks.example.com" not in said.err


def test_what_fails_is_asked_again_and_given_up(webhook: Webhook) -> None:
    slept: list[float] = []
    webhook.statuses = [503, 429]
    post(webhook.url, "the hook", {"text": "a"}, slept.append)
    assert webhook.taken == [{"text": "a"}]
    assert slept == [5.0, 10.0]
    webhook.statuses = [500] * 3
    with pytest.raises(Unavailable, match=r"the hook does not take the notification \(status 500, 3 tries\)"):
        post(webhook.url, "the hook", {"text": "a"}, slept.append)
