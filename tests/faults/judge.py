"""What must be true of a store whatever has happened to a run, and what of it must be as if nothing had.

Written against what the store holds and what the steps' READMEs promise, with none of the steps' own code.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from components.errors import UserError
from components.storage import MANIFEST, Store
from tests.faults import chain

#: Names that each attempt, or each publication, chooses anew.
_CHOSEN = (
    (re.compile(r"(?<=^train/)([0-9a-f]{16})/[0-9a-f]{8}/"), r"\1/ATTEMPT/"),
    (re.compile(r"(?<=/state/)[0-9a-f]{8}-"), "ATTEMPT-"),
    (re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}"), "VERSION"),
    # A file an upload, of which an attempt that goes on from a state has fewer.
    (re.compile(r"(?<=/tensorboard/)\d+-[0-9a-f]{8}/events\.out\.tfevents\.\d+\.\d+"), "EVENTS"),
)


def general(key: str) -> str:
    """A key without what an attempt chose by itself."""
    for pattern, name in _CHOSEN:
        key = pattern.sub(name, key)
    return key


def committed(store: Store) -> set[str]:
    """The complete checkpoints, by their general places."""
    return {
        general(info.key)
        for info in store.list("train/")
        if info.key.endswith(f"/{MANIFEST}") and "/state/" not in info.key
    }


def unsound(store: Store) -> list[str]:
    """What readers would stumble over: bytes that are not those that were sent, trees that exist but are not whole."""
    problems = []
    keys = [info.key for info in store.list() if not info.key.startswith(("datasets/", "leases/"))]
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="judge-") as temporary:
        for key in keys:
            path = Path(temporary) / "object"
            try:
                store.download_file(key, path)
            except UserError as error:
                problems.append(str(error))
            else:
                found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    for key in keys:
        place, _, name = key.rpartition("/")
        data = json.loads(store.get_bytes(key) or b"{}") if name in (MANIFEST, "latest.json") else {}
        for file in data["files"] if name == MANIFEST else ():
            if found.get(f"{place}/{file['path']}") != file["sha256"]:
                problems.append(f"{place}: committed, but {file['path']} is not there or another")
        if (
            name == "latest.json"
            and not {f"{place}/{data['version']}/{n}" for n in (MANIFEST, data["file"])} <= found.keys()
        ):
            problems.append(f"{key}: names {data['version']}, which is not complete")
    return problems


def lost(store: Store) -> list[str]:
    """The checkpoints that a finished run's index refers to and that are not there (before a clean-up)."""
    problems = []
    for info in store.list("train/"):
        if re.fullmatch(r"train/[^/]+/index\.json", info.key):
            refs = json.loads(store.get_bytes(info.key) or b"{}")["checkpoints"]
            for place in (ref["uri"].removeprefix(f"{store.uri}/") for ref in refs if ref["uri"]):
                if not store.exists(f"{place}/{MANIFEST}"):
                    problems.append(f"{info.key}: refers to {place}, which is not complete")
    return problems


def collect_garbage(store: Store, environment: dict[str, str]) -> str:
    """What ``python -m pipelines gc`` says when it is run after every step has ended for good.

    The leases of steps that were killed count for five more minutes. That these have passed is said by ending them.
    """
    from pipelines.__main__ import main

    for info in [*store.list("leases/")]:
        data = store.get_bytes(info.key)
        if data is not None and json.loads(data).get("running"):
            store.put_bytes(info.key, json.dumps({**json.loads(data), "running": False}).encode())
    said = io.StringIO()
    with patch.dict(os.environ, environment), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(["gc", "--store", store.uri, "--grace", "0"])
    return said.getvalue() if status else ""


def contents(store: Store) -> set[str]:
    """The general keys of all objects but leases, which stay for a while after their holders."""
    return {general(info.key) for info in store.list() if not info.key.startswith("leases/")}


def result(step: str, folder: Path, values: dict[str, str], store: Store) -> dict[str, Any]:
    """What a step made, in a form that does not depend on when, where and in which attempt."""
    if step == "snapshot":
        return {name: values[name] for name in ("dataset_revision", "base_revision")}
    if step == "crop":
        return {"files": dict(_digests(chain.output(folder, step, "crops")))}
    if step == "train":
        index = json.loads((chain.output(folder, step, "checkpoints") / "index.json").read_text())
        places = {ref["step"]: ref["uri"].removeprefix(store.uri + "/") for ref in index["checkpoints"] if ref["uri"]}
        return {"fingerprint": index["fingerprint"], **{str(s): _tensors(store.at(p)) for s, p in places.items()}}
    if step == "evaluate":
        made = chain.output(folder, step, "metrics")
        return {"metrics": json.loads((made / "metrics.json").read_text()), "images": dict(_digests(made / "images"))}
    if step == "select_best":
        best = json.loads((chain.output(folder, step, "best") / "best.json").read_text())
        return {name: best[name] for name in ("step", "metric", "mode", "chosen", "base", "reasons", "improved")}
    model = json.loads((chain.output(folder, step, "model") / "model.json").read_text())
    place = store.at(model["uri"].removeprefix(store.uri + "/"))
    return {"step": model["step"], "tensors_digest": model["tensors_digest"], **_tensors(place)}


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()


def _tensors(place: Store) -> dict[str, str]:
    """Digests of the tensors in a tree's safetensors files, by the files' general names; headers do not count."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="judge-") as temporary:
        place.get_tree(Path(temporary))
        for path in sorted(Path(temporary).rglob("*.safetensors")):
            data = path.read_bytes()
            end = 8 + int.from_bytes(data[:8], "little")
            names = {k: v for k, v in json.loads(data[8:end]).items() if k != "__metadata__"}
            digest = hashlib.sha256(json.dumps(names, sort_keys=True).encode() + data[end:]).hexdigest()
            found[general(path.relative_to(temporary).as_posix())] = digest
    return found
