"""A store with one user for each policy of ``k8s/policies``: SeaweedFS evaluates the same documents as AWS does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.embedded_store import EmbeddedStore
from tests.conftest import ROOT

POLICIES = ROOT / "k8s" / "policies"
NAMES = sorted(path.stem for path in POLICIES.glob("*.json"))
#: Who sets up what the tests need: everything is allowed.
OWNER = "owner"


@dataclass(frozen=True)
class Identities:
    """A running store."""

    server: EmbeddedStore

    def environ(self, name: str) -> dict[str, str]:
        """The variables with which a process of this identity reaches the store."""
        key, secret = _pair(name)
        return {**self.server.environ, "STORE_ACCESS_KEY_ID": key, "STORE_SECRET_ACCESS_KEY": secret}

    @contextmanager
    def acting(self, name: str) -> Iterator[None]:
        """This process is `name` while the block lasts."""
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in self.environ(name).items():
                patch.setenv(variable, value)
            yield


@contextmanager
def served(folder: Path) -> Iterator[Identities]:
    """Serve a store from `folder` to the owner and to an identity of each policy."""
    everything = ["Admin", "Read", "Write", "List", "Tagging"]
    users = [{"name": name, "credentials": [_credentials(name)], "policyNames": [name]} for name in NAMES]
    owner = {"name": OWNER, "credentials": [_credentials(OWNER)], "actions": everything}
    policies = [{"name": name, "content": (POLICIES / f"{name}.json").read_text()} for name in NAMES]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s3.json").write_text(json.dumps({"identities": [owner, *users], "policies": policies}))
    with EmbeddedStore(folder) as server:
        yield Identities(server)


def _pair(name: str) -> tuple[str, str]:
    plain = name.replace("_", "")
    return f"key-of-{plain}", f"secret-of-{plain}"


def _credentials(name: str) -> dict[str, str]:
    key, secret = _pair(name)
    return {"accessKey": key, "secretKey": secret}
