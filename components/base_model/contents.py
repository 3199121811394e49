"""Whether the files of a base model are what their names say, as far as their beginnings tell; no library is needed.

Found are the pointers that a clone without Git LFS leaves in place of weights, files cut short, and JSON that is none.
Not covered: what the tensors hold, and whether they fit the configuration; that shows when they are loaded, and
`refuse_missing` is for tensors that turn out to be missing then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from components.documents import parse_json
from components.errors import UserError

#: First line of a Git LFS pointer (git-lfs, docs/spec.md).
_POINTER = b"version https://git-lfs.github.com/spec/v1"
#: The format's own limit to a header, bytes.
_LARGEST_HEADER = 100_000_000
_SHARDS = ".safetensors.index.json"


def refuse_pointers(files: Mapping[str, Path]) -> None:
    """Refuse files in whose place a repository keeps the address of what Git LFS stores.

    Args:
        files: where the user has it → file.

    Raises:
        UserError: naming all of them.
    """
    pointers = [place for place, file in files.items() if _beginning(file, place) == _POINTER]
    if pointers:
        raise UserError(
            f"{', '.join(pointers)}: a Git LFS pointer instead of the file; run `git lfs install` and `git lfs pull` "
            "where the repository was cloned, or give the repository itself as hf://owner/name@revision"
        )


def check(files: Mapping[str, Path], place: str) -> None:
    """Refuse the files of a diffusers folder that are pointers, cut short or no JSON.

    Args:
        files: path in the folder → file.
        place: where the user has the folder.

    Raises:
        UserError: naming all of them.
    """
    refuse_pointers({f"{place}/{path}": file for path, file in files.items()})
    problems = []
    for path, file in files.items():
        if path.endswith(".safetensors"):
            problem = _weights_problem(file)
        elif path.endswith(_SHARDS):
            problem = _shards_problem(file, path, files)
        else:
            problem = _json_problem(file) if path.endswith(".json") else ""
        if problem:
            problems.append(f"{place}/{path}: {problem}; copy the base model again")
    if problems:
        raise UserError(*problems)


def refuse_missing(missing: Iterable[str], place: str) -> None:
    """Refuse a network for which a folder does not hold all weights; libraries fill them with what comes to hand.

    Args:
        missing: names of the tensors, as ``from_pretrained`` gives them with ``output_loading_info``.
        place: where the user has the network's folder.

    Raises:
        UserError: naming one of them.
    """
    if names := sorted(missing):
        shown = names[0] if len(names) == 1 else f"{names[0]}, …"
        raise UserError(
            f"{place}: its weights lack {len(names)} of the tensors that its config.json asks for ({shown}); the two "
            "are not of one model, or not complete: copy the model again"
        )


def _beginning(file: Path, place: str) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_POINTER))
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror}); allow it with chmod, or copy it again") from None


def _weights_problem(file: Path) -> str:
    """What is wrong with a safetensors file by its header (huggingface/safetensors, README, "Format"), else ""."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > min(size - 8, _LARGEST_HEADER):
            return "no safetensors file, or cut short"
        try:
            header = parse_json(opened.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            whole = 8 + length + max(ends, default=0)
        except (ValueError, AttributeError, LookupError, TypeError):
            return "no safetensors file"
    return "" if size == whole else f"{size:,} bytes of the {whole:,} that its header says"


def _json_problem(file: Path) -> str:
    try:
        return "" if isinstance(parse_json(file.read_bytes()), dict) else "no JSON object"
    except ValueError as error:
        return f"not valid JSON ({error})"


def _shards_problem(file: Path, path: str, files: Mapping[str, Path]) -> str:
    """What is wrong with the index of weights in several files, else ""."""
    if problem := _json_problem(file):
        return problem
    named = parse_json(file.read_bytes()).get("weight_map")
    if not isinstance(named, dict):
        return "names no files (weight_map)"
    beside = {PurePosixPath(other).name for other in files if PurePosixPath(other).parent == PurePosixPath(path).parent}
    absent = sorted({str(name) for name in named.values()} - beside)
    return f"names {absent[0]}, which is not there" if absent else ""
