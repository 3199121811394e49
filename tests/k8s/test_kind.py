"""The scripts of the kind cluster, with programs that only write down how they were called. No cluster is made."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.__main__ import parser
from tests.conftest import ROOT
from tests.k8s.conftest import K8S, Manifest, named

_USED = ("grep", "sed", "od", "tr", "rm", "seq", "sleep", "cat", "env", "bash")
BASE = "place     s3://defect-diffusion/base-models/base--0123"
IMAGES = "defect-diffusion/crop:0.1.0\ndefect-diffusion/train:0.1.0"


class Machine:
    """A copy of k8s/, and a PATH with stand-ins for some programs and nothing that is not used."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin, self.called = folder / "project", folder / "bin", folder / "called"
        shutil.copytree(K8S, self.root / "k8s", ignore=shutil.ignore_patterns("store.env"))
        self.bin.mkdir()
        self.called.touch()
        for name in _USED:
            found = shutil.which(name)
            assert found is not None, name
            (self.bin / name).symlink_to(found)
        self.put("python", f'case "$*" in *mirror-list*) printf "{IMAGES}";; *mirror*) echo {BASE};; esac')

    def put(self, name: str, script: str = "") -> None:
        """A program that writes down how it was called, and then does what the script says."""
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.called}\n{script}\n', encoding="utf-8")
        path.chmod(0o755)

    def run(self, script: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(self.root / "k8s" / "kind" / script)], capture_output=True, text=True, timeout=60,
            env={"PATH": str(self.bin), "PYTHON": str(self.bin / "python"), **environ},
        )  # fmt: skip

    def calls(self) -> list[str]:
        return self.called.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def ready(machine: Machine, clusters: str = "") -> None:
    for name in ("docker", "git", "make", "kubectl"):
        machine.put(name)
    machine.put("kind", f'[ "$1 $2" != "get clusters" ] || echo "{clusters}"')


def test_all_programs_that_are_missing_are_named_with_where_to_get_them(machine: Machine) -> None:
    machine.put("docker")
    done = machine.run("up.sh")
    assert done.returncode == 2
    assert "error: kind is not installed: https://kind.sigs.k8s.io" in done.stderr
    assert "error: kubectl is not installed: https://kubernetes.io" in done.stderr
    assert "error: git is not installed" in done.stderr
    assert "docker" not in done.stderr
    assert machine.calls() == []
    assert machine.run("down.sh").returncode == 2
    assert machine.run("run.sh").returncode == 2


def test_a_docker_that_does_not_answer_is_said(machine: Machine) -> None:
    ready(machine)
    machine.put("docker", "exit 1")
    done = machine.run("up.sh")
    assert done.returncode == 2
    assert "Docker does not answer" in done.stderr


def test_up_makes_the_cluster_loads_the_images_and_waits(machine: Machine) -> None:
    ready(machine)
    machine.put("docker", '[ "$1" != image ]')
    done = machine.run("up.sh")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("Kubeflow Pipelines is at http://localhost:8080")
    on = "kubectl --context kind-defect-diffusion"
    assert [call for call in machine.calls() if not call.startswith(("docker", "python", "kind get"))] == [
        "make images",
        "kind create cluster --name defect-diffusion --config k8s/kind/cluster.yaml --wait 5m",
        "kind load docker-image --name defect-diffusion defect-diffusion/crop:0.1.0 defect-diffusion/train:0.1.0",
        f"{on} apply -k k8s/overlays/kind/kfp-cluster",
        f"{on} wait crd/applications.app.k8s.io --for condition=established --timeout=60s",
        f"{on} apply -k k8s/overlays/kind/kfp",
        f"{on} -n kubeflow delete job defect-diffusion-bucket --ignore-not-found",
        f"{on} apply -k k8s/overlays/kind",
        f"{on} -n kubeflow wait job/defect-diffusion-bucket --for condition=complete --timeout=30m",
        f"{on} -n kubeflow wait deployment --all --for condition=Available --timeout=20m",
    ]
    keys = machine.root / "k8s" / "overlays" / "kind" / "store.env"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    lines = dict(line.split("=") for line in keys.read_text().splitlines())
    assert set(lines) == {"STORE_ACCESS_KEY_ID", "STORE_SECRET_ACCESS_KEY"}
    assert len(lines["STORE_SECRET_ACCESS_KEY"]) == 48


def test_up_again_keeps_the_cluster_its_keys_and_the_images(machine: Machine) -> None:
    ready(machine, clusters="other defect-diffusion".replace(" ", "\n"))
    keys = machine.root / "k8s" / "overlays" / "kind" / "store.env"
    keys.write_text("STORE_ACCESS_KEY_ID=a\nSTORE_SECRET_ACCESS_KEY=b\n")
    assert machine.run("up.sh").returncode == 0
    assert keys.read_text().endswith("=b\n")
    assert not [call for call in machine.calls() if call.startswith(("make", "kind create"))]


@pytest.mark.parametrize("done_before", [False, True], ids=["a new cluster", "run again"])
def test_up_does_not_look_for_a_job_that_has_deleted_itself(machine: Machine, done_before: bool) -> None:
    """Deployments may take longer than the job's time to live, and one of an earlier call may end during this one."""
    ready(machine, clusters="defect-diffusion")
    job, old = machine.root / "job", machine.root / "old"
    if done_before:
        old.touch()
    machine.put(
        "kubectl",
        f'case "$*" in\n'
        f'*"delete job"*) rm -f {old} {job};;\n'
        f'*"apply -k k8s/overlays/kind") [ -e {old} ] || cat </dev/null >{job};;\n'
        f'*"wait deployment"*) rm -f {old} {job};;\n'
        f'*"wait job"*) rm -f {old}; [ -e {job} ];;\n'
        "esac",
    )
    done = machine.run("up.sh")
    assert done.returncode == 0, done.stderr


