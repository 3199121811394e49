"""A training run at one step, copied out of the trainer: what is published and what a later attempt resumes from.

Copies lie in the host's memory, so that training goes on while they are written and sent. Files are those
that diffusers' and transformers' ``save_pretrained`` write. Not covered: where they go (`run`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from components.train.history import REMEDY, Diverged

#: Component → the name that its loader looks for.
_FILES = {"unet": "diffusion_pytorch_model.safetensors", "text_encoder": "model.safetensors"}

#: Stands for a tensor, with its number type and shape.
_TENSOR = "tensor in the buffers"

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Snapshot:
    """Copies of one step, `packed`. Where both are due, the state need not carry the weights a second time."""

    step: int
    images_seen: int
    weights: dict[str, Any]  #: component → name → tensor: what a checkpoint holds, the average where there is one
    publish: bool  #: whether a checkpoint is due
    state: dict[str, Any] | None  #: what the trainer resumes from besides `weights`; None where no state is due

    def named(self) -> dict[str, Tensors]:
        """Component → name → tensor of `weights`."""
        named: dict[str, Tensors] = unpacked(self.weights)
        return named

    def check(self) -> None:
        """Raise Diverged where weights are no numbers: a reader would find out hours later."""
        # One call a buffer: training goes on beside this one, and Python runs one thread at a time.
        if all(torch.isfinite(torch.stack(buffer.aminmax())).all() for buffer in self.weights["buffers"].values()):
            return
        for component, tensors in self.named().items():
            for name, tensor in tensors.items():
                if not torch.isfinite(tensor).all():
                    raise Diverged(
                        f"{component}.{name} is no number after step {self.step}: training diverged. {REMEDY}"
                    )


def packed(value: Any, room: dict[str, torch.Tensor] | None = None) -> dict[str, Any]:
    """A copy of `value` in the host's memory: its tensors one after another in a buffer a number type.

    Thousands of small tensors take longer to copy one by one, and far longer to pickle, than to train a step on.

    Args:
        value: nested dicts, lists and tuples of tensors and plain data.
        room: number type → buffer of an earlier copy that is not needed any more, which is written over where it is
            large enough; takes in the buffers of this copy. New memory costs three times what the copying does, since
            the system clears it page by page.
    """
    tensors: dict[str, list[torch.Tensor]] = {}

    def note(item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            kind = str(item.dtype).removeprefix("torch.")
            tensors.setdefault(kind, []).append(item.detach())
            return (_TENSOR, kind, tuple(item.shape))
        if isinstance(item, Mapping):
            return {key: note(part) for key, part in item.items()}
        return type(item)(note(part) for part in item) if isinstance(item, (list, tuple)) else item

    skeleton, room = note(value), {} if room is None else room
    return {"skeleton": skeleton, "buffers": {kind: _joined(parts, kind, room) for kind, parts in tensors.items()}}


def unpacked(data: Mapping[str, Any]) -> Any:
    """What `packed` was given; tensors are views of its buffers."""
    offsets = dict.fromkeys(data["buffers"], 0)

    def restore(item: Any) -> Any:
        if isinstance(item, tuple) and item and item[0] == _TENSOR:
            _, kind, shape = item
            first, count = offsets[kind], math.prod(shape)
            offsets[kind] += count
            return data["buffers"][kind][first : first + count].view(shape)
        if isinstance(item, Mapping):
            return {key: restore(part) for key, part in item.items()}
        return type(item)(restore(part) for part in item) if isinstance(item, (list, tuple)) else item

    return restore(data["skeleton"])


def _joined(parts: Sequence[torch.Tensor], kind: str, room: dict[str, torch.Tensor]) -> torch.Tensor:
    counts = [part.numel() for part in parts]
    if kind not in room or len(room[kind]) < sum(counts):
        room[kind] = torch.empty(sum(counts), dtype=parts[0].dtype)
    joined = room[kind][: sum(counts)]
    if all(part.device.type == "cpu" and part.is_contiguous() for part in parts):
        return torch.cat([part.view(-1) for part in parts], out=joined)
    # Joined on a GPU, or in an order of their own first, the copy would need as much memory again.
    for part, place in zip(parts, joined.split(counts)):
        place.view(part.shape).copy_(part)
    return joined


def write_component(folder: Path, component: str, config: Mapping[str, Any], tensors: Tensors) -> None:
    """Write a component as its own ``from_pretrained`` reads it, below `folder`."""
    (folder / component).mkdir(parents=True)
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / component / "config.json").write_text(text, encoding="utf-8")
    save_file(tensors, folder / component / _FILES[component], metadata={"format": "pt"})


def read_component(folder: Path, component: str) -> Tensors:
    """The tensors that `write_component` wrote below `folder`."""
    return load_file(folder / component / _FILES[component])
