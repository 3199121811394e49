"""What reads bytes from outside, each as one call: ends in a value or in an error for the user, whatever the bytes.

`TARGETS` serves the property tests of the suite and the fuzzer that is run by hand (``make fuzz``). A target may read
and write below the folder that it is given, and nowhere else.
"""

from __future__ import annotations

import functools
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from components import hub, runtime
from components.archives.unpack import unpack
from components.artifacts import CheckpointIndex, CropSet, Decision, Metrics, PublishedModel, from_json, read_crops
from components.crop.config import CropConfig
from components.crop.images import Unreadable, displayed_size, picture, read_mask
from components.errors import UserError
from components.models.catalog import Latest
from components.models.record import record_of
from components.runtime import InputPath, OutputPath
from components.storage import Manifest
from components.storage.uri import split_uri
from components.versions import dvc_files, dvc_location
from pipelines import config
from pipelines.cleanup.contents import Item, read, read_leases
from pipelines.cluster import profile
from tests.components.crop.formats import drawn
from tests.conftest import ROOT
from tests.security.fuzz.annotations import PLACES, reading
from tests.security.fuzz.pictures import other_picture
from tests.security.fuzz.target import Target

FIXTURES = drawn.FIXTURES
PARAMS, PROFILES = ROOT / "pipelines" / "params", ROOT / "pipelines" / "profiles"


def _settings(data: bytes, folder: Path) -> object:
    (folder / "settings.yaml").write_bytes(data)
    return config.load(str(folder / "settings.yaml"))


def _assignments(data: bytes, folder: Path) -> object:
    return config.load("quickstart", data.decode(errors="replace").splitlines())


def _profile(data: bytes, folder: Path) -> object:
    (folder / "profile.yaml").write_bytes(data)
    return profile.load(str(folder / "profile.yaml"), None)


def _executor_input(data: bytes, folder: Path) -> object:
    def step(
        config: CropConfig, name: str, number: int, share: float, crops: InputPath, report: OutputPath, on: bool = True
    ) -> None:
        # Where its outputs would go is what the argument says.
        raise UserError("reached")

    runtime._run_executor_input("crop", step, data.decode(errors="replace"))
    return None


def _executor_input_seeds() -> list[bytes]:
    artifact = {"artifacts": [{"name": "a", "uri": "minio://bucket/a", "type": {"schemaTitle": "t"}, "metadata": {}}]}
    values = {"config": {"resolution": 64.0, "classes": ["dent"]}, "name": "n", "number": 3.0, "share": 0.5, "on": True}
    given = {
        "inputs": {"parameterValues": values, "artifacts": {"crops": artifact}},
        "outputs": {"artifacts": {"report": artifact}, "outputFile": "/tmp/kfp/executor_output.json"},
    }
    return [json.dumps(given).encode()]


#: Readers of what the store and earlier steps give back; the first byte chooses.
_STORED: tuple[Callable[[bytes], object], ...] = (
    lambda data: record_of(Manifest.from_json(data, "place").made_by),
    lambda data: Latest.from_json(data, "place").to_json(),
    lambda data: from_json(data, CheckpointIndex, "place").refs(),
    lambda data: from_json(data, Metrics, "place").rows(),
    lambda data: from_json(data, Decision, "place"),
    lambda data: from_json(data, CropSet, "place"),
    lambda data: from_json(data, PublishedModel, "place"),
    lambda data: _cleanup(data),
)


def _stored(data: bytes, folder: Path) -> object:
    if not data:
        return None
    return _STORED[data[0] % len(_STORED)](data[1:])


def _cleanup(data: bytes) -> object:
    """Clean-up's view of a store in which every record is `data`."""
    keys = [
        *("leases/run-a/b.json", "models/m/latest.json", "models/m/20260101T000000Z-000000000000/MANIFEST.json"),
        *("train/a/index.json", "datasets/d/DATASET.json", "datasets/d/versions/v.json", "base-models/b/MANIFEST.json"),
    ]
    listing = [Item(key, len(data), 0.0) for key in keys]
    held = read_leases(listing, lambda key: data, 1.0)
    return read("s3://bucket", listing, lambda key: data, 1.0, held)


