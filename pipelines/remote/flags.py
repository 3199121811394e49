"""The flags of ``submit``, ``status``, ``logs``, ``cancel``, ``outputs``, ``schedule`` and ``mirror-list``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from pipelines.remote import access

EXPERIMENT = "defect-diffusion"
#: The account of k8s/base, which may do what the steps need and no more.
ACCOUNT = "defect-diffusion"


def add_parsers(commands: Any, settings: argparse.ArgumentParser) -> None:
    """Add the commands to the command line's; `settings` are the flags of a run's settings."""
    server = access.flags()
    experiment = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    experiment.add_argument(
        "--experiment", default=EXPERIMENT, metavar="NAME", help=f"of KFP, that runs are grouped in ({EXPERIMENT})"
    )
    pipeline = _profile()
    pipeline.add_argument(
        "--service-account", default=ACCOUNT, metavar="NAME", help=f"that the run's pods have ({ACCOUNT})"
    )
    watching = _watching()
    run = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    run.add_argument("run", nargs="?", metavar="RUN", help="a run's id (the newest run of the experiment)")

    submit = commands.add_parser(
        "submit",
        parents=[settings, pipeline, experiment, watching, server],
        allow_abbrev=False,
        help="run the pipeline on a cluster, and follow it",
        description="Compile the pipeline, upload it where this version is not there yet, start a run and follow it "
        "to its end. Exit status: 0 the run succeeded, 3 it failed or was cancelled, 2 something given is wrong or the "
        "run is stuck, 75 Kubeflow Pipelines does not answer, 130 interrupted. Interrupted, the run goes on.",
    )
    submit.add_argument("--plan", action="store_true", help="say what would be done, and stop")
    submit.add_argument("--detach", action="store_true", help="start the run and do not follow it")

    status = commands.add_parser(
        "status",
        parents=[run, experiment, watching, server],
        allow_abbrev=False,
        help="what a run on the cluster does",
        description="The state of a run and of its steps. Exit status as for submit once the run has ended; 0 before.",
    )
    status.add_argument("--follow", action="store_true", help="watch it to its end, as submit does")
    logs = commands.add_parser(
        "logs", parents=[run, experiment, server], allow_abbrev=False, help="what the steps of a run wrote"
    )
    logs.add_argument("--step", metavar="STEP", help="of this step only")
    commands.add_parser("cancel", parents=[run, experiment, server], allow_abbrev=False, help="end a run")
    outputs = commands.add_parser(
        "outputs",
        parents=[run, experiment, server],
        allow_abbrev=False,
        help="fetch the model and the pages of a run",
        description="Fetch the model, its card, and the pages of a run that succeeded from the store, which the "
        "variables STORE_* lead to.",
    )
    outputs.add_argument("--to", type=Path, metavar="FOLDER", help="where to (runs/<model's name>)")
    outputs.add_argument(
        "--store", metavar="URI", help="the run's store, where it has another address from here (the run's own)"
    )
    _add_schedule(commands, settings, pipeline, experiment, server)
    _add_mirror_list(commands, settings)


def _profile() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    made.add_argument("--profile", required=True, metavar="FILE", help="the cluster's profile, as for compile")
    made.add_argument("--images", type=Path, metavar="FILE", help="the images as they were pushed, as for compile")
    return made


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # Written so that NaN fails.
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes from 0 on")
    return value


def _watching() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    made.add_argument("--no-logs", action="store_true", help="follow states alone, not what steps write")
    made.add_argument(
        "--patience", type=_minutes, default=10.0, metavar="MINUTES",
        help="how long to ask again while Kubeflow Pipelines does not answer (10)",
    )  # fmt: skip
    made.add_argument(
        "--stuck-after", type=_minutes, default=15.0, metavar="MINUTES",
        help="stop watching when the same thing has held the run up for so long (15)",
    )  # fmt: skip
    return made


def _add_schedule(
    commands: Any,
    settings: argparse.ArgumentParser,
    pipeline: argparse.ArgumentParser,
    experiment: argparse.ArgumentParser,
    server: argparse.ArgumentParser,
) -> None:
    made = commands.add_parser(
        "schedule",
        allow_abbrev=False,
        help="run the pipeline on the cluster again and again",
        description="Schedules of a cluster: with nothing new, a run of one starts no GPU pod.",
    )
    actions = made.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser(
        "create",
        parents=[settings, pipeline, experiment, server],
        allow_abbrev=False,
        help="make a schedule, or replace the one of this name",
        description="Make a schedule, or replace the one of this name; there are never two at a time. Runs do not "
        "overlap, and what was missed is not made up for. Killed, the same command goes on.",
    )
    create.add_argument(
        "--cron", required=True, metavar="TIMES",
        help="'0 0 6 * * 1-5': second minute hour day month weekday; five fields are given a second",
    )  # fmt: skip
    create.add_argument("--schedule", metavar="NAME", help="the schedule's name (the model's)")
    show = actions.add_parser("show", parents=[experiment, server], allow_abbrev=False, help="list the schedules")
    show.add_argument("schedule", nargs="?", metavar="NAME", help="this one only")
    for action, meaning in (
        ("pause", "start no more runs until it is resumed"),
        ("resume", "start runs again"),
        ("delete", "end a schedule; runs that it started go on"),
    ):
        one = actions.add_parser(action, parents=[server], allow_abbrev=False, help=meaning)
        one.add_argument("schedule", metavar="NAME", help="the schedule's name")


def _add_mirror_list(commands: Any, settings: argparse.ArgumentParser) -> None:
    made = commands.add_parser(
        "mirror-list",
        parents=[settings, _profile()],
        allow_abbrev=False,
        help="list the images and weights that a cluster without internet needs",
        description="List what a cluster without internet must be given: images, and the weights that the settings "
        "name. With one of the two named, bare, for scripts.",
    )
    made.add_argument("only", nargs="?", choices=("images", "weights"), help="one of the two, and no headings")
