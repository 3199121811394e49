"""What keeps a run's pods from running: KFP's API does not say, Kubernetes does.

Read with the user's kubectl, where there is one that may: an image that cannot be pulled, a resource that no node has
to spare, a quota, a secret that is not there; and how a try ended, where that tells more than its log. Where there is
none, nothing is found and nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components import images
from pipelines.remote import kubectl, retries

_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError")
#: What Argo says of a node that it does not try again for the time that has passed.
_OVER = ("Max duration limit", "Backoff would exceed", "Stopped with", "retry exceeded workflow deadline")
_NODE_NAME = "workflows.argoproj.io/node-name"


@dataclass(frozen=True, order=True)
class Obstacle:
    """Something that holds a run up, or that befell a try of a step."""

    what: str  #: with what to do about it; what may change is in brackets
    holds: bool = True  #: whether it holds the run up: False where the run goes on, or has another try


def look(namespace: str, context: str | None, run_id: str) -> list[Obstacle]:
    """What holds up a run, and what befell it."""
    found = kubectl.get(
        context, "pods,workflows.argoproj.io", "--namespace", namespace, "--selector", f"pipeline/runid={run_id}"
    )
    return sorted(set(of(found))) if found is not None else []


def of(listing: Mapping[str, Any]) -> Iterator[Obstacle]:
    """As `look`, in a list of pods and workflows as kubectl gives it."""
    for item in listing.get("items", []):
        if item.get("kind") == "Pod":
            yield from _of_pod(item)
        elif item.get("kind") == "Workflow":
            for node in (item.get("status", {}).get("nodes") or {}).values():
                yield from _of_node(node)


def _of_node(node: Mapping[str, Any]) -> Iterator[Obstacle]:
    step = _step(node.get("name", ""))
    if node.get("phase") in ("Pending", "Error", "Failed") and "exceeded quota" in node.get("message", ""):
        yield Obstacle(f"{step}: a quota of the namespace is used up ({node['message']})")
    elif _given_up(node):
        yield Obstacle(
            f"{step}: failed and was not tried again, whatever the profile says: the cluster's retryPolicy does not "
            f"let it; {retries.REMEDY}",
            holds=False,
        )


def _given_up(node: Mapping[str, Any]) -> bool:
    """Whether Argo left a step alone that had tries to spare: neither the time for them nor the run was over."""
    given = {one.get("name"): one.get("value") for one in (node.get("inputs") or {}).get("parameters") or []}
    return (
        node.get("type") == "Retry"
        and node.get("phase") in ("Failed", "Error")
        and len(node.get("children") or []) <= int(given.get("retry-max-count") or 0)
        and not node.get("message", "").startswith(_OVER)
    )


def _of_pod(pod: Mapping[str, Any]) -> Iterator[Obstacle]:
    step = _step(pod.get("metadata", {}).get("annotations", {}).get(_NODE_NAME, ""))
    status = pod.get("status", {})
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield Obstacle(f"{step}: {_unschedulable(condition.get('message', ''))}")
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = container.get("state", {}).get("waiting") or {}
        ended = container.get("state", {}).get("terminated") or {}
        if waiting.get("reason") in _PULL:
            yield Obstacle(
                f"{step}: the image {container.get('image')} cannot be pulled ({waiting['reason']}); push it, or "
                "correct the profile's images and pull_secrets"
            )
        elif waiting.get("reason") in _CONFIG:
            yield Obstacle(
                f"{step}: {waiting.get('message', waiting['reason'])}; k8s/README.md says what must be there"
            )
        elif ended.get("reason") == "OOMKilled":
            yield Obstacle(
                f"{step}: was ended for using more memory than the profile allows; raise "
                f"steps.{images.PARTS.get(step, step)}.memory",
                holds=False,
            )


def _unschedulable(message: str) -> str:
    short = sorted({found.rstrip(".") for found in re.findall(r"Insufficient ([\w./-]+)", message)})
    if short:
        return f"waits: no node has enough {' or '.join(short)} to spare ({message})"
    return f"waits: no node will have it; look at the profile's node_selector and tolerations ({message})"


def _step(path: str) -> str:
    """``…root(0).select-best(0).executor(1)`` → ``select_best``; in brackets are tries."""
    names = [part.partition("(")[0] for part in path.split(".")[1:]]
    inner = [name for name in names if not name.startswith(("executor", "root", "exit-handler"))]
    return inner[-1].replace("-", "_") if inner else "a pod"