def _stored_seeds() -> list[bytes]:
    import dataclasses

    from tests.components.convert.examples import checkpoint_index, decision, metrics

    index = checkpoint_index("s3://bucket/base-models/x", [])
    version = "20260101T000000Z-000000000000"
    made = decision(index, 0)
    values: list[object] = [
        json.loads(Manifest.of((), {"model": {"schema": 1}}).to_json()),
        json.loads(Latest(version, "m.safetensors", "0" * 64).to_json()),
        dataclasses.asdict(index) | {"checkpoints": [{"step": 0, "uri": None, "components": []}]},
        {
            **{"schema": 1, "checkpoints": [metrics(0, "base", 0.1)], "floor": made.floor, "floor_per_class": {}},
            **{"higher_is_better": {"kd_lite0": False}, "absent": {}, "extractor": {}, "generation": {}},
            "crops_digest": "c" * 64,
        },
        dataclasses.asdict(made),
        dataclasses.asdict(CropSet(64, ["a"], {"a": "b"}, {"a": {"train": 1, "reference": 1}}, "c", "d", "e")),
        dataclasses.asdict(PublishedModel("m", version, "s3://b/m", "m.safetensors", 1, "0", "0", 0)),
        {"schema": 1, "by": "train", "running": True},
    ]
    return [bytes([number]) + json.dumps(value).encode() for number, value in enumerate(values)]


def _crops(data: bytes, folder: Path) -> object:
    (folder / "train").mkdir(exist_ok=True)
    (folder / "train" / "metadata.jsonl").write_bytes(data)
    return read_crops(folder, "train")


def _cut(path: Path) -> None:
    """What the crop step does with an image: a window, and a thumbnail. All of it in RGB takes twice the memory."""
    with picture(path) as image:
        image.crop((0, 0, min(image.width, 512), min(image.height, 512)))
        image.shrunk(64)


def _image(data: bytes, folder: Path) -> object:
    path = folder / "image.png"
    path.write_bytes(data)
    wrong = ""
    for read_image in (displayed_size, _cut, read_mask):
        try:
            read_image(path)
        except Unreadable as error:
            # As the step does it: the error itself would keep what libwebp has taken.
            wrong = str(error)
    if wrong:
        raise UserError(wrong)
    return None


def _image_seeds() -> list[bytes]:
    import numpy as np

    pixels = np.arange(12 * 9 * 3, dtype=np.uint8).reshape(12, 9, 3)
    found = []
    for form in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "progressive JPEG"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, form.split()[-1], progressive=form.startswith("progressive"))
        found.append(buffer.getvalue())
    return found


def _archive(suffix: str) -> Target:
    def read_archive(data: bytes, folder: Path) -> object:
        archive, target = folder / f"data{suffix}", folder / "files"
        archive.write_bytes(data)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        return unpack(archive, target, str(archive), lambda name: True)

    return Target(read_archive, lambda: [_packed(suffix)])


def _packed(suffix: str) -> bytes:
    import tarfile
    import zipfile

    buffer = io.BytesIO()
    if suffix == ".zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("images/a.png", b"picture" * 20)
            packed.writestr("labels/a.txt", b"0 0.5 0.5 0.2 0.2\n")
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz" if suffix.endswith("gz") else "w") as packed:
            for name, content in (("images/a.png", b"picture" * 20), ("labels/a.txt", b"0 0.5 0.5 0.2 0.2\n")):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                packed.addfile(info, io.BytesIO(content))
            link = tarfile.TarInfo("images/b.png")
            link.type, link.linkname = tarfile.SYMTYPE, "a.png"
            packed.addfile(link)
    return buffer.getvalue()


def _dvc(data: bytes, folder: Path) -> object:
    found = dvc_files.outputs(["data/images.dvc", "dvc.lock", "dvc.yaml"], lambda path: data)
    return found, dvc_files.remote(data.decode(errors="replace"), "", "place")


def _places(data: bytes, folder: Path) -> object:
    """Every kind of place that a setting may name."""
    text, errors = data.decode(errors="replace"), []
    for parse in (split_uri, hub.parse, dvc_location.parse):
        try:
            parse(text)
        except UserError as error:
            errors.append(error)
    if errors:
        raise errors[-1]
    return None


