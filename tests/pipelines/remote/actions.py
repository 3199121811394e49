"""What the tests of a cluster's commands do: submit a run, start one, follow it in no time."""

from __future__ import annotations

from pipelines.__main__ import main
from pipelines.config import load
from pipelines.pipeline import arguments
from pipelines.remote import follow, runs, versions
from pipelines.remote.server import Server
from tests.pipelines.remote.conftest import SETTINGS
from tests.pipelines.remote.kfp_server import KfpServer


class Time(follow.Clock):
    """Passes as fast as it is waited for."""

    def __init__(self) -> None:
        self.at = 0.0
        super().__init__(lambda: self.at, self.wait)

    def wait(self, seconds: float) -> None:
        self.at += max(seconds, 5.0)


def submit(kfp: KfpServer, *flags: str) -> int:
    return main(["submit", "--profile", "kind", "--host", kfp.url, *SETTINGS, *flags])


def started(kfp: KfpServer, server: Server, compiled: str) -> str:
    """A run that was started; its id."""
    version = versions.upload(server, compiled)
    experiment = runs.experiment(server, "defect-diffusion")
    config = load("quickstart", [flag.removeprefix("--set=") for flag in SETTINGS])
    run = runs.create(server, experiment, runs.new_name("boards"), version, arguments(config), "account")
    return str(run.run_id)
