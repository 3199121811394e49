"""Reading a ``.ckpt``: tensors come out of it, code does not get in."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from components.checkpoint_file import read_ckpt
from components.errors import UserError

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.ones(2, dtype=torch.float16)}


class Malicious:
    """An object whose unpickling runs a command, as an attacker would write it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


def equal(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == TENSORS.keys() and all(torch.equal(found[name], TENSORS[name]) for name in found)


@pytest.mark.parametrize(
    "content",
    [TENSORS, {"state_dict": TENSORS}, {"state_dict": TENSORS, "global_step": 470_000, "version": "1.4", "epoch": 3}],
    ids=["bare", "as the original files", "with what training left"],
)
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before torch 1.6"])
def test_tensors_come_out_of_it(tmp_path: Path, content: dict, archive: bool) -> None:
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=archive)
    assert equal(read_ckpt(tmp_path / "model.ckpt"))


def test_parameters_come_out_as_plain_tensors(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(keep_vars=True), tmp_path / "model.ckpt")
    assert not any(tensor.requires_grad for tensor in read_ckpt(tmp_path / "model.ckpt").values())


def test_an_archive_that_someone_compressed_is_not_taken_for_raw_bytes(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "model.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "model.ckpt") as stored,
        zipfile.ZipFile(tmp_path / "small.ckpt", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in stored.namelist():
            small.writestr(name, stored.read(name))
    assert equal(read_ckpt(tmp_path / "small.ckpt"))


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before torch 1.6"])
@pytest.mark.parametrize("place", ["beside", "among", "name"])
def test_code_is_refused_by_name_and_not_run(tmp_path: Path, archive: bool, place: str) -> None:
    file, marker = tmp_path / "model.ckpt", tmp_path / "executed"
    bad = Malicious(marker)
    contents: dict[str, Any] = {
        "beside": {"state_dict": TENSORS, "callbacks": bad},
        "among": {"state_dict": {**TENSORS, "c.weight": bad}},
        "name": {"state_dict": dict([*TENSORS.items(), (bad, torch.ones(1))])},
    }
    torch.save(contents[place], file, _use_new_zipfile_serialization=archive)
    with pytest.raises(UserError, match=r"model\.ckpt: holds (posix|nt)\.system, .* nothing was run"):
        read_ckpt(file)
    assert not marker.exists()
    # The file is what it is meant to be: whoever unpickles it without care runs the command.
    torch.load(file, weights_only=False)
    assert marker.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("protocol", "said"), [(0, r"holds (posix|nt)\.system"), (4, "cannot be read as a checkpoint")]
)
def test_a_bare_pickle_is_not_run_either(tmp_path: Path, protocol: int, said: str) -> None:
    file, marker = tmp_path / "model.ckpt", tmp_path / "executed"
    file.write_bytes(pickle.dumps(Malicious(marker), protocol))
    with pytest.raises(UserError, match=rf"model\.ckpt: {said}"):
        read_ckpt(file)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.ones(1)], "holds a list, not tensors by name"),
        ({}, "holds no tensors"),
        ({"state_dict": 3}, "holds no tensors"),
        ({**TENSORS, "lr": 0.1, "names": ["x"]}, r"holds 'lr' \(float\), 'names' \(list\) among its tensors"),
        ({"state_dict": dict([*TENSORS.items(), (7, torch.ones(1))])}, r"holds 7 \(Tensor\) among"),
        ({"x": torch.eye(2).to_sparse()}, r"holds 'x' \(a tensor that is sparse\) among"),
        ({"x": torch.empty(2, device="meta")}, r"holds 'x' \(a tensor that is empty\) among"),
        ({"state_dict": TENSORS, "made": Path("x")}, r"holds pathlib\.\S+, which is no tensor"),
    ],
)
def test_what_is_no_tensor_is_named(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "model.ckpt")
    with pytest.raises(UserError, match=said):
        read_ckpt(tmp_path / "model.ckpt")


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_a_damaged_file_is_named(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "model.ckpt"
    torch.save(TENSORS, file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"model\.ckpt: cannot be read as a checkpoint"):
        read_ckpt(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.ckpt: not found"):
        read_ckpt(tmp_path / "model.ckpt")
