"""The compiled pipeline on the server: uploaded once, and found again by what it holds.

A version is named by a digest of the compiled pipeline. Its parameters default to the project's own settings, whatever
a run is given, so that runs with different settings share a version.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp_server_api

from components.evaluate.config import EvaluateConfig
from components.train.config import TrainConfig
from pipelines.cluster.profile import Profile
from pipelines.config import PipelineConfig
from pipelines.pipeline import NAME
from pipelines.remote.server import Conflict, Server


@dataclass(frozen=True)
class Version:
    """A version of the pipeline on a server."""

    pipeline_id: str
    version_id: str
    name: str
    new: bool = False  #: uploaded just now

    @property
    def reference(self) -> Any:
        """As runs and schedules name it."""
        return kfp_server_api.V2beta1PipelineVersionReference(
            pipeline_id=self.pipeline_id, pipeline_version_id=self.version_id
        )


def compiled(config: PipelineConfig, profile: Profile) -> str:
    """The pipeline for a cluster as YAML, the same bytes each time.

    Raises:
        UserError: where the profile does not go with the settings.
    """
    from kfp import compiler

    from pipelines.pipeline import make_pipeline

    # What the graph itself, or the profile's devices, must agree with stays; all else is the project's own.
    neutral = PipelineConfig(
        train=TrainConfig(num_processes=config.train.num_processes),
        evaluate=EvaluateConfig(shards=config.evaluate.shards),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(make_pipeline(neutral, profile=profile), str(path))
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    # kfp writes the comments at its head in another order each time.
    return "".join(line for line in lines if not line.startswith("#"))


def name_of(text: str) -> str:
    """What the version of a compiled pipeline is called: valid as the name of a Kubernetes object, too."""
    return f"{NAME}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def find(server: Server, text: str) -> Version | None:
    """The version that holds this compiled pipeline; None where it was not uploaded yet."""
    pipeline_id = pipeline(server)
    return None if pipeline_id is None else _version(server, pipeline_id, name_of(text))


def upload(server: Server, text: str) -> Version:
    """As `find`, uploaded first where it is not there."""
    name, pipeline_id = name_of(text), pipeline(server) or _create(server)
    found = _version(server, pipeline_id, name)
    if found is not None:
        return found
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            made = server.uploads.upload_pipeline_version(str(path), name=name, pipelineid=pipeline_id)
        except Conflict:
            # Somebody else uploads the same.
            found = _version(server, pipeline_id, name)
            if found is None:
                raise
            return found
    return Version(pipeline_id, made.pipeline_version_id, name, new=True)


def named(name: str) -> str:
    """KFP's filter for what is displayed under a name: JSON that the server unquotes once more than HTTP does."""
    return urllib.parse.quote(
        json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
    )


def _version(server: Server, pipeline_id: str, name: str) -> Version | None:
    answer = server.pipelines.pipeline_service_list_pipeline_versions(pipeline_id, filter=named(name))
    for found in answer.pipeline_versions or []:
        return Version(pipeline_id, found.pipeline_version_id, name)
    return None


def pipeline(server: Server) -> str | None:
    """The id of this project's pipeline; None where nothing of it was uploaded yet."""
    answer = server.pipelines.pipeline_service_list_pipelines(namespace=server.namespace or "", filter=named(NAME))
    for found in answer.pipelines or []:
        return str(found.pipeline_id)
    return None


def _create(server: Server) -> str:
    wanted = kfp_server_api.V2beta1Pipeline(
        name=NAME, display_name=NAME, namespace=server.namespace,
        description="Fine-tunes Stable Diffusion on defect crops and publishes the best checkpoint.",
    )  # fmt: skip
    try:
        return str(server.pipelines.pipeline_service_create_pipeline(wanted).pipeline_id)
    except Conflict:
        found = pipeline(server)
        if found is None:
            raise
        return found
