"""One commit of a git repository, fetched with the git program: its files and their contents.

Credentials are git's own matter (credential helpers, SSH keys); it is never asked to prompt for one.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.errors import Unavailable, UserError

_SECONDS = 900.0
_REGULAR = ("100644", "100755")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Commit:
    """A commit, as long as the ``with`` block of `fetched` lasts."""

    id: str  #: SHA-1, 40 hexadecimal digits
    files: dict[str, str]  #: path → id of its content, for regular files: links and submodules are left out
    _folder: Path

    def read(self, path: str) -> bytes:
        """A file's content."""
        return _git(self._folder, "cat-file", "blob", self.files[path]).stdout


@contextmanager
def fetched(repository: str, rev: str) -> Iterator[Commit]:
    """The commit that `rev` (branch, tag, commit, ``HEAD``) means in the repository at a git URL.

    Raises:
        UserError: when git is not there, may not read the repository, or finds no such revision.
        Unavailable: when the repository does not answer in time.
    """
    with tempfile.TemporaryDirectory(prefix="git-") as temporary:
        folder = Path(temporary)
        _git(folder, "init", "--quiet", "--bare")
        # The one commit is all that is needed; servers may refuse a bare commit id, and know no shortened one.
        one = _git(folder, "fetch", "--quiet", "--depth=1", "--no-tags", repository, rev, check=False)
        name = "FETCH_HEAD"
        if one.returncode != 0:
            everything = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
            done = _git(folder, "fetch", "--quiet", repository, *everything, check=False)
            if done.returncode != 0:
                raise UserError(
                    f"{repository}: git cannot read it ({_last(done.stderr)}); check the address, and that git here "
                    "may read it without asking"
                )
            name = rev
        found = _git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", check=False)
        commit = found.stdout.decode().strip()
        if not _COMMIT.fullmatch(commit):
            raise UserError(f"{repository}: no revision {rev!r} in it; give a branch, a tag or a commit")
        yield Commit(commit, _files(folder, commit), folder)


def _files(folder: Path, commit: str) -> dict[str, str]:
    listed = _git(folder, "ls-tree", "-r", "-z", "--full-tree", commit).stdout
    files = {}
    for line in filter(None, listed.split(b"\0")):
        facts, _, path = line.partition(b"\t")
        mode, _, blob = facts.decode().split(" ")
        if mode in _REGULAR:
            files[os.fsdecode(path)] = blob
    return files


def _git(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")},
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file",
        "LC_ALL": "C",
    }
    command: Sequence[str] = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except FileNotFoundError:
        raise UserError("git is not installed here, and a data set of a git repository needs it; install git") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"git {arguments[0]}: no end after {_SECONDS:.0f} s; try again") from None
    if check and done.returncode != 0:
        raise UserError(f"git {arguments[0]} failed: {_last(done.stderr)}")
    return done


def _last(said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (fatal or lines or ["no reason given"])[0]
