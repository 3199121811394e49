"""Writing the file: what is read back equals the checkpoint, other libraries read it, memory stays small."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from components.convert import verify, writer
from components.convert.companion import write_companion
from components.convert.digest import tensors_digest
from components.convert.mismatch import Mismatch
from components.convert.source import Source
from components.errors import UserError
from tests.components.convert.files import change, convert, copied

from .conftest import MakeCheckpoint


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_round_trip_through_diffusers(checkpoint: Path, tmp_path: Path, dtype: str) -> None:
    file, companion, entries = convert(checkpoint, tmp_path, dtype)
    verify.check_header(file, entries)
    with Source(checkpoint) as source:
        assert verify.compare_tensors(file, companion, source, dtype) == sum(map(len, source.tensors.values()))
        # Once more without the loader: every value is the plain cast of its source.
        with safe_open(file, framework="pt") as written:
            for entry in entries:
                if entry.target.sources:
                    parts = [source.read(entry.target.component, name) for name in entry.target.sources]
                    expected = torch.cat(parts).to(writer.DTYPES[dtype][0]).reshape(entry.shape)
                    assert torch.equal(written.get_tensor(entry.target.name), expected), entry.target.name
    assert (
        verify.compare_images(file, companion, checkpoint, dtype, "a photo")
        <= {
            "fp32": 0.0,
            "fp16": 0.5,
            "bf16": 4.0,
        }[dtype]
    )


def test_positions_are_integers_as_in_the_original_files(checkpoint: Path, tmp_path: Path) -> None:
    file, _, _ = convert(checkpoint, tmp_path)
    with safe_open(file, framework="pt") as written:
        positions = written.get_tensor("cond_stage_model.transformer.text_model.embeddings.position_ids")
    assert torch.equal(positions, torch.arange(77).reshape(1, 77))
    assert positions.dtype == torch.int64


@pytest.mark.parametrize(
    "shape",
    [
        {
            "unet": {
                "block_out_channels": (16, 32, 48),
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "layers_per_block": 1,
                "transformer_layers_per_block": 2,
            },
            "vae": {"block_out_channels": (8, 16), "layers_per_block": 2},
        },
        {"unet": {"layers_per_block": 3}, "vae": {"layers_per_block": 3}},
    ],
    ids=["3 levels × 1", "4 levels × 3"],
)
def test_other_shapes_round_trip(make_checkpoint: MakeCheckpoint, tmp_path: Path, shape: dict) -> None:
    checkpoint = make_checkpoint(**shape)
    file, companion, entries = convert(checkpoint, tmp_path)
    verify.check_header(file, entries)
    with Source(checkpoint) as source:
        verify.compare_tensors(file, companion, source, "fp16")
    verify.compare_images(file, companion, checkpoint, "fp16", "a photo")


def test_shards_and_halves_make_the_same_file(
    checkpoint: Path, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    sharded = make_checkpoint(shard_size="200KB", dtype=torch.float16)
    assert len(list((sharded / "unet").glob("*-of-*.safetensors"))) > 1
    digests = set()
    for i, folder in enumerate((checkpoint, sharded)):
        (tmp_path / str(i)).mkdir()
        digests.add(tensors_digest(convert(folder, tmp_path / str(i))[0]))
    assert len(digests) == 1
    (next((sharded / "unet").glob("*-00001-of-*"))).unlink()
    with pytest.raises(UserError, match="00001-of-.* write the checkpoint again"):
        Source(sharded)


def test_autoencoder_written_before_diffusers_0_18(checkpoint: Path, tmp_path: Path) -> None:
    old = copied(checkpoint, tmp_path)
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "attentions" in name]:
            new = name
            for now, then in former.items():
                new = new.replace(f".{now}.", f".{then}.")
            tensors[new] = tensors.pop(name)
        assert "encoder.mid_block.attentions.0.query.weight" in tensors

    change(old / "vae" / "diffusion_pytorch_model.safetensors", rename)
    (tmp_path / "new").mkdir()
    assert tensors_digest(convert(old, tmp_path)[0]) == tensors_digest(convert(checkpoint, tmp_path / "new")[0])


def test_text_encoder_written_before_transformers_5_6(checkpoint: Path, tmp_path: Path) -> None:
    old = copied(checkpoint, tmp_path)

    def prefix(tensors: dict[str, torch.Tensor]) -> None:
        for name in [n for n in tensors if not n.startswith("text_model.")]:
            tensors[f"text_model.{name}"] = tensors.pop(name)
        tensors["text_model.embeddings.position_ids"] = torch.arange(77).reshape(1, 77)

    change(old / "text_encoder" / "model.safetensors", prefix)
    (tmp_path / "new").mkdir()
    assert tensors_digest(convert(old, tmp_path)[0]) == tensors_digest(convert(checkpoint, tmp_path / "new")[0])


def test_the_file_is_what_the_reference_library_reads_and_writes(checkpoint: Path, tmp_path: Path) -> None:
    file, _, entries = convert(checkpoint, tmp_path)
    tensors = load_file(file)
    again = tmp_path / "again.safetensors"
    save_file(tensors, again, metadata={"format": "pt"})
    assert again.read_bytes() == file.read_bytes()
    with safe_open(file, framework="pt") as written:
        assert written.metadata() == {"format": "pt"}
        assert len(written.keys()) == len(entries)


def test_a_ckpt_is_what_torch_reads_and_holds_the_same(checkpoint: Path, tmp_path: Path) -> None:
    file, companion, entries = convert(checkpoint, tmp_path, "bf16", ".ckpt")
    other, _, _ = convert(checkpoint, tmp_path, "bf16")
    tensors = load_file(other)
    for mapped in (True, False):
        loaded = torch.load(file, weights_only=True, mmap=mapped)
        assert loaded["metadata"] == {"format": "pt"}
        assert list(loaded["state_dict"]) == [entry.name for entry in entries]
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in loaded["state_dict"].items())
        assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in loaded["state_dict"].values())
    with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
        assert archive.testzip() is None
        for record in archive.infolist():
            raw.seek(record.header_offset + 26)
            name, extra = struct.unpack("<HH", raw.read(4))
            assert (record.header_offset + 30 + name + extra) % 64 == 0, record.filename
    verify.check_header(file, entries)
    assert tensors_digest(file) == tensors_digest(other)
    with Source(checkpoint) as source:
        verify.compare_tensors(file, companion, source, "bf16")
    with file.open("r+b") as handle:
        handle.truncate(file.stat().st_size - 1000)
    with pytest.raises(Mismatch, match="cannot be read as a checkpoint"):
        verify.check_header(file, entries)


def test_digest_follows_tensors_and_not_metadata(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(2)}

    def digest(tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> str:
        save_file(tensors, tmp_path / "t.safetensors", metadata=metadata)
        return tensors_digest(tmp_path / "t.safetensors")

    first = digest(tensors)
    assert digest(dict(reversed(tensors.items())), {"title": "another"}) == first
    different = [
        {**tensors, "b": tensors["b"].reshape(3, 2)},
        {**tensors, "b": tensors["b"].half()},
        {**tensors, "b": tensors["b"] + 1},
        {"b": tensors["a"], "a": tensors["b"]},
        {"b": tensors["b"]},
    ]
    assert len({first, *map(digest, different)}) == len(different) + 1


def test_no_safetensors_file_has_no_digest(tmp_path: Path) -> None:
    for content in (b"", b"abc", struct.pack("<Q", 1 << 60) + b"{}"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ValueError, match="cut short"):
            tensors_digest(tmp_path / "x")


def test_companion_is_small_and_tells_nothing_of_the_machine(checkpoint: Path, tmp_path: Path) -> None:
    named = copied(checkpoint, tmp_path)
    for path in ("model_index.json", "unet/config.json"):
        data = json.loads((named / path).read_text())
        (named / path).write_text(json.dumps({**data, "_name_or_path": "someone/model"}))
    index = json.loads((named / "model_index.json").read_text())
    index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    (named / "model_index.json").write_text(json.dumps(index))
    write_companion(named, tmp_path / "config")
    files = [path for path in (tmp_path / "config").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 100_000
    assert not any("someone" in path.read_text() or path.suffix == ".safetensors" for path in files)
    assert json.loads((tmp_path / "config/model_index.json").read_text())["safety_checker"] == [None, None]


_MEASURE = """
import sys, threading, time
from pathlib import Path
import torch
from components.convert import writer
from components.convert.digest import tensors_digest
from components.convert.layout import targets
from components.convert.mismatch import Mismatch
from components.convert.source import Source

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

with Source(Path(sys.argv[1])) as source:
    source.check()
    entries = writer.plan(source, targets(source.configs, source.tensors), "fp16")
    torch.zeros(1 << 20).half()
    peak = before = anonymous()
    stop = False
    def watch():
        global peak
        while not stop:
            peak = max(peak, anonymous())
            time.sleep(0.001)
    thread = threading.Thread(target=watch)
    thread.start()
    for file in map(Path, sys.argv[2:]):
        writer.write(file, source, entries, {})
        tensors_digest(file)
    stop = True
    thread.join()
print(peak - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process from /proc")
def test_memory_does_not_grow_with_the_model(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    # One tensor of 200 MB: more than all the others, and more than the writer may hold.
    checkpoint = make_checkpoint(text={"vocab_size": 1_600_000})
    size = sum(path.stat().st_size for path in checkpoint.rglob("*.safetensors"))
    assert size > 200e6
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, checkpoint, *(tmp_path / f"model.{kind}" for kind in ("safetensors", "ckpt"))],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    grown = float(done.stdout.splitlines()[-1])
    assert grown < 40, f"{grown:.0f} MB for a model of {size / 1e6:.0f} MB"
