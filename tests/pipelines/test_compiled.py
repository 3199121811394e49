"""What a cluster gets: the committed output of both shipped profiles, and each setting in its spec."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.components import load_component_from_file
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec import pipeline_spec_pb2

from components import images
from components.storage.access import Access
from pipelines.cluster import profile as profiles
from tests.pipelines.golden import FOLDER, REFERENCES, SHIPPED, compile_into


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One golden file's two documents, and the profile that made it."""

    path: Path
    profile: profiles.Profile
    spec: dict[str, Any]
    platform: dict[str, Any]

    def container(self, step: str) -> dict[str, Any]:
        found: dict[str, Any] = self.spec["deploymentSpec"]["executors"][f"exec-{_dashed(step)}"]["container"]
        return found

    def task(self, step: str) -> dict[str, Any]:
        found: dict[str, Any] = self.spec["root"]["dag"]["tasks"][_dashed(step)]
        return found

    def pod(self, step: str) -> dict[str, Any]:
        found: dict[str, Any] = self.platform["deploymentSpec"]["executors"][f"exec-{_dashed(step)}"]
        return found


def _dashed(step: str) -> str:
    return step.replace("_", "-")


@pytest.fixture(scope="module", params=SHIPPED)
def compiled(request: pytest.FixtureRequest) -> Compiled:
    path = FOLDER / f"{request.param}.yaml"
    spec, platforms = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    made_by = profiles.load(request.param, REFERENCES if request.param == "gpu" else None)
    return Compiled(path, made_by, spec, platforms["platforms"]["kubernetes"])


def test_the_committed_file_is_what_the_code_makes(compiled: Compiled, tmp_path: Path) -> None:
    made = compile_into(tmp_path, compiled.path.stem).read_text(encoding="utf-8")
    assert made == compiled.path.read_text(encoding="utf-8"), "renew it with: make golden"


def test_it_is_kfps_intermediate_representation(compiled: Compiled) -> None:
    load_component_from_file(str(compiled.path))
    # Strict: a field that KFP does not know is an error.
    json_format.ParseDict(compiled.spec, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict({"platforms": {"kubernetes": compiled.platform}}, pipeline_spec_pb2.PlatformSpec())
    for step in images.STEPS:
        json_format.ParseDict(compiled.pod(step), KubernetesExecutorConfig())


def test_it_holds_no_credential_and_no_code(compiled: Compiled) -> None:
    text = compiled.path.read_text(encoding="utf-8")
    assert str(Path.home()) + "/" not in text
    assert not re.search(r"\b(pip install|import |def |sh -c|/bin/)", text)
    for step in images.STEPS:
        container = compiled.container(step)
        assert container["command"] == ["python3", "-m", "components", step]
        assert container["args"] == ["{{$}}"]
        assert "env" not in container
    # Of the store's keys there are names alone: what is bound to a variable is a key of a secret.
    named = re.findall(r"^.*STORE_(?:ACCESS_KEY_ID|SECRET_ACCESS_KEY).*$", text, flags=re.MULTILINE)
    assert named
    assert all(re.fullmatch(r"\s*-? ?(envVar|secretKey): STORE_\w+", line) for line in named)


@pytest.mark.parametrize("step", images.STEPS)
def test_image_resources_devices_and_retries_are_in_the_pipeline_spec(compiled: Compiled, step: str) -> None:
    own = getattr(compiled.profile.steps, step)
    container, task = compiled.container(step), compiled.task(step)
    assert container["image"] == compiled.profile.images.reference(step)
    assert container["resources"]["resourceCpuRequest"] == own.cpu
    assert container["resources"]["resourceMemoryRequest"] == own.memory
    assert container["resources"]["resourceMemoryLimit"] == own.memory
    device = container["resources"].get("accelerator", {})
    expected = ("nvidia.com/gpu", "1") if own.accelerator else (None, None)
    assert (device.get("resourceType"), device.get("resourceCount")) == expected
    assert ("retryPolicy" in task) == (step in ("train", "evaluate"))
    if own.retries:
        policy = task["retryPolicy"]
        assert policy["maxRetryCount"] == own.retries.count
        seconds = int(policy["backoffMaxDuration"].removesuffix("s"))
        assert seconds > own.timeout * (own.retries.count + 1)


@pytest.mark.parametrize("step", images.STEPS)
def test_volumes_names_nodes_labels_user_and_timeout_are_in_the_platform_spec(compiled: Compiled, step: str) -> None:
    own, pod = getattr(compiled.profile.steps, step), compiled.pod(step)
    assert int(pod["activeDeadlineSeconds"]) == own.timeout
    mounts = {mount["mountPath"]: mount for mount in pod["emptyDirMounts"]}
    assert mounts["/tmp"].get("sizeLimit") == own.tmp
    assert mounts.get("/dev/shm", {}).get("sizeLimit") == own.shm
    assert mounts.get("/dev/shm", {"medium": "Memory"})["medium"] == "Memory"
    assert {secret["secretName"] for secret in pod["secretAsEnv"]} == {compiled.profile.store.secret}
    assert {given["configMapName"] for given in pod["configMapAsEnv"]} == {compiled.profile.store.config_map}
    assert [taint["key"] for taint in pod.get("tolerations", [])] == [taint.key for taint in own.tolerations]
    assert pod["podMetadata"]["labels"]["app.kubernetes.io/part-of"] == "defect-diffusion"
    assert pod["securityContext"] == {"runAsUser": "1000", "runAsGroup": "1000", "runAsNonRoot": True}


def test_a_gpu_is_asked_for_by_train_and_evaluate_of_the_gpu_profile_alone() -> None:
    asked = {}
    for name in SHIPPED:
        spec = next(yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))
        executors = spec["deploymentSpec"]["executors"]
        asked[name] = {step for step, one in executors.items() if "accelerator" in one["container"]["resources"]}
    assert asked == {"kind": set(), "gpu": {"exec-train", "exec-evaluate"}}


