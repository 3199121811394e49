"""The base of a release: named by digest, and told by the images' labels. No daemon is needed."""

from __future__ import annotations

import pytest

from components.errors import UserError
from pipelines.container_images import __main__ as command_line
from pipelines.container_images.base import DIGEST_LABEL, NAME_LABEL, build_arguments, common, require_digest
from tests.conftest import ROOT

DIGEST = f"sha256:{'0123456789abcdef' * 4}"
PINNED = f"python:3.11-slim@{DIGEST}"


def labels(base: str) -> dict[str, str]:
    """What the Dockerfile makes of the build arguments."""
    given = build_arguments(base)
    return {NAME_LABEL: given["BASE_NAME"], DIGEST_LABEL: given["BASE_DIGEST"]}


@pytest.mark.parametrize("base", [PINNED, f"python@{DIGEST}", f"registry.example.com:5000/python:3.12@{DIGEST}"])
def test_a_digest_is_one_image_for_good(base: str) -> None:
    require_digest(base)
    assert build_arguments(base)["BASE"] == base
    assert common({"a": labels(base), "b": labels(base)}) == base


@pytest.mark.parametrize(
    "base",
    [
        "python:3.11-slim",
        "python",
        "python@sha256:0123",
        f"python@{DIGEST}0",
        f"python@sha512:{'0' * 64}",
        PINNED.upper(),
    ],
)
def test_a_release_on_a_tag_is_refused_before_anything_is_built(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["build", "--release", "--base", base]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: --base {base}: names no digest")
    assert said.err.count("@sha256:<64 hexadecimal digits>") == 1


@pytest.mark.parametrize("flags", [["--build-arg", "BASE=python:3.12"], ["--build-arg=BASE_DIGEST=sha256:1"]])
def test_a_releases_base_has_one_name(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["build", "--release", "--base", PINNED, "--", *flags]) == 2
    assert "a release's base is named by --base alone" in capsys.readouterr().err


def test_the_base_that_comes_with_the_project_is_no_releases(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["build", "--release"]) == 2
    assert "python:3.11-slim@sha256:<64" in capsys.readouterr().err


@pytest.mark.parametrize("other", [None, {}, labels("python:3.11-slim"), {NAME_LABEL: "", DIGEST_LABEL: ""}])
def test_images_that_were_not_built_from_a_digest_are_named(other: dict[str, str] | None) -> None:
    with pytest.raises(UserError, match=r"^b: not built from a base that is named by digest; .*RELEASE=1"):
        common({"a": labels(PINNED), "b": other})


def test_images_of_two_releases_are_none() -> None:
    with pytest.raises(UserError) as caught:
        common({"a": labels(PINNED), "b": labels(f"python:3.12-slim@{DIGEST}")})
    assert [problem.partition(",")[0] for problem in caught.value.problems] == [
        f"a: built from {PINNED}",
        f"b: built from python:3.12-slim@{DIGEST}",
    ]


def test_the_dockerfile_puts_the_labels_where_every_image_has_them() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    runtime = text.partition("FROM ${BASE} AS runtime\n")[2].partition("\nFROM ")[0]
    assert "ARG BASE_NAME BASE_DIGEST\n" in runtime
    assert f"{NAME_LABEL}=$BASE_NAME" in runtime
    assert f"{DIGEST_LABEL}=$BASE_DIGEST" in runtime
