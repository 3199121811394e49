"""The pipeline's steps as commands: what a user types, or the ExecutorInput that KFP gives them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

#: Step → its input artifacts, and the steps that made them.
INPUTS: dict[str, dict[str, str]] = {
    "snapshot": {},
    "crop": {},
    "train": {"crops": "crop"},
    "evaluate": {"crops": "crop", "checkpoints": "train"},
    "select_best": {"metrics": "evaluate", "checkpoints": "train"},
    "convert": {"best": "select_best"},
}
OUTPUTS: dict[str, tuple[str, ...]] = {
    "snapshot": (),
    "crop": ("crops", "report"),
    "train": ("checkpoints", "metrics", "report"),
    "evaluate": ("metrics", "report"),
    "select_best": ("best", "decision"),
    "convert": ("model",),
}
PARAMETERS: dict[str, tuple[str, ...]] = {
    "snapshot": ("dataset", "base_model", "model_name", "store"),
    "crop": ("dataset", "dataset_revision", "store"),
    "train": ("base_model", "base_revision", "generation", "store"),
    "evaluate": ("store", "model_name"),
    "select_best": ("store",),
    "convert": ("store", "model_name"),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "crop": {
        "resolution": 64,
        "classes": ["pin-hole"],
        "reference_fraction": 0.5,
        "max_train_per_class": 4,
        "max_reference_per_class": 4,
    },
    "train": {
        "max_train_steps": 4,
        "checkpointing_steps": 2,
        "state_every": 1,
        "train_batch_size": 2,
        "learning_rate": 1e-3,
        "augment": "none",
        "num_threads": 1,
    },
    "evaluate": {
        "images_per_class": 4,
        "num_inference_steps": 2,
        "guidance_scale": 1,
        "batch_size": 2,
        "images_kept": 2,
        "num_threads": 1,
    },
    # The last checkpoint is as good as any for what is looked at here, and not the base, which is never trained.
    "select_best": {"allow_base": False},
    "convert": {"compare_images": False},
}
#: Snapshot's outputs, which later steps take as parameters.
SEEN = ("dataset_revision", "base_revision", "generation")


#: From a step, its parameters, and the folders of the runs that inputs and outputs belong to: arguments of
#: ``python -m components``.
Command = Callable[[str, Mapping[str, str], Path, Path], list[str]]


def output(folder: Path, step: str, name: str) -> Path:
    """Where a step's output artifact is, of a run in `folder`."""
    return folder / step / (f"{name}.html" if name in ("report", "decision") else name)


def as_user(step: str, values: Mapping[str, str], inputs: Path, outputs: Path) -> list[str]:
    """The arguments as typed."""
    flags = {name: values[name] for name in PARAMETERS[step]}
    flags |= {name: str(output(inputs, made_by, name)) for name, made_by in INPUTS[step].items()}
    flags |= {name: str(output(outputs, step, name)) for name in OUTPUTS[step]}
    settings = [part for k, v in SETTINGS.get(step, {}).items() for part in ("--set", f"{k}={json.dumps(v)}")]
    return [step, *(part for name, value in flags.items() for part in (f"--{name}", value)), *settings]


def as_kfp(
    step: str, values: Mapping[str, str], inputs: Path, outputs: Path, settings: Mapping[str, Any] = {}
) -> list[str]:
    """The same as an ExecutorInput; the step writes its output parameters to `executor_output`.

    Args:
        settings: of the step, in the place of those above or beside them.
    """
    parameters: dict[str, Any] = {name: values[name] for name in PARAMETERS[step]}
    parameters["config"] = {**SETTINGS.get(step, {}), **settings}
    if step == "snapshot":
        parameters["crop_settings"] = SETTINGS["crop"]

    def artifacts(folder: Path, made_by: Mapping[str, str]) -> dict[str, Any]:
        return {n: {"artifacts": [{"name": n, "uri": str(output(folder, by, n))}]} for n, by in made_by.items()}

    given = {
        "inputs": {"parameterValues": parameters, "artifacts": artifacts(inputs, INPUTS[step])},
        "outputs": {
            "artifacts": artifacts(outputs, dict.fromkeys(OUTPUTS[step], step)),
            "outputFile": str(executor_output(outputs, step)),
        },
    }
    return [step, json.dumps(given)]


def executor_output(folder: Path, step: str) -> Path:
    """The file that KFP reads a step's output parameters from."""
    return folder / step / "executor_output.json"


def printed(log: Path) -> dict[str, str]:
    """The output parameters that a step, called as a user does, has printed in the end."""
    text = log.read_text()
    values: dict[str, str] = json.loads(text[text.rindex("{\n") :])
    return values
