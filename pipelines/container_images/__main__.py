"""``python -m pipelines.container_images build`` and ``push``: what `make images` and `make push-images` call.

Apart from ``python -m pipelines``, since whoever builds images needs no environment with everything that is in them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from components import images
from components.errors import UserError
from pipelines.container_images import build, push, sizes


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    made = argparse.ArgumentParser(prog="python -m pipelines.container_images", description=__doc__, allow_abbrev=False)
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    shared.add_argument("--tag", default=images.VERSION, help=f"tag of the images ({images.VERSION})")
    shared.add_argument(
        "--release", action="store_true", help="refuse images whose base is named by a tag: a digest is one for good"
    )

    building = commands.add_parser(
        "build", parents=[shared], allow_abbrev=False, help="build every step's image and say how large it is",
        epilog="What follows -- goes to docker build as it is, for example: -- --network host",
    )  # fmt: skip
    building.add_argument(
        "--base", default=build.BASE, metavar="IMAGE", help=f"base image, by tag or digest ({build.BASE})"
    )
    building.add_argument(
        "--torch-index",
        metavar="URL",
        help="package index that torch is taken from; empty: the usual one, whose torch is for CUDA (default: "
        "PyTorch's own with wheels for the CPU, or the usual one with --gpu and where --wheels holds torch)",
    )
    building.add_argument(
        "--gpu",
        action="store_true",
        help="for NVIDIA GPUs: torch from the usual index unless --torch-index names another, and 8-bit AdamW",
    )
    building.add_argument("--wheels", type=Path, metavar="FOLDER", help="wheels that go before those of the index")
    building.add_argument("flags", nargs="*", metavar="FLAG", help=argparse.SUPPRESS)

    pushing = commands.add_parser(
        "push",
        parents=[shared],
        allow_abbrev=False,
        help="push every step's image and write down their digests, for `compile --images`",
    )
    pushing.add_argument(
        "--registry", required=True, metavar="PLACE", help="registry and path, registry.example.com/team"
    )
    pushing.add_argument(
        "--output", type=Path, default=Path("images.yaml"), metavar="FILE", help="where to (images.yaml)"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    flags = parser().parse_args(arguments)
    try:
        if flags.command == "build":
            build.build(
                flags.tag, flags.base, flags.torch_index, flags.wheels, flags.flags, flags.release, flags.gpu
            )  # fmt: skip
            print("\n".join(["", *sizes.table(flags.tag, flags.base)]))
        else:
            push.push(flags.tag, flags.registry, flags.output, flags.release)
            print(f"wrote {flags.output}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
