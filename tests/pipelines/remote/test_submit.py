"""Submitting and following runs, against a server that checks every request."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kfp_server_api
import pytest
import yaml

from components import images
from components.errors import Unavailable, UserError
from components.evaluate.config import EvaluateConfig
from pipelines.__main__ import main
from pipelines.cluster import profile as profiles
from pipelines.config import PipelineConfig, load
from pipelines.pipeline import arguments
from pipelines.remote import command, follow, forecast, logs, runs, versions
from pipelines.remote.server import Server
from tests.pipelines.golden import REFERENCES
from tests.pipelines.remote import argo, kfp_server
from tests.pipelines.remote.conftest import SETTINGS
from tests.pipelines.remote.kfp_server import KfpServer

pytestmark = pytest.mark.usefixtures("quick")


class Time(follow.Clock):
    """Passes as fast as it is waited for."""

    def __init__(self) -> None:
        self.at = 0.0
        super().__init__(lambda: self.at, self.wait)

    def wait(self, seconds: float) -> None:
        self.at += max(seconds, 5.0)


def submit(kfp: KfpServer, *flags: str) -> int:
    return main(["submit", "--profile", "kind", "--host", kfp.url, *SETTINGS, *flags])


def started(kfp: KfpServer, server: Server, compiled: str) -> str:
    """A run that was started; its id."""
    version = versions.upload(server, compiled)
    experiment = runs.experiment(server, "defect-diffusion", create=True)
    assert experiment is not None
    config = load("quickstart", [flag.removeprefix("--set=") for flag in SETTINGS])
    run = runs.create(server, experiment, runs.new_name("boards"), version, arguments(config), "account")
    return str(run.run_id)


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
    kfp.scenes = [failed]
    assert submit(kfp, "--no-logs") == 3
    assert "        crop | error: no images" in capsys.readouterr().out
    assert main(["status", "--host", kfp.url]) == 3


@pytest.mark.parametrize("drawing", ["SKIPPED", "SUCCEEDED"])
def test_the_tasks_that_draw_for_evaluate_are_not_taken_for_steps(
    kfp: KfpServer, server: Server, compiled: str, drawing: str
) -> None:
    run_id = started(kfp, server, compiled)
    argo.scene("FAILED", snapshot="SUCCEEDED", crop="CACHED", train="CACHED", evaluate="FAILED")(kfp.runs[run_id])
    kfp.runs[run_id]["run_details"]["task_details"] += argo.drawn_in_shards(3, drawing)
    found = {step.name: step.state for step in runs.steps(server.runs.run_service_get_run(run_id))}
    assert [found[step] for step in ("snapshot", "crop", "train", "evaluate", "select_best")] == [
        "SUCCEEDED", "CACHED", "CACHED", "FAILED", "",
    ]  # fmt: skip


def test_a_driver_that_fails_is_its_steps_failure(kfp: KfpServer, server: Server, compiled: str) -> None:
    run_id = started(kfp, server, compiled)
    driver = {"display_name": "crop-driver", "state": "FAILED", "create_time": argo.at(1), "start_time": argo.at(1)}
    kfp.runs[run_id]["run_details"] = {"task_details": [driver]}
    found = {step.name: step.state for step in runs.steps(server.runs.run_service_get_run(run_id))}
    assert found["crop"] == "FAILED"
    assert found["train"] == ""


def test_logs_are_followed_line_by_line_and_over_tries(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    tried = "retry-system-container-impl"
    first, second = (argo.pod("train", f"metadata-0-1-{tried}", f"({n})") for n in (0, 1))

    def write(pod: str, text: str, then: argo.Scene) -> argo.Scene:
        def play(run: dict[str, Any]) -> None:
            kfp.logs[pod] = text
            then(run)

        return play

    runs_on = argo.scene("RUNNING", snapshot="SUCCEEDED", crop="SUCCEEDED", train="RUNNING")
    kfp.scenes = [
        runs_on,
        write(first, "step 1\nste", runs_on),
        write(first, "step 1\nstep 2\nkilled", runs_on),
        write(second, "step 2\n", runs_on),
        write(second, "step 2\nstep 3", argo.done()),
    ]
    assert submit(kfp) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("       train |")]
    assert [line.rpartition("| ")[2] for line in said] == ["step 1", "step 2", "killed", "step 2", "step 3"]


def test_what_a_lost_node_wrote_does_not_hide_the_next_try(
    kfp: KfpServer, server: Server, compiled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = started(kfp, server, compiled)
    kfp.logs[argo.pod("train", "metadata-0-1-retry-system-container-impl", "(1)")] = "step 2\n"
    kfp.scenes = [argo.scene("RUNNING", train="RUNNING"), argo.done()]
    assert follow.follow(server, run_id, 600, 900, show_logs=True, clock=Time()).state == "SUCCEEDED"
    assert capsys.readouterr().out.count("       train | step 2") == 1
    run = server.runs.run_service_get_run(run_id)
    train = next(step for step in runs.steps(run) if step.name == "train")
    assert logs.whole(server, run, train, logs.of_version(server, run)) == "step 2\n"


def test_the_names_of_pods_are_those_that_argo_gives(compiled: str) -> None:
    """The hash by its published test vectors (draft-eastlake-fnv), the template's name by KFP's compiler's rule."""
    assert [logs._fnv(text) for text in ("", "a", "foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]
    spec, platform = yaml.safe_load_all(compiled)
    whole = {"pipeline_spec": spec, "platform_spec": platform}
    assert logs._template("crop", whole) == ("metadata-0-1-system-container-impl", 0)
    assert logs._template("train", whole) == ("metadata-0-1-retry-system-container-impl", 2)
    assert logs._template("crop", {"pipeline_spec": spec}) == ("system-container-impl", 0)


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


def test_pods_are_found_behind_an_exit_handler_too(compiled: str) -> None:
    path = f"{argo.WORKFLOW}.root.exit-handler-1.crop.executor"
    inside = {"pod_name": f"{argo.WORKFLOW}-{argo.fnv(path)}"}
    detail = kfp_server_api.V2beta1PipelineTaskDetail(
        child_tasks=[kfp_server_api.PipelineTaskDetailChildTask(pod_name=inside["pod_name"])]
    )
    spec, platform = yaml.safe_load_all(compiled)
    whole = {"pipeline_spec": spec, "platform_spec": platform}
    found = logs.pods(runs.Step("crop", "RUNNING", 0.0, detail), whole)
    assert found == [f"{argo.WORKFLOW}-metadata-0-1-system-container-impl-{argo.fnv(path)}"]
    other = kfp_server_api.PipelineTaskDetailChildTask(pod_name=f"{argo.WORKFLOW}-1")
    detail = kfp_server_api.V2beta1PipelineTaskDetail(child_tasks=[other])
    assert logs.pods(runs.Step("crop", "RUNNING", 0.0, detail), whole) == [], "a hash that is not ours"


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
    for key in ("dataset: sample", "base_model: quickstart", "store: None"):
        assert f"{key} is known on this machine only" in said
    assert kfp.requests == []


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


def test_the_plan_says_what_is_known_and_sends_nothing(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--profile", "gpu", "--images", str(REFERENCES), "--host", kfp.url, *SETTINGS]
    assert main(["submit", "--plan", *flags]) == 0
    said = capsys.readouterr().out
    assert "not counted: it cannot be read from here" in said
    assert "GPU time     not known, no run has trained yet; at most 54 h 00 min" in said
    gpu = profiles.load("gpu", REFERENCES)
    # Two shards are two more pods as evaluate's, of 6 h and two retries.
    assert "at most 90 h 00 min" in forecast.gpu_time(gpu, [], shards=2)
    assert "pipeline     a new version would be uploaded" in said
    assert "cache        answers nothing: no run of this experiment has succeeded" in said
    assert re.search(r"train +4 +32Gi +1 × nvidia.com/gpu +12 h 00 min, 3 tries", said)
    assert all(request.startswith("GET ") for request in kfp.requests)
    assert main(["submit", "--detach", *flags]) == 0
    argo.done()(next(iter(kfp.runs.values())))
    assert main(["submit", "--plan", *flags]) == 0
    said = capsys.readouterr().out
    assert "GPU time     10 min 00 s in the newest run that trained" in said
    assert "cache        answers every step but snapshot, unless data" in said
    assert main(["submit", "--plan", *flags, "--set=evaluate.images_per_class=9"]) == 0
    assert "cache        answers crop, train unless the data changed; evaluate runs" in capsys.readouterr().out
    assert len(kfp.runs) == 1


def test_the_plan_knows_what_each_step_is_given(compiled: str) -> None:
    """Of the pipeline's parameters; a step that is given another one would be said to be cached wrongly."""
    tasks = next(yaml.safe_load_all(compiled))["root"]["dag"]["tasks"]
    for step, names in forecast.PARAMETERS.items():
        given = tasks[runs.task_name(step)]["inputs"]["parameters"].values()
        found = {one["componentInputParameter"] for one in given if "componentInputParameter" in one}
        told = {one["taskOutputParameter"]["outputParameterKey"] for one in given if "taskOutputParameter" in one}
        assert found | ({"base_model"} if "base" in told else set()) == set(names)


def test_with_a_pushed_data_set_and_base_model_the_plan_counts_them(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded_store: Any
) -> None:
    from components.versions.push import push

    for name, value in embedded_store.environ.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    counted = {"images": 3, "format": "masks", "defects": {"short": 2, "open": 1}, "good": 0, "problems": 0}
    place = store.at("plans", "datasets", "boards")
    done = push(place, tmp_path / "data", {"annotations": counted})
    assert forecast.images_in(place.uri)[0] == f"version {done.version}: 3 images, annotations as masks"
    assert "short      2 defects" in forecast.images_in(f"{place.uri}@{done.version}")
    assert "cannot be read" in forecast.images_in(f"{place.uri}@20260101T000000Z-000000000000")[0]
    assert "no pushed data set" in forecast.images_in(store.at("plans").uri)[0]
    base = tmp_path / "base"
    for part in ("unet", "vae", "text_encoder"):
        (base / part).mkdir(parents=True)
        (base / part / "model.safetensors").write_bytes(b"x" * 10)
    store.at("plans", "base").put_tree(base)
    assert forecast.weights_of(store.at("plans", "base").uri) == {"unet": 10, "text_encoder": 10, "vae": 10}
    assert forecast.weights_of(store.at("plans", "none").uri) is None


def test_of_six_steps_the_cached_are_told_from_the_run(kfp: KfpServer, server: Server, compiled: str) -> None:
    run_id = started(kfp, server, compiled)
    argo.done(crop="CACHED", train="CACHED", convert="CACHED")(kfp.runs[run_id])
    found = [step.state for step in runs.steps(server.runs.run_service_get_run(run_id))]
    assert found == ["SUCCEEDED", "CACHED", "CACHED", "SUCCEEDED", "SUCCEEDED", "CACHED"]
    assert [step.name for step in runs.steps(server.runs.run_service_get_run(run_id))] == list(images.STEPS)


PULL = {
    "kind": "Pod",
    "metadata": {"annotations": {"workflows.argoproj.io/node-name": f"{argo.WORKFLOW}.root.train.executor(0)"}},
    "status": {
        "containerStatuses": [
            {"image": "registry.example.com/train@sha256:12", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
        ]
    },
}


def _unschedulable(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    annotations = {"workflows.argoproj.io/node-name": f"{argo.WORKFLOW}.root.select-best.executor"}
    return {"kind": "Pod", "metadata": {"annotations": annotations}, "status": {"conditions": [condition]}}


QUOTA = {
    "kind": "Workflow",
    "status": {
        "nodes": {
            "a": {
                "name": f"{argo.WORKFLOW}.root.evaluate.executor(0)",
                "phase": "Pending",
                "message": 'pods "x" is forbidden: exceeded quota: defect-diffusion, requested: pods=1',
            },
            "b": {"name": f"{argo.WORKFLOW}.root.train.executor(0)", "phase": "Succeeded"},
        }
    },
}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (PULL, "train: the image registry.example.com/train@sha256:12 cannot be pulled (ImagePullBackOff)"),
        (
            _unschedulable("0/3 nodes are available: 1 Insufficient memory, 3 Insufficient nvidia.com/gpu. No."),
            "select_best: waits: no node has enough memory or nvidia.com/gpu to spare",
        ),
        (
            _unschedulable("0/3 nodes are available: 3 node(s) had untolerated taint {nvidia.com/gpu: present}."),
            "select_best: waits: no node will have it; look at the profile's node_selector and tolerations",
        ),
        (QUOTA, "evaluate: a quota of the namespace is used up (pods \"x\" is forbidden: exceeded quota"),
        (
            {**PULL, "status": {"containerStatuses": [{"state": {"waiting": {
                "reason": "CreateContainerConfigError", "message": 'secret "defect-diffusion-store" not found'}}}]}},
            'train: secret "defect-diffusion-store" not found; k8s/README.md',
        ),
        (
            {**PULL, "status": {"containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled"}}}]}},
            "train: was ended for using more memory than the profile allows; raise steps.train.memory",
        ),
    ],
)  # fmt: skip
def test_what_holds_a_run_up_is_said_and_ends_the_watching_in_time(
    kfp: KfpServer, server: Server, compiled: str, kubectl: Callable[[str], Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], item: dict[str, Any], expected: str,
) -> None:  # fmt: skip
    run_id = started(kfp, server, compiled)
    (tmp_path / "listing.json").write_text(json.dumps({"items": [item, {"kind": "Pod"}]}))
    kubectl(f'echo "$@" >{tmp_path}/asked\ncat {tmp_path}/listing.json')
    argo.scene("RUNNING", snapshot="SUCCEEDED", crop="RUNNING")(kfp.runs[run_id])
    clock = Time()
    with pytest.raises(UserError, match="the run has been stuck for") as caught:
        follow.follow(server, run_id, 600, 120, show_logs=False, clock=clock)
    assert expected in str(caught.value)
    assert f"cancel {run_id}" in str(caught.value)
    assert capsys.readouterr().out.count(expected) == 1, "said once, when it is seen first"
    assert clock.at < 400
    asked = (tmp_path / "asked").read_text().strip()
    assert asked == (f"get pods,workflows.argoproj.io --namespace kubeflow --selector pipeline/runid={run_id} -o json")


