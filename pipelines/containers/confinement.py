"""What a step's container sees and may do: the arguments with which every one of a run is created.

It sees the folder of the run's artifacts, and read-only the data set, the base model and the weights that the settings
name, each at its own path, so that a setting means the same place inside. It runs as the calling user, without a single
capability, on a read-only root file system with a /tmp in memory.

Network: the embedded store listens on 127.0.0.1 alone, and so does many a store of the user's own. Containers of such a
run share this machine's network. The other way, to let the store listen on the bridge's address, would open it to every
container of the machine, and firewalls commonly keep containers from the host's ports. A store elsewhere is reached
from a network of the container's own.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from components.base_model.places import CONFIG, kind_of
from components.errors import UserError
from components.progress import log
from pipelines.config import PipelineConfig
from pipelines.containers.daemon import STARTED_BY

#: Who steps run as where root calls: no user of this machine, so that nobody else may look into their processes.
UNPRIVILEGED = (65532, 65532)
#: Variables that mean the same inside: threads, devices, proxies, the model hub. Those of the store come on top.
_PASSED = (
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE",
)  # fmt: skip
#: Variables that name a file of certificates.
_CERTIFICATES = ("STORE_CA_BUNDLE", "AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_SHM = Path("/dev/shm")


def arguments(
    config: PipelineConfig, root: Path, store: Mapping[str, str], daemon: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of docker's ``containers.create``.

    Args:
        config: prepared; its local places are mounted.
        root: where steps write their artifacts; it is made, and given to the user that steps run as.
        store: the variables that reach the embedded store; empty where the user's own is used.
        daemon: what the daemon says of itself (``docker info``).

    Raises:
        UserError: for places that a container cannot see, and a network that it cannot share.
    """
    environment = _environment(store)
    options = [part.partition(",")[0] for part in daemon.get("SecurityOptions") or ()]
    shared = _on_this_machine(environment)
    if shared and "name=rootless" in options:
        raise UserError(
            "rootless Docker keeps containers from this machine's network, where the object store listens; use a store "
            "with another address (--set store=s3://bucket/prefix), or a daemon that is not rootless"
        )
    return {
        "environment": environment,
        "labels": {STARTED_BY: str(os.getpid())},
        "mounts": _mounts(config, root, environment),
        "network_mode": "host" if shared else "bridge",
        **_user(root),
        # Where the daemon maps users, ours is meant as it is; it needs this for the host's network anyway.
        "userns_mode": "host",
        "cap_drop": ["ALL"],
        # SELinux would keep containers from the user's folders, and relabelling these is not for us.
        "security_opt": ["no-new-privileges:true", *(["label=disable"] if "name=selinux" in options else [])],
        "read_only": True,
        "tmpfs": {"/tmp": f"mode=1777,size={daemon['MemTotal'] // 2}"},
        **({"shm_size": _total_bytes(_SHM)} if _SHM.is_dir() else {}),
        **_devices(daemon),
    }


def _environment(store: Mapping[str, str]) -> dict[str, str]:
    """The step's variables: of the embedded store alone, or else whatever reaches the user's own."""
    given = {name: os.environ[name] for name in _PASSED if name in os.environ}
    if store:
        return {**given, **store}
    return {**given, **{name: value for name, value in os.environ.items() if name.startswith(("STORE_", "AWS_"))}}


def _on_this_machine(environment: Mapping[str, str]) -> bool:
    """Whether the store's address is one of this machine alone."""
    for name in ("STORE_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if url := environment.get(name):
            host = urlsplit(url).hostname or ""
            try:
                return ipaddress.ip_address(host).is_loopback
            except ValueError:
                return host == "localhost"
    return False


def _mounts(config: PipelineConfig, root: Path, environment: Mapping[str, str]) -> list[Any]:
    from docker.types import Mount

    seen = _local_places(config)
    seen += [environment[name] for name in _CERTIFICATES if Path(environment.get(name, "/nowhere")).is_file()]
    return [
        Mount(str(root), str(root), type="bind"),
        *(Mount(place, place, type="bind", read_only=True) for place in dict.fromkeys(seen)),
    ]


def _local_places(config: PipelineConfig) -> list[str]:
    """Folders and files of this machine that the settings name."""
    settings = {
        "dataset": config.dataset,
        "base_model": config.base_model,
        **{f"evaluate.{name}": getattr(config.evaluate, name) for name in ("inception", "dinov2", "clip")},
    }
    # A word is no path: the name of a package with weights.
    named = {key: place for key, place in settings.items() if place and "://" not in place and os.sep in place}
    relative = [key for key, place in named.items() if not Path(place).is_absolute()]
    if relative:
        raise UserError(f"{', '.join(relative)}: inside a container only absolute paths mean the same place; give one")
    places = list(named.values())
    if "base_model" in named and kind_of(config.base_model) == "file":
        # What lies beside a single file and describes it.
        file = Path(config.base_model)
        places += [str(file.with_suffix(".yaml")), str(file.parent / CONFIG)]
    return [place for place in places if Path(place).exists()]


def _user(root: Path) -> dict[str, Any]:
    root.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        others = [str(group) for group in os.getgroups() if group not in (0, os.getegid())]
        return {"user": f"{os.geteuid()}:{os.getegid()}", "group_add": others}
    os.chown(root, *UNPRIVILEGED)
    return {"user": "{}:{}".format(*UNPRIVILEGED)}


def _total_bytes(mount: Path) -> int:
    found = os.statvfs(mount)
    return found.f_blocks * found.f_frsize


def _devices(daemon: Mapping[str, Any]) -> dict[str, Iterable[Any]]:
    """All GPUs, where there are any."""
    from docker.types import DeviceRequest

    if not Path("/dev/nvidiactl").exists():
        return {}
    if "nvidia" not in (daemon.get("Runtimes") or {}):
        log("there is a GPU, but Docker cannot pass it on (NVIDIA Container Toolkit); steps use the CPU")
        return {}
    return {"device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])]}
