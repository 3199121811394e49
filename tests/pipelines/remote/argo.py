"""What KFP tells of a run's tasks: the nodes of Argo's graph, as KFP's compiler makes it of a pipeline.

By KFP 2.17.0 (``backend/src/apiserver/server/api_converter.go``) and Argo 4.0.5 (``workflow/controller``): tasks come
in the order of their nodes' ids, all with the time at which the workflow was created, and without their own id, but
with those of what follows them in the graph. Stock KFP 2.17 gives every template a retry strategy: each node that is
executed then holds its tries. A node that is skipped or omitted has none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from components import images

WORKFLOW = "defect-diffusion-x7k2p"
#: What KFP writes of a run, and of a task, that has not ended.
NEVER, NOT_YET = "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"
#: Steps that the shipped profiles give retries.
RETRIED = ("train", "evaluate")

#: What becomes of a run before the next look at it.
Scene = Callable[[dict[str, Any]], None]


def at(minute: float) -> str:
    """A time of the run."""
    seconds = round(minute * 60)
    return f"2026-01-01T{1 + seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}Z"


def fnv(text: str) -> int:
    """FNV-1a, 32 bits, written anew: http://www.isthe.com/chongo/tech/comp/fnv."""
    value = 2166136261
    for byte in text.encode():
        value ^= byte
        value = value * 16777619 % 2**32
    return value


def pod(step: str, attempt: int = 0, stock: bool = True, inside: str = "root") -> str:
    """The name of the pod of a step's try; with `stock`, where every node has tries."""
    task, retried = step.replace("_", "-"), step in RETRIED
    template = f"metadata-0-1-{'retry-' if retried else ''}system-container-impl"
    nodes = [WORKFLOW, *inside.split("."), task]
    path = ".".join(f"{node}(0)" if stock else node for node in nodes) + ".executor"
    return f"{WORKFLOW}-{template}-{fnv(f'{path}({attempt})' if stock or retried else path)}"


def scene(state: str, **steps: str) -> Scene:
    """As `look`, at the steps that are named."""
    return look(state, steps)


def look(
    state: str, steps: Mapping[str, str], *, stock: bool = True, tries: Mapping[str, int] | None = None,
    inside: str = "root",
) -> Scene:  # fmt: skip
    """A look at a run that is in `state`, with the steps in theirs; ``CACHED`` is what the cache answered.

    Args:
        stock: whether every template has a retry strategy, as in KFP 2.17's own manifests.
        tries: step → how many it has had, all but the last of them failed.
        inside: the graph that holds the steps: ``root``, or ``root.exit-handler-1``.
    """

    def play(run: dict[str, Any]) -> None:
        run["state"] = state
        run["finished_at"] = at(60) if state in ("SUCCEEDED", "FAILED", "CANCELED") else NEVER
        run["run_details"] = {"task_details": _Graph(stock).of(state, steps, tries or {}, inside)}

    return play


def done(**steps: str) -> Scene:
    """A look at a run that succeeded, every step of it but for those given."""
    return look("SUCCEEDED", {**dict.fromkeys(images.STEPS, "SUCCEEDED"), **steps})


def drawn_in_shards(shards: int, state: str, stock: bool = True) -> list[dict[str, Any]]:
    """What is told of the tasks that draw, between train and evaluate: their executors are in `state`."""
    graph = _Graph(stock)
    for shard in range(shards):
        begins = 1 + 5.0 * images.STEPS.index("train") + 4 + 0.1 * shard
        place = graph.add(f"{WORKFLOW}.root.shards.{shard}.draw", "SUCCEEDED", begins, begins + 0.5)
        graph.add(f"{place}.executor", state, begins, begins + 0.5, tries=1 if state != "SKIPPED" else 0)
    return graph.tasks()


@dataclasses.dataclass
class _Node:
    state: str
    begins: float
    ends: float
    children: list[str] = dataclasses.field(default_factory=list)


class _Graph:
    """A workflow's nodes by their names."""

    def __init__(self, stock: bool) -> None:
        self.stock, self.nodes = stock, dict[str, _Node]()

    def add(
        self, name: str, state: str, begins: float, ends: float, after: str = "", tries: int = 1, own: bool = False
    ) -> str:
        """Add a node below the one that it comes `after`; the name of its last try, or its own.

        It has tries where its template has a retry strategy: everywhere in stock KFP, or one of its `own`.
        """
        if after:
            self.nodes[after].children.append(name)
        self.nodes[name] = _Node(state, begins, ends)
        if not (self.stock or own) or not tries:
            return name
        for number in range(tries):
            one = f"{name}({number})"
            self.nodes[name].children.append(one)
            self.nodes[one] = _Node(state if number == tries - 1 else "FAILED", begins + 0.1 * number, ends)
        return one

    def of(self, state: str, steps: Mapping[str, str], tries: Mapping[str, int], inside: str) -> list[dict[str, Any]]:
        """KFP's tasks of a run."""
        place = self.add(WORKFLOW, state, 0, 60)
        for number, name in enumerate(inside.split("."), 1):
            driver = self.add(f"{place}.{name}-driver", "SUCCEEDED", 0.1 * number, 0.1 * number, place)
            place = self.add(f"{place}.{name}", state, 0.1 * number, 60, driver)
        last = place
        for number, step in enumerate(step for step in images.STEPS if step in steps):
            begins, how = 1 + 5.0 * number, steps[step]
            task = f"{place}.{step.replace('_', '-')}"
            driver = self.add(f"{task}-driver", "SUCCEEDED", begins - 0.5, begins, last)
            last = self.add(task, "SUCCEEDED" if how == "CACHED" else how, begins, begins + 5, driver)
            executor, skipped = f"{last}.executor", how == "CACHED"
            found = self.add(
                executor, "SKIPPED" if skipped else how, begins, begins + 5, last,
                tries=0 if skipped else tries.get(step, 1), own=step in RETRIED,
            )  # fmt: skip
            if not self.stock:
                last = found
        if state == "FAILED":
            for step in [step for step in images.STEPS if step not in steps]:
                for name in (f"{step.replace('_', '-')}-driver", step.replace("_", "-")):
                    last = self.add(f"{place}.{name}", "SKIPPED", 59, 59, last, tries=0)
        return self.tasks()

    def tasks(self) -> list[dict[str, Any]]:
        """As KFP tells them."""
        found = {_id(name): _task(name, node) for name, node in self.nodes.items()}
        return [found[one] for one in sorted(found)]


def _id(name: str) -> str:
    return WORKFLOW if name == WORKFLOW else f"{WORKFLOW}-{fnv(name)}"


def _task(name: str, node: _Node) -> dict[str, Any]:
    over = node.state in ("SUCCEEDED", "FAILED", "SKIPPED")
    # A graph's children are those inside it and those after it.
    children = [{"pod_name": _id(child)} for child in node.children]
    return {
        "display_name": name.rpartition(".")[2],
        "state": node.state,
        "create_time": at(0),
        "start_time": at(node.begins),
        "end_time": at(node.ends) if over else NOT_YET,
        **({"child_tasks": children} if children else {}),
    }
