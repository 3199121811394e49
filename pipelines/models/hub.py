"""A published version to a repository of the Hugging Face hub: all of its files in one commit.

Needs the extra ``hub``. Which hub is meant says ``HF_ENDPOINT``, as to all of Hugging Face's programs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from components.credentials import checked
from components.errors import Unavailable, UserError
from components.progress import log, size

if TYPE_CHECKING:
    from pipelines.models.published import Published

_TOKENS = "https://huggingface.co/settings/tokens"


def token(file: Path | None, environ: Mapping[str, str] = os.environ) -> str:
    """The token to push with: the content of `file`, or ``HF_TOKEN``.

    Raises:
        UserError: where there is none.
    """
    if file is not None:
        try:
            found = checked(file.read_text(encoding="utf-8"), f"--token-file {file}")
        except (OSError, ValueError) as error:
            raise UserError(f"--token-file {file}: cannot be read ({type(error).__name__})") from None
        if not found:
            raise UserError(f"--token-file {file}: is empty; put a token with the right to write into it ({_TOKENS})")
        return found
    if found := checked(environ.get("HF_TOKEN", ""), "HF_TOKEN"):
        return found
    raise UserError(f"HF_TOKEN: not set; make a token with the right to write at {_TOKENS}, or give --token-file")


def push(found: Published, repository: str, token: str, private: bool) -> str:
    """Make `repository` hold the version `found`, and what it held before in its history; the commit's address.

    The repository is made where it is absent, and left as private or public as it is where it is there. Every file is
    held against its digest on the way.

    Raises:
        UserError: for a repository or token that the hub refuses, and without huggingface_hub.
        Unavailable: when the hub does not answer.
    """
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
    except ImportError:
        raise UserError("models push needs the package huggingface_hub; install this project's extra 'hub'") from None
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory(prefix="push-") as temporary, _explained(repository):
        api.create_repo(repository, private=private, exist_ok=True)
        folder = Path(temporary)
        found.place.get_tree(folder)
        log(f"push {found.label}: {len(found.manifest.files)} files, {size(found.manifest.total_bytes)}")
        files = [CommitOperationAdd(entry.path, str(folder / entry.path)) for entry in found.manifest.files]
        made = api.create_commit(repository, files, commit_message=f"{found.name} {found.version}")
    return str(made.commit_url)


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """The hub's errors as this project's."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except HFValidationError as error:
        raise UserError(f"{repository}: not the name of a repository, OWNER/NAME ({error})") from None
    except OfflineModeIsEnabled:
        raise UserError("HF_HUB_OFFLINE: is set, so nothing can be pushed; unset it") from None
    except httpx.TransportError as error:
        raise Unavailable(f"{repository}: the hub does not answer ({type(error).__name__}: {error})") from None
    except HfHubHTTPError as error:
        status, said = error.response.status_code, error.server_message or f"status {error.response.status_code}"
        if status == 401:
            problem = f"the hub refuses the token ({said}); make one with the right to write at {_TOKENS}"
        elif status in (403, 404):
            problem = f"the token has no right to write there ({said}); use one of its owner's, or name another owner"
        elif status == 429 or status >= 500:
            raise Unavailable(f"{repository}: the hub cannot take it now ({said})") from None
        else:
            problem = f"the hub refuses it ({said})"
        raise UserError(f"{repository}: {problem}") from None
    except ValueError as error:
        # What the client itself refuses: a model card whose head the hub does not accept, for one.
        raise UserError(f"{repository}: {error}") from None
