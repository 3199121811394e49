"""What each command of the command line does."""

from __future__ import annotations

import argparse
import functools
import re
import sys
from typing import TYPE_CHECKING

from components.errors import UserError
from components.progress import log
from components.settings import Settings
from pipelines.cluster.profile import Profile
from pipelines.cluster.profile import load as load_profile
from pipelines.config import SAMPLE_DATASET, PipelineConfig, load

if TYPE_CHECKING:
    from pipelines import local
    from pipelines.kfp_local import StepFailed


def settings_of(flags: argparse.Namespace) -> PipelineConfig:
    """The settings that the flags ask for."""
    assignments = list(flags.set)
    if flags.data is not None:
        assignments.insert(0, f"dataset={_quoted(flags.data)}")
    config = load(flags.params, assignments)
    if flags.name is not None:
        return load(flags.params, [*assignments, f"model_name={_quoted(flags.name)}"])
    named = any(a.partition("=")[0].strip() == "model_name" for a in flags.set)
    if config.dataset != SAMPLE_DATASET and not named and flags.data is not None:
        return load(flags.params, [*assignments, f"model_name={_quoted(model_name(config.dataset))}"])
    return config


def _quoted(value: str) -> str:
    """As a YAML string, whatever is in it."""
    return "'" + value.replace("'", "''") + "'"


def model_name(dataset: str) -> str:
    """A model's name made of the data set's last path part: ``/data/My Screws/`` → ``my-screws``."""
    from components.archives import stem_of
    from components.dataset import name_of

    name = name_of(dataset)
    # An archive that is not there is still named like one.
    slug = re.sub(r"[^a-z0-9._-]+", "-", (stem_of(name) or name).lower()).strip("-._")
    return slug[:63] or "model"


def run(flags: argparse.Namespace) -> int:
    """Run the pipeline on this machine and say what it made."""
    from pipelines import local, plan, summary
    from pipelines.kfp_local import StepFailed

    config = local.prepare(settings_of(flags), flags.workdir)
    print(plan.describe(config, flags.workdir), flush=True)
    if flags.plan:
        return 0
    try:
        outcome = local.run(config, flags.workdir, _make_runner(flags))
    except StepFailed as failure:
        return _stopped(failure)
    plan.remember(config, outcome, flags.workdir)
    print(summary.text(outcome), flush=True)
    return 0


def _make_runner(flags: argparse.Namespace) -> local.MakeRunner:
    """How the flags want steps to be run."""
    from pipelines import local

    if flags.runner == "host":
        if flags.images is not None:
            raise UserError(f"--images {flags.images}: goes with --runner docker; host processes have no images")
        return local.as_processes

    from pipelines.containers import runner

    return functools.partial(runner.ready, flags.images)


def study(flags: argparse.Namespace) -> int:
    """Run the pipeline once a seed and write a page about it."""
    from pipelines import local, plan
    from pipelines import study as studies
    from pipelines.kfp_local import StepFailed

    config = local.prepare(settings_of(flags), flags.workdir)
    print(plan.describe(config, flags.workdir), flush=True)
    command = ["python", "-m", "pipelines", *sys.argv[1:]]
    try:
        page = studies.run(config, flags.workdir, flags.seeds, flags.output, command)
    except StepFailed as failure:
        return _stopped(failure)
    print(f"\nwrote {page}")
    return 0


def generate(flags: argparse.Namespace) -> int:
    """Draw new images with a trained model."""
    from pipelines.generation.command import generate as draw

    return draw(flags)


def dataset(flags: argparse.Namespace) -> int:
    """Push, list or show data sets in the store."""
    from pipelines import datasets

    return datasets.dataset(flags)


def mirror(flags: argparse.Namespace) -> int:
    """Copy a base model into the store."""
    from pipelines import mirror as mirroring

    return mirroring.mirror(flags)


def models(flags: argparse.Namespace) -> int:
    """List, show, compare, fetch and choose published models."""
    from pipelines.models import command

    return command.models(flags)


def gc(flags: argparse.Namespace) -> int:
    """Delete from the store what nothing refers to any more."""
    from pipelines.cleanup import command

    return command.gc(flags)


def submit(flags: argparse.Namespace) -> int:
    """Run the pipeline on a cluster and follow it."""
    from pipelines.remote import command

    return command.submit(flags, settings_of(flags), _cluster(flags))


def status(flags: argparse.Namespace) -> int:
    """Say what a run on the cluster does."""
    from pipelines.remote import command

    return command.status(flags)


def logs(flags: argparse.Namespace) -> int:
    """Print what the steps of a run on the cluster wrote."""
    from pipelines.remote import command

    return command.show_logs(flags)


def cancel(flags: argparse.Namespace) -> int:
    """End a run on the cluster."""
    from pipelines.remote import command

    return command.cancel(flags)


def outputs(flags: argparse.Namespace) -> int:
    """Fetch the model and the pages of a run on the cluster."""
    from pipelines.remote import command

    return command.fetch_outputs(flags)


def schedule(flags: argparse.Namespace) -> int:
    """Make, show, pause, resume or delete schedules of the cluster."""
    from pipelines.remote import command

    if flags.action == "create":
        return command.create_schedule(flags, settings_of(flags), _cluster(flags))
    return command.change_schedule(flags)


def mirror_list(flags: argparse.Namespace) -> int:
    """List what a cluster without internet needs."""
    from pipelines.cluster import mirror_list as listing

    print("\n".join(listing.mirror_list(settings_of(flags), _cluster(flags), flags.only)))
    return 0


def _stopped(failure: StepFailed) -> int:
    log(f"stopped: {failure.run.step} failed; what it said is above")
    # 2 and 75 mean the same in every process; anything else is a defect or a killed process.
    return failure.run.status if failure.run.status in (2, 75) else 1


def profile_of(flags: argparse.Namespace) -> Profile | None:
    """The cluster profile that the flags ask for."""
    if flags.profile is None:
        if flags.images is not None:
            raise UserError(f"--images {flags.images}: goes with --profile, which says where the images run")
        return None
    return load_profile(flags.profile, flags.images)


def _cluster(flags: argparse.Namespace) -> Profile:
    """The cluster profile, where the flags must name one."""
    return load_profile(flags.profile, flags.images)


def compile(flags: argparse.Namespace) -> int:
    """Write the pipeline as KFP IR YAML."""
    from kfp import compiler

    from pipelines.pipeline import make_pipeline

    config = settings_of(flags)
    cluster = profile_of(flags)
    if flags.output.suffix not in (".yaml", ".yml"):
        raise UserError(f"--output {flags.output}: the name must end in .yaml")
    if not flags.output.absolute().parent.is_dir():
        raise UserError(f"--output {flags.output}: the folder {flags.output.absolute().parent} does not exist")
    compiler.Compiler().compile(make_pipeline(config, profile=cluster), str(flags.output))
    print(f"wrote {flags.output}")
    if here := [f"{key}={place}" for key, place in config.known_here_only().items()]:
        print(f"on a cluster, give s3:// places for what is only known here: {', '.join(here)}")
    return 0


def settings(flags: argparse.Namespace) -> int:
    """List every setting with its value and meaning."""
    _list(settings_of(flags), "")
    return 0


def _list(values: Settings, prefix: str) -> None:
    for name, info in type(values).model_fields.items():
        value = getattr(values, name)
        if isinstance(value, Settings):
            print(f"\n# {info.description or name}")
            _list(value, f"{prefix}{name}.")
        else:
            print(f"{prefix}{name} = {value!r}\n    {info.description or ''}")
