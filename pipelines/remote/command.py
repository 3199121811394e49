"""What the commands for a cluster do: submit, status, logs, cancel, outputs, schedule."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

from components import images
from components.errors import Unavailable, UserError
from components.progress import duration
from components.storage import Store
from pipelines.cluster.profile import Profile
from pipelines.config import PipelineConfig
from pipelines.pipeline import arguments
from pipelines.remote import access, cron, forecast, logs, outputs, retries, runs, schedule, versions
from pipelines.remote.follow import follow
from pipelines.remote.server import Missing, Server, connected
from pipelines.table import columns

#: Exit status of a run that failed or was cancelled.
RUN_FAILED = 3
INTERRUPTED = 130
#: Lines of a failed step's log that are shown where logs were not followed.
_LAST_LINES = 30


def submit(flags: argparse.Namespace, config: PipelineConfig, profile: Profile) -> int:
    """Start a run and follow it to its end."""
    parameters = _checked(config)
    text = versions.compiled(config, profile)
    with connected(access.from_flags(flags)) as server:
        if flags.plan:
            found = versions.find(server, text)
            print(forecast.describe(config, profile, server, flags.experiment, found), flush=True)
            return 0
        patience = flags.patience * 60
        version = server.patient(lambda: versions.upload(server, text), patience)
        print(f"pipeline   {version.name} ({'uploaded' if version.new else 'there already'})", flush=True)
        experiment_id = server.patient(lambda: runs.experiment(server, flags.experiment), patience)
        name = runs.new_name(config.model_name)
        run = server.patient(
            lambda: runs.create(server, experiment_id, name, version, parameters, flags.service_account), patience
        )
        print(f"run        {run.run_id} ({name})")
        _say_page(server, "runs", run.run_id)
        _say_retries(server, profile)
        if flags.detach:
            print(f"follow it  python -m pipelines status --follow {run.run_id}", flush=True)
            return 0
        return _followed(server, run.run_id, flags)


def status(flags: argparse.Namespace) -> int:
    """Say what a run does."""
    with connected(access.from_flags(flags)) as server:
        run = runs.chosen(server, flags.run, flags.experiment)
        print(f"run        {run.run_id} ({run.display_name})")
        _say_page(server, "runs", run.run_id)
        if flags.follow:
            return _followed(server, run.run_id, flags)
        return _said(run)


def show_logs(flags: argparse.Namespace) -> int:
    """Print what the steps of a run wrote."""
    if flags.step is not None and flags.step not in images.STEPS:
        raise UserError(f"--step {flags.step}: no step; the steps are {', '.join(images.STEPS)}")
    with connected(access.from_flags(flags)) as server:
        run = runs.chosen(server, flags.run, flags.experiment)
        compiled = logs.of_version(server, run)
        for step in runs.steps(run):
            if flags.step not in (None, step.name):
                continue
            if step.state in ("", "CACHED", "SKIPPED"):
                print(f"{step.name}: {step.words}, it wrote nothing")
                continue
            text = logs.whole(server, run, step, compiled)
            print(f"{step.name}: {step.words}" + (", KFP has no log of it" if text is None else f"\n{text.rstrip()}"))
    return 0


def cancel(flags: argparse.Namespace) -> int:
    """End a run."""
    with connected(access.from_flags(flags)) as server:
        run = runs.chosen(server, flags.run, flags.experiment)
        if run.state in runs.FINAL:
            raise UserError(f"{run.run_id}: has ended already ({run.state.lower()})")
        server.runs.run_service_terminate_run(run.run_id)
        print(f"{run.run_id}: KFP ends it; what its steps put into the store stays, and a new run goes on from there")
    return 0


def fetch_outputs(flags: argparse.Namespace) -> int:
    """Fetch a run's model and pages."""
    with connected(access.from_flags(flags)) as server:
        run = runs.chosen(server, flags.run, flags.experiment)
        ended = runs.time_of(run.finished_at)
        if run.state != "SUCCEEDED" or ended is None:
            raise UserError(f"{run.run_id}: has not succeeded ({run.state.lower()}); its logs name the pages there are")
        # What a run was not given it has from the pipeline.
        given = dict(run.runtime_config.parameters or {}) if run.runtime_config else {}
    parameters = {**arguments(PipelineConfig()), **given}
    place = flags.store or parameters["store"]
    if not place:
        raise UserError(f"{run.run_id}: was given no store; name it with --store s3://bucket/prefix")
    store = Store.from_env(place)
    folder = flags.to or Path("runs") / parameters["model_name"]
    version = outputs.version_of(store, parameters, ended)
    print(f"run       {run.run_id} ({run.display_name})\nversion   {version.label}")
    print("\n".join(outputs.fetch(store, version, folder)), flush=True)
    return 0


