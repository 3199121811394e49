"""A step's boundary: how a plain function becomes a container's command.

A step is one function whose parameters say by their annotations what they are:

    def crop(config: CropConfig, dataset: str, crops: OutputPath, report: OutputPath) -> Result

    a `Settings` model      settings: a mapping in the ExecutorInput. The step's own are called config (``--config``
                            and ``--set``); another step's that it needs are given by a file (``--crop_settings``)
    str, int, float, bool   a parameter
    InputPath, OutputPath   where an artifact is, or is to be written

Two ways in, the same call:

* ``python -m components crop '{"inputs": …, "outputs": …}'``: KFP's ExecutorInput as JSON, one
  argument (``{{$}}`` in the component). The ExecutorOutput is written when the step succeeds.
* ``python -m components crop --dataset DIR --crops DIR …``: flags made from the signature, for
  plain ``docker run`` and for other workflow engines. Output parameters are printed as JSON.

Formats: ``ExecutorOutput`` of kfp-pipeline-spec's ``pipeline_spec.proto``, and what
`components.executor_input` reads. Not covered: what the steps do, and KFP itself, which is not needed here.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import signal
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from components.documents import shown
from components.errors import SettingsError, UserError, holds_credentials
from components.executor_input import ExecutorInput, local_path
from components.explained import explained
from components.given_settings import override, read_yaml
from components.settings import CREDENTIALS, Settings, decode

InputPath = Annotated[Path, "input"]
OutputPath = Annotated[Path, "output"]


@dataclass(frozen=True)
class Result:
    """What a step gives back beside its files: small values and artifact metadata, for KFP's UI."""

    parameters: dict[str, str | int | float] = field(default_factory=dict)
    metadata: dict[str, dict[str, str | int | float]] = field(default_factory=dict)


Step = Callable[..., "Result | None"]


@dataclass(frozen=True)
class Signature:
    """A step function's parameters, sorted by what they are."""

    settings: dict[str, type[Settings]]
    parameters: dict[str, type]
    inputs: list[str]
    outputs: list[str]
    defaults: dict[str, Any]

    @classmethod
    def of(cls, step: Step) -> Signature:
        """Read a step's signature.

        Raises:
            TypeError: for a parameter that is none of the kinds above (a defect of the step).
        """
        settings: dict[str, type[Settings]] = {}
        parameters: dict[str, type] = {}
        inputs, outputs = [], []
        hints = typing.get_type_hints(step, include_extras=True)
        declared = inspect.signature(step).parameters
        for name in declared:
            hint = hints[name]
            if hint == InputPath:
                inputs.append(name)
            elif hint == OutputPath:
                outputs.append(name)
            elif isinstance(hint, type) and issubclass(hint, Settings):
                settings[name] = hint
            elif hint in (str, int, float, bool):
                parameters[name] = hint
            else:
                raise TypeError(f"{step.__name__}: parameter {name}: {hint} is no setting, parameter or artifact")
        defaults = {n: p.default for n, p in declared.items() if p.default is not inspect.Parameter.empty}
        return cls(settings, parameters, inputs, outputs, defaults)


def main(name: str, step: Step, arguments: Sequence[str]) -> int:
    """Run `step` for the command line `arguments`; the exit status (see `components.errors`)."""
    try:
        if len(arguments) == 1 and arguments[0].lstrip().startswith("{"):
            _run_executor_input(name, step, arguments[0])
        else:
            _run_flags(name, step, arguments)
    except Exception as error:
        if (status := told(name, error)) is None:
            raise
        return status
    except KeyboardInterrupt:
        print(f"error: {name}: interrupted", file=sys.stderr, flush=True)
        return 128 + signal.SIGINT
    return 0


def heed_sigterm() -> None:
    """Let SIGTERM end the process by an exception, so that temporary files and threads are cleaned up.

    To be called before a step's libraries load: that takes seconds, and a container's first process ignores every
    signal that it has not asked for.
    """
    signal.signal(signal.SIGTERM, _terminated)


def told(name: str, error: Exception) -> int | None:
    """Print what the step called `name` ended with; the exit status, None for a defect of ours, to be raised."""
    if (found := explained(error, name)) is None:
        return None
    print(f"error: {name}: {found}", file=sys.stderr, flush=True)
    return found.status


def _terminated(signum: int, frame: Any) -> None:
    raise SystemExit(128 + signum)


