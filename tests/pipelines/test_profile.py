"""Cluster profiles: the shipped ones are valid and documented, and a mistake is named with its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from components import images
from components.errors import UserError
from components.settings import Settings
from pipelines.__main__ import main
from pipelines.cluster import profile as profiles
from pipelines.cluster.values import cores, image_parts, size_in_bytes
from pipelines.config import load as load_settings
from pipelines.pipeline import arguments, make_pipeline
from tests.pipelines.golden import REFERENCES

DIGEST = "@sha256:" + "0" * 64


def written(folder: Path, **changes: Any) -> str:
    """A profile with the given sections in place of the gpu profile's."""
    data = yaml.safe_load((profiles.PROFILES / "gpu.yaml").read_text(encoding="utf-8"))
    data["images"] = {step: f"registry.example.com/{step}{DIGEST}" for step in images.STEPS}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        target = data["steps"] if section in images.STEPS else data
        if name:
            target.setdefault(section, {})[name] = value
        else:
            target[section] = value
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return str(path)


def problems(profile: str, references: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        profiles.load(profile, references)
    return caught.value.problems


@pytest.mark.parametrize("path", sorted(profiles.PROFILES.glob("*.yaml")), ids=lambda p: p.stem)
def test_a_shipped_profile_is_valid_and_opens_with_its_command(path: Path) -> None:
    profiles.load(path.stem, REFERENCES if path.stem == "gpu" else None)
    assert f"make compile PROFILE={path.stem}" in path.read_text(encoding="utf-8").splitlines()[2]


def test_the_gpu_profile_asks_for_an_image_of_every_step() -> None:
    found = problems("gpu")
    assert [line.split(":")[0] for line in found] == [f"profile.images.{step}" for step in images.STEPS]
    assert "digest" in found[0]


def test_pushed_images_go_before_the_profiles_own(tmp_path: Path) -> None:
    pushed = tmp_path / "images.yaml"
    pushed.write_text(f"train: other.example.com:5000/train:1.0{DIGEST}\n")
    found = profiles.load(written(tmp_path), pushed).images
    assert found.reference("train") == f"other.example.com:5000/train:1.0{DIGEST}"
    assert found.reference("crop") == f"registry.example.com/crop{DIGEST}"


def test_a_tag_is_refused_with_the_reason(tmp_path: Path) -> None:
    (line,) = problems(written(tmp_path, images__train="registry.example.com/train:1.0"))
    assert line.startswith("profile.images.train: names a tag, not a digest")
    assert "cache" in line


def test_loaded_images_are_the_release_tags_and_never_pulled(tmp_path: Path) -> None:
    assert profiles.load("kind").images.reference("select_best") == images.image("select_best")
    for reference in ("train", "train:latest", f"train{DIGEST}"):
        (line,) = problems(written(tmp_path, images={"loaded": True, "train": reference}))
        assert line.startswith("profile.images.train: a loaded image is named by a tag other than latest")


def test_all_mistakes_are_named_together(tmp_path: Path) -> None:
    step = {"cpu": 1, "memory": "1Gi", "timeout": "1h"}
    found = problems(
        written(
            tmp_path,
            user=0,
            deadline="soon",
            store={"secret": "Not_A_Name"},
            labels={"two words": "x", "ok": "-no"},
            snapshot={**step, "retries": {"count": 1}},
            crop={**step, "cpu": "lots", "memory": "1GB"},
            train={**step, "shm": "1Gi", "accelerator": {"type": "gpu"}},
            evaluate={**step, "shm": "2Gi", "timout": "1h", "node_selector": {"gpu": True}},
            convert={**step, "cpu_limit": "500m"},
            select_best={**step, "timeout": 0, "tolerations": [{"operator": "Equal", "key": "a"}, {"value": "b"}]},
        )
    )
    text = "\n".join(found)
    for expected in (
        "profile.user: ",
        "profile.deadline: is no duration",
        "profile.store.secret: is no name",
        "profile.labels.two words",
        "profile.labels.ok: is no label value",
        "profile.steps.snapshot.retries: a step as short as this",
        "profile.steps.crop.cpu: is no amount of CPU",
        "profile.steps.crop.memory: is no size",
        "profile.steps.train.accelerator.type: is no accelerator",
        "profile.steps.evaluate.timout: unknown setting; did you mean 'timeout'?",
        "profile.steps.evaluate.node_selector.gpu: ",
        "profile.steps.convert: cpu_limit (500m) is below cpu (1)",
        "profile.steps.select_best.timeout: ",
        "profile.steps.select_best.tolerations.0: equal compares",
        "profile.steps.select_best.tolerations.1: exists compares no value",
    ):
        assert expected in text
    assert len(found) == 15


def test_shared_memory_is_a_part_of_the_steps_memory(tmp_path: Path) -> None:
    (line,) = problems(written(tmp_path, train__shm="32Gi"))
    assert "shm (32Gi) counts towards memory (32Gi)" in line


def test_a_run_is_given_the_time_that_its_steps_are_given(tmp_path: Path) -> None:
    (line,) = problems(written(tmp_path, deadline="11h"))
    assert "steps.train.timeout (43200 s) is above deadline (39600 s)" in line


def test_a_file_of_pushed_images_may_name_steps_alone(tmp_path: Path) -> None:
    pushed = tmp_path / "images.yaml"
    pushed.write_text(f"trian: registry.example.com/train{DIGEST}\n")
    (line,) = problems(written(tmp_path), pushed)
    assert line.startswith("profile.images.trian: unknown setting; did you mean 'train'?")


def test_everything_a_profile_can_say_reaches_the_pipeline(tmp_path: Path) -> None:
    """What the shipped profiles leave out."""
    path = written(
        tmp_path,
        images__pull_secrets=["registry"],
        store={"config_map": "where", "secret": None, "ca_config_map": "authority"},
        labels={"team": "inspection"},
        train__queue="gpus",
        convert__secret="keys-of-convert",
        train__cpu_limit=6,
        train__node_selector={"nvidia.com/gpu.product": "NVIDIA-L40S"},
        train__tolerations=[{"key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoExecute"}],
    )
    made = make_pipeline(load_settings("quickstart"), profile=profiles.load(path))
    platform = json_format.MessageToDict(made.platform_spec)["platforms"]["kubernetes"]
    pod = platform["deploymentSpec"]["executors"]["exec-train"]
    assert "secretAsEnv" not in pod, "a role of the cloud needs no secret"
    secrets = platform["deploymentSpec"]["executors"]["exec-convert"]["secretAsEnv"]
    assert {secret["secretName"] for secret in secrets} == {"keys-of-convert"}
    assert pod["configMapAsVolume"][0]["configMapName"] == "authority"
    assert pod["imagePullSecret"][0]["secretName"] == "registry"
    assert pod["nodeSelector"]["labels"] == {"nvidia.com/gpu.product": "NVIDIA-L40S"}
    assert pod["tolerations"][0] == {
        "key": "dedicated",
        "operator": "Equal",
        "value": "gpu",
        "effect": "NoExecute",
    }
    assert pod["podMetadata"]["labels"] == {
        "app.kubernetes.io/part-of": "defect-diffusion",
        "team": "inspection",
        "kueue.x-k8s.io/queue-name": "gpus",
    }
    spec = json_format.MessageToDict(made.pipeline_spec)
    container = spec["deploymentSpec"]["executors"]["exec-train"]["container"]
    assert container["resources"]["resourceCpuLimit"] == "6"


def test_people_are_told_in_the_end_where_the_profile_asks_for_it(tmp_path: Path) -> None:
    path = written(tmp_path, notify={"secret": "webhook", "page": "https://kfp.example.com"}, labels={"team": "a"})
    made = make_pipeline(load_settings("quickstart"), profile=profiles.load(path))
    spec = json_format.MessageToDict(made.pipeline_spec)
    tasks = spec["root"]["dag"]["tasks"]
    assert set(tasks) == {"exit-handler-1", "notify"}
    assert tasks["notify"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert tasks["notify"]["inputs"]["parameters"]["status"]["taskFinalStatus"] == {"producerTask": "exit-handler-1"}
    assert not tasks["notify"]["cachingOptions"].get("enableCache")
    inside = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert set(inside) == {step.replace("_", "-") for step in images.STEPS}
    assert inside["train"]["retryPolicy"]
    assert "outputDefinitions" not in spec["root"]
    assert set(spec["root"]["inputDefinitions"]["parameters"]) == set(arguments(load_settings("quickstart")))
    container = spec["deploymentSpec"]["executors"]["exec-notify"]["container"]
    assert container["image"] == f"registry.example.com/select_best{DIGEST}"
    assert container["command"] == ["python3", "-m", "components", "notify"]
    pods = json_format.MessageToDict(made.platform_spec)["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert pods["exec-notify"]["secretAsEnv"][0]["secretName"] == "webhook"
    assert pods["exec-notify"]["podMetadata"]["labels"] == pods["exec-crop"]["podMetadata"]["labels"]
    assert pods["exec-notify"]["securityContext"] == pods["exec-crop"]["securityContext"]


@pytest.mark.parametrize("value", ["1.5Gi", "4 Gi", "0Gi", "Gi", "4gi", 4])
def test_a_size_that_kubernetes_or_kfp_would_misread_is_refused(tmp_path: Path, value: object) -> None:
    (line,) = problems(written(tmp_path, crop__memory=value))
    assert line.startswith("profile.steps.crop.memory: ")


@pytest.mark.parametrize("value", ["1.5h", "h", "1w", "-1h", 0, True, None])
def test_a_duration_that_is_none_is_refused(tmp_path: Path, value: object) -> None:
    (line,) = problems(written(tmp_path, crop__timeout=value))
    assert line.startswith("profile.steps.crop.timeout: ")


def test_values_are_what_kubernetes_takes_them_for() -> None:
    assert size_in_bytes("4Gi") == 4 * 2**30
    assert size_in_bytes("3M") == 3_000_000
    assert size_in_bytes("7") == 7
    assert cores("500m") == 0.5
    assert cores("2.5") == 2.5


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("train", ("train", None, None)),
        ("team/train:1.0", ("team/train", "1.0", None)),
        (f"host:5000/a/b-c__d{DIGEST}", ("host:5000/a/b-c__d", None, DIGEST[1:])),
        (f"registry.example.com/a:v1{DIGEST}", ("registry.example.com/a", "v1", DIGEST[1:])),
    ],
)
def test_image_references_are_taken_apart(reference: str, parts: tuple[str, str | None, str | None]) -> None:
    assert image_parts(reference) == parts


@pytest.mark.parametrize(
    "reference", ["", "a b", "team/Train", "a@sha256:12", "a:", "https://host/a", "a/b@md5:1", "../a"]
)
def test_what_is_no_image_reference_is_refused(reference: str) -> None:
    with pytest.raises(ValueError, match="no image reference"):
        image_parts(reference)


@pytest.mark.parametrize(
    "model",
    [
        profiles.Profile,
        profiles.Images,
        profiles.Store,
        profiles.Notify,
        profiles.Steps,
        profiles.StepProfile,
        profiles.Accelerator,
        profiles.Toleration,
        profiles.Retries,
    ],
)
def test_every_setting_is_documented(model: type[Settings]) -> None:
    for name, info in model.model_fields.items():
        assert info.description, name


def test_the_command_compiles_with_a_profile(tmp_path: Path) -> None:
    output = tmp_path / "gpu.yaml"
    flags = ["compile", "--output", str(output), "--profile", "gpu"]
    assert main([*flags, "--images", str(REFERENCES)]) == 0
    assert "nvidia.com/gpu" in output.read_text(encoding="utf-8")


def test_the_command_writes_nothing_where_the_profile_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "gpu.yaml"
    assert main(["compile", "--output", str(output), "--profile", "gpu"]) == 2
    assert "6 problems" in capsys.readouterr().err
    assert main(["compile", "--output", str(output), "--profile", "nowhere"]) == 2
    assert "--profile nowhere: no such file; give a YAML file or one of gpu, kind" in capsys.readouterr().err
    assert main(["compile", "--output", str(output), "--images", str(REFERENCES)]) == 2
    assert "goes with --profile" in capsys.readouterr().err
    assert not output.exists()


def test_the_train_step_gets_a_device_for_each_of_its_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "gpu.yaml"
    flags = ["compile", "--output", str(output), "--profile", "gpu", "--images", str(REFERENCES)]
    assert main([*flags, "--set", "train.num_processes=2"]) == 2
    assert "make steps.train.accelerator.count of the profile the same" in capsys.readouterr().err
    assert not output.exists()
