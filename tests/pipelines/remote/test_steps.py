"""The steps of a run by what KFP says of it: their states, and the pods that they ran in."""

from __future__ import annotations

import kfp_server_api
import pytest
import yaml

from components import images
from pipelines.remote import logs, runs
from pipelines.remote.server import Server
from tests.pipelines.remote import argo
from tests.pipelines.remote.actions import started
from tests.pipelines.remote.kfp_server import KfpServer


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


def test_the_names_of_pods_are_those_that_argo_gives(compiled: str) -> None:
    """The hash by its published test vectors (draft-eastlake-fnv), the template's name by KFP's compiler's rule."""
    assert [logs._fnv(text) for text in ("", "a", "foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]
    spec, platform = yaml.safe_load_all(compiled)
    whole = {"pipeline_spec": spec, "platform_spec": platform}
    assert logs._template("crop", whole) == ("metadata-0-1-system-container-impl", 0)
    assert logs._template("train", whole) == ("metadata-0-1-retry-system-container-impl", 2)
    assert logs._template("crop", {"pipeline_spec": spec}) == ("system-container-impl", 0)


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


def test_of_six_steps_the_cached_are_told_from_the_run(kfp: KfpServer, server: Server, compiled: str) -> None:
    run_id = started(kfp, server, compiled)
    argo.done(crop="CACHED", train="CACHED", convert="CACHED")(kfp.runs[run_id])
    found = [step.state for step in runs.steps(server.runs.run_service_get_run(run_id))]
    assert found == ["SUCCEEDED", "CACHED", "CACHED", "SUCCEEDED", "SUCCEEDED", "CACHED"]
    assert [step.name for step in runs.steps(server.runs.run_service_get_run(run_id))] == list(images.STEPS)
