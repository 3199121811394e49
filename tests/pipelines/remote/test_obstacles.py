"""What holds a run up, as kubectl tells it: images, quotas, nodes, memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from pipelines.remote import follow, obstacles
from pipelines.remote.server import Server
from tests.pipelines.remote import argo
from tests.pipelines.remote.actions import Time, started
from tests.pipelines.remote.kfp_server import KfpServer

PULL = {
    "kind": "Pod",
    "metadata": {
        "annotations": {"workflows.argoproj.io/node-name": f"{argo.WORKFLOW}(0).root(0).train(0).executor(1)"}
    },
    "status": {
        "containerStatuses": [
            {"image": "registry.example.com/train@sha256:12", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
        ]
    },
}

DRAWS = {
    **PULL,
    "metadata": {
        "annotations": {"workflows.argoproj.io/node-name": f"{argo.WORKFLOW}.root.shards.shards(0:0).draw.executor(1)"}
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
                "name": f"{argo.WORKFLOW}(0).root(0).evaluate(0).executor(0)",
                "phase": "Pending",
                "message": 'pods "x" is forbidden: exceeded quota: defect-diffusion, requested: pods=1',
            },
            "b": {"name": f"{argo.WORKFLOW}(0).root(0).train(0).executor(0)", "phase": "Succeeded"},
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


def given_up(message: str, children: int = 1, **changes: Any) -> dict[str, Any]:
    """A step with two retries whose executor has ended, as Argo 4.0.5 keeps its node."""
    parameters = [{"name": "pod-spec-patch", "value": "{}"}, {"name": "retry-max-count", "value": "2"}]
    node = {
        "name": f"{argo.WORKFLOW}(0).root(0).train(0).executor",
        "type": "Retry",
        "phase": "Failed",
        "message": message,
        "inputs": {"parameters": parameters},
        "children": [f"{argo.WORKFLOW}-{number}" for number in range(children)],
        **changes,
    }
    return {"kind": "Workflow", "status": {"nodes": {"a": node}}}


KILLED = {"containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled"}}}]}
NOT_AGAIN = (
    "train: failed and was not tried again, whatever the profile says: the cluster's retryPolicy does not let it"
)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            {**PULL, "status": KILLED},
            "train: was ended for using more memory than the profile allows; raise steps.train.memory",
        ),
        (
            {**DRAWS, "status": KILLED},
            "draw: was ended for using more memory than the profile allows; raise steps.evaluate.memory",
        ),
        (given_up("main: OOMKilled (exit code 137)"), NOT_AGAIN),
        (given_up("pod deleted", phase="Error"), NOT_AGAIN),
    ],
)
def test_what_befell_a_try_is_said_and_does_not_end_the_watching(
    kfp: KfpServer, server: Server, compiled: str, kubectl: Callable[[str], Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], item: dict[str, Any], expected: str,
) -> None:  # fmt: skip
    """Its pod stays there while the next try runs, and that may be for hours."""
    run_id = started(kfp, server, compiled)
    (tmp_path / "listing.json").write_text(json.dumps({"items": [item]}))
    kubectl(f"cat {tmp_path}/listing.json")
    goes_on = argo.look("RUNNING", {"train": "RUNNING"}, tries={"train": 2})
    kfp.scenes = [goes_on] * 40 + [argo.scene("FAILED", train="FAILED")]
    clock = Time()
    assert follow.follow(server, run_id, 600, 60, show_logs=False, clock=clock).state == "FAILED"
    assert clock.at > 150
    assert capsys.readouterr().out.count(expected) == 1


@pytest.mark.parametrize(
    "item",
    [
        given_up("No more retries left", children=3),
        given_up("Max duration limit exceeded"),
        given_up("Backoff would exceed max duration limit"),
        given_up("", phase="Running"),
        given_up("main: Error (exit code 1)", inputs={}),
        given_up("main: Error (exit code 1)", type="Pod", children=0),
    ],
)
def test_a_step_that_had_its_tries_or_has_none_is_not_complained_of(item: dict[str, Any]) -> None:
    assert list(obstacles.of({"items": [item]})) == []


def test_a_step_that_was_ended_for_its_memory_is_said_to_be(
    kfp: KfpServer, server: Server, compiled: str, kubectl: Callable[[str], Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_id = started(kfp, server, compiled)
    (tmp_path / "listing.json").write_text(json.dumps({"items": [{**PULL, "status": KILLED}]}))
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
