"""What KFP tells of a run's tasks: the nodes of Argo's graph, as KFP's compiler makes it of a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from components import images

WORKFLOW = "defect-diffusion-x7k2p"
NEVER = "1970-01-01T00:00:00Z"

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


def pod(step: str, template: str = "metadata-0-1-system-container-impl", attempt: str = "") -> str:
    """The name of a step's pod."""
    task = step.replace("_", "-")
    return f"{WORKFLOW}-{template}-{fnv(f'{WORKFLOW}.root.{task}.executor{attempt}')}"


def scene(state: str, **steps: str) -> Scene:
    """A look at a run that is in `state`, with the steps in theirs; ``CACHED`` is what the cache answered."""

    def play(run: dict[str, Any]) -> None:
        run["state"] = state
        run["finished_at"] = at(60) if state in ("SUCCEEDED", "FAILED", "CANCELED") else NEVER
        run["run_details"] = {"task_details": _tasks(state, steps)}

    return play


def done(**steps: str) -> Scene:
    """A look at a run that succeeded, every step of it but for those given."""
    return scene("SUCCEEDED", **{**dict.fromkeys(images.STEPS, "SUCCEEDED"), **steps})


def drawn_in_shards(shards: int, state: str) -> list[dict[str, Any]]:
    """What is told of the tasks that draw, between train and evaluate: their executors are in `state`."""
    begins = [1 + 5.0 * images.STEPS.index("train") + 4 + 0.1 * shard for shard in range(shards)]
    over = "SUCCEEDED" if state == "SKIPPED" else state
    return [t for b in begins for t in (_task("draw", over, b, b + 0.5), _task("executor", state, b, b + 0.5))]


def _tasks(state: str, steps: dict[str, str]) -> list[dict[str, Any]]:
    found = [_task("root-driver", "SUCCEEDED", 0, 0.1), _task("root", state, 0.1, 60)]
    for number, step in enumerate(step for step in images.STEPS if step in steps):
        name, begins = step.replace("_", "-"), 1 + 5.0 * number
        how = steps[step]
        found.append(_task(f"{name}-driver", "SUCCEEDED", begins - 0.5, begins))
        node = _task(name, "SUCCEEDED" if how == "CACHED" else how, begins, begins + 5)
        inside = f"{WORKFLOW}-{fnv(f'{WORKFLOW}.root.{name}.executor')}"
        node["child_tasks"] = [{"pod_name": inside}]
        found += [node, _task("executor", "SKIPPED" if how == "CACHED" else how, begins, begins + 5)]
    return found


def _task(name: str, state: str, start: float, end: float) -> dict[str, Any]:
    over = state in ("SUCCEEDED", "FAILED", "SKIPPED")
    times = {"create_time": at(start), "start_time": at(start), "end_time": at(end) if over else NEVER}
    return {"display_name": name, "state": state, **times}