def _safetensors(data: bytes, folder: Path) -> object:
    from components.base_model import families
    from components.base_model.single_file import _header, prediction_of

    path = folder / "model.safetensors"
    path.write_bytes(data)
    shapes, _, metadata = _header(path, str(path))
    return prediction_of(path, families.recognised(shapes, str(path)), metadata, str(path))


def _published_header(data: bytes, folder: Path) -> object:
    from pipelines.generation.source import Source, _header

    path = folder / "model.safetensors"
    path.write_bytes(data)
    (folder / "unet").mkdir(exist_ok=True)
    source = Source("model", folder, path, _header(path))
    return source.prompts, source.generation, source.crops_digest


def _safetensors_seeds() -> list[bytes]:
    import numpy as np
    from safetensors.numpy import save

    names = ("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.transformer.x")
    metadata = {
        "modelspec.prediction_type": "epsilon",
        "modelspec.resolution": "64x64",
        "defect_diffusion.prompts": json.dumps({"dent": "a photo of a dent"}),
        "defect_diffusion.generation": json.dumps({"num_inference_steps": 2}),
    }
    return [save({name: np.zeros((2, 4, 3, 3), np.float16) for name in names}, metadata)]


def _checkpoint(data: bytes, folder: Path) -> object:
    from components.checkpoint_file import read_ckpt

    (folder / "model.ckpt").write_bytes(data)
    return read_ckpt(folder / "model.ckpt")


def _checkpoint_seeds() -> list[bytes]:
    import torch

    found = []
    for zipped in (True, False):
        buffer = io.BytesIO()
        content = {"state_dict": {"a.weight": torch.zeros(2, 3)}, "global_step": 7}
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        found.append(buffer.getvalue())
    return found


def _files(*paths: Path) -> Callable[[], list[bytes]]:
    return lambda: [path.read_bytes() for path in paths]


_DVC = b"outs:\n- md5: d41d8cd98f00b204e9800998ecf8427e.dir\n  hash: md5\n  path: images\n  remote: r\n"
_CROP = {"file_name": "images/a.png", "text": "t", "defect": "d", "source": "s", "window": [0, 0, 8, 8]}
_CROP |= {"box": [1, 1, 4, 4], "mask_file_name": "masks/a.png"}

TARGETS: dict[str, Target] = {
    "settings": Target(_settings, _files(*sorted(PARAMS.glob("*.yaml")))),
    "assignments": Target(_assignments, lambda: [b"train.seed=1\ncrop.classes=[pin-hole, open]\nstore=s3://bucket/x"]),
    "profile": Target(_profile, _files(*sorted(PROFILES.glob("*.yaml"))), "no image; push it"),
    "executor-input": Target(_executor_input, _executor_input_seeds, "reached"),
    "stored": Target(_stored, _stored_seeds, "nothing was deleted"),
    "crops": Target(_crops, lambda: [json.dumps(_CROP).encode()]),
    "dvc": Target(
        _dvc, lambda: [_DVC, b"[core]\nremote = r\n['remote \"r\"']\nurl = s3://bucket/dvc\n"], "as DVC writes it"
    ),
    "places": Target(
        _places,
        lambda: [b"s3://bucket/prefix", b"hf://owner/name@main", b"dvc+https://host/r.git?path=data&rev=v1&remote=r"],
        "no URL of|names no repository|not a place",
    ),
    "image": Target(_image, _image_seeds, change=other_picture, ends="not a binary mask"),
    "zip": _archive(".zip"),
    "tar": _archive(".tar"),
    "tar-gz": _archive(".tar.gz"),
    **{f"annotations-{name}": reading(place) for name, place in PLACES.items()},
}
#: Those that load torch, which takes seconds.
HEAVY: dict[str, Target] = {
    "safetensors": Target(_safetensors, _safetensors_seeds, "no Stable Diffusion"),
    "published-header": Target(_published_header, _safetensors_seeds),
    "checkpoint": Target(_checkpoint, _checkpoint_seeds),
}


@functools.cache
def seeds_of(name: str) -> list[bytes]:
    """The good inputs of a target."""
    return (TARGETS | HEAVY)[name].seeds()


if __name__ == "__main__":
    print(*TARGETS, *HEAVY)