def test_a_shard_gets_what_evaluate_gets(tmp_path: Path) -> None:
    path = compile_into(tmp_path, "gpu", ["evaluate.shards=2"])
    spec, platform = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    executors = spec["deploymentSpec"]["executors"]
    of_step, of_shard = (executors[f"exec-{name}"]["container"] for name in ("evaluate", "draw"))
    assert of_shard.pop("command") != of_step.pop("command")
    assert of_shard == of_step
    assert of_shard["resources"]["accelerator"]["resourceCount"] == "1"
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert pods["exec-draw"] == pods["exec-evaluate"]
    (loop,) = (component for name, component in spec["components"].items() if name.startswith("comp-for-loop"))
    assert loop["dag"]["tasks"]["draw"]["retryPolicy"] == spec["root"]["dag"]["tasks"]["evaluate"]["retryPolicy"]


def test_of_runs_their_deadline_and_how_long_pods_are_kept(compiled: Compiled) -> None:
    assert compiled.platform["pipelineConfig"] == {
        "activeDeadlineSeconds": compiled.profile.deadline,
        "resourceTtlOnSuccess": compiled.profile.ttl_after_success,
        "resourceTtlOnFailure": compiled.profile.ttl_after_failure,
    }


def test_only_what_is_named_by_digest_is_answered_from_a_cache(compiled: Compiled) -> None:
    cached = {step: compiled.task(step)["cachingOptions"].get("enableCache", False) for step in images.STEPS}
    digests = all("@sha256:" in compiled.container(step)["image"] for step in images.STEPS)
    assert cached == {step: digests and step != "snapshot" for step in images.STEPS}


def test_a_steps_variables_are_those_that_reach_the_store(compiled: Compiled) -> None:
    pod = compiled.pod("train")
    bound = [
        pair["envVar"] for kind in ("configMapAsEnv", "secretAsEnv") for one in pod[kind] for pair in one["keyToEnv"]
    ]
    assert not any(name.startswith("AWS_") for name in bound), "KFP's launcher would read them too"
    values = dict.fromkeys(bound, "value") | {"STORE_ENDPOINT_URL": "http://store:8333", "STORE_CA_BUNDLE": ""}
    access = Access.from_env("s3", values)
    assert access.endpoint == "http://store:8333"
    assert access.region == "value"
    credentials = access.provider.retrieve()
    assert (credentials.access_key, credentials.secret_key, credentials.session_token) == ("value",) * 3
