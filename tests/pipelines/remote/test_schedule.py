"""Schedules: never two that are enabled, wherever a replacement ends, and one in the end."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import Unavailable
from pipelines.__main__ import main
from pipelines.remote import runs, schedule, versions
from pipelines.remote.server import Server
from tests.pipelines.remote import kfp_server
from tests.pipelines.remote.conftest import SETTINGS
from tests.pipelines.remote.kfp_server import KfpServer

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def wanted(server: Server, compiled: str) -> schedule.Wanted:
    version = versions.upload(server, compiled)
    experiment = runs.experiment(server, "defect-diffusion")
    return schedule.Wanted("boards", "0 0 6 * * 1", experiment, version, {"dataset": "s3://b/1"}, "account")


def command(kfp: KfpServer, action: str, *flags: str) -> int:
    return main(["schedule", action, "--host", kfp.url, *flags])


def create(kfp: KfpServer, cron: str, *flags: str) -> int:
    return command(kfp, "create", "--profile", "kind", *SETTINGS, "--cron", cron, *flags)


def test_a_schedule_is_made_shown_paused_resumed_and_deleted(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create(kfp, "0 6 * * 7") == 0
    said = capsys.readouterr().out
    assert "note       '0 6 * * 7' has five fields; KFP reads six, the first of them seconds: '0 0 6 * * 0'" in said
    assert "schedule   boards: 0 0 6 * * 0 (enabled)" in said
    assert "UTC, unless the operator gave KFP's controller another time zone" in said
    ((name, made),) = kfp.recurring.items()
    assert kfp.enabled() == [name]
    assert made["no_catchup"] is True
    assert made["max_concurrency"] == "1"
    assert made["service_account"] == "defect-diffusion"
    assert made["runtime_config"]["parameters"]["dataset"] == "s3://bucket/datasets/boards"
    assert f"/#/recurringrun/details/{name}" in said

    assert command(kfp, "show") == 0
    assert "boards    0 0 6 * * 0  enabled  s3://bucket/datasets/boards" in capsys.readouterr().out
    assert command(kfp, "pause", "boards") == 0
    assert kfp.enabled() == []
    assert command(kfp, "show", "boards") == 0
    assert "paused" in capsys.readouterr().out
    assert command(kfp, "resume", "boards") == 0
    assert kfp.enabled() == [name]
    assert command(kfp, "delete", "boards") == 0
    assert kfp.recurring == {}
    assert command(kfp, "delete", "boards") == 2
    assert "boards: no schedule of this name" in capsys.readouterr().err
    assert command(kfp, "show") == 0
    assert "no schedule in the experiment defect-diffusion" in capsys.readouterr().out


def test_the_same_again_changes_nothing_and_anything_else_replaces(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create(kfp, "0 0 6 * * 1") == 0
    before = list(kfp.recurring)
    assert create(kfp, "0 0 6 * * 1") == 0
    assert "(unchanged)" in capsys.readouterr().out
    assert list(kfp.recurring) == before
    for flags in (["0 0 7 * * 1"], ["0 0 7 * * 1", "--set=train.seed=3"], ["0 0 7 * * 1", "--service-account", "x"]):
        assert create(kfp, *flags) == 0
        assert len(kfp.recurring) == 1
        assert list(kfp.recurring) != before
        before = list(kfp.recurring)
    assert create(kfp, "0 0 7 * * 1", "--schedule", "another") == 0
    assert len(kfp.recurring) == 2, "a schedule of another name stays"


def test_a_wrong_time_is_refused_before_anything_is_sent(kfp: KfpServer) -> None:
    assert create(kfp, "0 25 * * 1") == 2
    assert kfp.requests == []


def foreign(kfp: KfpServer, name: str, pipeline: str | None = "theirs") -> dict[str, Any]:
    """A schedule of somebody else's pipeline, as KFP keeps it; its id is in it."""
    made = datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc).isoformat()
    reference = {"pipeline_id": pipeline, "pipeline_version_id": "theirs-1"}
    one = {
        "recurring_run_id": f"foreign-{len(kfp.recurring)}", "display_name": name, "experiment_id": "theirs",
        "mode": "ENABLE", "status": "ENABLED", "created_at": made, "max_concurrency": "1", "no_catchup": False,
        "trigger": {"cron_schedule": {"cron": "0 0 1 * * *"}}, "service_account": "pipeline-runner",
        **({"pipeline_version_reference": reference} if pipeline else {"pipeline_spec": {}}),
    }  # fmt: skip
    kfp.recurring[str(one["recurring_run_id"])] = one
    return one


@pytest.mark.parametrize("pipeline", ["theirs", None], ids=["a pipeline", "a bare specification"])
@pytest.mark.parametrize("action", ["create", "show", "pause", "resume", "delete"])
def test_a_schedule_of_another_pipeline_is_left_alone_whatever_its_name(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str], action: str, pipeline: str | None
) -> None:
    one = foreign(kfp, "boards", pipeline)
    before = json.dumps(one)
    status = create(kfp, "0 0 6 * * 1") if action == "create" else command(kfp, action, "boards")
    assert status == 2
    said = capsys.readouterr().err
    assert f"boards: is the schedule of another pipeline here ({pipeline or 'one without a name'})" in said
    assert [json.dumps(found) for found in kfp.recurring.values()] == [before]


