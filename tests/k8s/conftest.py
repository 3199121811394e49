"""The manifests as kubectl renders them, without a cluster and without what lies on other machines."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

K8S = ROOT / "k8s"
#: What is rendered here; the folders below overlays/kind refer to KFP's own manifests on the network.
OVERLAYS = ("kind", "gpu", "gpu-with-components")
#: Those that an overlay on a cluster may add; what is for KFP's own objects is not among them.
COMPONENTS = ("kueue", "quota", "eks-pod-identity", "gke-workload-identity")

Manifest = dict[str, Any]


@pytest.fixture(scope="session")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Manifest]]:
    """Overlay → the objects in it."""
    copy = tmp_path_factory.mktemp("k8s") / "k8s"
    shutil.copytree(K8S, copy, ignore=shutil.ignore_patterns("store.env"))
    template = (copy / "base" / "store.env.template").read_text(encoding="utf-8")
    (copy / "overlays" / "kind" / "store.env").write_text(template.replace("=\n", "=canary\n"), encoding="utf-8")
    with_all = copy / "overlays" / "gpu-with-components"
    with_all.mkdir()
    (with_all / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "namespace": "team-a",
                "resources": ["../gpu"],
                "components": [f"../../components/{name}" for name in COMPONENTS],
            }
        )
    )
    return {name: render(copy / "overlays" / name) for name in OVERLAYS}


def render(folder: Path) -> list[Manifest]:
    """What ``kubectl apply -k`` would send."""
    program = os.environ.get("KUBECTL") or shutil.which("kubectl")
    if program is None:
        pytest.skip("kubectl is not installed: put it on the PATH or its path into the variable KUBECTL")
    done = subprocess.run([program, "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one object of this kind and name."""
    (found,) = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name]
    return found
