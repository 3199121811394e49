"""What holds the parts apart: import directions, and a component's signature against its step's."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from components import images
from components.__main__ import load
from components.runtime import Signature
from tests.conftest import ROOT

SHARED = {
    path.stem
    for path in (ROOT / "components").iterdir()
    if (path.suffix == ".py" or (path / "__init__.py").is_file())
    and path.stem not in (*images.STEPS, "__init__", "__main__")
}
#: The steps, and what a cluster's profile adds to them.
COMPONENTS = (*images.STEPS, "notify")
#: Libraries that a light step's image does not hold.
HEAVY = {
    "torch",
    "huggingface_hub",
    "diffusers",
    "transformers",
    "accelerate",
    "torchmetrics",
    "safetensors",
    "matplotlib",
    "tensorboardX",
    "kfp",
}
LIGHT_STEPS = ("snapshot", "crop", "select_best")
#: The one step that looks into another: snapshot counts the crops that there would be, as `pipelines` does for its
#: plan, and by the same face of the crop step.
EXCEPTIONS = {"snapshot": {("crop", "config"), ("crop", "survey")}}


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def source_files(folder: str) -> list[Path]:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    return files


@pytest.mark.parametrize("step", images.STEPS)
def test_a_step_imports_shared_modules_and_its_own_folder_only(step: str) -> None:
    for path in source_files(f"components/{step}"):
        for name in imports(path):
            parts = name.split(".")
            assert parts[0] != "pipelines", f"{path} imports {name}"
            if parts[0] == "components" and len(parts) > 1:
                allowed = parts[1] in SHARED | {step} or tuple(parts[1:3]) in EXCEPTIONS.get(step, set())
                assert allowed, f"{path} imports {name}"


def test_shared_modules_import_no_step() -> None:
    for path in source_files("components"):
        if path.relative_to(ROOT / "components").parts[0] in (*images.STEPS, "__main__.py"):
            continue
        for name in imports(path):
            parts = name.split(".")
            assert parts[0] != "pipelines", f"{path} imports {name}"
            if parts[0] == "components" and len(parts) > 1:
                assert parts[1] in SHARED, f"{path} imports {name}"


def test_kfp_is_imported_by_component_files_and_pipelines_only() -> None:
    for path in source_files("components"):
        if path.name != "component.py":
            assert not any(name.split(".")[0] == "kfp" for name in imports(path)), path


@pytest.mark.parametrize("path", source_files("pipelines"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_pipelines_import_of_a_step_its_config_component_and_survey_only(path: Path) -> None:
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "components" and len(parts) > 1 and parts[1] in images.STEPS:
            assert len(parts) > 2, f"{path} imports {name}"
            assert parts[2] in ("config", "component", "survey"), f"{path} imports {name}"


@pytest.mark.parametrize("step", LIGHT_STEPS)
def test_a_light_step_loads_no_heavy_library(step: str) -> None:
    code = (
        "import sys; from components.__main__ import load; load(sys.argv[1]);"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code, step], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not HEAVY & set(done.stdout.split())


def test_help_loads_no_library_that_a_command_needs() -> None:
    code = (
        "import sys\nfrom pipelines.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not (HEAVY | {"minio", "numpy", "PIL", "pydantic"}) & set(done.stdout.splitlines()[-1].split())


def test_every_folder_with_a_component_is_known() -> None:
    folders = {p.name for p in (ROOT / "components").iterdir() if (p / "component.py").is_file()}
    assert folders == set(COMPONENTS)


def component_of(step: str) -> Any:
    module = __import__(f"components.{images.PARTS.get(step, step)}.component", fromlist=[step])
    return getattr(module, step)


@pytest.mark.parametrize("step", [*COMPONENTS, *images.PARTS])
def test_a_components_signature_is_its_steps(step: str) -> None:
    signature = Signature.of(load(step))
    spec = component_of(step).component_spec
    parameters = {name: given for name, given in (spec.inputs or {}).items() if not _is_artifact(given.type)}
    inputs = {name for name, given in (spec.inputs or {}).items() if _is_artifact(given.type)}
    outputs = {name for name, given in (spec.outputs or {}).items() if _is_artifact(given.type)}
    assert set(parameters) == set(signature.settings) | set(signature.parameters)
    assert inputs == set(signature.inputs)
    assert outputs == set(signature.outputs)
    kfp_types = {str: "String", int: "Integer", float: "Float", bool: "Boolean"}
    for name, kind in signature.parameters.items():
        assert parameters[name].type.upper() in (kfp_types[kind].upper(), "STRING" if kind is str else ""), name
    for name in signature.settings:
        assert parameters[name].type in ("Dict", "STRUCT", "JsonObject", "PipelineTaskFinalStatus"), name


def _is_artifact(type_: str) -> bool:
    return "@" in type_


@pytest.mark.parametrize("step", COMPONENTS)
def test_a_components_command_is_the_one_entry_point_with_one_argument(step: str) -> None:
    container = component_of(step).component_spec.implementation.container
    assert container.command == ["python3", "-m", "components", step]
    assert container.args == ["{{$}}"]


@pytest.mark.parametrize("step", COMPONENTS)
def test_every_setting_is_documented_where_it_is_declared(step: str) -> None:
    for model in Signature.of(load(step)).settings.values():
        for name, info in model.model_fields.items():
            assert info.description, f"{step}.{name}"


@pytest.mark.parametrize("step", COMPONENTS)
def test_a_step_says_what_it_does(step: str) -> None:
    assert inspect.getdoc(load(step))
    assert (ROOT / "components" / step / "README.md").is_file()


def test_pages_are_html_artifacts_so_that_kfp_shows_them() -> None:
    outputs = component_of("crop").component_spec.outputs
    assert outputs["report"].type.startswith(dsl.HTML.schema_title)
