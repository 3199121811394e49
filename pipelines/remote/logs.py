"""What a step's pod wrote, through KFP: from the pod while it is there, from KFP's archive after that.

KFP gives logs by the name of a pod, and no names of pods. Argo makes a pod's name of the workflow's, the template's and
a hash (FNV-1a, 32 bits) of the node's path in the graph, and KFP's compiler makes the template's of the pod's labels
and retries. Both are as in the sources of KFP 2.17.0 and Argo 4.0.5.

A node that may be tried again holds its tries: ``name(0)``, ``name(1)``. As KFP 2.17 is installed that is every node,
graphs among them (``retryStrategy`` among the workflow controller's defaults for templates); elsewhere it is the
executors of the steps that the profile gives retries. Which tries there are is told by the ids of nodes, made of the
same hash, that KFP does give: where they do not agree there is no log, and nothing else breaks.
"""

from __future__ import annotations

import itertools
import urllib.parse
from collections.abc import Container, Mapping
from typing import Any

from components.errors import Unavailable, UserError
from pipelines.remote.runs import Step, task_name
from pipelines.remote.server import Missing, Server

#: KFP answers 200 before it looks for the log, and then sends this.
_FAILED = '{"error_message"'


def of_version(server: Server, run: Any) -> dict[str, Any]:
    """The compiled pipeline that a run was made of, its platform spec beside its pipeline spec."""
    reference = run.pipeline_version_reference
    if reference is None:
        return dict(run.pipeline_spec or {})
    found = server.pipelines.pipeline_service_get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id)
    return dict(found.pipeline_spec or {})


def pods(run: Any, step: Step, compiled: Mapping[str, Any]) -> list[str]:
    """Names that the pods of a step's tries have, the first try first; none where they are not known."""
    details = (run.run_details.task_details if run.run_details else None) or []
    there = {child.pod_name for detail in details for child in detail.child_tasks or [] if child.pod_name}
    if not there:
        return []
    workflow = next(iter(there)).rpartition("-")[0]
    task = task_name(step.name)
    inside = [workflow]
    for name in ("root", "exit-handler-1", task, "executor"):
        nodes = [f"{one}.{name}" for path in inside for one in _tries(path, workflow, there)]
        found = [path for path in nodes if f"{workflow}-{_fnv(path)}" in there]
        # Only a profile that tells people how runs end puts the steps below an exit handler.
        inside = found if found or name != "exit-handler-1" else inside
    template = _template(task, compiled)
    return [f"{workflow}-{template}-{_fnv(one)}" for path in inside for one in _tries(path, workflow, there)]


def _tries(path: str, workflow: str, there: Container[str]) -> list[str]:
    """The tries of a node; the node itself where it has none."""
    numbered = (f"{path}({number})" for number in itertools.count())
    return list(itertools.takewhile(lambda one: f"{workflow}-{_fnv(one)}" in there, numbered)) or [path]


def read(server: Server, run_id: str, pod: str) -> str | None:
    """What a pod has written so far; None where there is no such pod, or it has not begun.

    Raises:
        Unavailable: where the server does not answer.
    """
    try:
        text = server.text(f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log")
    except Missing:
        return _through_pages(server, run_id, pod)
    return None if text.startswith(_FAILED) else text


def _through_pages(server: Server, run_id: str, pod: str) -> str | None:
    """As `read`, where KFP's pages stand before its API: they do not pass the API's own address of logs on."""
    asked = {"podname": pod, "runid": run_id, "podnamespace": server.access.pods_in}
    try:
        return server.text(f"/k8s/pod/logs?{urllib.parse.urlencode(asked)}")
    except (UserError, Unavailable):
        # A pod that is not there is status 500 here.
        return None


def whole(server: Server, run: Any, step: Step, compiled: Mapping[str, Any]) -> str | None:
    """The log of a step's last try; None where KFP has none."""
    found = (read(server, run.run_id, pod) for pod in reversed(pods(run, step, compiled)))
    return next((text for text in found if text is not None), None)


class Tail:
    """New lines of one step's log, each time it is asked."""

    def __init__(self, server: Server, run_id: str) -> None:
        self._server, self._run_id = server, run_id
        self._names: list[str] = []
        self._try, self._shown = 0, 0

    def lines(self, names: list[str], ended: bool) -> list[str]:
        """Whole lines that were not given yet, of the pods that there are by now; once the step has `ended` the last
        one, too."""
        self._names = names
        found: list[str] = []
        while self._try < len(self._names):
            text = read(self._server, self._run_id, self._names[self._try])
            # What a lost node wrote is lost with it: a later try may be there where this one is not.
            later = next((n for n in range(self._try + 1, len(self._names)) if self._there(n)), None)
            if text is not None:
                found += self._new(text, ended or later is not None)
            if later is None:
                break
            self._try, self._shown = later, 0
        return found

    def _there(self, number: int) -> bool:
        return read(self._server, self._run_id, self._names[number]) is not None

    def _new(self, text: str, ended: bool) -> list[str]:
        end = len(text) if ended else text.rfind("\n") + 1
        new, self._shown = text[self._shown : end], max(self._shown, end)
        return new.splitlines()


def _template(task: str, compiled: Mapping[str, Any]) -> str:
    """The name of the template of a task's pod."""
    spec = compiled.get("pipeline_spec", compiled)
    platform = compiled.get("platform_spec", {}).get("platforms", {}).get("kubernetes", {})
    metadata = platform.get("deploymentSpec", {}).get("executors", {}).get(f"exec-{task}", {}).get("podMetadata")
    tasks = spec.get("root", {}).get("dag", {}).get("tasks", {})
    for component in spec.get("components", {}).values():
        tasks = {**component.get("dag", {}).get("tasks", {}), **tasks}
    name = f"{'retry-' if 'retryPolicy' in tasks.get(task, {}) else ''}system-container-impl"
    if metadata is not None:
        name = f"metadata-{len(metadata.get('annotations', {}))}-{len(metadata.get('labels', {}))}-{name}"
    return name


def _fnv(text: str) -> int:
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value
