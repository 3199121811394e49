"""Runs on a server: made, found, cancelled, and what has become of their steps."""

from __future__ import annotations

import datetime
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import kfp_server_api

from components import images
from components.errors import UserError
from pipelines.remote.server import Missing, Server
from pipelines.remote.versions import Version, named

FINAL = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


@dataclass(frozen=True)
class Step:
    """A step of a run."""

    name: str
    state: str  #: KFP's, or ``CACHED``; ``""`` before it is looked at
    seconds: float  #: since it was started, or that it took

    @property
    def words(self) -> str:
        """The state for people."""
        return _WORDS.get(self.state, self.state.lower())


_WORDS = {
    "": "waits",
    "PENDING": "waits",
    "RUNNING": "runs",
    "SUCCEEDED": "done",
    "CACHED": "answered from the cache",
    "SKIPPED": "not reached",
}
#: Nodes of Argo's graph that hold the steps, and the tries of them.
_GRAPH = re.compile(r"(root|exit-handler-1)(\(\d+\))?")


def find_experiment(server: Server, name: str) -> str | None:
    """The id of the experiment that is displayed under `name`; None where there is none."""
    answer = server.experiments.experiment_service_list_experiments(
        namespace=server.namespace or "", filter=named(name)
    )
    for found in answer.experiments or []:
        return str(found.experiment_id)
    return None


def experiment(server: Server, name: str) -> str:
    """As `find_experiment`, made first where it is not there."""
    found = find_experiment(server, name)
    if found is not None:
        return found
    wanted = kfp_server_api.V2beta1Experiment(display_name=name, namespace=server.namespace)
    return str(server.experiments.experiment_service_create_experiment(wanted).experiment_id)


def new_name(model: str) -> str:
    """A run's name that no other run has."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return f"{model} {now:%Y-%m-%d %H:%M:%S} {secrets.token_hex(3)}"


def create(
    server: Server, experiment_id: str, name: str, version: Version, parameters: Mapping[str, Any], account: str
) -> Any:
    """The run of this name: a new one, or the one that an earlier call made and heard no answer of."""
    answer = server.runs.run_service_list_runs(
        namespace=server.namespace or "", experiment_id=experiment_id, filter=named(name)
    )
    for found in answer.runs or []:
        return found
    return server.runs.run_service_create_run(
        kfp_server_api.V2beta1Run(
            experiment_id=experiment_id,
            display_name=name,
            pipeline_version_reference=version.reference,
            runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=dict(parameters)),
            service_account=account,
        )
    )


def newest(server: Server, experiment_id: str, count: int) -> list[Any]:
    """The newest runs of an experiment, the newest first."""
    answer = server.runs.run_service_list_runs(
        namespace=server.namespace or "", experiment_id=experiment_id, page_size=count, sort_by="created_at desc"
    )
    return list(answer.runs or [])


def chosen(server: Server, run_id: str | None, experiment_name: str) -> Any:
    """The run with an id; the newest of the experiment where none is given.

    Raises:
        UserError: where there is none.
    """
    if run_id is not None:
        try:
            return server.runs.run_service_get_run(run_id)
        except Missing:
            raise UserError(f"{run_id}: no such run; KFP's page of runs shows their ids") from None
    experiment_id = find_experiment(server, experiment_name)
    found = newest(server, experiment_id, 1) if experiment_id is not None else []
    if not found:
        raise UserError(f"--experiment {experiment_name}: no run in it yet; submit one, or give a run's id")
    return server.runs.run_service_get_run(found[0].run_id)


def steps(run: Any, now: datetime.datetime | None = None) -> list[Step]:
    """Every step of the pipeline, in order.

    KFP does not say of a step that its cache answered it. What it says is the state of each node of Argo's graph: a
    step's node holds one called ``executor``, which is skipped then. Nodes do not name what they are in, but steps
    run one after another, and the parts of a step, which have one each, before it. The time that tells their order is
    the one at which a node was started, also where it was skipped; all are created with the run, KFP says.
    """
    now = now or datetime.datetime.now(datetime.timezone.utc)
    details = list((run.run_details.task_details if run.run_details else None) or [])
    # A graph that is tried again has all its nodes once more.
    since = max((_started(detail, now) for detail in details if _GRAPH.fullmatch(detail.display_name)), default=None)
    details = [detail for detail in details if since is None or _started(detail, now) >= since]
    details.sort(key=lambda detail: (_started(detail, now), detail.state != "SKIPPED"))
    by_name = {detail.display_name: detail for detail in details}
    executors = [detail for detail in details if detail.display_name == "executor"]
    inside = dict(zip(_in_turn([detail.display_name for detail in details]), executors))
    found = []
    for step in images.STEPS:
        detail = by_name.get(task_name(step))
        if detail is None:
            driver = by_name.get(f"{task_name(step)}-driver")
            found.append(Step(step, driver.state if driver and driver.state == "FAILED" else "", 0.0))
            continue
        cached = detail.state != "SKIPPED" and step in inside and inside[step].state == "SKIPPED"
        found.append(Step(step, "CACHED" if cached else detail.state or "", _seconds(detail, now)))
    return found


def _in_turn(names: Sequence[str]) -> list[str]:
    """The steps that have begun, and the parts of steps, as often as each has an executor, in the order of these."""
    found = []
    for step in images.STEPS:
        for part in (*(part for part, of in images.PARTS.items() if of == step), step):
            task = task_name(part)
            # KFP 2.17 lets Argo try each node again: `train` then holds `train(0)`, and that the executor.
            tries = sum(re.fullmatch(rf"{task}\(\d+\)", name) is not None for name in names)
            found += [part] * (tries or names.count(task))
    return found


def task_name(step: str) -> str:
    """What kfp calls the task of a step."""
    return step.replace("_", "-")


def time_of(value: datetime.datetime | None) -> datetime.datetime | None:
    """A time of KFP's, which writes 1970 for what has not happened yet."""
    return value if value is not None and value.year > 1970 else None


def _started(detail: Any, now: datetime.datetime) -> datetime.datetime:
    return time_of(detail.start_time) or now


def _seconds(detail: Any, now: datetime.datetime) -> float:
    start = time_of(detail.start_time)
    return ((time_of(detail.end_time) or now) - start).total_seconds() if start is not None else 0.0