def create_schedule(flags: argparse.Namespace, config: PipelineConfig, profile: Profile) -> int:
    """Make a schedule, or replace it."""
    parameters = _checked(config)
    times, note = cron.for_kfp(flags.cron)
    text = versions.compiled(config, profile)
    name = flags.schedule or config.model_name
    with connected(access.from_flags(flags)) as server:
        version = versions.upload(server, text)
        experiment_id = runs.experiment(server, flags.experiment)
        wanted = schedule.Wanted(name, times, experiment_id, version, parameters, flags.service_account)
        made, changed = schedule.put(server, wanted)
        if note is not None:
            print(f"note       {note}")
        print(f"schedule   {name}: {times} ({'enabled' if changed else 'unchanged'})")
        print(f"times      {schedule.timezone(server)}")
        _say_retries(server, profile)
        _say_page(server, "recurringrun", made.recurring_run_id)
    return 0


def change_schedule(flags: argparse.Namespace) -> int:
    """Show, pause, resume or delete schedules."""
    with connected(access.from_flags(flags)) as server:
        if flags.action == "show":
            print("\n".join(_schedules(server, flags)), flush=True)
        elif flags.action == "pause":
            schedule.pause(server, flags.schedule)
            print(f"{flags.schedule}: starts no runs until it is resumed")
        elif flags.action == "resume":
            schedule.resume(server, flags.schedule)
            print(f"{flags.schedule}: starts runs again, by the times of {schedule.timezone(server)}")
        else:
            schedule.delete(server, flags.schedule)
            print(f"{flags.schedule}: deleted; runs that it started go on")
    return 0


def _checked(config: PipelineConfig) -> dict[str, Any]:
    """The run's parameters.

    Raises:
        UserError: for what a cluster cannot reach.
    """
    problems = [
        f"{key}: {place} is known on this machine only; give a place in the store, s3://bucket/… (k8s/README.md says "
        "how data and base models get there)"
        if place is not None
        else f"{key}: not given; a cluster has no store of its own: name one, s3://bucket/prefix"
        for key, place in config.known_here_only().items()
    ]
    if problems:
        raise UserError(*problems)
    return arguments(config)


def _followed(server: Server, run_id: str, flags: argparse.Namespace) -> int:
    try:
        run = follow(server, run_id, flags.patience * 60, flags.stuck_after * 60, not flags.no_logs)
    except KeyboardInterrupt:
        print(f"interrupted; the run goes on: status --follow {run_id} watches it again, cancel {run_id} ends it")
        return INTERRUPTED
    if flags.no_logs:
        # How the run ended is said whether or not its logs can be had.
        with contextlib.suppress(Missing, Unavailable):
            _say_failures(server, run)
    return _said(run)


def _say_failures(server: Server, run: Any) -> None:
    """Print the last lines of the steps that failed."""
    failed = [step for step in runs.steps(run) if step.state == "FAILED"]
    compiled = logs.of_version(server, run) if failed else {}
    for step in failed:
        text = logs.whole(server, run, step, compiled) or ""
        print("\n".join(f"{step.name:>12} | {line}" for line in text.splitlines()[-_LAST_LINES:]), flush=True)


def _said(run: Any) -> int:
    """Print the state of a run and its steps; the exit status that says it."""
    state = run.state or "PENDING"
    print(f"state      {state.lower()}")
    rows = [(step.name, step.words, duration(step.seconds) if step.seconds else "") for step in runs.steps(run)]
    print("\n".join(f"  {line}" for line in columns(rows)), flush=True)
    if run.error is not None and run.error.message:
        print(f"  {run.error.message}", flush=True)
    return RUN_FAILED if state in ("FAILED", "CANCELED") else 0


def _say_retries(server: Server, profile: Profile) -> None:
    """Say where the cluster is known not to try steps as the profile has it."""
    policy = retries.look(server.access) if retries.asked_for(profile) else None
    if policy is not None and policy.problem is not None:
        print(f"retries    {policy.problem}", flush=True)


def _say_page(server: Server, kind: str, name: str) -> None:
    needs = server.page_needs()
    print(f"page       {server.page(kind, name)}{f'  (with {needs})' if needs else ''}", flush=True)


def _schedules(server: Server, flags: argparse.Namespace) -> list[str]:
    if flags.schedule is not None:
        found = schedule.existing(server, flags.schedule)
    else:
        experiment_id = runs.find_experiment(server, flags.experiment)
        found = schedule.every(server, experiment_id) if experiment_id is not None else []
    if not found:
        return [f"no schedule in the experiment {flags.experiment}"]
    rows = [("schedule", "times", "state", "data set", "pipeline version")]
    for one in found:
        times = one.trigger.cron_schedule.cron if one.trigger and one.trigger.cron_schedule else "not by cron"
        given = (one.runtime_config.parameters or {}) if one.runtime_config else {}
        reference = one.pipeline_version_reference
        rows.append(
            (
                one.display_name,
                times,
                "enabled" if schedule.enabled(one) else "paused",
                str(given.get("dataset", "–")),
                reference.pipeline_version_id if reference else "–",
            )
        )
    return [*columns(rows), f"times: {schedule.timezone(server)}"]