def test_an_obstacle_whose_details_change_is_the_same_one(
    kfp: KfpServer, server: Server, compiled: str, kubectl: Callable[[str], Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_id = started(kfp, server, compiled)
    text = json.dumps({"items": [PULL]})
    (tmp_path / "0").write_text(text)
    (tmp_path / "1").write_text(text.replace("ImagePullBackOff", "ErrImagePull"))
    kubectl(
        f"cat {tmp_path}/0; mv {tmp_path}/0 {tmp_path}/2; mv {tmp_path}/1 {tmp_path}/0; mv {tmp_path}/2 {tmp_path}/1"
    )
    argo.scene("RUNNING", snapshot="SUCCEEDED", crop="RUNNING")(kfp.runs[run_id])
    with pytest.raises(UserError, match="the run has been stuck for 2 min"):
        follow.follow(server, run_id, 600, 120, show_logs=False, clock=Time())
    assert capsys.readouterr().out.count("cannot be pulled") == 1


def test_a_step_that_was_ended_for_its_memory_is_said_to_be(
    kfp: KfpServer, server: Server, compiled: str, kubectl: Callable[[str], Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_id = started(kfp, server, compiled)
    status = {"containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled"}}}]}
    (tmp_path / "listing.json").write_text(json.dumps({"items": [{**PULL, "status": status}]}))
    kubectl(f"cat {tmp_path}/listing.json")
    kfp.scenes = [argo.scene("FAILED", snapshot="SUCCEEDED", crop="SUCCEEDED", train="FAILED")]
    assert follow.follow(server, run_id, 600, 0, show_logs=True, clock=Time()).state == "FAILED"
    assert "train: was ended for using more memory" in capsys.readouterr().out


def test_without_kubectl_nothing_is_found_and_the_run_followed(
    kfp: KfpServer, server: Server, compiled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    run_id = started(kfp, server, compiled)
    kfp.scenes = [argo.scene("RUNNING", snapshot="RUNNING")] * 20 + [argo.done()]
    assert follow.follow(server, run_id, 600, 10, show_logs=False, clock=Time()).state == "SUCCEEDED"