def test_up_says_where_to_look_when_the_bucket_is_not_made(machine: Machine) -> None:
    ready(machine, clusters="defect-diffusion")
    machine.put("kubectl", 'case "$*" in *"wait job"*) exit 1;; esac')
    done = machine.run("up.sh")
    assert done.returncode == 2
    assert "error: the store's bucket was not made: kubectl -n kubeflow logs job/defect-diffusion-bucket" in done.stderr


def test_run_gives_the_store_the_quickstart_and_follows_a_run(machine: Machine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ready(machine)
    assert "make kind-up makes it" in machine.run("run.sh").stderr
    ready(machine, clusters="defect-diffusion")
    assert "store.env is not there" in machine.run("run.sh").stderr
    keys = machine.root / "k8s" / "overlays" / "kind" / "store.env"
    keys.write_text("STORE_ACCESS_KEY_ID=a\nSTORE_SECRET_ACCESS_KEY=b\n")
    machine.put("kubectl", f"exec {sys.executable} -m http.server --bind 127.0.0.1 {port} >/dev/null 2>&1")
    machine.put("python", f'echo "$STORE_ENDPOINT_URL $STORE_ACCESS_KEY_ID" >>{machine.called}; echo "{BASE}"')
    done = machine.run("run.sh", STORE_PORT=str(port))
    assert done.returncode == 0, done.stderr
    calls = machine.calls()
    assert f"http://127.0.0.1:{port} a" in calls
    commands = [call.removeprefix("python ") for call in calls if call.startswith("python ")]
    assert commands[0] == "-m pipelines.quickstart.samples --out runs/.local/kind-boards"
    assert commands[1] == "-m pipelines dataset push --store s3://defect-diffusion runs/.local/kind-boards boards"
    assert commands[2] == "-m pipelines mirror --store s3://defect-diffusion pipelines/quickstart/base"
    for command in commands[1:]:
        parser().parse_args(command.split()[2:])
    flags = parser().parse_args(commands[3].split()[2:])
    assert (flags.command, flags.profile, flags.host) == ("submit", "kind", "http://localhost:8080")
    assert flags.context == "kind-defect-diffusion", "whatever kubectl's current one is"
    assert "base_model=s3://defect-diffusion/base-models/base--0123" in flags.set
    with socket.socket() as closed:
        assert closed.connect_ex(("127.0.0.1", port)) != 0, "the forwarded port is closed in the end"


def test_run_ends_as_the_run_does(machine: Machine) -> None:
    ready(machine, clusters="defect-diffusion")
    keys = machine.root / "k8s" / "overlays" / "kind" / "store.env"
    keys.write_text("STORE_ACCESS_KEY_ID=a\nSTORE_SECRET_ACCESS_KEY=b\n")
    with socket.create_server(("127.0.0.1", 0)) as store:
        machine.put("kubectl", "exec sleep 60")
        machine.put("python", f'case "$*" in *submit*) exit 3;; *mirror*) echo {BASE};; esac')
        assert machine.run("run.sh", STORE_PORT=str(store.getsockname()[1])).returncode == 3
    assert not [call for call in machine.calls() if "outputs" in call]


def test_down_deletes_the_cluster_and_its_keys(machine: Machine) -> None:
    ready(machine)
    keys = machine.root / "k8s" / "overlays" / "kind" / "store.env"
    keys.write_text("")
    assert machine.run("down.sh", CLUSTER="mine").returncode == 0
    assert machine.calls() == ["kind delete cluster --name mine"]
    assert not keys.exists()


def test_the_machines_port_leads_to_kfps_pages(overlays: dict[str, list[Manifest]]) -> None:
    cluster = yaml.safe_load((K8S / "kind" / "cluster.yaml").read_text(encoding="utf-8"))
    ((mapping,),) = [node["extraPortMappings"] for node in cluster["nodes"]]
    service = named(overlays["kind"], "Service", "defect-diffusion-ui")["spec"]
    assert service["ports"][0]["nodePort"] == mapping["containerPort"]
    assert mapping["listenAddress"] == "127.0.0.1"
    script = (K8S / "kind" / "common.sh").read_text(encoding="utf-8")
    assert f"URL=http://localhost:{mapping['hostPort']}\n" in script


def test_the_workflow_runs_targets_that_there_are() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "kind.yaml").read_text(encoding="utf-8"))
    steps = [step["run"] for step in workflow["jobs"]["kind"]["steps"] if "run" in step]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    asked = [line.split()[1] for step in steps for line in step.splitlines() if line.startswith("make ")]
    assert asked == ["kind-up", "kind-run"]
    assert all(f"\n{target}:" in makefile for target in asked)


@pytest.mark.parametrize("script", sorted(path.name for path in (K8S / "kind").glob("*.sh")))
def test_scripts_are_bash_and_can_be_run(script: str) -> None:
    path = K8S / "kind" / script
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
    assert os.access(path, os.X_OK) == (script != "common.sh")
