"""The command line: ``python -m pipelines run``, ``study``, ``generate``, ``dataset``, ``mirror``, ``models``, ``gc``,
``compile`` and ``settings``; for a cluster ``submit``, ``status``, ``logs``, ``cancel``, ``outputs``, ``schedule`` and
``mirror-list``.

Exit status: 0 done; 2 something in the input is wrong, or this machine's disk or memory is too small for it, and the
message says what; 3 a run on a cluster failed or was cancelled; 75 a service did not answer, try again; 130
interrupted; 1 a defect of this program.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from components.explained import explained
from pipelines import datasets, mirror
from pipelines.cleanup import command as cleanup
from pipelines.generation import flags as generation
from pipelines.models import command as models
from pipelines.remote import flags as remote


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    made = argparse.ArgumentParser(
        prog="python -m pipelines",
        description="Fine-tune Stable Diffusion on defect images, keep the best checkpoint, hand it over as one file.",
        allow_abbrev=False,
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    settings = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    settings.add_argument(
        "--params", default="quickstart", metavar="FILE", help="settings: a YAML file or a shipped name (quickstart)"
    )
    settings.add_argument("--data", metavar="FOLDER", help="annotated images; short for --set dataset=FOLDER")
    settings.add_argument(
        "--name", metavar="NAME", help="model name; short for --set model_name=NAME (default: the data folder's name)"
    )
    settings.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, for example train.max_train_steps=200; may be repeated",
    )

    run = commands.add_parser(
        "run",
        parents=[settings],
        allow_abbrev=False,
        help="run the pipeline on this machine",
        description="Run the whole pipeline on this machine: no cluster, no network, and Docker only where asked for. "
        "Steps whose inputs and code have not changed are answered from the cache.",
    )
    run.add_argument(
        "--workdir", type=Path, default=Path("runs"), metavar="FOLDER", help="where results and caches go (runs)"
    )
    run.add_argument("--plan", action="store_true", help="say what would be done and stop")
    run.add_argument(
        "--runner", choices=("host", "docker"), default="host",
        help="steps as processes of this machine (host), or in containers of the images that `make images` builds",
    )  # fmt: skip
    run.add_argument(
        "--images", type=Path, metavar="FILE",
        help="with --runner docker: YAML file of step: image reference (default: the release tags)",
    )  # fmt: skip

    study = commands.add_parser(
        "study",
        parents=[settings],
        allow_abbrev=False,
        help="run the pipeline with several seeds and write a table and a picture",
        description="Run the pipeline once a seed and write NAME.md and NAME.png: what the settings are worth.",
    )
    study.add_argument("--workdir", type=Path, default=Path("runs"), metavar="FOLDER", help="as for run (runs)")
    study.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="the seeds (0 1 2)")
    study.add_argument("--output", type=Path, default=Path(), metavar="FOLDER", help="where the page goes (here)")

    generation.add_parser(commands)
    datasets.add_parser(commands)
    mirror.add_parser(commands)
    models.add_parser(commands)
    cleanup.add_parser(commands)

    compile_ = commands.add_parser(
        "compile",
        parents=[settings],
        allow_abbrev=False,
        help="write the pipeline as KFP YAML",
        description="Write the pipeline as KFP IR YAML; its parameters default to the settings given here.",
    )
    compile_.add_argument(
        "--output", type=Path, default=Path("pipeline.yaml"), metavar="FILE", help="where to (pipeline.yaml)"
    )
    compile_.add_argument(
        "--profile",
        metavar="FILE",
        help="what a cluster decides (images, resources, nodes, names): a YAML file or a shipped name (kind, gpu)",
    )
    compile_.add_argument(
        "--images",
        type=Path,
        metavar="FILE",
        help="YAML file of step: image reference, as they were pushed; goes before the profile's own",
    )

    remote.add_parsers(commands, settings)
    commands.add_parser(
        "settings", parents=[settings], allow_abbrev=False, help="list every setting with its value and meaning"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    flags = parser().parse_args(arguments)
    try:
        from pipelines import commands

        return int(getattr(commands, flags.command.replace("-", "_"))(flags))
    except Exception as error:
        if (found := explained(error, flags.command, _outputs(flags))) is None:
            raise
        print(f"error: {found}", file=sys.stderr)
        return found.status
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from what is finished", file=sys.stderr)
        return 130


def _outputs(flags: argparse.Namespace) -> list[Path]:
    """The places that the command writes to."""
    given = [getattr(flags, name, None) for name in ("workdir", "out", "output")]
    return [Path(place) for place in given if place is not None]


if __name__ == "__main__":
    sys.exit(main())
