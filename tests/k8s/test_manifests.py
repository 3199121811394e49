"""The manifests: known to Kubernetes, and what the compiled pipeline names in them is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.storage.access import Access
from pipelines.__main__ import parser
from pipelines.cluster.placement import CA_FOLDER
from pipelines.remote import retries
from tests.k8s.conftest import K8S, OVERLAYS, Manifest, named, render
from tests.k8s.pod_security import pod_templates
from tests.pipelines.golden import FOLDER as COMPILED

#: Those that KFP 2.17 itself is tested on: the oldest and the newest.
VERSIONS = ("1.33", "1.36")


def pods_of(profile: str) -> list[dict[str, Any]]:
    """What the compiled pipeline says of its steps' pods."""
    _, platforms = yaml.safe_load_all((COMPILED / f"{profile}.yaml").read_text(encoding="utf-8"))
    return list(platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values())


def checked(manifests: list[Manifest], version: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Kubernetes' own schemas, unknown fields being errors; objects of other projects have none."""
    program = os.environ.get("KUBERNETES_VALIDATE") or shutil.which("kubernetes-validate")
    if program is None:
        pytest.skip("kubernetes-validate is not installed: pip install it, and put its path into KUBERNETES_VALIDATE")
    path = folder / "manifests.yaml"
    known = [manifest for manifest in manifests if "kueue.x-k8s.io" not in manifest["apiVersion"]]
    path.write_text(yaml.safe_dump_all(known), encoding="utf-8")
    return subprocess.run([program, "-k", version, "--strict", str(path)], capture_output=True, text=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_knows_every_field(
    overlays: dict[str, list[Manifest]], overlay: str, version: str, tmp_path: Path
) -> None:
    done = checked(overlays[overlay], version, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_field_that_kubernetes_does_not_know_is_found(overlays: dict[str, list[Manifest]], tmp_path: Path) -> None:
    job = named(overlays["kind"], "Job", "defect-diffusion-bucket")
    done = checked([{**job, "spec": {**job["spec"], "backoffLimt": 1}}], VERSIONS[-1], tmp_path)
    assert done.returncode != 0
    assert "backoffLimt" in done.stdout + done.stderr


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_of_it_is_in_one_namespace(overlays: dict[str, list[Manifest]], overlay: str) -> None:
    found = {manifest["metadata"].get("namespace") for manifest in overlays[overlay]}
    assert found == {"team-a" if overlay == "gpu-with-components" else "kubeflow"}
    subjects = named(overlays[overlay], "RoleBinding", "defect-diffusion")["subjects"]
    assert subjects == [{"kind": "ServiceAccount", "name": "defect-diffusion", "namespace": found.pop()}]


@pytest.mark.parametrize("profile", ["kind", "gpu"])
def test_what_the_compiled_pipeline_names_is_there(overlays: dict[str, list[Manifest]], profile: str) -> None:
    for pod in pods_of(profile):
        for given in pod["configMapAsEnv"]:
            data = named(overlays[profile], "ConfigMap", given["configMapName"])["data"]
            keys = {pair["configMapKey"] for pair in given["keyToEnv"]}
            assert given["optional"] or keys <= set(data)
        for given in pod["secretAsEnv"]:
            keys = {pair["secretKey"] for pair in given["keyToEnv"]}
            if profile == "kind":
                data = named(overlays[profile], "Secret", given["secretName"])["data"]
                assert given["optional"] or keys <= set(data)


def test_the_secrets_template_has_the_keys_that_steps_read() -> None:
    template = (K8S / "base" / "store.env.template").read_text(encoding="utf-8")
    keys = {line.partition("=")[0] for line in template.splitlines()}
    asked = {
        pair["secretKey"]
        for pod in pods_of("gpu")
        for given in pod["secretAsEnv"]
        if not given["optional"]
        for pair in given["keyToEnv"]
    }
    assert keys == asked


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_credential_is_in_them(overlays: dict[str, list[Manifest]], overlay: str) -> None:
    secrets = [manifest for manifest in overlays[overlay] if manifest["kind"] == "Secret"]
    assert [s["metadata"]["name"] for s in secrets] == (["defect-diffusion-store"] if overlay == "kind" else [])
    template = (K8S / "base" / "store.env.template").read_text(encoding="utf-8")
    assert all(line.endswith("=") for line in template.splitlines())


def test_the_stores_address_is_one_that_steps_accept_and_may_reach(overlays: dict[str, list[Manifest]]) -> None:
    for name in OVERLAYS:
        data = named(overlays[name], "ConfigMap", "defect-diffusion-store")["data"]
        access = Access.from_env("s3", {**data, "STORE_ACCESS_KEY_ID": "key", "STORE_SECRET_ACCESS_KEY": "secret"})
        assert access.endpoint == "http://seaweedfs.kubeflow:8333"
        opened = named(overlays[name], "NetworkPolicy", "defect-diffusion-kfp")["spec"]["egress"][0]["ports"]
        assert 8333 in {port["port"] for port in opened}


def test_a_private_authority_is_looked_for_where_the_pipeline_mounts_it() -> None:
    assert f"STORE_CA_BUNDLE: {CA_FOLDER}/ca.crt" in (K8S / "base" / "store.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("profile", ["kind", "gpu"])
def test_steps_accept_nothing_and_reach_only_what_is_listed(overlays: dict[str, list[Manifest]], profile: str) -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in overlays[profile] if m["kind"] == "NetworkPolicy"}
    for other in ("defect-diffusion-bucket", "defect-diffusion-gc"):
        policies.pop(other, None)
    for pod in pods_of(profile):
        labels = pod["podMetadata"]["labels"].items()
        for name, policy in policies.items():
            assert policy["podSelector"]["matchLabels"].items() <= labels, name
    deny = policies.pop("defect-diffusion-default-deny")
    assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in deny
    assert "egress" not in deny
    assert all(policy["policyTypes"] == ["Egress"] for policy in policies.values())
    opened = {port["port"] for policy in policies.values() for rule in policy["egress"] for port in rule["ports"]}
    assert opened == {53, 443, 6443, 8080, 8333, 8887}


def test_the_account_may_do_what_runs_need_and_no_more(overlays: dict[str, list[Manifest]]) -> None:
    rules = named(overlays["gpu"], "Role", "defect-diffusion")["rules"]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "create", "patch"}
    writable = [rule["resources"] for rule in rules if rule["verbs"] != ["get"]]
    assert writable == [["workflowtaskresults"]]
    for rule in rules:
        assert "*" not in [*rule["apiGroups"], *rule["resources"]]
        if rule["resources"] in (["secrets"], ["configmaps"]):
            assert rule["resourceNames"], "by name alone"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_clean_up_is_a_command_that_there_is_and_has_what_it_needs(
    overlays: dict[str, list[Manifest]], overlay: str
) -> None:
    job = named(overlays[overlay], "CronJob", "defect-diffusion-gc")["spec"]
    assert job["suspend"] is True, "until an overlay names its image"
    assert job["concurrencyPolicy"] == "Forbid"
    pod = job["jobTemplate"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "pipelines"]
    given = [one["configMapRef"]["name"] for one in container["envFrom"] if "configMapRef" in one]
    data: dict[str, str] = {}
    for name in given:
        data |= named(overlays[overlay], "ConfigMap", name)["data"]
    flags = parser().parse_args([re.sub(r"\$\((\w+)\)", lambda m: data[m[1]], arg) for arg in container["args"]])
    assert (flags.command, flags.store) == ("gc", "s3://defect-diffusion")
    assert Access.from_env("s3", {**data, "STORE_ACCESS_KEY_ID": "k", "STORE_SECRET_ACCESS_KEY": "s"}).endpoint
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    # Where the config map's STORE_CA_BUNDLE lies in the steps' pods, too.
    assert CA_FOLDER in [mount["mountPath"] for mount in container["volumeMounts"]]
    policy = named(overlays[overlay], "NetworkPolicy", "defect-diffusion-gc")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in policy
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 443, 8333}


def test_clean_ups_image_needs_the_packages_of_light_steps_alone() -> None:
    code = (
        "import sys\nfrom pipelines.__main__ import main\nfrom pipelines.cleanup import contents, plan, sweep\n"
        "assert main(['gc', '--store', 's3://bucket', '--keep', '0']) == 2\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=K8S.parent)
    assert not {"kfp", "kfp_server_api", "torch", "diffusers", "transformers"} & set(done.stdout.split())


def test_a_bound_is_only_where_it_is_asked_for(overlays: dict[str, list[Manifest]]) -> None:
    """It counts KFP's own pods and everybody's runs in the namespace."""
    bounds = {name: [m for m in overlays[name] if m["kind"] == "ResourceQuota"] for name in OVERLAYS}
    assert bounds["kind"] == bounds["gpu"] == []
    (bound,) = bounds["gpu-with-components"]
    assert bound["spec"]["hard"] == {"pods": "100", "requests.nvidia.com/gpu": "2"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_mesh_puts_its_proxy_into_a_pod(overlays: dict[str, list[Manifest]], overlay: str) -> None:
    labels = {
        f"{manifest['kind']}/{manifest['metadata']['name']}": template["metadata"].get("labels", {})
        for manifest in overlays[overlay]
        for template in pod_templates(manifest)
    }
    assert "CronJob/defect-diffusion-gc" in labels
    assert {name: found.get("sidecar.istio.io/inject") for name, found in labels.items()} == dict.fromkeys(
        labels, "false"
    )


def test_addresses_that_give_out_roles_are_open_only_where_that_is_asked_for(
    overlays: dict[str, list[Manifest]],
) -> None:
    """By default a step cannot ask for the role of its node."""

    def opened(overlay: str, labels: dict[str, str]) -> set[tuple[str, int]]:
        policies = [m["spec"] for m in overlays[overlay] if m["kind"] == "NetworkPolicy"]
        return {
            (peer["ipBlock"]["cidr"], port["port"])
            for policy in policies
            if policy["podSelector"]["matchLabels"].items() <= labels.items()
            for rule in policy.get("egress", [])
            for peer in rule["to"]
            if "ipBlock" in peer and peer["ipBlock"]["cidr"] != "0.0.0.0/0"
            for port in rule["ports"]
        }

    step = pods_of("gpu")[0]["podMetadata"]["labels"]
    job = named(overlays["gpu"], "CronJob", "defect-diffusion-gc")["spec"]["jobTemplate"]["spec"]["template"]
    assert opened("gpu", step) == opened("gpu", job["metadata"]["labels"]) == set()
    eks = {("169.254.170.23/32", 80), ("fd00:ec2::23/128", 80)}
    gke = {("169.254.169.254/32", 80), ("169.254.169.254/32", 988), ("169.254.169.252/32", 988)}
    assert opened("gpu-with-components", step) == eks | gke
    assert opened("gpu-with-components", job["metadata"]["labels"]) == eks


def test_the_queue_is_the_one_that_the_profile_names(overlays: dict[str, list[Manifest]]) -> None:
    queue = named(overlays["gpu-with-components"], "LocalQueue", "defect-diffusion")
    profile = (COMPILED.parents[2] / "pipelines" / "profiles" / "gpu.yaml").read_text(encoding="utf-8")
    assert f"# queue: {queue['metadata']['name']} " in profile


@pytest.mark.parametrize("folder", ["kfp", "kfp-cluster"])
def test_kfp_is_taken_from_one_commit_with_time_to_fetch_it(folder: str) -> None:
    text = (K8S / "overlays" / "kind" / folder / "kustomization.yaml").read_text(encoding="utf-8")
    (reference,) = yaml.safe_load(text)["resources"]
    assert re.fullmatch(
        r"https://github\.com/kubeflow/pipelines//manifests/kustomize/[\w/-]+\?ref=[0-9a-f]{40}&timeout=5m", reference
    )
    assert "release 2.17.0" in text


#: What KFP 2.17.0's manifests make Argo's controller do with every workflow.
STOCK = """
spec:
  ttlStrategy:
    secondsAfterCompletion: 3600
    secondsAfterSuccess: 3600
    secondsAfterFailure: 3600
  templateDefaults:
    retryStrategy:
      limit: '2'
      retryPolicy: OnError
"""


def test_on_kind_a_failed_step_is_tried_again(tmp_path: Path) -> None:
    """The kind overlay's own kustomization, with a stand-in for KFP's manifests."""
    shutil.copytree(K8S, tmp_path / "k8s")
    folder = tmp_path / "k8s" / "overlays" / "kind" / "kfp"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({**kustomization, "resources": ["manifests"]}))
    (folder / "manifests").mkdir()
    data = {"executor": "imagePullPolicy: IfNotPresent", "workflowDefaults": STOCK}
    controller = {"kind": "ConfigMap", "metadata": {"name": "workflow-controller-configmap"}, "data": data}
    (folder / "manifests" / "argo.yaml").write_text(yaml.safe_dump({"apiVersion": "v1", **controller}))
    (folder / "manifests" / "kustomization.yaml").write_text("namespace: kubeflow\nresources: [argo.yaml]\n")
    (made,) = render(folder)
    assert made["metadata"] == {"name": "workflow-controller-configmap", "namespace": "kubeflow"}
    assert made["data"]["executor"] == data["executor"]
    before, after = yaml.safe_load(STOCK)["spec"], yaml.safe_load(made["data"]["workflowDefaults"])["spec"]
    assert after == {**before, "templateDefaults": {"retryStrategy": {"limit": "0", "retryPolicy": "Always"}}}
    policy = retries.of(made)
    assert policy is not None
    assert policy.problem is None
