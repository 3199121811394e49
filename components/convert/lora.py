"""A LoRA as kohya's sd-scripts write it, and the proof that diffusers reads it as the checkpoint's updates.

The form that AUTOMATIC1111, ComfyUI and diffusers' ``load_lora_weights`` read: for each updated module
``lora_unet_<module>`` or ``lora_te_<module>``, with ``_`` for every dot of diffusers' name, the matrices
``.lora_down.weight`` and ``.lora_up.weight`` and the number ``.alpha``; the update is up · down · alpha / rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from components import adapters
from components.adapters import Adapter
from components.convert import images
from components.convert.mismatch import Mismatch, few, raise_unless_equal
from components.convert.writer import DTYPES, refused
from components.errors import UserError

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

#: A text encoder's names begin as in transformers before 5.6: so they do everywhere else.
_PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}


def write(path: Path, adapter: Adapter, dtype: str, metadata: Mapping[str, str]) -> None:
    """Write the updates to `path`, as `dtype`.

    Raises:
        UserError: naming the tensors with values that are not finite, or too large for `dtype`.
    """
    torch_dtype, stored = DTYPES[dtype]
    tensors: dict[str, torch.Tensor] = {}
    problems = []
    for component, updates in adapter.updates.items():
        for module in adapter.modules(component):
            name = _PREFIXES[component] + module.replace(".", "_")
            for side, kohya in (("lora_A", "lora_down"), ("lora_B", "lora_up")):
                tensor = updates[f"{module}.{side}.weight"]
                cast = tensor.to(torch_dtype).contiguous()
                if problem := refused(f"{component}: {module}.{side}.weight", tensor, cast, stored):
                    problems.append(problem)
                tensors[f"{name}.{kohya}.weight"] = cast
            tensors[f"{name}.alpha"] = torch.tensor(adapter.alpha(component), dtype=torch_dtype)
    if problems:
        raise UserError(*problems)
    save_file(tensors, path, metadata=dict(metadata))


def compare(file: Path, base: Path, update: Path, dtype: str, prompt: str | None) -> float | None:
    """Load the file into its base model through diffusers, and compare every update with the checkpoint's.

    Args:
        file: what `write` made.
        base: the base model's diffusers folder.
        update: the checkpoint's file of updates.
        prompt: draw an image with each of both, too; None for no image.

    Returns:
        The images' mean difference in levels of 255, where they were drawn.

    Raises:
        Mismatch: naming the updates that are missing, extra or different, and for images that differ.
    """
    pipeline = images.load_checkpoint(base)
    try:
        _load(pipeline, file, "written")
    except Exception as error:
        raise Mismatch(f"{file.name}: diffusers cannot load it: {type(error).__name__}: {error}") from error
    adapter = adapters.read(update)
    _compare_updates(file.name, pipeline, adapter, DTYPES[dtype][0])
    _compare_alphas(file, adapter, DTYPES[dtype][0])
    if prompt is None:
        return None
    written = images.draw(pipeline, prompt)
    pipeline.delete_adapters("written")
    _load(pipeline, update, "trained")
    return images.difference(file.name, written, images.draw(pipeline, prompt), dtype)


def _load(pipeline: StableDiffusionPipeline, file: Path, name: str) -> None:
    from transformers.utils import logging

    # transformers reports every weight that a LoRA does not hold as missing: all of the model's own.
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=name, local_files_only=True)
    finally:
        logging.set_verbosity(before)


def _compare_updates(file: str, pipeline: StableDiffusionPipeline, adapter: Adapter, dtype: torch.dtype) -> None:
    from peft.utils import get_peft_model_state_dict

    for component, updates in adapter.updates.items():
        part: Any = getattr(pipeline, component)
        where = f"{file}: {component}"
        loaded = get_peft_model_state_dict(part, adapter_name="written")
        raise_unless_equal(where, dict.fromkeys(updates), dict.fromkeys(loaded))
        different = [
            name for name, tensor in loaded.items() if not torch.equal(tensor, updates[name].to(dtype).to(tensor.dtype))
        ]
        if different:
            raise Mismatch(f"{where}: {len(different)} updates differ from the checkpoint: {few(different)}")
        scale = _alpha(adapter, component, dtype) / adapter.rank(component)
        scales = {m.scaling["written"] for m in part.modules() if "written" in getattr(m, "scaling", {})}
        if scales != {scale}:
            raise Mismatch(f"{where}: updates are scaled by {sorted(scales)}, not by alpha / rank = {scale}")


def _compare_alphas(file: Path, adapter: Adapter, dtype: torch.dtype) -> None:
    """Each module's own number: diffusers passes over one that differs from the others, other programs do not."""
    tensors = load_file(file)
    for component in adapter.updates:
        wanted = _alpha(adapter, component, dtype)
        names = [name for name in tensors if name.startswith(_PREFIXES[component]) and name.endswith(".alpha")]
        different = [name for name in names if tensors[name].item() != wanted]
        if different or len(names) != len(adapter.modules(component)):
            raise Mismatch(f"{file.name}: {component}: {len(different)} alphas are not {wanted}: {few(different)}")


def _alpha(adapter: Adapter, component: str, dtype: torch.dtype) -> float:
    """As it is written: half precision rounds it, too."""
    return torch.tensor(adapter.alpha(component)).to(dtype).item()
