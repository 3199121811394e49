"""The operator's guide: its commands are commands, and what needs a cluster is marked as that."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
import yaml

from pipelines.__main__ import parser
from tests.conftest import ROOT
from tests.k8s.conftest import K8S

GUIDE = (K8S / "README.md").read_text(encoding="utf-8")
#: Marks what has not been run on a cluster.
MARK = "◊"


def commands() -> Iterator[tuple[str, str]]:
    """Each indented command of the guide, and the heading it stands below."""
    heading, held = "", ""
    for line in GUIDE.splitlines():
        if line.startswith("#"):
            heading = line
        elif line.startswith("    ") and not line.startswith("    #"):
            held += re.sub(r"\s{2,}# .*", "", line).strip()
            if held.endswith("\\") or held.count("'") % 2 or held.count('"') % 2:
                held = held.removesuffix("\\") + " "
                continue
            yield heading, held
            held = ""


def python_commands() -> list[str]:
    return [command for _, command in commands() if "python -m pipelines" in command]


@pytest.mark.parametrize("command", python_commands())
def test_every_command_of_ours_is_one(command: str) -> None:
    words = shlex.split(command, comments=True)
    flags = parser().parse_args(words[words.index("pipelines") + 1 :])
    assert flags.command in (
        "submit",
        "status",
        "logs",
        "cancel",
        "outputs",
        "schedule",
        "mirror-list",
        "mirror",
        "dataset",
    )


def test_every_make_target_named_is_one() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {word for _, command in commands() if command.startswith("make ") for word in command.split()[1:2]}
    named |= set(re.findall(r"`make ([a-z-]+)", GUIDE))
    assert {"kind-up", "kind-run", "kind-down", "compile", "submit"} <= named
    assert named <= set(re.findall(r"^([a-z0-9-]+):", makefile, flags=re.MULTILINE))


def test_what_needs_a_cluster_is_marked() -> None:
    needing = [
        (heading, command)
        for heading, command in commands()
        if command.startswith(("kubectl", "make submit", "make kind")) or "-m pipelines s" in command
    ]
    assert len(needing) > 10
    assert [(heading, command) for heading, command in needing if not heading.endswith(MARK)] == []


def test_the_yaml_in_it_is_yaml() -> None:
    overlay = GUIDE.partition("# my-cluster/kustomization.yaml\n")[2].partition("\n\n")[0]
    found = yaml.safe_load("\n".join(line[4:] for line in overlay.splitlines()))
    assert found["kind"] == "Kustomization"


def test_every_file_and_link_is_there() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", GUIDE):
        assert (K8S / link).exists(), link
    listed = {
        name
        for row in re.findall(r"^\| (`.+?) \|", GUIDE, flags=re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    }
    for name in listed:
        if "/" in name and not name.startswith(("-", "http")):
            assert (K8S / name).exists() or name == "/pipeline", name
    assert {"base/", "kind/", "components/kueue/", "overlays/gpu/", "overlays/kind/"} <= listed
