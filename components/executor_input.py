"""KFP's ExecutorInput: the one argument (``{{$}}``) that says what a step is given and where its outputs go.

Format: ``ExecutorInput`` of kfp-pipeline-spec's ``pipeline_spec.proto``. Not covered: what the parameters mean to a
step (`components.runtime`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.documents import parse_json
from components.errors import UserError

# Where KFP's launcher mounts an artifact of each scheme (kfp.dsl.types.artifact_types).
_MOUNTS = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}


@dataclass(frozen=True)
class ExecutorInput:
    """What KFP gives to a step."""

    values: dict[str, Any]  #: parameter → value
    inputs: dict[str, dict[str, Any]]  #: artifact → runtime artifact (name, type, uri, metadata)
    outputs: dict[str, dict[str, Any]]
    output_file: Path  #: where the ExecutorOutput goes

    @classmethod
    def parse(cls, text: str) -> ExecutorInput:
        """Read the argument.

        Raises:
            UserError: where it is something else.
        """
        try:
            given = parse_json(text)
            # Absent, not empty, where a step has none.
            inputs, outputs = given.get("inputs") or {}, given["outputs"]
            return cls(
                dict(inputs.get("parameterValues") or {}),
                _artifacts(inputs),
                _artifacts(outputs),
                Path(_sound(outputs["outputFile"])),
            )
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise UserError(f"the argument is not a KFP ExecutorInput ({type(error).__name__}: {error})") from None


def local_path(uri: str) -> Path:
    """Where the artifact with this URI is in the container: KFP's mount path, or the path itself."""
    for scheme, mount in _MOUNTS.items():
        if uri.startswith(scheme):
            return Path(mount + uri[len(scheme) :])
    if "://" in uri:
        raise UserError(f"artifact {uri}: KFP mounts {', '.join(_MOUNTS)} URIs only; change the pipeline root")
    return Path(uri)


def _artifacts(side: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Artifact name → runtime artifact of one side; those that list none are left out."""
    found = {key: dict(listed["artifacts"][0]) for key, listed in (side.get("artifacts") or {}).items()}
    for artifact in found.values():
        _sound(artifact["uri"])
    return found


def _sound(path: Any) -> str:
    """`path`, held to what a file's name can be."""
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError(f"{path!r} is no path")
    path.encode()  # half a surrogate pair is a ValueError
    return path