def _run_executor_input(name: str, step: Step, text: str) -> None:
    signature = Signature.of(step)
    given = ExecutorInput.parse(text)
    call: dict[str, Any] = {}
    problems: list[str] = []
    for key, model in signature.settings.items():
        try:
            call[key] = decode(model, given.values.get(key), name if key == "config" else key)
        except SettingsError as error:
            problems += error.problems
    for key, kind in signature.parameters.items():
        if key not in given.values:
            if key not in signature.defaults:
                problems.append(f"parameter {key}: missing from the ExecutorInput")
        elif problem := _parameter_problem(kind, given.values[key]):
            problems.append(f"parameter {key}: {problem}")
        else:
            call[key] = kind(given.values[key])
    for names, artifacts in ((signature.inputs, given.inputs), (signature.outputs, given.outputs)):
        for key in names:
            if key in artifacts:
                call[key] = local_path(artifacts[key]["uri"])
            elif key not in signature.defaults:
                problems.append(f"artifact {key}: missing from the ExecutorInput")
    if problems:
        raise UserError(*problems)

    result = step(**call) or Result()
    _check(name, signature, result, call)
    written = {
        key: {"artifacts": [{**given.outputs[key], "metadata": result.metadata.get(key, {})}]}
        for key in signature.outputs
    }
    given.output_file.parent.mkdir(parents=True, exist_ok=True)
    given.output_file.write_text(
        json.dumps({"parameterValues": result.parameters, "artifacts": written}, allow_nan=False),
        encoding="utf-8",
    )


def _parameter_problem(kind: type, value: Any) -> str:
    """What is wrong with a parameter's value, empty where nothing is."""
    if isinstance(value, str) and holds_credentials(value):
        return CREDENTIALS
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, (str, int, float)):
        return f"{shown(value)} is no {kind.__name__}"
    try:
        kind(value)
        str(value).encode()  # half a surrogate pair is a ValueError
    except (ValueError, OverflowError):
        return f"{shown(value)} is no {kind.__name__}"
    return ""


def _check(name: str, signature: Signature, result: Result, call: Mapping[str, Any]) -> None:
    """Hold a step to its promise before KFP is told that it succeeded: these are defects of ours."""
    for key in signature.outputs:
        if not call[key].exists():
            raise RuntimeError(f"{name} succeeded but did not write its output {key} at {call[key]}")
    for artifact, metadata in result.metadata.items():
        if artifact not in signature.outputs:
            raise RuntimeError(f"{name} gave metadata for {artifact}, which is none of its outputs")
        for key, value in metadata.items():
            # NaN is no JSON; the launcher would fail a finished step over it.
            if isinstance(value, float) and not math.isfinite(value):
                raise RuntimeError(f"{name} gave {artifact}.{key} = {value}, which KFP cannot record")


def parser(name: str, step: Step) -> argparse.ArgumentParser:
    """The flags of `step`, made from its signature and documented by it."""
    signature = Signature.of(step)
    made = argparse.ArgumentParser(
        prog=f"python -m components {name}",
        description=inspect.getdoc(step),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_settings_help(signature),
        allow_abbrev=False,
    )
    made.add_argument("--config", metavar="FILE", type=Path, help="YAML file with the step's settings")
    for key in _others_settings(signature):
        made.add_argument(f"--{key}", metavar="FILE", type=Path, help="YAML file with settings of another step")
    made.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override one setting; may be repeated",
    )
    for key, kind in signature.parameters.items():
        made.add_argument(
            f"--{key}",
            type=kind,
            required=key not in signature.defaults,
            default=signature.defaults.get(key),
            metavar=kind.__name__.upper(),
        )
    for key in signature.inputs:
        made.add_argument(f"--{key}", type=Path, required=True, metavar="PATH", help="input artifact")
    for key in signature.outputs:
        made.add_argument(f"--{key}", type=Path, required=True, metavar="PATH", help="output, written here")
    return made


def _others_settings(signature: Signature) -> list[str]:
    """Names of the settings that are not the step's own."""
    return [key for key in signature.settings if key != "config"]


def _settings_help(signature: Signature) -> str:
    lines = []
    for name, model in signature.settings.items():
        lines.append(f"settings (for {'--config and --set' if name == 'config' else f'--{name}'}):")
        for key, info in model.model_fields.items():
            lines.append(f"  {key} = {info.get_default(call_default_factory=True)!r}")
            lines.append(f"      {info.description or ''}")
    return "\n".join(lines)


def _run_flags(name: str, step: Step, arguments: Sequence[str]) -> None:
    signature = Signature.of(step)
    flags = vars(parser(name, step).parse_args(arguments))
    overrides = flags.pop("set")
    files = {key: flags.pop(key) for key in ("config", *_others_settings(signature))}
    call: dict[str, Any] = dict(flags)
    for key, model in signature.settings.items():
        data = read_yaml(files[key]) if files[key] else {}
        own = key == "config"
        call[key] = decode(model, override(data, overrides) if own else data, name if own else key)
    problems = [f"--{k} {call[k]}: not found" for k in signature.inputs if not call[k].exists()]
    problems += [f"--{k}: {CREDENTIALS}" for k in signature.parameters if holds_credentials(str(call[k]))]
    if problems:
        raise UserError(*problems)
    result = step(**call) or Result()
    _check(name, signature, result, call)
    if result.parameters:
        print(json.dumps(result.parameters, indent=2))


def quiet_environment() -> None:
    """Keep libraries from reaching out and from drawing bars: a pod's log is no terminal."""
    for key, value in {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "DIFFUSERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        # Idle OpenMP threads that spin take the cores from the store and from the other steps.
        "OMP_WAIT_POLICY": "passive",
    }.items():
        os.environ.setdefault(key, value)
