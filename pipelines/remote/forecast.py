"""What a submission would do, before it does it: images, steps, GPU time, disk, and what KFP's cache will answer.

Said where it can be read: the data set and the base model with the STORE_* variables, the rest from KFP's newest run of
the same experiment. What is not known is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components import images
from components.base_model import layout
from components.errors import Unavailable, UserError
from components.progress import duration
from components.storage import Store
from components.versions import pushed
from pipelines import plan
from pipelines.cluster.profile import Profile
from pipelines.config import PipelineConfig
from pipelines.pipeline import arguments
from pipelines.remote import retries, runs
from pipelines.remote.server import Server
from pipelines.remote.versions import Version
from pipelines.table import columns

#: Step → the pipeline's parameters that it is given, train's base by way of snapshot; a step is given what those before
#: it make, besides.
PARAMETERS = {
    "crop": ("crop_settings", "dataset", "store"),
    "train": ("train_settings", "base_model", "store"),
    "evaluate": ("evaluate_settings", "model_name", "store"),
    "select_best": ("select_best_settings", "store"),
    "convert": ("convert_settings", "model_name", "store"),
}


def describe(config: PipelineConfig, profile: Profile, server: Server, experiment: str, version: Version | None) -> str:
    """The plan of a submission, for a terminal; `version` is the pipeline's, None where it would be uploaded."""
    experiment_id = runs.find_experiment(server, experiment)
    found = runs.newest(server, experiment_id, 20) if experiment_id is not None else []
    done = [run for run in found if run.state == "SUCCEEDED"]
    policy = retries.look(server.access)
    tried = (retries.NOT_KNOWN if policy is None else policy.problem) if retries.asked_for(profile) else None
    lines = [
        *plan.overview(config, images_in(config.dataset)),
        f"disk         {plan.disk(config, weights_of(config.base_model), None)}, without crops and generated images",
        f"GPU time     {gpu_time(profile, done, config.evaluate.shards)}",
        f"pipeline     {'a new version would be uploaded' if version is None else version.name}",
        f"cache        {cached(profile, done[0] if done else None, arguments(config), version)}",
        *([f"retries      {tried}"] if tried is not None else []),
        "steps",
        *(f"  {line}" for line in columns(_steps(profile, policy))),
    ]
    return "\n".join(lines)


def images_in(dataset: str) -> list[str]:
    """What is known of a data set in the store: of a pushed one, what was counted when it was pushed."""
    if not dataset.startswith("s3://"):
        return ["not counted here: it is no pushed data set"]
    dataset = dataset.rstrip("/")
    place = pushed.without_version(dataset)
    try:
        home = Store.from_env(place)
        if not pushed.is_pushed(home):
            return ["not counted here: it is no pushed data set"]
        version = dataset[len(place) + 1 :] or pushed.versions(home)[-1]
        counted = pushed.manifest(home, version).made_by.get("annotations", {})
    except (UserError, Unavailable, IndexError) as error:
        why = "no version is complete" if isinstance(error, IndexError) else str(error).splitlines()[0]
        return [f"not counted: it cannot be read from here ({why})"]
    if "images" not in counted:
        return [f"version {version}; its annotations were not counted"]
    defects: Mapping[str, int] = counted["defects"]
    rows = columns([(name, f"{number:>5} defects") for name, number in sorted(defects.items())])
    return [f"version {version}: {counted['images']} images, annotations as {counted['format']}", *rows]


def weights_of(base_model: str) -> dict[str, int] | None:
    """Bytes of each part of a base model in the store; None where it cannot be read from here."""
    try:
        found = Store.from_env(base_model).manifest()
    except (UserError, Unavailable):
        return None
    if found is None:
        return None
    return {
        part: sum(e.bytes for e in found.files if e.path.startswith(f"{part}/") and e.path.endswith(".safetensors"))
        for part in layout.WEIGHTED
    }


def gpu_time(profile: Profile, done: Sequence[Any], shards: int) -> str:
    """What the newest run took that trained, the drawing of shards aside, and what the profile allows at most."""
    with_gpus = [step for step in images.STEPS if getattr(profile.steps, step).accelerator is not None]
    if not with_gpus:
        return "none: no step asks for a device"
    most = 0.0
    for step in with_gpus:
        own = getattr(profile.steps, step)
        # Each shard has a pod as evaluate's beside that one.
        pods = 1 + shards if step == "evaluate" and shards > 1 else 1
        most += own.timeout * (1 + (own.retries.count if own.retries else 0)) * own.accelerator.count * pods
    at_most = f"at most {duration(most)}"
    for run in done:
        took = {step.name: step for step in runs.steps(run)}
        if all(took[step].state == "SUCCEEDED" for step in with_gpus):
            hours = sum(took[s].seconds * getattr(profile.steps, s).accelerator.count for s in with_gpus)
            rest = ", the drawing of shards not counted" if shards > 1 else ""
            return (
                f"{duration(hours)} in the newest run that trained ({run.display_name}){rest}; at most {duration(most)}"
            )
    return f"not known, no run has trained yet; {at_most}, by the profile's timeouts and retries"


def cached(profile: Profile, last: Any, parameters: Mapping[str, Any], version: Version | None) -> str:
    """What KFP's cache will answer, by the newest run that succeeded."""
    if not profile.caching:
        return "answers nothing: the profile switches it off"
    if last is None:
        return "answers nothing: no run of this experiment has succeeded"
    reference = last.pipeline_version_reference
    if version is None or reference is None or reference.pipeline_version_id != version.version_id:
        return "not known: the newest run was of another version of the pipeline, with other images or resources"
    before = dict(last.runtime_config.parameters) if last.runtime_config else {}
    changed = [step for step, names in PARAMETERS.items() if any(before.get(n) != parameters[n] for n in names)]
    if not changed:
        return "answers every step but snapshot, unless data, base model or the store's generation changed"
    kept = list(PARAMETERS)[: list(PARAMETERS).index(changed[0])]
    begins = f"{changed[0]} runs, its settings are not those of the newest run ({last.display_name}), and all after it"
    return f"answers {', '.join(kept)} unless the data changed; {begins}" if kept else begins


def _steps(profile: Profile, policy: retries.Policy | None) -> list[tuple[str, str, str, str, str]]:
    rows = [("step", "CPU", "memory", "devices", "at most")]
    for step in images.STEPS:
        own = getattr(profile.steps, step)
        devices = f"{own.accelerator.count} × {own.accelerator.type}" if own.accelerator else "–"
        tries = ""
        if own.retries:
            count = own.retries.count
            tries = f", {policy.tries(count) if policy is not None else f'up to {count + 1} tries'}"
        rows.append((step, own.cpu, own.memory, devices, f"{duration(own.timeout)}{tries}"))
    return rows
