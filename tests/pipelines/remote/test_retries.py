"""Whether steps are tried again as the profile has it: told by the config map of Argo's controller."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.__main__ import main
from pipelines.remote import retries
from tests.conftest import ROOT
from tests.pipelines.remote.conftest import SETTINGS
from tests.pipelines.remote.kfp_server import KfpServer

pytestmark = pytest.mark.usefixtures("quick")

OURS = yaml.safe_load((ROOT / "k8s/components/retries/retries.yaml").read_text(encoding="utf-8"))


def config_map(**strategy: str) -> dict[str, Any]:
    """As KFP 2.17.0's manifests make it, with this strategy."""
    spec = {"ttlStrategy": {"secondsAfterCompletion": 3600}, "templateDefaults": {"retryStrategy": strategy}}
    return {"kind": "ConfigMap", "data": {"executor": "", "workflowDefaults": yaml.safe_dump({"spec": spec})}}


STOCK = config_map(limit="2", retryPolicy="OnError")


@pytest.mark.parametrize(
    ("found", "tries", "problem"),
    [
        (OURS, "3 tries", None),
        (STOCK, "1 try, up to 3 where its pod is deleted", "is not tried again: retryPolicy is OnError"),
        (config_map(limit="0"), "3 tries, 1 where its pod is deleted", "a step whose pod is deleted"),
        ({"data": {}}, "3 tries, 1 where its pod is deleted", "a step whose pod is deleted"),
        (config_map(limit="2", expression="true"), "3 tries", "the graph around each, is tried again, too (limit 2)"),
        (config_map(retryPolicy="Always"), "3 tries", "is tried again, too (limit none)"),
        (config_map(limit="1"), "3 tries, 1 where its pod is deleted", "is tried again, too (limit 1)"),
        (config_map(limit="2", retryPolicy="OnTransientError"), "1 try", "retryPolicy is OnTransientError"),
    ],
)
def test_what_a_policy_makes_of_two_retries(found: dict[str, Any], tries: str, problem: str | None) -> None:
    policy = retries.of(found)
    assert policy is not None
    assert policy.tries(2) == tries
    assert (policy.problem is None) if problem is None else (problem in str(policy.problem))


@pytest.mark.parametrize(
    "data", [{"config": "workflowDefaults: {}"}, {"workflowDefaults": "{"}, {"workflowDefaults": "a"}]
)
def test_a_config_map_that_is_not_understood_says_nothing(data: dict[str, str]) -> None:
    assert retries.of({"data": data}) is None


@pytest.fixture
def flags(
    kfp: KfpServer, kubectl: Callable[[str], Path], tmp_path: Path
) -> Callable[[dict[str, Any] | None], list[str]]:
    """A cluster with a config map, or one that may not be read; how it is reached."""

    def put(found: dict[str, Any] | None) -> list[str]:
        (tmp_path / "map.json").write_text(json.dumps(found) if found is not None else "")
        kubectl(
            f'case "$*" in *port-forward*) echo "Forwarding from 127.0.0.1:{kfp.port} -> 8888"; exec sleep 600;;\n'
            '"get configmap workflow-controller-configmap --namespace kubeflow -o json")'
            f" cat {tmp_path}/map.json;; esac"
        )
        return ["--profile", "kind", *SETTINGS, "--port-forward"]

    return put


def test_submit_says_that_retries_have_no_effect(
    flags: Callable[[dict[str, Any] | None], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    for found, told in ((STOCK, True), (OURS, False), (None, False)):
        assert main(["submit", "--detach", *flags(found)]) == 0
        assert ("retries    a step that fails (a crash, too little memory" in capsys.readouterr().out) == told
    words = flags(STOCK)
    assert main(["schedule", "create", "--cron", "0 0 6 * * 1", *words]) == 0
    assert "retryPolicy is OnError; k8s/README.md" in capsys.readouterr().out


def test_the_plan_promises_no_tries_that_there_are_not(
    flags: Callable[[dict[str, Any] | None], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = {
        "OnError": (STOCK, "1 h 00 min, 1 try, up to 2 where its pod is deleted", "is not tried again: retryPolicy is"),
        "ours": (OURS, "1 h 00 min, 2 tries", None),
        "not readable": (None, "1 h 00 min, up to 2 tries", "retries      not known, kubectl may not look"),
    }
    for found, tries, note in expected.values():
        assert main(["submit", "--plan", *flags(found)]) == 0
        said = capsys.readouterr().out
        assert tries in said
        assert ("retries   " in said) == (note is not None)
        assert note is None or note in said


def test_another_clusters_config_map_is_not_asked_for(
    kfp: KfpServer, kubectl: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where --host says the address, kubectl's current context may lead elsewhere."""
    kubectl(f'echo "$@" >>{tmp_path}/asked')
    words = ["--profile", "kind", *SETTINGS, "--host", kfp.url]
    assert main(["submit", "--plan", *words]) == 0
    assert "up to 2 tries" in capsys.readouterr().out
    assert not (tmp_path / "asked").exists()
    assert main(["submit", "--plan", *words, "--context", "mine"]) == 0
    assert (tmp_path / "asked").read_text().startswith("--context mine get configmap workflow-controller-configmap")