@pytest.mark.parametrize("action", ["create", "pause", "resume", "delete"])
def test_of_two_schedules_of_a_name_ours_is_meant(kfp: KfpServer, action: str) -> None:
    assert create(kfp, "0 0 6 * * 1") == 0
    (ours,) = kfp.recurring
    one = foreign(kfp, "boards")
    theirs, before = one["recurring_run_id"], json.dumps(one)
    status = create(kfp, "0 0 7 * * 1") if action == "create" else command(kfp, action, "boards")
    assert status == 0
    assert json.dumps(kfp.recurring[theirs]) == before
    others = {name: found["status"] for name, found in kfp.recurring.items() if name != theirs}
    if action == "create":
        assert list(others.values()) == ["ENABLED"]
        assert ours not in others
    else:
        assert others == {"pause": {ours: "DISABLED"}, "resume": {ours: "ENABLED"}, "delete": {}}[action]


@pytest.mark.parametrize("fault", [kfp_server.drop, kfp_server.dies_after], ids=["not served", "answer lost"])
def test_ended_at_any_point_there_are_never_two_and_again_there_is_one(
    kfp: KfpServer, server: Server, wanted: schedule.Wanted, fault: Callable
) -> None:
    most = 0

    def watch() -> None:
        nonlocal most
        most = max(most, len(kfp.enabled()))

    kfp.watchers.append(watch)
    length = 0
    for ends_at in range(100):
        kfp.recurring.clear()
        schedule.put(server, wanted)
        changed = dataclasses.replace(wanted, cron=f"0 0 7 * * {ends_at % 7}", parameters={"dataset": "s3://b/2"})
        before = len(kfp.requests)
        kfp.faults = [kfp_server.fine] * ends_at + [fault]
        try:
            schedule.put(server, changed)
        except Unavailable:
            kfp.faults = []
            assert len(kfp.enabled()) <= 1
        else:
            length = len(kfp.requests) - before
            break
        schedule.put(server, changed)
        (name,) = kfp.recurring
        assert kfp.enabled() == [name]
        assert kfp.recurring[name]["trigger"]["cron_schedule"]["cron"] == changed.cron
    assert ends_at == length == 6, "every request of a replacement was the last one once"
    assert most == 1


def test_what_a_crash_left_is_cleared_by_resume_and_delete(
    kfp: KfpServer, server: Server, wanted: schedule.Wanted
) -> None:
    schedule.put(server, wanted)
    kfp.faults = [kfp_server.fine] * 4 + [kfp_server.drop]
    with pytest.raises(Unavailable):
        schedule.put(server, dataclasses.replace(wanted, cron="0 0 7 * * 1"))
    assert len(kfp.recurring) == 2
    newest = list(kfp.recurring)[-1]
    assert schedule.resume(server, "boards").recurring_run_id == newest
    assert list(kfp.recurring) == kfp.enabled() == [newest]


def test_runs_of_a_schedule_that_is_replaced_go_on(kfp: KfpServer, server: Server, wanted: schedule.Wanted) -> None:
    """KFP's default deletes them with the schedule, by Kubernetes' owner references."""
    asked: list[str] = []

    def look(handler: kfp_server._Handler) -> bool:
        asked.append(f"{handler.command} {handler.path}")
        return False

    schedule.put(server, wanted)
    kfp.faults = [look] * 20
    schedule.put(server, dataclasses.replace(wanted, cron="0 0 7 * * 1"))
    (deleted,) = [one for one in asked if one.startswith("DELETE")]
    assert deleted.endswith("?propagation_policy=ORPHAN")


def test_the_controllers_time_zone_is_looked_up_where_kubectl_may(
    kfp: KfpServer, kubectl: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "map.json").write_text(json.dumps({"data": {"cronScheduleTimezone": "Europe/Berlin"}}))
    kubectl(
        f'case "$*" in *port-forward*) echo "Forwarding from 127.0.0.1:{kfp.port} -> 8888"; exec sleep 600;;\n'
        f"*configmap*) cat {tmp_path}/map.json;; esac"
    )
    flags = ["--profile", "kind", *SETTINGS, "--cron", "0 0 6 * * 1", "--port-forward"]
    assert main(["schedule", "create", *flags]) == 0
    assert "times      Europe/Berlin, the time zone of KFP's controller" in capsys.readouterr().out


def test_a_scheduled_run_on_unchanged_data_starts_no_gpu_pod() -> None:
    """It rests on the cache: what needs a GPU is answered unless a step before it, or snapshot, says otherwise."""
    golden = Path(__file__).parent.parent / "compiled" / "gpu.yaml"
    spec = next(yaml.safe_load_all(golden.read_text(encoding="utf-8")))
    tasks, executors = spec["root"]["dag"]["tasks"], spec["deploymentSpec"]["executors"]
    with_gpus = [name for name in tasks if "accelerator" in executors[f"exec-{name}"]["container"]["resources"]]
    assert with_gpus == ["evaluate", "train"]
    looks = [name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache")]
    assert looks == ["snapshot"]
    assert "accelerator" not in executors["exec-snapshot"]["container"]["resources"]
    # What snapshot says of the data set, the base model and the store's generation: digests, equal for equal contents.
    told = {
        name: sorted(
            one["taskOutputParameter"]["outputParameterKey"]
            for one in task["inputs"]["parameters"].values()
            if one.get("taskOutputParameter", {}).get("producerTask") == "snapshot"
        )
        for name, task in tasks.items()
        if name != "snapshot"
    }
    assert {name: keys for name, keys in told.items() if keys} == {
        "crop": ["dataset_revision"],
        "train": ["base", "base_revision", "generation"],
    }
    # No artifact of snapshot's, which is a new one each time, goes into a later step.
    for task in tasks.values():
        for one in task.get("inputs", {}).get("artifacts", {}).values():
            assert one["taskOutputArtifact"]["producerTask"] != "snapshot"
