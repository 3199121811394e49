"""Runs that are submitted, looked at and cancelled, against a server that checks every request."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from components.evaluate.config import EvaluateConfig
from pipelines.__main__ import main
from pipelines.cluster import profile as profiles
from pipelines.config import PipelineConfig, load
from pipelines.pipeline import arguments
from pipelines.remote import versions
from tests.pipelines.golden import REFERENCES
from tests.pipelines.remote import argo, kfp_server
from tests.pipelines.remote.actions import submit
from tests.pipelines.remote.conftest import SETTINGS
from tests.pipelines.remote.kfp_server import KfpServer

pytestmark = pytest.mark.usefixtures("quick")


def test_a_run_is_submitted_and_followed_to_its_end(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.scenes = [
        argo.scene("RUNNING", snapshot="SUCCEEDED", crop="RUNNING"),
        argo.scene("RUNNING", snapshot="SUCCEEDED", crop="CACHED", train="RUNNING"),
        argo.done(crop="CACHED"),
    ]
    assert submit(kfp) == 0
    said = capsys.readouterr().out
    (run,) = kfp.runs.values()
    assert f"page       {kfp.url}/#/runs/details/{run['run_id']}" in said
    lines = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in said.splitlines()]
    first = [line for line in lines if line.startswith(("snapshot ", "crop ", "train "))]
    assert first[:5] == [
        "snapshot     done (5 min 00 s)", "crop         runs", "crop         answered from the cache",
        "train        runs", "train        done (5 min 00 s)",
    ]  # fmt: skip
    assert "state      succeeded" in said
    config = load("quickstart", [flag.removeprefix("--set=") for flag in SETTINGS])
    assert run["runtime_config"]["parameters"] == arguments(config)
    assert run["service_account"] == "defect-diffusion"


def test_the_version_is_named_by_its_content_and_uploaded_once(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str], compiled: str
) -> None:
    assert submit(kfp, "--detach") == 0
    assert submit(kfp, "--detach", "--set=train.seed=7") == 0
    assert "(uploaded)" in (said := capsys.readouterr().out)
    assert "(there already)" in said
    (version,) = kfp.versions.values()
    assert version["name"] == versions.name_of(compiled)
    assert version["pipeline_spec"]["pipeline_spec"] == next(yaml.safe_load_all(compiled))
    assert [run["runtime_config"]["parameters"]["train_settings"]["seed"] for run in kfp.runs.values()] == [
        load("quickstart").train.seed, 7,
    ]  # fmt: skip
    assert sum("upload_version" in request for request in kfp.requests) == 1
    other = versions.compiled(PipelineConfig(), profiles.load("gpu", REFERENCES))
    sharded = versions.compiled(PipelineConfig(evaluate=EvaluateConfig(shards=2)), profiles.load("kind"))
    assert len({versions.name_of(text) for text in (compiled, other, sharded)}) == 3
    assert re.fullmatch(r"[a-z0-9-]{1,63}", versions.name_of(other)), "a name that Kubernetes takes, too"


def test_what_was_compiled_twice_is_the_same(compiled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert versions.compiled(PipelineConfig(), profiles.load("kind")) == compiled


def test_an_answer_that_is_lost_does_not_start_a_second_run(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    def lose(handler: kfp_server._Handler) -> bool:
        if (handler.command, handler.path) == ("POST", "/apis/v2beta1/runs"):
            return kfp_server.dies_after(handler)
        kfp.faults.append(lose)
        return False

    kfp.faults.append(lose)
    assert submit(kfp, "--detach") == 0
    assert "asking again" in capsys.readouterr().out
    assert kfp.faults == []
    assert len(kfp.runs) == 1


def test_what_only_this_machine_knows_is_refused_before_anything_is_sent(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--profile", "kind", "--host", kfp.url]) == 2
    said = capsys.readouterr().err
    for key in ("dataset: sample", "base_model: quickstart"):
        assert f"{key} is known on this machine only" in said
    assert "store: not given; a cluster has no store of its own: name one, s3://bucket/prefix" in said
    assert "None" not in said
    assert kfp.requests == []


def test_a_profile_that_is_not_named_is_asked_for(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    """As `make submit` without PROFILE."""
    assert main(["submit", "--profile", "", "--host", kfp.url, *SETTINGS]) == 2
    assert capsys.readouterr().err == "error: --profile: nothing given; give a YAML file or one of gpu, kind\n"


@pytest.mark.parametrize("flag", ["--stuck-after", "--patience"])
@pytest.mark.parametrize("value", ["-3", "nan", "soon"])
def test_minutes_that_are_none_are_said_to_be(capsys: pytest.CaptureFixture[str], flag: str, value: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["status", flag, value])
    assert caught.value.code == 2
    assert f"argument {flag}: '{value}' is no number of minutes from 0 on" in capsys.readouterr().err


def test_what_kfp_refuses_is_said_in_its_words(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = json.dumps({f"class-{n}": "a photo of a " + "very " * 20 + "small thing" for n in range(80)})
    assert submit(kfp, f"--set=crop.prompts={prompts}") == 2
    assert "refused (status 400): The input parameter length exceed maximum size of 10000" in capsys.readouterr().err


def test_the_newest_run_is_meant_where_none_is_named(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--host", kfp.url]
    assert main(["status", *words]) == 2
    assert "no run in it yet" in capsys.readouterr().err
    assert submit(kfp, "--detach") == submit(kfp, "--detach") == 0
    newest = list(kfp.runs)[-1]
    assert main(["cancel", *words]) == 0
    assert kfp.runs[newest]["state"] == "CANCELING"
    assert main(["status", *words]) == 0
    assert newest in capsys.readouterr().out
    argo.scene("CANCELED", snapshot="SUCCEEDED")(kfp.runs[newest])
    assert main(["status", *words]) == 3
    assert main(["cancel", *words, newest]) == 2
    assert "has ended already (canceled)" in capsys.readouterr().err
    assert main(["status", *words, "run-9999"]) == 2
    assert "run-9999: no such run" in capsys.readouterr().err


def test_logs_of_a_run(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(kfp, "--detach") == 0
    (run,) = kfp.runs.values()
    argo.scene("RUNNING", snapshot="SUCCEEDED", crop="CACHED", train="RUNNING")(run)
    kfp.logs[argo.pod("snapshot")] = "12:00:00  looked\n"
    capsys.readouterr()
    assert main(["logs", "--host", kfp.url]) == 0
    said = capsys.readouterr().out
    assert "snapshot: done\n12:00:00  looked\n" in said
    assert "crop: answered from the cache, it wrote nothing" in said
    assert "train: runs, KFP has no log of it" in said
    argo.scene("FAILED", snapshot="SUCCEEDED", crop="CACHED", train="FAILED")(run)
    assert main(["logs", "--host", kfp.url]) == 0
    assert "evaluate: not reached, it wrote nothing" in (failed := capsys.readouterr().out)
    assert "train: failed, KFP has no log of it" in failed
    assert main(["logs", "--host", kfp.url, "--step", "snapshot"]) == 0
    assert "train" not in capsys.readouterr().out
    assert main(["logs", "--host", kfp.url, "--step", "sow"]) == 2


def test_kfps_pages_before_its_api_make_no_difference(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.pages = True
    kfp.scenes = [argo.scene("RUNNING", snapshot="RUNNING"), argo.done()]
    kfp.logs[argo.pod("snapshot")] = "looked\n"
    assert submit(kfp) == 0
    assert "    snapshot | looked" in capsys.readouterr().out
    kfp.tag = "2.15.1"
    assert submit(kfp) == 2
    assert "is Kubeflow Pipelines 2.15.1" in capsys.readouterr().err
    kfp.faults = [kfp_server.answers(200, '{"apiServerReady": false}')]
    assert submit(kfp) == 75
    assert "its API does not answer them" in capsys.readouterr().err
