"""What DVC writes into a git repository: ``.dvc`` files, ``dvc.lock`` and ``.dvc/config``.

Formats: https://dvc.org/doc/user-guide/project-structure. Read are outputs of DVC 3 (``hash: md5``) and S3 remotes
in its cache's layout; not read: DVC 2's hashes of text, and remotes that keep files by name (version_aware).
"""

from __future__ import annotations

import configparser
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components.documents import parse_yaml
from components.errors import UserError

#: Of an output that is a folder, `.dir` after the digest of its listing.
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")

_SECTION = re.compile(r"""'?remote ["'](.+?)["']'?""")


@dataclass(frozen=True)
class Output:
    """A file or folder that DVC tracks."""

    path: str  #: in the repository
    md5: str  #: of its bytes; of its listing and ``.dir`` for a folder
    remote: str  #: the DVC remote that it asks for; empty for the default
    source: str  #: the file of the repository that says so


@dataclass(frozen=True)
class Remote:
    """Where a DVC remote is."""

    url: str
    endpoint: str  #: as the repository has it; empty where it says nothing


def is_dvc_file(path: str) -> bool:
    """Whether a file of the repository is DVC's own."""
    return path.endswith(".dvc") or path.rpartition("/")[2] in ("dvc.lock", "dvc.yaml")


def outputs(files: Iterable[str], read: Callable[[str], bytes]) -> list[Output]:
    """All that DVC tracks in a repository, sorted by path.

    Args:
        files: the repository's files.
        read: gives a file's content.

    Raises:
        UserError: for files that are not DVC's, naming each.
    """
    known = set(files)
    found: list[Output] = []
    problems: list[str] = []
    for path in sorted(known):
        base, name = posixpath.dirname(path), posixpath.basename(path)
        try:
            if name.endswith(".dvc") and name != ".dvc":
                content = _mapping(read(path))
                base = posixpath.join(base, str(content.get("wdir", "")))
                found += _outputs(base, content.get("outs", []), path)
            elif name == "dvc.lock":
                beside = posixpath.join(base, "dvc.yaml")
                stages = _mapping(read(beside)).get("stages", {}) if beside in known else {}
                for stage, made in _mapping(read(path)).get("stages", {}).items():
                    wdir = (stages.get(stage) or {}).get("wdir", "")
                    found += _outputs(posixpath.join(base, str(wdir)), made.get("outs", []), path)
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            problems.append(f"{path}: not as DVC writes it ({reason}); run dvc status there")
    if problems:
        raise UserError(*problems)
    return sorted(found, key=lambda output: output.path)


def _outputs(base: str, outs: list[Mapping[str, Any]], source: str) -> list[Output]:
    found = []
    for out in outs:
        path = posixpath.normpath(posixpath.join(base, out["path"]))
        # Outside the repository, or not cached and thus in git.
        if "://" in out["path"] or path.startswith(("/", "..")) or out.get("cache") is False:
            continue
        digest = str(out.get("md5", ""))
        if out.get("hash") != "md5" or not MD5.fullmatch(digest):
            digest = ""
        found.append(Output(path, digest, str(out.get("remote", "")), source))
    return found


def _mapping(data: bytes) -> dict[str, Any]:
    content = parse_yaml(data.decode())
    if not isinstance(content, dict):
        raise ValueError("no mapping")
    return content


def remote(config: str, name: str, place: str) -> Remote:
    """The remote called `name`, or the default one where that is empty, of a ``.dvc/config``.

    Args:
        config: the file's text.
        place: what leads every message.

    Raises:
        UserError: where there is none, or it is not an S3 one in the cache's layout.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(config)
    except configparser.Error as error:
        raise UserError(f"{place}: not as DVC writes it ({str(error).splitlines()[0]})") from None
    remotes = {found[1]: parser[section] for section in parser.sections() if (found := _SECTION.fullmatch(section))}
    chosen = name or parser.get("core", "remote", fallback="").strip("'\"")
    if chosen not in remotes:
        there = f"there are {', '.join(sorted(remotes))}" if remotes else "there is none"
        asked = f"no remote {chosen!r}" if chosen else "no default remote"
        raise UserError(f"{place}: {asked} ({there}); add it with dvc remote add, or name one with remote=")
    values = {key: value.strip("'\"") for key, value in remotes[chosen].items()}
    url = values.get("url", "")
    if not url.startswith("s3://"):
        raise UserError(
            f"{place}: remote {chosen!r} is {url or 'nowhere'}; S3 remotes (s3://bucket/prefix) are read here. Push to "
            "one and name it with remote=, or run dvc pull and give the folder"
        )
    if any(values.get(key, "").lower() == "true" for key in ("version_aware", "worktree")):
        raise UserError(
            f"{place}: remote {chosen!r} keeps files by name (version_aware or worktree); push to one that does not"
        )
    return Remote(url.rstrip("/"), values.get("endpointurl", ""))
