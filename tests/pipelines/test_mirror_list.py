"""What a cluster without internet must be given."""

from __future__ import annotations

import pytest

from components import images
from pipelines.__main__ import main
from tests.pipelines.golden import REFERENCES


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["mirror-list", *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_images_and_weights_are_listed_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--profile", "gpu", "--images", str(REFERENCES), "--set=base_model=s3://bucket/base-models/sd15"]
    said = listed(capsys, *flags, "--set=evaluate.clip=hf://openai/clip-vit-base-patch32")
    assert sum("@sha256:" in line for line in said) == len(images.STEPS)
    assert any(line.endswith("(k8s/base/gc.yaml)") for line in said)
    assert any("seaweedfs" in line for line in said)
    assert "  s3://bucket/base-models/sd15  (base_model: in the store already)" in said
    assert any(line.startswith("  hf://openai/clip-vit-base-patch32  (evaluate.clip: on the hub;") for line in said)


def test_one_of_the_two_is_bare(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, "images", "--profile", "kind") == sorted(images.image(step) for step in images.STEPS)
    assert listed(capsys, "weights", "--profile", "kind") == ["quickstart"]


def test_without_images_there_is_no_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mirror-list", "--profile", "gpu"]) == 2
    assert "6 problems" in capsys.readouterr().err
