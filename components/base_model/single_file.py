"""A Stable Diffusion checkpoint in one file, made the diffusers folder that everything else reads.

`.safetensors`, or `.ckpt` and `.pt` read as tensors alone (`components.checkpoint_file`). The networks' sizes, the
scheduler and the tokenizer come from a folder `config` beside the file; what it does not hold comes from
`components.base_model.families`. Weights keep their number type. Of a file that holds an average beside the weights
(`model_ema`), the weights are taken: they are what training goes on from.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from components.base_model import contents, families, layout, tokenizer
from components.base_model.families import Family, Prediction
from components.base_model.places import CONFIG, describes
from components.checkpoint_file import read_ckpt
from components.documents import parse_yaml
from components.errors import UserError
from components.progress import log
from components.sampling import pipeline_of


def convert(file: Path, folder: Path, place: str) -> Path:
    """Write the model in `file` as a diffusers folder at `folder`, which is returned.

    Args:
        file: with what describes it beside it.
        place: where the user has it, for messages.

    Raises:
        UserError: for a file that is damaged or holds anything but a supported model, and where its configuration
            or tokenizer is not to be had.
    """
    contents.refuse_pointers({place: file})
    folder.mkdir(parents=True)
    weights = file
    if file.suffix != ".safetensors":
        weights = folder.with_name(f"{file.stem}.safetensors")
        _rewrite(file, weights)
    shapes, dtype, metadata = _header(weights, place)
    family = families.recognised(shapes, place)
    if not (file.parent / CONFIG / layout.INDEX).is_file():
        families.check_sizes(shapes, family, place)
        families.write(folder, family, prediction_of(file, family, metadata, place))
    _copy_config(file, folder)
    if not any((folder / "tokenizer").glob("*.json")):
        _write_tokenizer(folder, family, place)
    layout.check_class(folder, place)
    log(f"{place}: {family}, {len(shapes)} tensors; writing it as a diffusers folder")
    pipeline = pipeline_of(weights, folder, dtype)
    for part in layout.WEIGHTED:
        getattr(pipeline, part).save_pretrained(folder / part)
    if weights != file:
        weights.unlink()
    return folder


def _rewrite(file: Path, target: Path) -> None:
    """The tensors of the pickle `file` as safetensors, without those of an average."""
    tensors = {name: tensor for name, tensor in read_ckpt(file).items() if not name.startswith("model_ema.")}
    # What shares memory is written apart: the format has no way to say that it does.
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, target)


def _header(weights: Path, place: str) -> tuple[dict[str, Sequence[int]], torch.dtype, dict[str, str]]:
    """Shapes of a file's tensors, the number type of its weights, and what its header says of it."""
    try:
        with safe_open(weights, framework="pt") as opened:
            shapes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118 - no mapping
            dtypes = {opened.get_slice(name).get_dtype() for name in shapes if name.startswith(families.UNET)}
            metadata = dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{place}: not a readable .safetensors file ({error}); copy it again") from None
    half = {"F16": torch.float16, "BF16": torch.bfloat16}
    return shapes, half.get(dtypes.pop(), torch.float32) if len(dtypes) == 1 else torch.float32, metadata


def _copy_config(file: Path, folder: Path) -> None:
    """Everything of a diffusers folder but the weights, as far as it lies beside the file."""
    beside = file.parent / CONFIG
    for path in sorted(beside.rglob("*")):
        if path.is_file() and describes(path.relative_to(file.parent), file.name):
            target = folder / path.relative_to(beside)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _write_tokenizer(folder: Path, family: Family, place: str) -> None:
    merges = tokenizer.vocabulary()
    if merges is None:
        raise UserError(
            f"{place}: a single file holds no tokenizer; put the folder tokenizer of any {family} (vocab.json, "
            f"merges.txt, tokenizer_config.json) beside it as {CONFIG}/tokenizer, or install the package that has its "
            "vocabulary (pip install --no-deps open_clip_torch)"
        )
    tokenizer.write(folder / "tokenizer", merges, **({"pad": "!"} if family.generation == 2 else {}))


def prediction_of(file: Path, family: Family, metadata: Mapping[str, str], place: str) -> Prediction:
    """What the UNet predicts: as the file's header says (the Stability AI Model Metadata Standard), or the YAML file
    beside it that other programs look for; noise, where neither is there and the family knows nothing else."""
    settings = file.with_suffix(".yaml")
    said = metadata.get("modelspec.prediction_type") or _parameterization(settings)
    if said in ("v", "v_prediction"):
        return "v_prediction"
    if said in ("eps", "epsilon") or family.generation == 1:
        return "epsilon"
    raise UserError(
        f"{place}: {family}, which predicts either noise (those trained at 512 px) or v (768 px); say which in "
        f"{settings.name} beside it, as other programs read it:\n"
        "  model: {params: {parameterization: v}}  (or eps)"
    )


def _parameterization(settings: Path) -> str:
    if not settings.is_file():
        return ""
    try:
        content: Any = parse_yaml(settings.read_text(encoding="utf-8"))
        # The original programs' default.
        return str(content["model"]["params"].get("parameterization", "eps"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{settings}: not a model's settings (model: params: parameterization); correct it") from None
