"""Every pod of ours is within the restricted Pod Security Standard, and the check of that finds what is not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.k8s.conftest import Manifest
from tests.k8s.pod_security import pod_specs, violations

GOOD: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "main",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
}


def test_every_pod_of_ours_is_restricted(overlays: dict[str, list[Manifest]]) -> None:
    pods = {
        f"{overlay} {manifest['kind']}/{manifest['metadata']['name']}": pod
        for overlay, manifests in overlays.items()
        for manifest in manifests
        for pod in pod_specs(manifest)
    }
    assert {"kind Job/defect-diffusion-bucket", "gpu CronJob/defect-diffusion-gc"} <= set(pods)
    assert {name: violations(pod) for name, pod in pods.items()} == {name: [] for name in pods}


def test_a_good_pod_passes() -> None:
    assert violations(GOOD) == []


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("hostNetwork", True, "hostNetwork"),
        ("hostPID", True, "hostPID"),
        ("securityContext.sysctls", [{"name": "a", "value": "b"}], "sysctls"),
        ("securityContext.runAsNonRoot", False, "main: runAsNonRoot is not true"),
        ("securityContext.runAsUser", 0, "main: runAsUser is 0"),
        ("securityContext.seccompProfile", {"type": "Unconfined"}, "main: no seccomp profile"),
        ("securityContext.seLinuxOptions", {"type": "spc_t"}, "main: seLinuxOptions"),
        ("containers.0.securityContext.runAsUser", 0, "main: runAsUser is 0"),
        ("containers.0.securityContext.privileged", True, "main: privileged"),
        ("containers.0.securityContext.allowPrivilegeEscalation", True, "main: allowPrivilegeEscalation is not false"),
        ("containers.0.securityContext.capabilities", {"drop": ["NET_RAW"]}, "main: capabilities are not dropped"),
        (
            "containers.0.securityContext.capabilities",
            {"drop": ["ALL"], "add": ["SYS_ADMIN"]},
            "main: capabilities are added",
        ),
        ("containers.0.securityContext.procMount", "Unmasked", "main: procMount"),
        ("containers.0.ports", [{"containerPort": 80, "hostPort": 80}], "main: hostPort"),
        ("containers.0.livenessProbe", {"httpGet": {"host": "169.254.169.254"}}, "main: a probe of another host"),
        ("volumes.0", {"name": "host", "hostPath": {"path": "/"}}, "volume host: hostPath"),
    ],
)
def test_what_is_not_allowed_is_found(path: str, value: object, expected: str) -> None:
    pod = copy.deepcopy(GOOD)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target: Any = pod
    for part in parents:
        target = target[part]
    target[last] = value
    assert violations(pod) == [expected]


@pytest.mark.parametrize(
    "manifest",
    [
        {"kind": "Pod", "spec": GOOD},
        {"kind": "Deployment", "spec": {"template": {"spec": GOOD}}},
        {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": GOOD}}}}},
    ],
    ids=lambda manifest: manifest["kind"],
)
def test_pods_are_found_in_what_makes_them(manifest: dict[str, Any]) -> None:
    assert list(pod_specs(manifest)) == [GOOD]
    assert list(pod_specs({"kind": "ConfigMap", "data": {}})) == []
