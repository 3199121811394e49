"""A cluster profile: what the compiled pipeline says of images, resources, nodes and names of a cluster.

Read from a YAML file; every mistake is reported at once. `pipelines.cluster.placement` puts it into
the pipeline. Not covered: the objects that it names (``k8s/``), and what KFP cannot set for a pod: a
read-only root file system, an amount of ephemeral storage, a service account (which a run has).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from components import images
from components.given_settings import read_yaml
from components.settings import Settings, decode
from pipelines.cluster.values import (
    Cpu,
    Duration,
    LabelKey,
    LabelValue,
    Name,
    Resource,
    Size,
    cores,
    image_parts,
    size_in_bytes,
)
from pipelines.config import shipped

PROFILES = Path(__file__).parent.parent / "profiles"

#: Carried by every pod of a step: the network policies of `k8s/base` select by it.
PART_OF = ("app.kubernetes.io/part-of", "defect-diffusion")


class Images(Settings):
    """Image references. `loaded` comes first: what the others may be depends on it."""

    loaded: bool = Field(
        False,
        description="Images are loaded into the nodes under their tags (kind), and no registry knows their digests.",
    )
    pull_secrets: tuple[Name, ...] = Field((), description="Secrets with the registry's credentials.")
    snapshot: str | None = Field(None, description="Image of the snapshot step, with digest.")
    crop: str | None = Field(None, description="Image of the crop step, with digest.")
    train: str | None = Field(None, description="Image of the train step, with digest.")
    evaluate: str | None = Field(None, description="Image of the evaluate step, with digest.")
    select_best: str | None = Field(None, description="Image of the select_best step, with digest.")
    convert: str | None = Field(None, description="Image of the convert step, with digest.")

    @field_validator(*images.STEPS)
    @classmethod
    def _reference(cls, value: str | None, info: ValidationInfo) -> str | None:
        loaded = info.data.get("loaded", False)
        if value is None:
            if loaded:
                return images.image(str(info.field_name))
            raise ValueError("no image; push it and give its reference with digest, registry/name@sha256:…")
        _, tag, digest = image_parts(value)
        if loaded and (digest is not None or tag in (None, "latest")):
            raise ValueError(
                "a loaded image is named by a tag other than latest: anything else is pulled from a registry"
            )
        if not loaded and digest is None:
            raise ValueError(
                "names a tag, not a digest; KFP's cache keeps answers by reference, so other code under the same "
                "tag would be answered with old results; write registry/name@sha256:…"
            )
        return value

    def reference(self, step: str) -> str:
        """The image of `step`."""
        return str(getattr(self, step))


class Store(Settings):
    """Names of what tells a step where the object store is, in the namespace that runs are in."""

    config_map: Name = Field(
        "defect-diffusion-store", description="Config map with STORE_ENDPOINT_URL and, optionally, STORE_REGION."
    )
    secret: Name | None = Field(
        "defect-diffusion-store",
        description="Secret with STORE_ACCESS_KEY_ID, STORE_SECRET_ACCESS_KEY and, optionally, STORE_SESSION_TOKEN. "
        "null: the run's service account has a role of the cloud.",
    )
    ca_config_map: Name | None = Field(
        None,
        description="Config map with a certificate authority's ca.crt, mounted for STORE_CA_BUNDLE of `config_map`.",
    )


class Notify(Settings):
    """Who is told that a run has ended."""

    secret: Name = Field(description="Secret with WEBHOOK_URL, the address of a webhook that takes a JSON `text`.")
    only_failures: bool = Field(True, description="Say nothing of runs that succeeded.")
    page: str = Field("", description="Address of KFP's pages, for a link to the run.")


class Accelerator(Settings):
    """Devices of one kind."""

    type: Resource = Field("nvidia.com/gpu", description="The resource that the device plugin offers.")
    count: int = Field(1, ge=1, le=16, description="How many: for train as many as train.num_processes, else one.")


class Toleration(Settings):
    """A taint that a pod does not mind."""

    key: LabelKey | None = Field(None, description="The taint's key; not given: every taint.")
    operator: Literal["Exists", "Equal"] = Field("Exists", description="Equal compares the value as well.")
    value: LabelValue | None = Field(None, description="The taint's value, for Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="The taint's effect; not given: every effect."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Toleration:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("Exists compares no value; remove it or write operator: Equal")
        if self.operator == "Equal" and (self.key is None or self.value is None):
            raise ValueError("Equal compares a key's value; give both key and value")
        return self


class Retries(Settings):
    """Trying a step again: after a failure where Argo's ``retryPolicy`` says so (k8s/README.md)."""

    count: int = Field(ge=1, le=10, description="Tries after the first.")
    wait: Duration = Field(60, description="Time before the second try; doubled before each further one.")
    queueing: Duration = Field(
        86400, description="Time that all tries together may wait for a node or a queue before they run."
    )

    def longest(self, timeout: int) -> int:
        """Seconds from the start of the first try to the end of the last.

        Argo stops trying that long after the first try began, and KFP asks for one hour where nothing
        is given: a step that fails after an hour would never be tried again.
        """
        waits = sum(self.wait * 2**n for n in range(self.count))
        return timeout * (self.count + 1) + waits + self.queueing


