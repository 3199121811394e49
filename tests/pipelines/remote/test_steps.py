"""The steps of a run by what KFP says of it: their states, and the pods that they ran in."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from components import images
from pipelines.remote import follow, logs, runs
from pipelines.remote.server import Server
from tests.pipelines.remote import argo
from tests.pipelines.remote.actions import Time, started
from tests.pipelines.remote.kfp_server import KfpServer


def looked_at(kfp: KfpServer, server: Server, compiled: str, play: argo.Scene) -> Any:
    """A run after a look at it."""
    run_id = started(kfp, server, compiled)
    play(kfp.runs[run_id])
    return server.runs.run_service_get_run(run_id)


@pytest.mark.parametrize("stock", [True, False], ids=["every node is tried", "executors alone"])
@pytest.mark.parametrize("drawing", ["SKIPPED", "SUCCEEDED"])
def test_the_tasks_that_draw_for_evaluate_are_not_taken_for_steps(
    kfp: KfpServer, server: Server, compiled: str, drawing: str, stock: bool
) -> None:
    def play(run: dict[str, Any]) -> None:
        states = {"snapshot": "SUCCEEDED", "crop": "CACHED", "train": "CACHED", "evaluate": "FAILED"}
        argo.look("FAILED", states, stock=stock)(run)
        run["run_details"]["task_details"] += argo.drawn_in_shards(3, drawing, stock)

    found = {step.name: step.state for step in runs.steps(looked_at(kfp, server, compiled, play))}
    assert [found[step] for step in images.STEPS] == [
        "SUCCEEDED", "CACHED", "CACHED", "FAILED", "SKIPPED", "SKIPPED",
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
    whole = documents(compiled)
    assert logs._template("crop", whole) == "metadata-0-1-system-container-impl"
    assert logs._template("train", whole) == "metadata-0-1-retry-system-container-impl"
    assert logs._template("crop", {"pipeline_spec": whole["pipeline_spec"]}) == "system-container-impl"


@pytest.mark.parametrize("inside", ["root", "root.exit-handler-1"])
@pytest.mark.parametrize("stock", [True, False], ids=["every node is tried", "executors alone"])
def test_every_try_of_a_step_has_a_pod(kfp: KfpServer, server: Server, compiled: str, stock: bool, inside: str) -> None:
    steps = {"snapshot": "SUCCEEDED", "crop": "SUCCEEDED", "train": "RUNNING"}
    play = argo.look("RUNNING", steps, stock=stock, tries={"train": 3}, inside=inside)
    run, whole = looked_at(kfp, server, compiled, play), documents(compiled)
    found = {step.name: logs.pods(run, step, whole) for step in runs.steps(run) if step.name in steps}
    assert found == {
        "snapshot": [argo.pod("snapshot", 0, stock, inside)],
        "crop": [argo.pod("crop", 0, stock, inside)],
        "train": [argo.pod("train", number, stock, inside) for number in range(3)],
    }


def second_try(state: str) -> argo.Scene:
    """A look at a run whose graph is tried again: first crop ran and train failed, now the cache answers crop."""

    def play(run: dict[str, Any]) -> None:
        graph = argo._Graph(stock=True)
        wf = graph.add(argo.WORKFLOW, state, 0, 60)
        graph.add(f"{wf}.root", state, 1, 60, wf, tries=2)
        for number, (crop, train) in enumerate((("SUCCEEDED", "FAILED"), ("SKIPPED", state))):
            root, begins = f"{wf}.root({number})", 1 + 20.0 * number
            graph.nodes[root].begins = begins
            step = graph.add(f"{root}.crop", "SUCCEEDED", begins + 1, begins + 3, root)
            graph.add(f"{step}.executor", crop, begins + 1, begins + 3, step, tries=int(crop != "SKIPPED"))
            step = graph.add(f"{root}.train", train, begins + 4, begins + 9, step)
            graph.add(f"{step}.executor", train, begins + 4, begins + 9, step)
        run.update(state=state, run_details={"task_details": graph.tasks()})

    return play


def of_train(number: int) -> str:
    """The pod of train in a try of the graph."""
    path = f"{argo.WORKFLOW}(0).root({number}).train(0).executor(0)"
    return f"{argo.WORKFLOW}-metadata-0-1-retry-system-container-impl-{argo.fnv(path)}"


def test_a_graph_that_is_tried_again_has_its_pods_and_states_too(kfp: KfpServer, server: Server, compiled: str) -> None:
    """Argo tries a graph again where a pod of it was deleted more often than its step is tried."""
    run = looked_at(kfp, server, compiled, second_try("RUNNING"))
    found = {step.name: step for step in runs.steps(run)}
    assert found["crop"].state == "CACHED"
    assert found["train"].state == "RUNNING"
    assert logs.pods(run, found["train"], documents(compiled)) == [of_train(0), of_train(1)]


def test_logs_go_on_with_a_graph_that_is_tried_again(
    kfp: KfpServer, server: Server, compiled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = started(kfp, server, compiled)
    kfp.logs[of_train(0)] = "first\n"

    def again(run: dict[str, Any]) -> None:
        kfp.logs[of_train(1)] = "second\n"
        second_try("RUNNING")(run)

    failed = argo.scene("RUNNING", crop="SUCCEEDED", train="FAILED")
    kfp.scenes = [argo.scene("RUNNING", crop="SUCCEEDED", train="RUNNING"), failed, again, second_try("SUCCEEDED")]
    assert follow.follow(server, run_id, 600, 900, show_logs=True, clock=Time()).state == "SUCCEEDED"
    said = [line for line in capsys.readouterr().out.splitlines() if " | " in line]
    assert said == ["       train | first", "       train | second"]


def test_a_task_that_is_tried_again_does_not_lend_its_state_to_the_next(
    kfp: KfpServer, server: Server, compiled: str
) -> None:
    def play(run: dict[str, Any]) -> None:
        graph = argo._Graph(stock=True)
        root = graph.add(f"{argo.WORKFLOW}.root", "RUNNING", 0, 60)
        graph.add(f"{root}.crop", "SUCCEEDED", 1, 4, root, tries=2)
        for number in (0, 1):
            graph.add(f"{root}.crop({number}).executor", ("FAILED", "SUCCEEDED")[number], 1 + number, 2 + number)
        step = graph.add(f"{root}.train", "SUCCEEDED", 5, 6, root)
        graph.add(f"{step}.executor", "SKIPPED", 5, 5, step, tries=0)
        run.update(state="RUNNING", run_details={"task_details": graph.tasks()})

    found = {step.name: step.state for step in runs.steps(looked_at(kfp, server, compiled, play))}
    assert (found["crop"], found["train"]) == ("SUCCEEDED", "CACHED")


def test_a_graph_that_is_not_this_pipelines_has_no_pods(kfp: KfpServer, server: Server, compiled: str) -> None:
    def play(run: dict[str, Any]) -> None:
        argo.scene("RUNNING", crop="RUNNING")(run)
        for task in run["run_details"]["task_details"]:
            task["child_tasks"] = [{"pod_name": f"{argo.WORKFLOW}-1"}]

    run = looked_at(kfp, server, compiled, play)
    assert logs.pods(run, runs.Step("crop", "RUNNING", 0.0), documents(compiled)) == [], "hashes that are not ours"


@pytest.mark.parametrize("stock", [True, False], ids=["every node is tried", "executors alone"])
@pytest.mark.parametrize(
    "cached", [{"crop", "train", "convert"}, {"crop", "train", "evaluate"}, {"crop"}, {"evaluate", "convert"}, set()]
)
def test_of_six_steps_the_cached_are_told_from_the_run(
    kfp: KfpServer, server: Server, compiled: str, stock: bool, cached: set[str]
) -> None:
    expected = {step: "CACHED" if step in cached else "SUCCEEDED" for step in images.STEPS}
    found = runs.steps(looked_at(kfp, server, compiled, argo.look("SUCCEEDED", expected, stock=stock)))
    assert {step.name: step.state for step in found} == expected
    assert [step.name for step in found] == list(images.STEPS)


def documents(compiled: str) -> dict[str, Any]:
    """As KFP gives a version of the pipeline."""
    spec, platform = yaml.safe_load_all(compiled)
    return {"pipeline_spec": spec, "platform_spec": platform}
