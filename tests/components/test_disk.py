"""A disk that refuses: the errors of the libraries that write, on a file that may not grow."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from components.disk import refusal

TENSOR = torch.zeros(300_000)
NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)


def _saved(path: Path) -> None:
    with path.open("wb") as file:
        torch.save(TENSOR, file)


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("a" * 200_000),
    "image": lambda path: Image.fromarray(NOISE).save(path.with_suffix(".png")),
    "arrays": lambda path: np.savez(path, a=NOISE),
    "torch": _saved,
    "safetensors": lambda path: save_file({"a": TENSOR}, path),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.usefixtures("small_files")
def test_a_file_that_cannot_grow_is_told_by_whatever_writes(tmp_path: Path, writer: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
        WRITERS[writer](tmp_path / "file")
    found = refusal(caught.value)
    assert found is not None
    assert "cannot be written (File too large); free some space" in str(found)


def test_a_full_disk_is_told_with_the_place_or_with_both_that_it_may_be() -> None:
    assert "/out/x: cannot be written (No space left" in str(refusal(OSError(errno.ENOSPC, "full", "/out/x")))
    assert "the outputs, or temporary files (in /" in str(refusal(OSError(errno.ENOSPC, "full")))
    assert "the outputs (in /no/such, where " in str(refusal(OSError(errno.ENOSPC, "full"), [Path("/no/such")]))


def test_what_may_not_be_written_is_named_with_who_may_not(tmp_path: Path) -> None:
    found = refusal(PermissionError(errno.EACCES, "Permission denied", str(tmp_path)))
    assert f"{tmp_path}: Permission denied; let user {os.getuid()}" in str(found)


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR])
def test_a_place_that_there_cannot_be_is_named_and_cut_short(number: int) -> None:
    said = str(refusal(OSError(number, os.strerror(number), "/out/" + "x" * 300)))
    assert said.startswith(f"/out/{'x' * 195}…: {os.strerror(number)}; ")
    assert refusal(OSError(number, os.strerror(number))) is None


@pytest.mark.parametrize("error", [ValueError("(os error"), FileNotFoundError(errno.ENOENT, "no", "x"), OSError()])
def test_other_errors_are_ours(error: Exception) -> None:
    assert refusal(error) is None


def test_a_defect_met_while_a_refusal_was_handled_is_ours() -> None:
    error = ValueError("a defect")
    error.__context__ = PermissionError(errno.EACCES, "Permission denied", "/x")
    assert refusal(error) is None