class StepProfile(Settings):
    """One step's pod."""

    cpu: Cpu = Field(description="Cores that are reserved.")
    cpu_limit: Cpu | None = Field(None, description="Cores that may be used; not given: all that are free.")
    memory: Size = Field(description="Memory, reserved and at most.")
    accelerator: Accelerator | None = Field(None, description="Devices; not given: none.")
    timeout: Duration = Field(description="A try that runs for longer is ended. Waiting for a node does not count.")
    secret: Name | None = Field(
        None, description="Secret with the keys of a store's user of its own (k8s/policies); not given: store.secret."
    )
    shm: Size | None = Field(None, description="Size of /dev/shm, a part of `memory`; not given: 64Mi.")
    tmp: Size | None = Field(None, description="Size of /tmp on the node's disk; not given: unlimited.")
    node_selector: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="Labels that the node must have."
    )
    tolerations: tuple[Toleration, ...] = Field((), description="Taints of nodes that are accepted.")
    queue: Name | None = Field(None, description="Kueue's local queue; not given: not queued.")
    retries: Retries | None = Field(None, description="For train and evaluate alone: how often they are tried again.")

    @model_validator(mode="after")
    def _consistent(self) -> StepProfile:
        if self.shm is not None and size_in_bytes(self.shm) >= size_in_bytes(self.memory):
            raise ValueError(f"shm ({self.shm}) counts towards memory ({self.memory}); lower one or raise the other")
        if self.cpu_limit is not None and cores(self.cpu_limit) < cores(self.cpu):
            raise ValueError(f"cpu_limit ({self.cpu_limit}) is below cpu ({self.cpu}); raise it or leave it out")
        return self


class ShortStep(StepProfile):
    """A step that is not tried again."""

    @field_validator("retries")
    @classmethod
    def _once(cls, value: Retries | None) -> None:
        if value is not None:
            raise ValueError(
                "a step as short as this would only repeat its failure; train and evaluate alone run long enough to "
                "lose their node. Remove it"
            )


class Steps(Settings):
    """Every step's pod."""

    snapshot: ShortStep = Field(description="Lists and digests what is in the store.")
    crop: ShortStep = Field(description="Reads the data set, cuts crops.")
    train: StepProfile = Field(description="Fine-tunes.")
    evaluate: StepProfile = Field(description="Generates and measures.")
    select_best: ShortStep = Field(description="Compares numbers.")
    convert: ShortStep = Field(description="Rewrites and publishes the model.")


class Profile(Settings):
    """Everything that a cluster decides about the compiled pipeline."""

    images: Images = Field(default_factory=Images, description="The steps' images.")
    store: Store = Field(default_factory=Store, description="Where the object store's address and keys are.")
    user: int = Field(1000, ge=1, le=2**31 - 1, description="User id of every step; never root.")
    group: int = Field(1000, ge=1, le=2**31 - 1, description="Group id of every step.")
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, description="More labels of every step's pod.")
    caching: bool = Field(True, description="Let KFP answer steps other than snapshot from its cache.")
    notify: Notify | None = Field(None, description="Tell a webhook how runs end; not given: nobody is told.")
    deadline: Duration = Field(7 * 86400, description="A run that is not through by then is ended.")
    ttl_after_success: Duration = Field(86400, description="Pods of a good run are kept so long.")
    ttl_after_failure: Duration = Field(7 * 86400, description="Pods of a failed run are kept so long, for their logs.")
    steps: Steps = Field(description="Resources and places of every step.")

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        for step in images.STEPS:
            timeout = getattr(self.steps, step).timeout
            if timeout > self.deadline:
                raise ValueError(
                    f"steps.{step}.timeout ({timeout} s) is above deadline ({self.deadline} s), which ends the whole "
                    "run; raise deadline"
                )
        return self


def load(profile: str, references: Path | None = None) -> Profile:
    """The profile in a file, or one that comes with the project (``kind``, ``gpu``).

    `references` is a YAML file of step → image reference, as they were pushed; it takes the place of
    the profile's own.

    Raises:
        UserError: with a line for every mistake.
    """
    path = shipped(profile, PROFILES, "--profile")
    data: dict[str, Any] = read_yaml(path)
    given = data.get("images") or {}
    if references is not None and isinstance(given, Mapping):
        data["images"] = {**given, **read_yaml(references)}
    # An absent section is checked like an empty one: each missing image is named.
    data.setdefault("images", {})
    return decode(Profile, data, "profile")
