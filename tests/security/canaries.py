"""Credentials that are planted so that they can be looked for: in output, files, objects and process arguments."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

#: Variables of a user's machine that a run has no use for, or that only its requests may carry.
PLANTED = {
    "AWS_ACCESS_KEY_ID": "AKIACANARYOFTHEKEYID",
    "AWS_SECRET_ACCESS_KEY": "canary/of+the+aws+secret/0123456789abcdef",
    "AWS_SESSION_TOKEN": "canary-of-the-session-token-0123456789abcdef",
    "STORE_SESSION_TOKEN": "canary-of-the-stores-token-0123456789abcdef",
    "HF_TOKEN": "hf_canaryOfTheHubsToken0123456789",
}
#: In a URL, as a user might paste it.
USER, PASSWORD = "canaryuser", "canarypassword0123"

_SECONDS = 0.1


def spellings(secret: str) -> Iterator[bytes]:
    """A secret as it may be written: plain, in a URL, in base64."""
    plain = secret.encode()
    yield plain
    yield quote(secret, safe="").encode()
    # In base64, what is the same whatever stands before and after: six bits a character, of which those at both ends
    # may be shared.
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + plain)
        yield encoded[-(-8 * before // 6) : 8 * (before + len(plain)) // 6]


def found_in(data: bytes, secrets: Mapping[str, str]) -> list[str]:
    """The names of the secrets that are in `data`."""
    return [name for name, secret in secrets.items() if any(s in data for s in spellings(secret))]


def files_with(folder: Path, secrets: Mapping[str, str], but: Iterable[Path] = ()) -> dict[str, list[str]]:
    """File below `folder` → names of the secrets in it or in its name, for those that hold one and are not in `but`."""
    allowed = set(but)
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path not in allowed:
            names = found_in(bytes(path) + path.read_bytes(), secrets)
            if names:
                found[str(path)] = names
    return found


@contextmanager
def arguments_of_children(pid: int, seen: set[bytes]) -> Iterator[None]:
    """Collect in `seen` the command lines of the process `pid` and all below it, while the block lasts."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_SECONDS):
            seen.update(_command_lines(pid))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _command_lines(pid: int) -> Iterator[bytes]:
    try:
        yield Path(f"/proc/{pid}/cmdline").read_bytes()
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        # It has ended meanwhile.
        return
    for child in children:
        yield from _command_lines(child)
