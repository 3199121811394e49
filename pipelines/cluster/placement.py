"""A cluster profile put into the pipeline while it is compiled.

What goes where is KFP's: image, resources, accelerators and retries into the pipeline spec; names of
secrets and config maps, volumes, nodes, labels, user and timeout into the platform spec beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfp import dsl, kubernetes

from components.errors import UserError
from pipelines.cluster.profile import PART_OF, Notify, Profile, StepProfile, Store

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

#: Where a certificate authority is mounted: STORE_CA_BUNDLE is this folder's ca.crt.
CA_FOLDER = "/etc/defect-diffusion/ca"

_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_NOTIFIED_WITHIN = 300


def of_runs(profile: Profile) -> dsl.PipelineConfig:
    """What the profile says of a whole run."""
    return dsl.PipelineConfig(
        ttl_seconds_after_success=profile.ttl_after_success,
        ttl_seconds_after_failure=profile.ttl_after_failure,
        active_deadline_seconds=profile.deadline,
    )


def place(task: PipelineTask, step: str, profile: Profile) -> None:
    """Apply the profile to `step`'s task."""
    own: StepProfile = getattr(profile.steps, step)
    if not profile.caching:
        task.set_caching_options(False)
    _resources(task, own)
    _retries(task, own)
    _store(task, profile.store, own.secret or profile.store.secret)
    _volumes(task, own)
    _nodes(task, own)
    if own.queue is not None:
        kubernetes.add_pod_label(task, _QUEUE_LABEL, own.queue)
    _every_pod(task, profile)
    kubernetes.set_timeout(task, own.timeout)


def place_notification(task: PipelineTask, notify: Notify, profile: Profile) -> None:
    """Apply the profile to the task that tells people how a run ended."""
    task.set_caching_options(False)
    task.set_container_image(profile.images.reference("select_best"))
    task.set_cpu_request("50m")
    task.set_memory_request("128Mi")
    task.set_memory_limit("128Mi")
    kubernetes.use_secret_as_env(task, notify.secret, _same("WEBHOOK_URL"))
    kubernetes.empty_dir_mount(task, volume_name="tmp", mount_path="/tmp")
    _every_pod(task, profile)
    kubernetes.set_timeout(task, _NOTIFIED_WITHIN)


def check_processes(processes: int, profile: Profile) -> None:
    """Raise UserError unless the train step's devices are as many as its processes."""
    devices = profile.steps.train.accelerator
    if devices is not None and devices.count != processes:
        raise UserError(
            f"train.num_processes is {processes}, and the profile gives the step {devices.count} {devices.type}: make "
            "steps.train.accelerator.count of the profile the same"
        )


def _resources(task: PipelineTask, own: StepProfile) -> None:
    task.set_cpu_request(own.cpu)
    if own.cpu_limit is not None:
        task.set_cpu_limit(own.cpu_limit)
    task.set_memory_request(own.memory)
    task.set_memory_limit(own.memory)
    if own.accelerator is not None:
        task.set_accelerator_type(own.accelerator.type)
        task.set_accelerator_limit(own.accelerator.count)


def _retries(task: PipelineTask, own: StepProfile) -> None:
    if own.retries is not None:
        task.set_retry(
            num_retries=own.retries.count,
            backoff_duration=f"{own.retries.wait}s",
            backoff_factor=2.0,
            backoff_max_duration=f"{own.retries.longest(own.timeout)}s",
        )


def _store(task: PipelineTask, store: Store, secret: str | None) -> None:
    """The variables that `components.storage` reads; names of their own, as KFP's launcher reads AWS_*."""
    kubernetes.use_config_map_as_env(task, store.config_map, _same("STORE_ENDPOINT_URL"))
    kubernetes.use_config_map_as_env(task, store.config_map, _same("STORE_REGION", "STORE_CA_BUNDLE"), optional=True)
    if secret is not None:
        kubernetes.use_secret_as_env(task, secret, _same("STORE_ACCESS_KEY_ID", "STORE_SECRET_ACCESS_KEY"))
        kubernetes.use_secret_as_env(task, secret, _same("STORE_SESSION_TOKEN"), optional=True)
    if store.ca_config_map is not None:
        kubernetes.use_config_map_as_volume(task, store.ca_config_map, mount_path=CA_FOLDER)


def _same(*names: str) -> dict[str, str]:
    """Keys that are called like the variables they become."""
    return {name: name for name in names}


def _volumes(task: PipelineTask, own: StepProfile) -> None:
    # A root file system that an admission policy made read-only still leaves these two.
    kubernetes.empty_dir_mount(task, volume_name="tmp", mount_path="/tmp", size_limit=own.tmp)
    if own.shm is not None:
        kubernetes.empty_dir_mount(task, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit=own.shm)


def _nodes(task: PipelineTask, own: StepProfile) -> None:
    for key, value in own.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in own.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))


def _every_pod(task: PipelineTask, profile: Profile) -> None:
    for key, value in {**profile.labels, **dict([PART_OF])}.items():
        kubernetes.add_pod_label(task, key, value)
    kubernetes.set_security_context(task, run_as_user=profile.user, run_as_group=profile.group, run_as_non_root=True)
    if profile.images.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(profile.images.pull_secrets))
