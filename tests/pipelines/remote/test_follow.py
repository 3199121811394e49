"""Runs that are followed: their logs, and servers that do not answer for a while."""

from __future__ import annotations

import re
from typing import Any

import pytest

from components.errors import Unavailable, UserError
from pipelines.__main__ import main
from pipelines.remote import command, follow, logs, runs
from pipelines.remote.server import Server
from tests.pipelines.remote import argo, kfp_server
from tests.pipelines.remote.actions import Time, started, submit
from tests.pipelines.remote.kfp_server import KfpServer

pytestmark = pytest.mark.usefixtures("quick")


def test_a_run_that_fails_has_a_status_of_its_own_and_shows_why(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = argo.scene("FAILED", snapshot="SUCCEEDED", crop="FAILED")
    kfp.scenes = [argo.scene("RUNNING", snapshot="SUCCEEDED", crop="RUNNING"), failed]
    kfp.logs[argo.pod("crop")] = "12:00:01  reading\nerror: no images\n"
    assert submit(kfp) == 3
    said = capsys.readouterr().out
    assert "        crop | error: no images" in said
    assert said.count("reading") == 1
    assert "state      failed" in said
    assert re.search(r"train +not reached", said)
    kfp.scenes = [failed]
    assert submit(kfp, "--no-logs") == 3
    assert "        crop | error: no images" in capsys.readouterr().out
    assert main(["status", "--host", kfp.url]) == 3


@pytest.mark.parametrize("stock", [True, False], ids=["every node is tried", "executors alone"])
def test_logs_are_followed_line_by_line_and_over_tries(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str], stock: bool
) -> None:
    first, second = (argo.pod("train", number, stock) for number in (0, 1))

    def write(pod: str, text: str, then: argo.Scene) -> argo.Scene:
        def play(run: dict[str, Any]) -> None:
            kfp.logs[pod] = text
            then(run)

        return play

    def runs_on(tries: int) -> argo.Scene:
        states = {"snapshot": "SUCCEEDED", "crop": "SUCCEEDED", "train": "RUNNING"}
        return argo.look("RUNNING", states, stock=stock, tries={"train": tries})

    ended = argo.look(
        "SUCCEEDED", dict.fromkeys(("snapshot", "crop", "train"), "SUCCEEDED"), stock=stock, tries={"train": 2}
    )
    kfp.scenes = [
        runs_on(0),
        runs_on(1),
        write(first, "step 1\nste", runs_on(1)),
        write(first, "step 1\nstep 2\nkilled", runs_on(1)),
        runs_on(2),
        write(second, "step 2\n", runs_on(2)),
        write(second, "step 2\nstep 3", ended),
    ]
    assert submit(kfp) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("       train |")]
    assert [line.rpartition("| ")[2] for line in said] == ["step 1", "step 2", "killed", "step 2", "step 3"]


def test_what_a_lost_node_wrote_does_not_hide_the_next_try(
    kfp: KfpServer, server: Server, compiled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = started(kfp, server, compiled)
    kfp.logs[argo.pod("train", 1)] = "step 2\n"
    kfp.scenes = [argo.look("RUNNING", {"train": "RUNNING"}, tries={"train": 2})]
    kfp.scenes.append(argo.look("SUCCEEDED", {"train": "SUCCEEDED"}, tries={"train": 2}))
    assert follow.follow(server, run_id, 600, 900, show_logs=True, clock=Time()).state == "SUCCEEDED"
    assert capsys.readouterr().out.count("       train | step 2") == 1
    run = server.runs.run_service_get_run(run_id)
    train = next(step for step in runs.steps(run) if step.name == "train")
    assert logs.whole(server, run, train, logs.of_version(server, run)) == "step 2\n"


def test_polling_goes_on_through_what_passes(
    kfp: KfpServer, server: Server, compiled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = started(kfp, server, compiled)
    kfp.scenes = [argo.scene("RUNNING", snapshot="RUNNING"), argo.done()]
    proxy = kfp_server.answers(503, "<html>", "text/html")
    kfp.faults = [kfp_server.fine, kfp_server.drop, kfp_server.dies_after, proxy, kfp_server.answers(500)]
    assert follow.follow(server, run_id, 600, 900, show_logs=False, clock=Time()).state == "SUCCEEDED"
    assert capsys.readouterr().out.count("asking again in") == 4


def test_a_log_that_cannot_be_had_now_is_had_later(
    kfp: KfpServer, server: Server, compiled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = started(kfp, server, compiled)
    kfp.logs[argo.pod("snapshot")] = "looked\n"
    kfp.scenes = [argo.scene("RUNNING", snapshot="RUNNING")] * 3 + [argo.done()]
    # The run, its version, the log; the run, the version; the run, the version, the log, …
    lost = [kfp_server.fine, kfp_server.drop, kfp_server.fine, kfp_server.fine, kfp_server.drop]
    kfp.faults = lost
    assert follow.follow(server, run_id, 600, 900, show_logs=True, clock=Time()).state == "SUCCEEDED"
    assert capsys.readouterr().out.count("    snapshot | looked") == 1
    assert kfp.faults == []


def test_polling_ends_when_nobody_answers_for_too_long(kfp: KfpServer, server: Server, compiled: str) -> None:
    run_id = started(kfp, server, compiled)
    kfp.faults = [kfp_server.drop] * 1000
    clock = Time()
    with pytest.raises(Unavailable, match=r"does not answer at .*; given up after 4 min"):
        follow.follow(server, run_id, 300, 900, show_logs=False, clock=clock)
    assert 240 < clock.at <= 300


def test_a_login_that_ends_while_following_is_not_asked_again(kfp: KfpServer, server: Server, compiled: str) -> None:
    run_id = started(kfp, server, compiled)
    kfp.scenes = [argo.scene("RUNNING")]
    kfp.faults = [kfp_server.fine, kfp_server.answers(401)]
    with pytest.raises(UserError, match="asks for a login"):
        follow.follow(server, run_id, 600, 900, show_logs=False, clock=Time())


def test_interrupted_the_run_goes_on(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "follow", interrupt)
    assert submit(kfp) == 130
    (run,) = kfp.runs.values()
    assert f"the run goes on: status --follow {run['run_id']}" in capsys.readouterr().out
    assert run["state"] == "PENDING"
