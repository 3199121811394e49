"""Kubernetes' restricted Pod Security Standard, as a function of a pod's specification.

Covers every control of the standard that a pod of Linux containers can break, as of Kubernetes 1.36. Stricter in one
point: what the standard leaves to a default (a seccomp profile that is not given) is a violation here, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
}


def pod_templates(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pods that an object makes, with their metadata."""
    spec = manifest.get("spec") or {}
    if manifest["kind"] == "Pod":
        yield manifest
    elif manifest["kind"] == "CronJob":
        yield spec["jobTemplate"]["spec"]["template"]
    elif isinstance(spec.get("template"), dict):
        yield spec["template"]


def pod_specs(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The specifications of the pods that an object makes."""
    for template in pod_templates(manifest):
        yield template["spec"]


def violations(pod: dict[str, Any]) -> list[str]:
    """What of the pod the standard does not allow; empty where all is well."""
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    context = pod.get("securityContext") or {}
    if context.get("sysctls"):
        found.append("sysctls")
    for volume in pod.get("volumes") or []:
        found += [f"volume {volume['name']}: {kind}" for kind in set(volume) - {"name"} - _VOLUMES]
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in pod.get(kind) or []:
            found += [f"{container['name']}: {what}" for what in _of_container(container, context)]
    return found


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext") or {}
    given = {**pod, **own}
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if own.get("privileged"):
        yield "privileged"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities are not dropped"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if given.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if given.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if (given.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "no seccomp profile"
    if (given.get("appArmorProfile") or {}).get("type", "RuntimeDefault") == "Unconfined":
        yield "no AppArmor profile"
    options = given.get("seLinuxOptions") or {}
    if (
        options.get("user")
        or options.get("role")
        or options.get("type", "container_t")
        not in (
            "container_t",
            "container_init_t",
            "container_kvm_t",
            "container_engine_t",
        )
    ):
        yield "seLinuxOptions"
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield "hostPort"
    probes = [container.get(f"{name}Probe") or {} for name in ("liveness", "readiness", "startup")]
    hooks = list((container.get("lifecycle") or {}).values())
    actions = [one.get(kind) or {} for one in [*probes, *hooks] for kind in ("httpGet", "tcpSocket")]
    if any(action.get("host") for action in actions):
        yield "a probe of another host"
